"""What a training looks like while it runs: its curve as charts of a table, and a held-out slice in a view."""

from slicer.i18n import tr as _

from .target import NodeReference

LOSS, QUALITY, PRECISION = "loss", "held-out PSNR (dB)", "held-out average precision"
_LAYOUT = 7510  # Slicer's own layouts have small numbers
_VIEWS = {LOSS: "MedAELoss", QUALITY: "MedAEQuality", "picture": "MedAEHeldOut"}
_TITLES = {LOSS: _("loss"), QUALITY: _("held-out PSNR (dB)"), PRECISION: _("held-out average precision")}
_COLOURS = {LOSS: (0.29, 0.56, 0.85), QUALITY: (0.35, 0.65, 0.41), PRECISION: (0.35, 0.65, 0.41)}


def _plot(name):
    label = f'<property name="viewlabel" action="default">{name[0].upper()}</property>'
    return f'<item><view class="vtkMRMLPlotViewNode" singletontag="{_VIEWS[name]}">{label}</view></item>'


def _description():
    """The held-out slice above the two charts, as Slicer's layout XML."""
    view = (
        f'<item><view class="vtkMRMLSliceNode" singletontag="{_VIEWS["picture"]}">'
        '<property name="orientation" action="default">Axial</property>'
        '<property name="viewlabel" action="default">H</property>'
        '<property name="viewcolor" action="default">#8A6FBF</property></view></item>'
    )
    charts = f'<item><layout type="horizontal" split="true">{_plot(LOSS)}{_plot(QUALITY)}</layout></item>'
    return f'<layout type="vertical" split="true">{view}{charts}</layout>'


