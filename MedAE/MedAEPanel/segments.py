"""The segments of a segmentation as labels on a scan's voxels, with their names."""

from slicer.i18n import tr as _

from . import sequences


def idsOf(segmentation):
    """The IDs of the segments, in the order of their labels, which begin at 1."""
    return list(segmentation.GetSegmentation().GetSegmentIDs())


def namesOf(segmentation):
    """The names of the segments by label, as text; of two alike each has its label, too."""
    segments = segmentation.GetSegmentation()
    names = [segments.GetSegment(one).GetName() or "segment" for one in idsOf(segmentation)]
    alike = {name for name in names if names.count(name) > 1}
    return {str(n): f"{name} ({n})" if name in alike else name for n, name in enumerate(names, 1)}


def labelsOf(segmentation, scan):
    """The segments as a Volume of labels on the voxels of a scan; where they overlap, the later one counts.

    Transforms of both nodes are taken into account. Raises BadInput for a segmentation without segments.
    """
    import slicer

    from MedAELib import nodes
    from MedAELib.errors import BadInput
    from MedAELib.volume import Volume

    name = segmentation.GetName() or _("The segmentation")
    if not idsOf(segmentation):
        sentence = _("'{name}' holds no segment.").format(name=name)
        raise BadInput(sentence, _("Draw a segment first, or choose another segmentation."))
    scene = slicer.mrmlScene
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", scene.GenerateUniqueName("MedAE labels"))
    try:
        labels.SetHideFromEditors(1)
        logic = slicer.vtkSlicerSegmentationsModuleLogic
        shown = sequences.shown(scan) or scan
        if not logic.ExportSegmentsToLabelmapNode(segmentation, idsOf(segmentation), labels, shown):
            sentence = _("The segments of '{name}' cannot be laid over '{scan}'.")
            raise BadInput(sentence.format(name=name, scan=scan.GetName()), _("Choose another one."))
        voxels = slicer.util.arrayFromVolume(labels).T.copy()
        if not voxels.any():
            sentence = _("No segment of '{name}' lies in '{scan}'.").format(name=name, scan=scan.GetName())
            raise BadInput(sentence, _("Choose another one."))
        return Volume(voxels[None], nodes.affine_of(labels), {"name": name})
    finally:
        scene.RemoveNode(labels)
