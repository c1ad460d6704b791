"""An anomaly map over the scan: colours, a threshold that acts at once, and regions whose rows jump the slices."""

from html import escape
from statistics import NormalDist

from slicer.i18n import tr as _

_COLORS = "MedAE unlike normal"
_HEAT = ((0.0, 0.0, 0.02), (0.34, 0.06, 0.43), (0.73, 0.21, 0.33), (0.98, 0.55, 0.04), (0.99, 1.0, 0.64))
_TOP = 8.0  # z that has the brightest colour
_OPACITY = 0.6
_SAMPLE = 200_000  # voxels, for the readout of how much lies above the threshold
NOTHING = "<p>" + _("No region: nothing above the threshold is both large and rare enough.") + "</p>"
NO_MAP = "<p>" + _("Press Apply with the task ‘Unlike normal’.") + "</p>"  # noqa: RUF001


def showMap(node, threshold):
    """Give a map of z its colours; what is below the threshold is transparent."""
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetAndObserveColorNodeID(heatColors().GetID())
    display.SetWindowLevelMinMax(0.0, _TOP)
    display.SetInterpolate(1)
    setThreshold(node, threshold)


def setThreshold(node, threshold):
    """Show only what lies above `threshold`; no voxel is touched."""
    display = node.GetDisplayNode()
    display.SetThreshold(float(threshold), 1000.0)
    display.SetApplyThreshold(1)


def heatColors():
    """The scene's colours of rarity: from black over violet and orange to yellow, ever lighter; made once."""
    import numpy as np

    from MedAELib import nodes

    places = [index / 255 for index in range(256)]
    named = [f"z {place * _TOP:.2f}" for place in places]
    told = _("z: how rare a place is in normal tissue, the lighter the rarer")
    return nodes.color_table("unlike normal", _COLORS, told, np.array(_HEAT), places, named)


def segmentation(image, affine, place, name, rows, original):
    """A segmentation node of the labels in an image (vtkImageData), one segment for each row of the table."""
    import slicer

    from MedAELib import nodes

    scene = slicer.mrmlScene
    labels = scene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", scene.GenerateUniqueName(f"{name} labels"))
    node = None
    try:
        nodes.put(labels, affine, place, original)
        labels.SetAndObserveImageData(image)
        node = scene.AddNewNodeByClass("vtkMRMLSegmentationNode", scene.GenerateUniqueName(name))
        node.CreateDefaultDisplayNodes()
        node.SetReferenceImageGeometryParameterFromVolumeNode(labels)
        slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
        node.SetAndObserveTransformNodeID(labels.GetTransformNodeID())
        segments = node.GetSegmentation()
        for index in range(segments.GetNumberOfSegments()):
            segment = segments.GetNthSegment(index)
            row = rows[segment.GetLabelValue() - 1]
            segment.SetName(f"Region {row['number']} ({row['side']}, {row['brightness']})")
        node.GetDisplayNode().SetOpacity2DFill(0.0)  # outlines: the map itself lies below
        nodes.stand_beside(node, original)
    except Exception:
        if node is not None:
            scene.RemoveNode(node)
        raise
    finally:
        scene.RemoveNode(labels)
    return node


def html(rows):
    """The table of regions as HTML, with a link in each row."""
    if not rows:
        return NOTHING
    lines = [
        f'<tr><td><a href="#{index}">{escape(row["number"])}</a></td><td>{float(row["volume_ml"]):.2f} ml</td>'
        f"<td>z {float(row['peak_z']):.1f}</td><td>{escape(row['side'])}</td><td>{escape(row['brightness'])}</td></tr>"
        for index, row in enumerate(rows)
    ]
    heading = "".join(f"<th>{title}</th>" for title in ("", _("volume"), _("peak"), _("side"), ""))
    return f'<table cellspacing="6"><tr>{heading}</tr>{"".join(lines)}</table>'


def _percent(share):
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{100 * share:.2g} %"


