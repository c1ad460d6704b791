"""What the code means around the crosshair: frames that a slider moves through, over the scan in all slice views."""

import json

from slicer.i18n import tr as _

from MedAELib.explain.names import MARK, plain_name

from . import sequences
from .request import Request

MOST = 3  # directions
NAMES = tuple(f"traversal_{number}" for number in range(1, MOST + 1))
NOWHERE = _("Put the crosshair into the scan first: hold Shift and move the mouse over a slice.")
NOTHING = _("Nothing yet: put the crosshair where you want to look (Shift and mouse), then press the button.")


def indexOf(report):
    """What tells the frames apart, as `sequences.indexOf` says it."""
    values = [f"{amount:g}" for amount in report["traversal"]["deviations"]]
    return {"name": "moved by", "unit": "deviations", "type": "numeric", "tolerance": 0.01, "values": values}


def indexOfChannels(count):
    """The same of a code, a frame for each of its channels, which are counted from 1."""
    values = [str(number) for number in range(1, count + 1)]
    return {"name": "channel", "unit": "", "type": "numeric", "tolerance": 0.01, "values": values}


def finish(sequence, place, original, first=False):
    """Let a new sequence of frames be looked at: a browser of its own, and its volume, at the frame in the middle (that
    of the code as it is), or the first."""
    import slicer

    from MedAELib import nodes

    browser = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSequenceBrowserNode", f"{sequence.GetName()} browser")
    browser.SetAndObserveMasterSequenceNodeID(sequence.GetID())
    browser.SetPlaybackActive(False)
    browser.SetSelectedItemNumber(0 if first else sequence.GetNumberOfDataNodes() // 2)
    volume = browser.GetProxyNode(sequence)
    nodes.show_like(volume, place, sequence.GetNthDataNode(0).GetImageData())
    parent = slicer.mrmlScene.GetNodeByID(place.transform_id or "")
    volume.SetAndObserveTransformNodeID(parent.GetID() if parent is not None else None)
    nodes.stand_beside(volume, original)


def removeEarlier(original, new):
    """Take the traversals of the same scan before this one out of the scene, with their browsers."""
    import slicer

    from MedAELib import nodes

    for node in slicer.util.getNodesByClass("vtkMRMLSequenceNode"):
        output = nodes.provenance(node).get("output") or ""
        mine = nodes.input_of(node) is original and plain_name(output) in NAMES
        if mine and original is not None and node not in new:
            browser = sequences.browserOf(node)
            sequences.remove(node)
            if browser is not None:
                slicer.mrmlScene.RemoveNode(browser)


class Traversal:
    """The widgets of the section; `panel` has the parameter node and starts the runs."""

    def __init__(self, ui, panel):
        self._ui, self._panel, self._source, self._found, self._busy = ui, panel, None, [], False
        self._others = []  # for each of the found, the frames of the other scans of a fusion by how their names end
        ui.traverseButton.connect("clicked(bool)", self._onTraverse)
        ui.directionComboBox.connect("currentIndexChanged(int)", self._onDirection)
        ui.traversalSlider.connect("valueChanged(double)", self._onSlider)

    def setNodes(self, source, results):
        """The chosen scan, and its results by output name."""
        found = [results[name] for name in NAMES if name in results and sequences.shown(results[name]) is not None]
        new = [node for node in found if node not in self._found]
        self._source, self._found = source, found
        self._others = [_others(results, name) for name in NAMES if results.get(name) in found]
        ui, self._busy = self._ui, True
        try:
            titles = _titles(found)
            if titles != [ui.directionComboBox.itemText(number) for number in range(ui.directionComboBox.count)]:
                ui.directionComboBox.clear()
                ui.directionComboBox.addItems(titles)
        finally:
            self._busy = False
        for widget in (ui.directionComboBox, ui.traversalSlider):
            widget.enabled = bool(found)
        ui.traverseButton.enabled = source is not None and not self._panel.controller.busy
        ui.traversalLabel.text = _told(found) or NOTHING
        mine = self._panel.controller.results.values()
        if new and any(node in mine for node in new):
            self._onDirection()

    def request(self):
        """The run that moves the code at the crosshair. Raises BadInput where that is not in the scan."""
        from MedAELib.errors import BadInput

        from . import analysing, options

        wanted = self._panel.parameters
        point = analysing.crosshairIn(wanted.inputVolume)
        if not point:
            raise BadInput(NOWHERE)
        asked = options.parametersOf(wanted, self._panel.bundle)
        asked |= {"parts": ["traversal"], "point": point, "directions": MOST, "channel": int(wanted.channel)}
        asked |= self._panel.translating.parameters()
        inputs = {"input": wanted.inputVolume, **self._panel.translating.inputs()}
        ends = ["", *self._panel.translating.endings()]
        outputs = dict.fromkeys(f"{name}{end}" for end in ends for name in NAMES)
        return Request(wanted.inputVolume, "explain", asked, outputs, inputs=inputs)

    def _onTraverse(self, checked=False):
        problem = self._panel.problem()
        if problem:
            self._panel.runView.say(problem)
        else:
            self._panel.start(self.request)

    @property
    def _number(self):
        return self._ui.directionComboBox.currentIndex

    @property
    def _chosen(self):
        return self._found[self._number] if 0 <= self._number < len(self._found) else None

    def _onDirection(self, index=0):
        """Lay the frames of the direction over the scan, at the code as the slider has it."""
        if self._busy or self._chosen is None:
            return
        import slicer

        self._onSlider(self._ui.traversalSlider.value)
        further, frames = self._panel.translating.scans(), {"": self._chosen, **self._others[self._number]}
        scans = {end: scan for end, scan in {**further, "": self._source}.items() if scan is not None}
        shown = {scan.GetID(): sequences.shown(frames[end]) for end, scan in scans.items() if end in frames}
        own = [sequences.shown(node) for node in (*self._found, *(n for other in self._others for n in other.values()))]
        above = [None, "", *(node.GetID() for node in own if node is not None)]
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            mine = shown.get(composite.GetBackgroundVolumeID())
            if mine is not None and composite.GetForegroundVolumeID() in above:
                composite.SetForegroundVolumeID(mine.GetID())
                composite.SetForegroundOpacity(1.0)

    def _onSlider(self, value):
        """Show the frame whose code is moved by about so much, of the other scans of a fusion too."""
        moved = [self._chosen, *self._others[self._number].values()] if self._chosen is not None else []
        for sequence in moved:
            browser = sequences.browserOf(sequence)
            if browser is not None:
                amounts = [float(amount) for amount in sequences.indexOf(sequence)["values"]]
                nearest = min(range(len(amounts)), key=lambda number: abs(amounts[number] - value))
                browser.SetSelectedItemNumber(nearest)


def _others(results, name):
    """The sequences beside that of a name, of other scans, by how their names end."""
    begin = f"{name}{MARK}"
    found = {other.removeprefix(name): node for other, node in results.items() if other.startswith(begin)}
    return {end: node for end, node in found.items() if sequences.shown(node) is not None}


def _report(node):
    from MedAELib import nodes

    return json.loads(nodes.provenance(node).get("traversal", "{}"))


def _titles(found):
    """A name for each sequence: which direction or channel it is, and how much of the variance lies along it."""
    titles = []
    for number, node in enumerate(found):
        told = _report(node)
        rows = told.get("directions") or []
        if told.get("channel"):
            title = _("Channel {number}").format(number=told["channel"])
        else:
            title = _("Direction {number}").format(number=number + 1)
        if number < len(rows):
            share = f"{100 * rows[number]['share_of_variance']:.0f}"
            title = _("{name} ({share} % of the variance)").format(name=title, share=share)
        titles.append(title)
    return titles


def _told(found):
    """How much moving the code changes, in one line."""
    rows = (_report(found[0]).get("directions") if found else None) or []
    most = ", ".join(f"{row['largest_change']:g}" for row in rows)
    return _("Half a deviation changes a voxel by at most {most}.").format(most=most) if rows else ""
