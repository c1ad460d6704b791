"""Before and after: switches the slice views between input and result, and lays them side by side, linked."""

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
            self.show(self._before, part)

    def show(self, before, part=None):
        """Let every slice view that shows input or result (or nothing) show the one that is asked for."""
        if not self.possible:
            return
        self._before, self._part = before, self._part if part is None else part
        import slicer

        own = {name for name, _label, _color in VIEWS}
        source, result = (node.GetID() for node in self._nodes[:2])
        for composite in slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode"):
            shown = composite.GetBackgroundVolumeID() or source
            if composite.GetLayoutName() in own or shown not in (source, result):
                continue
            free = composite.GetForegroundVolumeID() in (None, "", result)  # another foreground is the user's own
            mixed = free and not before and self._part < 1
            composite.SetBackgroundVolumeID(source if before or mixed else result)
            if free:
                composite.SetForegroundVolumeID(result if mixed else None)
                composite.SetForegroundOpacity(self._part if mixed else 0.0)

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
