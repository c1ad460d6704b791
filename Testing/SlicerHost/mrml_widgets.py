"""The other qMRML and qSlicer widgets of scripted panels, with a real scene behind them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from PySide6 import QtCore, QtWidgets

from . import ctk_sliders, ctk_widgets, node_combo_box, ui_loader
from .ctk_properties import parent_of, stored

Signal, Property = QtCore.Signal, QtCore.Property


class _SceneHolder:
    """What every MRML widget can do: hold a scene."""

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene."""
        self.__dict__["_scene"] = scene

    def mrmlScene(self) -> Any:
        """The scene, or None."""
        return self.__dict__.get("_scene")


class qMRMLWidget(QtWidgets.QWidget, _SceneHolder):
    """Top widget of a panel: passes the scene on by its signal."""

    mrmlSceneChanged = Signal(object)
    host_signals = {"mrmlSceneChanged(vtkMRMLScene*)": "mrmlSceneChanged"}

    def __init__(self, *arguments: Any) -> None:
        super().__init__(parent_of(arguments))

    def setMRMLScene(self, scene: Any) -> None:
        """Set the scene and tell the widgets connected in the .ui file."""
        if scene is not self.mrmlScene():
            self.__dict__["_scene"] = scene
            self.mrmlSceneChanged.emit(scene)


class qSlicerWidget(qMRMLWidget):
    """Top widget of a loadable module's panel."""


class qSlicerScriptedLoadableModuleWidget(qSlicerWidget):
    """What Slicer passes as `parent` to a module's widget class; forwards enter, exit and reload to it."""

    def __init__(self, build: Callable[[Any], Any] | None = None) -> None:
        super().__init__()
        self._build = build
        self._python: Any = None
        self._entered = False
        QtWidgets.QVBoxLayout(self)

    isEntered = Property(bool, lambda self: self._entered)

    def self(self) -> Any:
        """The module's own Python object."""
        return self._python

    def reload(self) -> None:
        """Build the Python object anew from the module's present source and set it up."""
        if self._build is not None:
            self._python = self._build(self)
            self._python.setup()

    def enter(self) -> None:
        """The user comes to the module."""
        self._entered = True
        if hasattr(self._python, "enter"):
            self._python.enter()

    def exit(self) -> None:
        """The user leaves the module."""
        if hasattr(self._python, "exit"):
            self._python.exit()
        self._entered = False


class qSlicerScriptedLoadableModule:
    """Class of scripted modules; the host's module objects derive from it."""


class qMRMLSliderWidget(ctk_sliders.ctkSliderWidget, _SceneHolder):
    """Slider with a unit of the scene."""

    stored(locals(), quantity=(str, ""), unitAwareProperties=("QVariant", 0))


class qMRMLSpinBox(ctk_sliders.ctkDoubleSpinBox, _SceneHolder):
    """Spin box with a unit of the scene."""

    stored(locals(), quantity=(str, ""), unitAwareProperties=("QVariant", 0))


class qMRMLRangeWidget(ctk_sliders.ctkRangeWidget, _SceneHolder):
    """Range slider with a unit of the scene."""

    stored(locals(), quantity=(str, ""), unitAwareProperties=("QVariant", 0))


class qMRMLCollapsibleButton(ctk_widgets.ctkCollapsibleButton, _SceneHolder):
    """Collapsible section that knows the scene."""


class qMRMLTableView(QtWidgets.QTableWidget, _SceneHolder):
    """Shows a table node's text."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(parent_of(arguments))
        self._table: Any = None

    def setMRMLTableNode(self, table: Any) -> None:
        """Show a table node."""
        self._table = table
        self.setRowCount(table.GetNumberOfRows() if table else 0)
        self.setColumnCount(table.GetNumberOfColumns() if table else 0)
        for column in range(self.columnCount):
            self.setHorizontalHeaderItem(column, QtWidgets.QTableWidgetItem(table.GetColumnName(column)))
            for row in range(self.rowCount):
                self.setItem(row, column, QtWidgets.QTableWidgetItem(table.GetCellText(row, column)))

    def mrmlTableNode(self) -> Any:
        """The table node shown, or None."""
        return self._table


class _Placeholder(QtWidgets.QWidget, _SceneHolder):
    """A widget that takes its place in the panel and nothing more."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(parent_of(arguments))


class qMRMLSubjectHierarchyTreeView(_Placeholder):
    """Place of the subject hierarchy's tree."""

    currentItemChanged = Signal(int)
    host_signals = {"currentItemChanged(vtkIdType)": "currentItemChanged"}


class qMRMLSubjectHierarchyComboBox(_Placeholder):
    """Place of the subject hierarchy's selector."""

    currentItemChanged = Signal(int)
    host_signals = {"currentItemChanged(vtkIdType)": "currentItemChanged"}


class qMRMLVolumeThresholdWidget(_Placeholder):
    """Place of the threshold editor."""


class qMRMLSegmentSelectorWidget(_Placeholder):
    """Place of the segment selector."""


class qMRMLColorTableComboBox(node_combo_box.qMRMLNodeComboBox):
    """Chooses a colour table."""


class qMRMLScreenShotDialog:
    """Names of the views that takeScreenshot() can take."""

    FullLayout, ThreeD, Red, Yellow, Green = 0, 1, 2, 3, 4


def install(slicer: Any) -> None:
    """Put the widgets into the `slicer` namespace and make them known to .ui files."""
    for source in (node_combo_box, globals()):
        names = source if isinstance(source, dict) else vars(source)
        for name, value in list(names.items()):
            if name.startswith(("qMRML", "qSlicer")) and isinstance(value, type):
                setattr(slicer, name, value)
                if issubclass(value, QtWidgets.QWidget):
                    ui_loader.register(**{name: value})
