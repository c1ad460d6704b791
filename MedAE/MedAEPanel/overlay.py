"""An anomaly map over the scan: colours, a threshold that acts at once, and regions whose rows jump the slices."""

from html import escape

from slicer.i18n import tr as _

from MedAELib.anomaly.names import POPULATION, RAREST

from . import legend, views
from . import maps as mapsOf

_COLORS = "MedAE unlike normal"
_HEAT = ((0.0, 0.0, 0.02), (0.34, 0.06, 0.43), (0.73, 0.21, 0.33), (0.98, 0.55, 0.04), (0.99, 1.0, 0.64))
_TOP = 8.0  # z that has the brightest colour
_OPACITY = 0.6
_SHARPEST, _P = _("sharpest in"), _("p")
_OPTIONAL = (_SHARPEST, _P)  # tables of earlier versions do not tell the one, runs without a model not the other
_SAMPLE = 200_000  # voxels, for the readout of how much lies above the threshold
NOTHING = "<p>" + _("No region: nothing above the threshold is both large and rare enough.") + "</p>"
TOO_LARGE = _("The volumes of bright regions are too large, up to several times: measure what you report.")
NOWHERE = _("No slice view shows the scan of the map: show the scan in one of them first.")
NO_MAP = "<p>" + _("Press Apply with the task ‘Unlike normal’.") + "</p>"  # noqa: RUF001


def showMap(node, threshold, calibrated=True):
    """Give a map of z its colours and legend; what is below the threshold is transparent.

    `calibrated` tells whether normal scans say how rare a z is.
    """
    display = node.GetDisplayNode()
    display.AutoWindowLevelOff()
    display.SetAndObserveColorNodeID(heatColors().GetID())
    display.SetWindowLevelMinMax(0.0, _TOP)
    display.SetInterpolate(1)
    setThreshold(node, threshold, calibrated)


def setThreshold(node, threshold, calibrated=True):
    """Show only what lies above `threshold`; no voxel is touched."""
    display = node.GetDisplayNode()
    display.SetThreshold(float(threshold), 1000.0)
    display.SetApplyThreshold(1)
    legend.tell(node, threshold, calibrated)


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
        node.SetReferenceImageGeometryParameterFromVolumeNode(labels)  # refers to the labels, too, which soon are gone
        slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
        node.SetAndObserveTransformNodeID(labels.GetTransformNodeID())
        segments = node.GetSegmentation()
        for index in range(segments.GetNumberOfSegments()):
            segment = segments.GetNthSegment(index)
            row = rows[segment.GetLabelValue() - 1]
            segment.SetName(segmentName(row))
        node.GetDisplayNode().SetOpacity2DFill(0.0)  # outlines: the map itself lies below
        if original is not None:  # of the same geometry
            node.SetNodeReferenceID(node.GetReferenceImageGeometryReferenceRole(), original.GetID())
        nodes.stand_beside(node, original)
    except Exception:
        if node is not None:
            scene.RemoveNode(node)
        raise
    finally:
        scene.RemoveNode(labels)
    return node


def segmentName(row):
    """What the segment of a row is called; the side is empty where the scan does not tell it."""
    told = ", ".join(word for word in (row["side"], row["brightness"]) if word)
    return f"Region {row['number']} ({told})"


def html(rows, ink=""):
    """The table of regions as HTML; where it is wider than the panel, it is scrolled.

    Each row links to its region by its number, and where the colour of text is given (`ink`), by all of its words.
    """
    if not rows:
        return NOTHING
    cells = [_cells(row) for row in rows]
    left_out = {title for title in _OPTIONAL if not any(line[title] for line in cells)}
    titles = [title for title in cells[0] if title not in left_out]
    heading = "".join(f"<th>{title}</th>" for title in ("", *titles))
    lines = "".join(
        f'<tr><td><a href="#{index}">{escape(row["number"])}</a></td>'
        + "".join(f"<td>{_linked(escape(line[title]), index, ink)}</td>" for title in titles)
        + "</tr>"
        for index, (row, line) in enumerate(zip(rows, cells))
    )
    bright = any(row["brightness"] == "brighter" for row in rows)
    caution = f"<p>{escape(TOO_LARGE)}</p>" if bright else ""
    return f'<table cellspacing="6" style="white-space:nowrap"><tr>{heading}</tr>{lines}</table>{caution}'


def _linked(word, index, ink):
    """A word of a row that leads to its region as its number does, and looks like any other word."""
    return f'<a href="#{index}" style="color:{ink}; text-decoration:none">{word}</a>' if ink and word else word


def _cells(row):
    """What the table says of a region by the titles of its columns, the most important first."""
    middle = (f"{float(row[name]):.1f}" for name in ("right_mm", "front_mm", "head_mm"))
    return {
        _("volume"): f"{float(row['volume_ml']):.2f} ml",
        _("peak z"): f"{float(row['peak_z']):.1f}",
        _("side"): row["side"],
        _("brightness"): row["brightness"],
        _SHARPEST: row.get("sharpest_map", ""),
        _P: _rarity(row.get("rate")),
        _("mean z"): f"{float(row['mean_z']):.1f}",
        _("centre (R, A, S mm)"): ", ".join(middle),
    }


