"""Before and after: switches the slice views between input and result, and lays them side by side, linked."""

from . import views

VIEWS = (("MedAEBefore", "B", "#4A90D9"), ("MedAEAfter", "A", "#5AA469"), ("MedAERemoved", "N", "#C9603B"))
_LAYOUTS = {2: 7502, 3: 7503}  # by the number of views; Slicer's own layouts have small numbers
_GROUP = 7500  # views of this group are linked with each other and with nothing else


def _description(count):
    """The layout of the first `count` views as Slicer's layout XML."""
    items = "".join(
        f'<item><view class="vtkMRMLSliceNode" singletontag="{name}">'
        '<property name="orientation" action="default">Axial</property>'
        f'<property name="viewlabel" action="default">{label}</property>'
        f'<property name="viewcolor" action="default">{color}</property></view></item>'
        for name, label, color in VIEWS[:count]
    )
    return f'<layout type="horizontal" split="true">{items}</layout>'


class Compare:
    """What the two Compare buttons do. Works on the scene's views; does nothing where there are none."""

    def __init__(self):
        self._nodes = (None, None, None)
        self._layout = None  # the user's own, while ours is shown
        self._before, self._part = False, 1.0

    def setNodes(self, inputNode, outputNode, removedNode):
        """Input, result and removed noise; each may be None."""
        changed = [a is not b for a, b in zip(self._nodes, (inputNode, outputNode, removedNode))]
        self._nodes = inputNode, outputNode, removedNode
        if self.shown and any(changed):
            self._fill()

    @property
    def possible(self):
        """Whether there is something to compare."""
        return self._nodes[0] is not None and self._nodes[1] is not None

    @property
    def shown(self):
        """Whether the views are side by side."""
        return self._layout is not None

    def blend(self, part):
        """Show the input with `part` (0..1) of what the result changed, at once and without touching a voxel.

        Input and result have the same window and colours, so the views' own mixing is the mixing of the voxels.
        """
        if self.possible and part != self._part:
            self._show(views.showing(self._nodes[0]), self._before, part)

    def show(self, before):
        """Switch the user's views to input or result, as far as they are not the user's own; see `views.yielding`."""
        if self.possible:
            self._show(views.yielding(self._nodes[0]), before, self._part)

    def showNew(self, before, part=None):
        """Show what a run has just made, or before it, in all views that show what MedAE works or worked on."""
        if self._nodes[0] is not None and (before or self.possible):
            self._show(views.showing(self._nodes[0], others=True), before, self._part if part is None else part)

    def _show(self, composites, before, part):
        self._before, self._part = before, part
        source, result = self._nodes[:2]
        for composite in composites:
            free = views.coverable(composite, source)
            mixed = free and not before and part < 1
            views.setBackground(composite, source if before or mixed else result)
            if free:
                composite.SetForegroundVolumeID(result.GetID() if mixed else None)
                composite.SetForegroundOpacity(part if mixed else 0.0)

    def sideBySide(self, on):
        """Show the views side by side, or return to the user's layout. False when there are no views to arrange."""
        import slicer

        manager = slicer.app.layoutManager()
        if manager is None:
            return False
        if on and self.possible:
            count = 3 if self._nodes[2] is not None else 2
            layoutNode = manager.layoutLogic().GetLayoutNode()
            if not layoutNode.IsLayoutDescription(_LAYOUTS[count]):
                layoutNode.AddLayoutDescription(_LAYOUTS[count], _description(count))
            if not self.shown:
                self._layout = manager.layout
            manager.setLayout(_LAYOUTS[count])
            self._fill()
        elif self.shown:
            if manager.layout in _LAYOUTS.values():
                manager.setLayout(self._layout)
            self._layout = None
        return True

    def _fill(self):
        """Give each view its volume, all the same slice, linked."""
        import slicer

        manager = slicer.app.layoutManager()
        red = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
        logics = []
        for (name, _label, _color), node in zip(VIEWS, self._nodes):
            widget = manager.sliceWidget(name)
            if widget is None:
                continue
            logic = widget.sliceLogic()
            composite, view = logic.GetSliceCompositeNode(), logic.GetSliceNode()
            view.SetViewGroup(_GROUP)
            composite.SetLinkedControl(0)  # not while the three still differ
            composite.SetBackgroundVolumeID(node.GetID() if node is not None else None)
            composite.SetForegroundVolumeID(None)
            composite.SetLabelVolumeID(None)
            logics.append((logic, composite, view))
        for logic, _composite, view in logics:
            if red is not None:
                view.GetSliceToRAS().DeepCopy(red.GetSliceToRAS())
                view.UpdateMatrices()
            offset = logic.GetSliceOffset()
            logic.FitSliceToBackground()
            logic.SetSliceOffset(offset)
        for _logic, composite, _view in logics:
            composite.SetHotLinkedControl(1)
            composite.SetLinkedControl(1)