class Overlay:
    """The map over the scan in every slice view, the slider of its threshold, and the table of regions."""

    def __init__(self, ui):
        self._ui, self._map, self._rows, self._sorted, self._html = ui, None, [], None, None
        self._updating = False
        self._tell()
        ui.thresholdSlider.connect("valueChanged(double)", self._onThreshold)
        ui.overlayCheckBox.connect("toggled(bool)", self._onShown)
        ui.regionsBrowser.setOpenLinks(False)
        ui.regionsBrowser.connect("anchorClicked(QUrl)", self._onLink)

    def setNodes(self, mapNode, rows):
        """The map of the chosen scan (None when there is none) and the rows of its table of regions."""
        changed, self._map, self._rows = mapNode is not self._map, mapNode, rows
        page = html(rows) if mapNode is not None else NO_MAP
        if page != self._html:
            self._html = page
            self._ui.regionsBrowser.setHtml(page)
        for widget in (self._ui.thresholdSlider, self._ui.overlayCheckBox):
            widget.enabled = mapNode is not None
        if changed:
            self._sorted = self._sample() if mapNode is not None else None
            self._tell()

    def show(self, on=True):
        """Lay the map over every slice view that shows its scan, or take it away."""
        import slicer

        from MedAELib import nodes

        if self._map is None:
            return
        source, mine = nodes.input_of(self._map), self._map.GetID()
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            shown, above = composite.GetBackgroundVolumeID(), composite.GetForegroundVolumeID()
            if on and source is not None and shown == source.GetID() and above in (None, "", mine):
                composite.SetForegroundVolumeID(mine)
                composite.SetForegroundOpacity(_OPACITY)
            elif not on and above == mine:
                composite.SetForegroundVolumeID(None)
        self._updating = True
        self._ui.overlayCheckBox.checked = on
        self._updating = False
        self._tell()

    def _sample(self):
        import numpy as np
        import slicer

        voxels = slicer.util.arrayFromVolume(self._map).reshape(-1)
        # Thinned before anything else, so that a large map does not hold the panel; an odd step meets every column.
        some = voxels[:: max(1, voxels.size // (4 * _SAMPLE)) | 1]
        inside = some[some != 0]
        return np.sort(inside[:: max(1, inside.size // _SAMPLE)])

    def _tell(self):
        """Say how much lies above the threshold, where there is a map."""
        self._ui.thresholdLabel.setVisible(self._map is not None)
        if self._map is None or self._map.GetDisplayNode() is None:
            self._ui.thresholdLabel.text = ""
            return
        import numpy as np

        threshold = self._map.GetDisplayNode().GetLowerThreshold()
        self._updating = True
        self._ui.thresholdSlider.value = threshold
        self._updating = False
        rate = 1 - NormalDist().cdf(threshold)
        above = 1 - np.searchsorted(self._sorted, threshold) / max(1, self._sorted.size)
        told = _("Above z {threshold:.2f}: {rate} of normal tissue, {above} of this scan.")
        self._ui.thresholdLabel.text = told.format(threshold=threshold, rate=_percent(rate), above=_percent(above))

    def _onThreshold(self, value):
        if self._map is not None and not self._updating:
            setThreshold(self._map, value)
            self._tell()

    def _onShown(self, on):
        if not self._updating:
            self.show(on)

    def _onLink(self, url):
        """Let all slices show the middle of the region whose row was clicked."""
        row = self._rows[int(url.fragment() if callable(url.fragment) else url.fragment)]
        jumpTo(self._map, [float(row[name]) for name in ("right_mm", "front_mm", "head_mm")])


def jumpTo(node, place):
    """Let all slice views show a place of a volume, RAS in millimetres, which a parent transform may have moved."""
    import slicer
    import vtk

    parent = node.GetParentTransformNode()
    if parent is not None:
        general = vtk.vtkGeneralTransform()
        parent.GetTransformToWorld(general)
        place = general.TransformPoint(place)
    slicer.vtkMRMLSliceNode.JumpAllSlices(slicer.mrmlScene, *place, slicer.vtkMRMLSliceNode.CenteredJumpSlice)