def _rarity(rate):
    """The share of normal tissue that is as rare as the peak, as text; empty where no normal scans tell it."""
    if rate in (None, ""):
        return ""
    return f"{float(rate):.2g}" if float(rate) > RAREST else f"\N{LESS-THAN OR EQUAL TO} {RAREST:g}"


class Overlay:
    """The map over the scan in every slice view, the slider of its threshold, and the table of regions."""

    def __init__(self, ui):
        self._ui, self._map, self._rows, self._sorted, self._html = ui, None, [], None, None
        self._maps, self._chosen, self._updating = {}, mapsOf.FIRST, False
        self._lays = ui.overlayCheckBox.toolTip
        self._choice = mapsOf.MapChoice(ui.mapComboBox, self._onMap)
        self._tell()
        ui.thresholdSlider.connect("valueChanged(double)", self._onThreshold)
        ui.overlayCheckBox.connect("toggled(bool)", self._onShown)
        ui.regionsBrowser.setOpenLinks(False)
        ui.regionsBrowser.connect("anchorClicked(QUrl)", self._onLink)

    def setNodes(self, maps, rows):
        """The maps of the chosen scan by output name (none when there is none) and the rows of its table of regions."""
        first = maps.get(mapsOf.FIRST)
        if first is not self._maps.get(mapsOf.FIRST) or self._chosen not in maps:
            self._chosen = mapsOf.FIRST
        self._maps, self._rows, mapNode = maps, rows, maps.get(self._chosen)
        self._choice.offer(maps, self._chosen)
        changed, self._map = mapNode is not self._map, mapNode
        page = html(rows, _ink(self._ui.regionsBrowser)) if mapNode is not None else NO_MAP
        if page != self._html:
            self._html = page
            self._ui.regionsBrowser.setHtml(page)
        self._ui.thresholdSlider.enabled = mapNode is not None
        if changed:
            self._sorted = self._sample() if mapNode is not None else None
            self._tell()

    def show(self, on=True):
        """Lay the map over every slice view that shows its scan, or what was made of that, or take it away."""
        from MedAELib import nodes

        if self._map is None:
            return
        source, wanted = nodes.input_of(self._map), self._map.GetID()
        for composite in views.lookingAt(source) if on and source is not None else ():
            if views.coverable(composite, source) or self._covers(composite, source):
                composite.SetForegroundVolumeID(wanted)
                composite.SetForegroundOpacity(_OPACITY)
        for composite in () if on else views.everyView():
            if self._covers(composite, source):
                composite.SetForegroundVolumeID(None)
        legend.refresh()
        self.look()
        self._tell()

    def look(self):
        """Let the box say whether the map lies over a view, and why it cannot."""
        from MedAELib import nodes

        box, source = self._ui.overlayCheckBox, nodes.input_of(self._map)
        shown = self._map is not None and any(self._covers(view, source) for view in views.everyView())
        possible = shown or (source is not None and bool(views.lookingAt(source)))
        box.enabled, box.toolTip = possible, self._lays if possible or source is None else NOWHERE
        self._updating, before = True, self._updating
        box.checked = shown
        self._updating = before

    def _covers(self, composite, source):
        """Whether the foreground of a view is a map of this scan."""
        import slicer

        above = composite.GetForegroundVolumeID()
        return bool(above) and (above == self._map.GetID() or mapsOf.isMap(slicer.mrmlScene.GetNodeByID(above), source))

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

        from MedAELib import nodes

        threshold = self._map.GetDisplayNode().GetLowerThreshold()
        self._updating = True
        self._ui.thresholdSlider.value = threshold
        self._updating = False
        rate = legend.percent(legend.rateOf(threshold))
        above = 1 - np.searchsorted(self._sorted, threshold) / max(1, self._sorted.size)
        told = _("Above z {threshold:.2f}: {rate} of normal tissue, {above} of this scan.")
        if nodes.provenance(self._map).get("calibration") == POPULATION:
            told = told + " " + _("Scores are relative to the normal scans: another scanner alone may raise them.")
        self._ui.thresholdLabel.text = told.format(threshold=threshold, rate=rate, above=legend.percent(above))

    def _onThreshold(self, value):
        if self._map is not None and not self._updating:
            setThreshold(self._map, value, _calibrated(self._map))
            self._tell()

    def _onMap(self, name):
        """Another map is to lie over the scan, with the same threshold."""
        threshold = self._map.GetDisplayNode().GetLowerThreshold()
        self._chosen, self._map = name, self._maps[name]
        setThreshold(self._map, threshold, _calibrated(self._map))
        self._sorted = self._sample()
        if self._ui.overlayCheckBox.checked:
            self.show()
        self._tell()

    def _onShown(self, on):
        if not self._updating:
            self.show(on)

    def _onLink(self, url):
        """Let all slices show the middle of the region whose row was clicked."""
        row = self._rows[int(url.fragment() if callable(url.fragment) else url.fragment)]
        jumpTo(self._map, [float(row[name]) for name in ("right_mm", "front_mm", "head_mm")])


def _ink(widget):
    """The colour of text in a widget, in Slicer's light or dark style."""
    import qt

    return widget.palette.color(qt.QPalette.Text).name()


def _calibrated(node):
    from MedAELib import nodes

    return nodes.provenance(node).get("model") != "none"


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
