"""The user's slice views: which of them show a scan or what was made of it, and who is told when that changes."""

import slicer
import vtk
from slicer.util import VTKObservationMixin

from . import options, sequences

_OURS = "MedAE"  # the names of the views of side by side and of a training begin so
_COMPARED = {after for (after, _beside), _told in options.COMPARED.values()}  # outputs that the panel shows by itself


def everyView():
    """The composite nodes of all slice views, those of side by side included."""
    return slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")


def lookingAt(source):
    """All views that show a scan, and those of the user's own that show a result which the panel lays there."""
    found = ((view, _background(view)) for view in everyView())
    full = [(view, node) for view, node in found if node is not None]
    return [view for view, node in full if node is source or (_own(view) and _kin(node, source))]


def showing(source, others=False):
    """The user's views that show nothing, this scan, or a result which the panel lays there.

    `others`: also those with anything else that MedAE made, or made something of. What is neither is the user's own.
    """
    found = ((view, _background(view)) for view in everyView() if _own(view))
    return [view for view, node in found if node is None or _kin(node, source) or (others and _worked(node))]


def yielding(source):
    """The user's views in which a scan or its result may be shown on demand: where none shows it, those of others."""
    return showing(source) or showing(source, others=True)


def coverable(composite, source):
    """Whether the foreground of a view may be replaced: there is none, or a result, compared or of another scan."""
    node = _node(composite.GetForegroundVolumeID())
    return node is None or _output(node) in _COMPARED or (bool(_output(node)) and _origin(node) is not source)


def setBackground(composite, node):
    """Show a volume in a view; where the slice does not meet it, the view is moved to its middle."""
    composite.SetBackgroundVolumeID(node.GetID())
    manager, bounds = slicer.app.layoutManager(), [0.0] * 6
    widget = manager.sliceWidget(composite.GetLayoutName()) if manager is not None else None
    if widget is None:
        return
    node.GetRASBounds(bounds)
    place = widget.mrmlSliceNode().GetSliceToRAS()
    middle = [place.GetElement(row, 3) for row in range(3)]
    if not all(low <= at <= high for at, low, high in zip(middle, bounds[::2], bounds[1::2], strict=True)):
        widget.sliceLogic().FitSliceToBackground()


def _own(composite):
    return not composite.GetLayoutName().startswith(_OURS)


def _background(composite):
    return _node(composite.GetBackgroundVolumeID())


def _node(identifier):
    return slicer.mrmlScene.GetNodeByID(identifier) if identifier else None


def _kin(node, source):
    """Whether a volume is this scan, or a result of it which the panel shows by itself."""
    return node is source or (_origin(node) is source and _output(node) in _COMPARED)


def _origin(node):
    """The volume that a shown one was made from, as that one is looked at; None for what MedAE did not make."""
    from MedAELib import nodes

    found = next(filter(None, map(nodes.input_of, _holders(node))), None)
    return sequences.shown(found) if found is not None else None


def _output(node):
    """The name of the output that a volume is; empty for what MedAE did not make."""
    from MedAELib import nodes

    return next(filter(None, (nodes.provenance(each).get("output") for each in _holders(node))), "")


def _worked(node):
    """Whether MedAE made a volume, or something of it."""
    from MedAELib import nodes

    return bool(_output(node)) or any(map(nodes.results_of, _holders(node)))


def _holders(node):
    """A volume, and the sequence of which it shows a frame."""
    whole = sequences.sequenceOf(node)
    return [node] if whole is None else [node, whole]


class Watch(VTKObservationMixin):
    """Calls `listener()` whenever a slice view shows other volumes, until `close`."""

    def __init__(self, listener):
        VTKObservationMixin.__init__(self)
        self._listener, self._layers = listener, {}
        scene = slicer.mrmlScene
        self.addObserver(scene, scene.NodeAddedEvent, self._onAdded)
        self.addObserver(scene, scene.NodeRemovedEvent, self._onRemoved)
        self.addObserver(scene, scene.EndBatchProcessEvent, self._look)
        for view in everyView():
            self.addObserver(view, vtk.vtkCommand.ModifiedEvent, self._look)

    def close(self):
        """Watch nothing any more."""
        self.removeObservers()

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onAdded(self, caller, event, node):
        if node is not None and node.IsA("vtkMRMLSliceCompositeNode"):
            self.addObserver(node, vtk.vtkCommand.ModifiedEvent, self._look)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def _onRemoved(self, caller, event, node):
        if node is not None and self.hasObserver(node, vtk.vtkCommand.ModifiedEvent, self._look):
            self.removeObserver(node, vtk.vtkCommand.ModifiedEvent, self._look)

    def _look(self, caller, event):
        """Views change with every fade of an opacity: only other volumes are told, and those of a batch at its end."""
        if slicer.mrmlScene.IsBatchProcessing():
            return
        layers = {view.GetID(): (view.GetBackgroundVolumeID(), view.GetForegroundVolumeID()) for view in everyView()}
        if layers != self._layers:
            self._layers = layers
            self._listener()
