"""Sequences of volumes: their frames as values, and results as sequences that play in step with their input."""

from slicer.i18n import tr as _

_CLASS = "vtkMRMLSequenceNode"
_SEQUENCE_ROLE, _VOLUME_ROLE = "sequenceNodeRef", "dataNodeRef"  # of a browser's references, each with one ending
_ADVICE = _("MedAE needs frames of one size, voxel type and place.")


def isSequence(node):
    """Whether a node is a sequence, whatever it holds."""
    return node is not None and node.IsA(_CLASS)


def voxelNodes(node):
    """The nodes that hold the voxels: a volume itself, of a sequence the node of each frame."""
    if not isSequence(node):
        return [node]
    return [node.GetNthDataNode(number) for number in range(node.GetNumberOfDataNodes())]


def read(node):
    """The frames of a sequence, or the only one of a volume, each as a Volume of one channel; nothing is copied.

    Raises BadInput, naming node and frame, for what is no grey-value scan, and when the frames differ in size, voxel
    type or position.
    """
    from MedAELib import nodes
    from MedAELib.errors import BadInput

    if not isSequence(node):
        return [nodes.read_scan(node)]
    name = node.GetName() or node.GetID()
    holders = voxelNodes(node)
    if not holders:
        sentence = _("'{name}' is a sequence without frames.").format(name=name)
        raise BadInput(sentence, _("Load it again, or choose another one."))
    meta = {"name": name, "modality": nodes.modality_of(node) or nodes.modality_of(shown(node))}
    frames = []
    for number, holder in enumerate(holders, 1):
        called = _("Frame {number} of '{name}'").format(number=number, name=name)
        frame = nodes.read_scan(holder, called)
        _checkAlike(frame, frames[0] if frames else frame, called)
        frames.append(frame.like(frame.array, **meta))
    return frames


def _checkAlike(frame, first, called):
    import numpy as np

    from MedAELib.errors import BadInput

    if frame.shape != first.shape:
        raise BadInput(_("{frame} has another size than the first frame.").format(frame=called), _ADVICE)
    if frame.array.dtype != first.array.dtype:
        raise BadInput(_("{frame} has another voxel type than the first frame.").format(frame=called), _ADVICE)
    if not np.allclose(frame.affine, first.affine, rtol=1e-5, atol=1e-3):
        raise BadInput(_("{frame} lies elsewhere than the first frame.").format(frame=called), _ADVICE)


def indexOf(sequence):
    """What tells the frames of a sequence apart, as plain JSON: the index's name, unit and type, a value per frame."""
    return {
        "name": sequence.GetIndexName() or "",
        "unit": sequence.GetIndexUnit() or "",
        "type": sequence.GetIndexTypeAsString(sequence.GetIndexType()),
        "tolerance": sequence.GetNumericIndexValueTolerance(),
        "values": [sequence.GetNthIndexValue(number) for number in range(sequence.GetNumberOfDataNodes())],
    }


def placeOf(node):
    """What results take over from a volume, or from the volume that shows a sequence."""
    from dataclasses import replace

    from MedAELib import nodes

    volume = shown(node)
    place = nodes.place_of(volume) if volume is not None else nodes.Place()
    return replace(place, node_id=node.GetID(), name=node.GetName() or "volume")


# ---- sequence browsers ----


def _played():
    """(browser, sequence, volume that shows it or None) of all that sequence browsers play.

    Asked for by IDs: Slicer crashes when a browser is asked for a node while that is taken out of the scene.
    """
    import slicer

    node = slicer.mrmlScene.GetNodeByID
    for browser in slicer.util.getNodesByClass("vtkMRMLSequenceBrowserNode"):
        for number in range(browser.GetNumberOfNodeReferenceRoles()):
            role = browser.GetNthNodeReferenceRole(number)
            if role.startswith(_SEQUENCE_ROLE):
                sequence = node(browser.GetNodeReferenceID(role) or "")
                volume = node(browser.GetNodeReferenceID(_VOLUME_ROLE + role[len(_SEQUENCE_ROLE) :]) or "")
                yield browser, sequence, volume


def browserOf(sequence):
    """The first browser that plays a sequence, or None."""
    return next((browser for browser, played, _volume in _played() if played is sequence), None)


def shown(node):
    """The volume in which a node is looked at: a volume itself, the browser's volume of a sequence, or None."""
    if not isSequence(node):
        return node
    found = next((volume for _browser, played, volume in _played() if played is node), None)
    return found if found is not None and found.IsA("vtkMRMLScalarVolumeNode") else None