class Learning:
    """Keeps the nodes of the training in hand; like its controller it goes on whatever becomes of the panel.

    `rows` are the points so far: (step, loss, quality), numbers or None; `quality` names the third. `active`
    is whether a training is under way, `stopping` whether the user has asked it to end.
    """

    def __init__(self, controller):
        self._controller = controller
        self.name, self.rows, self.steps, self.quality = "", [], 0, QUALITY
        self.active = self.stopping = False
        self._nodes = {}  # references by what they are
        self._picture, self._shown = None, 0  # the last picture, and its number
        self._layout = None  # the user's own, while ours is shown
        controller.listeners.append(self.update)

    def begin(self, name, task=""):
        """A training has started; its nodes come with its first point, and those of the one before stay."""
        self.name, self.rows, self.steps = name, [], 0
        self.quality = PRECISION if task == "anomaly" else QUALITY
        self.active, self.stopping = True, False
        self._nodes, self._picture, self._shown = {}, None, 0

    def update(self):
        """A training that was cancelled leaves the scene as it was."""
        if not self.active or self._controller.busy:
            return
        self.active = self.stopping = False
        if self._controller.state == "cancelled":
            self.show(False)
            self._remove()
            self.rows = []

    def add(self, event, run):
        """Take in a point of the curve, and the picture that may have come with it."""
        from MedAELib.worker.live import read_picture

        first = not self.rows
        self.rows.append((event.step, event.loss, event.held_out))
        self.steps = event.steps
        if event.picture > self._shown:
            self._shown, self._picture = event.picture, read_picture(run)
        if first:
            self.show(True)
            return
        table = self._node("table")
        if table is not None:
            self._append(table.GetTable(), self.rows[-1])
            table.Modified()
        self._draw()

    @property
    def best(self):
        """(step, quality) of the best point so far, or None."""
        measured = [(quality, -step) for step, _loss, quality in self.rows if quality is not None]
        return (-max(measured)[1], max(measured)[0]) if measured else None

    @property
    def shown(self):
        """Whether the views of the training are shown."""
        import slicer

        manager = slicer.app.layoutManager()
        return self._layout is not None and manager is not None and manager.layout == _LAYOUT

    def show(self, on):
        """Show the views of the training, with nodes made anew where the user has deleted them, or go back."""
        import slicer

        manager = slicer.app.layoutManager()
        if on and self.rows:
            self._make()
        if manager is None:
            return
        if on and self.rows:
            layouts = manager.layoutLogic().GetLayoutNode()
            if not layouts.IsLayoutDescription(_LAYOUT):
                layouts.AddLayoutDescription(_LAYOUT, _description())
            if manager.layout != _LAYOUT:
                self._layout = manager.layout
                manager.setLayout(_LAYOUT)
            self._fill(manager)
        elif not on and self._layout is not None:
            if manager.layout == _LAYOUT:
                manager.setLayout(self._layout)
            self._layout = None

    # ---- nodes ----

    def _node(self, name):
        reference = self._nodes.get(name)
        return reference.node() if reference is not None else None

    def _new(self, name, kind, title):
        import slicer

        node = self._node(name)
        if node is None:
            node = slicer.mrmlScene.AddNewNodeByClass(kind, f"{self.name} {title}")
            self._nodes[name] = NodeReference(node)
        return node

    def _make(self):
        """The table of all points, a series and a chart of each figure, and the picture."""
        parts = ((LOSS, 1), (self.quality, 2))
        measured = [name for name, part in parts if any(row[part] is not None for row in self.rows)]
        table = self._new("table", "vtkMRMLTableNode", "learning curve")
        self._fillTable(table)
        for name in measured:
            series = self._new(f"{name} series", "vtkMRMLPlotSeriesNode", name)
            series.SetAndObserveTableNodeID(table.GetID())
            series.SetPlotType(series.PlotTypeScatter)
            series.SetXColumnName("step")
            series.SetYColumnName(name)
            series.SetMarkerStyle(series.MarkerStyleCircle)
            series.SetMarkerSize(5)
            series.SetColor(*_COLOURS[name])
            chart = self._new(f"{name} chart", "vtkMRMLPlotChartNode", f"{name} chart")
            chart.RemoveAllPlotSeriesNodeIDs()
            chart.AddAndObservePlotSeriesNodeID(series.GetID())
            chart.SetTitle(f"{self.name}: {_TITLES[name]}")
            chart.SetXAxisTitle(_("step"))
            chart.SetYAxisTitle(_TITLES[name])
            chart.SetLegendVisibility(False)
        self._draw()

    def _fillTable(self, table):
        import vtk

        table.RemoveAllColumns()
        for name in ("step", LOSS, self.quality):
            column = vtk.vtkDoubleArray()
            column.SetName(name)
            table.AddColumn(column)
        for row in self.rows:
            self._append(table.GetTable(), row)
        table.Modified()

    @staticmethod
    def _append(table, row):
        for index, value in enumerate(row):
            column = table.GetColumn(index)
            if column is not None:  # the table is the user's too
                column.InsertNextValue(float("nan") if value is None else value)
        table.Modified()

    def _draw(self):
        """Put the last picture into its node."""
        import slicer

        if self._picture is None:
            return
        node = self._node("picture")
        if node is None and "picture" in self._nodes and not self.shown:
            return  # the user has deleted it
        fresh = node is None
        if fresh:
            node = self._new("picture", "vtkMRMLScalarVolumeNode", "held-out slice: shown, and made of it")
            node.SetHideFromEditors(1)
            node.SetSaveWithScene(False)
            node.SetIJKToRASDirections(-1, 0, 0, 0, -1, 0, 0, 0, 1)  # the first voxel at the top left of the view
        slicer.util.updateVolumeFromArray(node, self._picture.T[None].copy())
        if fresh:
            node.CreateDefaultDisplayNodes()
            node.GetDisplayNode().AutoWindowLevelOff()
            node.GetDisplayNode().SetWindowLevelMinMax(0, 1)

    def _fill(self, manager):
        """Give each view what it shows."""
        import slicer

        for view in slicer.util.getNodesByClass("vtkMRMLPlotViewNode"):
            for name, place in ((LOSS, LOSS), (self.quality, QUALITY)):
                chart = self._node(f"{name} chart")
                if view.GetLayoutName() == _VIEWS[place] and chart is not None:
                    view.SetPlotChartNodeID(chart.GetID())
        widget, node = manager.sliceWidget(_VIEWS["picture"]), self._node("picture")
        if widget is not None and node is not None:
            logic = widget.sliceLogic()
            logic.GetSliceCompositeNode().SetBackgroundVolumeID(node.GetID())
            logic.GetSliceNode().SetOrientation("Axial")
            logic.FitSliceToBackground()

    def _remove(self):
        import slicer

        for name in list(self._nodes):
            node = self._node(name)
            if node is not None:
                slicer.mrmlScene.RemoveNode(node)
        self._nodes = {}
