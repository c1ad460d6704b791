"""`slicer.app.layoutManager()`: Slicer's real layout logic makes the view nodes, the host makes a view for each."""

from __future__ import annotations

from typing import Any

import slicer
import vtk
from PySide6 import QtCore

from .views import SliceView, ThreeDView


class ViewWidget:
    """Stand-in for qMRMLSliceWidget and qMRMLThreeDWidget, and for the view and controller inside them."""

    def __init__(self, view: Any) -> None:
        self.view = view

    def _itself(self) -> ViewWidget:
        return self

    sliceView = threeDView = sliceController = threeDController = _itself

    def sliceLogic(self) -> Any:
        """The slice logic."""
        return self.view.logic

    def mrmlSliceNode(self) -> Any:
        """The view node."""
        return self.view.node

    mrmlViewNode = mrmlSliceNode

    def mrmlSliceCompositeNode(self) -> Any:
        """The node that says which volumes are shown."""
        return self.view.composite

    def fitSliceToBackground(self) -> None:
        """Show the whole background volume."""
        self.view.fit()

    def resetFocalPoint(self) -> None:
        """Centre a 3D view on what it shows."""
        self.view.fit()

    def forceRender(self) -> None:
        """Draw now."""
        self.view.grab()

    def scheduleRender(self) -> None:
        """Draw soon: pictures are always drawn when they are taken."""

    def renderWindow(self) -> Any:
        """The VTK window."""
        return self.view.offscreen().window

    def interactor(self) -> Any:
        """The VTK interactor."""
        return self.view.offscreen().interactor

    interactorStyle = interactor

    def cornerAnnotation(self) -> Any:
        """Texts in the corners of the view."""
        return self.view.offscreen().annotation

    def displayableManagerByClassName(self, name: str) -> Any:
        """One of Slicer's displayable managers of this view, or None."""
        return self.view.offscreen().group.GetDisplayableManagerByClassName(name)

    def setVisible(self, _visible: bool) -> None:
        """Controllers can be shown and hidden; the host has none."""


class LayoutManager(QtCore.QObject):
    """Views by name; layouts by number, standard ones and those that a module adds."""

    layoutChanged = QtCore.Signal(int)

    def __init__(self, scene: Any) -> None:
        super().__init__()
        self._scene = scene
        self._slices: dict[str, ViewWidget] = {}
        self._three_d: dict[str, ViewWidget] = {}
        self._logic = slicer.vtkMRMLLayoutLogic()
        self._logic.SetMRMLApplicationLogic(slicer.app.applicationLogic())

        @vtk.calldata_type(vtk.VTK_OBJECT)
        def on_added(_caller: Any, _event: str, node: Any) -> None:
            self._add_view(node)

        scene.AddObserver(scene.NodeAddedEvent, on_added)
        self._logic.SetMRMLScene(scene)
        self._logic.AddObserver(vtk.vtkCommand.ModifiedEvent, lambda _caller, _event: self._map_views())
        self.setLayout(slicer.vtkMRMLLayoutNode.SlicerLayoutFourUpView)

    def _add_view(self, node: Any) -> None:
        if node.IsA("vtkMRMLSliceNode"):
            known, make = self._slices, SliceView
        elif node.IsA("vtkMRMLViewNode"):
            known, make = self._three_d, ThreeDView
        else:
            return
        name = node.GetLayoutName() or node.GetName()
        if name not in known or known[name].view.node is not node:
            known[name] = ViewWidget(make(node))

    def _map_views(self) -> None:
        """Say on each view node whether the present layout shows it; in Slicer the Qt layout manager does so."""
        shown = self._logic.GetViewNodes()
        nodes = [shown.GetItemAsObject(index) for index in range(shown.GetNumberOfItems())]
        for widget in (*self._slices.values(), *self._three_d.values()):
            widget.view.node.SetMappedInLayout(any(widget.view.node is node for node in nodes))

    def layoutLogic(self) -> Any:
        """Slicer's layout logic."""
        return self._logic

    def setLayout(self, number: int) -> None:
        """Choose a layout; its view nodes are made when they are missing."""
        self._logic.GetLayoutNode().SetViewArrangement(int(number))
        self._map_views()
        self.layoutChanged.emit(int(number))

    @property
    def layout(self) -> int:
        """Number of the present layout."""
        return self._logic.GetLayoutNode().GetViewArrangement()

    @layout.setter
    def layout(self, number: int) -> None:
        self.setLayout(number)

    def sliceViewNames(self) -> tuple[str, ...]:
        """Names of the slice views that the present layout shows."""
        return tuple(name for name, widget in self._slices.items() if widget.view.node.IsMappedInLayout())

    def sliceWidget(self, name: str) -> ViewWidget | None:
        """The slice view of that name, or None."""
        return self._slices.get(name)

    @property
    def threeDViewCount(self) -> int:
        """How many 3D views the present layout shows."""
        return sum(bool(widget.view.node.IsMappedInLayout()) for widget in self._three_d.values())

    tableViewCount = 0
    plotViewCount = 0

    def threeDWidget(self, index: int | str = 0) -> ViewWidget | None:
        """The 3D view of that number or name, or None."""
        if isinstance(index, str):
            return self._three_d.get(index)
        return dict(enumerate(self._three_d.values())).get(index)

    def mrmlSliceLogics(self) -> Any:
        """Logics of all slice views."""
        return slicer.app.applicationLogic().GetSliceLogics()

    def mrmlViewLogics(self) -> Any:
        """Logics of all 3D views."""
        return slicer.app.applicationLogic().GetViewLogics()

    def resetSliceViews(self) -> None:
        """Fit every slice view to its background volume."""
        for widget in self._slices.values():
            widget.fitSliceToBackground()

    def resetThreeDViews(self) -> None:
        """Centre every 3D view that has a window."""
        for widget in self._three_d.values():
            widget.resetFocalPoint()