def sequenceOf(volume):
    """The sequence whose present frame a volume shows, or None."""
    if volume is None:
        return None
    return next((played for _browser, played, shows in _played() if shows is volume), None)


def whyNotShown(node):
    """Why a sequence cannot be looked at, in one sentence; empty when it can, and for a volume."""
    if node is None or shown(node) is not None:
        return ""
    told = _("'{name}' is in no sequence browser, so no frame of it is shown; add it in the module Sequences.")
    return told.format(name=node.GetName())


# ---- results ----


class Assembly:
    """A sequence that gets its frames one by one, outside the scene, until `commit` puts it there."""

    def __init__(self, name, affine, index, told):
        """`index` is what `indexOf` told of the input; `told` is the provenance that sequence and frames carry."""
        import slicer

        from MedAELib import nodes

        self._sequence, self._values = slicer.vtkMRMLSequenceNode(), list(index["values"])
        self._sequence.SetIndexName(index["name"])
        self._sequence.SetIndexUnit(index["unit"])
        self._sequence.SetIndexTypeFromString(index["type"])
        self._sequence.SetNumericIndexValueTolerance(index["tolerance"])
        self._name, self._affine, self._told = name, affine, told
        self._frame = slicer.vtkMRMLScalarVolumeNode()
        self._frame.SetName(name)
        self._frame.SetIJKToRASMatrix(_matrix(affine))
        nodes.stamp(self._frame, told)

    def add(self, image):
        """The next frame; the sequence copies the node for it, which has no voxels yet, and so copies none."""
        value = self._values[self._sequence.GetNumberOfDataNodes()]
        self._sequence.SetDataNodeAtValue(self._frame, value)
        self._sequence.GetDataNodeAtValue(value, True).SetAndObserveImageData(image)

    def commit(self, place, original, removedWindow=None):
        """Put the sequence into the scene; returns its node.

        It stands beside `original`, the input (None when it is gone), and joins the input's browser, if there is one,
        so that both play in step: the volume that shows it has the transform, window, level and colours of `place`, or
        those of removed noise when `removedWindow` is given, and stands beside the volume that shows the input.
        """
        import numpy as np
        import slicer

        from MedAELib import nodes

        sequence = self._sequence
        if original is None and place.world:
            matrix = _matrix(np.reshape(place.world, (4, 4)) @ self._affine)
            for frame in voxelNodes(sequence):
                frame.SetIJKToRASMatrix(matrix)
        sequence.SetName(slicer.mrmlScene.GenerateUniqueName(self._name))
        slicer.mrmlScene.AddNode(sequence)
        try:
            nodes.stand_beside(sequence, original)
            nodes.stamp(sequence, self._told, original)  # before the browser copies a frame at every change
            browser = browserOf(original) if original is not None else None
            if browser is not None:
                _join(browser, sequence, original, place, removedWindow)
        except Exception:
            remove(sequence)
            raise
        return sequence


def _matrix(affine):
    import numpy as np
    import vtk

    matrix = vtk.vtkMatrix4x4()
    matrix.DeepCopy(np.asarray(affine, dtype=np.float64).ravel().tolist())
    return matrix


def _join(browser, sequence, original, place, removedWindow):
    """Let a browser play a result as it plays the input; the display is set up before the voxels come."""
    import slicer

    from MedAELib import nodes

    first, modifying = sequence.GetNthDataNode(0), browser.StartModify()
    try:
        browser.AddSynchronizedSequenceNodeID(sequence.GetID())
        browser.SetOverwriteProxyName(sequence, browser.GetOverwriteProxyName(original))
        volume = browser.AddProxyNode(first, sequence)
        nodes.show_like(volume, place, first.GetImageData(), removedWindow)
    finally:
        browser.EndModify(modifying)  # now the browser's logic copies the present frame
    parent = slicer.mrmlScene.GetNodeByID(place.transform_id or "")
    volume.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)
    nodes.stand_beside(volume, shown(original) or original)


def remove(node):
    """Take a result out of the scene; a sequence also out of its browser, with the volume that shows it."""
    import slicer

    browser = browserOf(node) if isSequence(node) else None
    if browser is not None:
        volume = shown(node)
        browser.RemoveSynchronizedSequenceNode(node.GetID())
        if volume is not None and slicer.mrmlScene.IsNodePresent(volume):
            slicer.mrmlScene.RemoveNode(volume)
    slicer.mrmlScene.RemoveNode(node)
