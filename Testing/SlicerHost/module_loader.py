"""Loading a scripted module as Slicer does, opening and closing its panel."""

from __future__ import annotations

import gc
import importlib.util
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import slicer

from . import qt_signals
from .mrml_widgets import qSlicerScriptedLoadableModule, qSlicerScriptedLoadableModuleWidget
from .node_combo_box import qMRMLNodeComboBox
from .slicer_modules import Module


class _Description:
    """What the module's class fills in: title, categories, texts (Slicer's qSlicerScriptedLoadableModule)."""

    def __init__(self, path: str, name: str) -> None:
        self.path, self.name, self.title = path, name, name
        self.icon: Any = None
        self.hidden = False
        self.widgetRepresentationCreationEnabled = True


class ScriptedModule(Module, qSlicerScriptedLoadableModule):
    """A loaded scripted module: its Python file, its module object, its panel while that is open."""

    def __init__(self, path: Path) -> None:
        super().__init__(path.stem, None, str(path))
        self.python: ModuleType = _import_file(path)
        self.parent = _Description(str(path), path.stem)
        self.instance: Any = getattr(self.python, self.name)(self.parent)
        self.title = self.parent.title

    def widgetRepresentation(self) -> Any:
        """The panel, opened when it was closed (as Slicer's generic test does)."""
        if self.representation is None:
            open_panel(self)
        return self.representation

    def createNewWidgetRepresentation(self) -> Any:
        """A second, independent panel."""
        return _make_representation(self)

    def test_class(self) -> Any:
        """The module's class of tests, or None."""
        return getattr(sys.modules[self.name], f"{self.name}Test", None)


def _import_file(path: Path) -> ModuleType:
    folder = str(path.parent)
    if folder not in sys.path:
        sys.path.insert(0, folder)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} is no Python module")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def load_module(path: str | Path) -> ScriptedModule:
    """Load a scripted module by the path of its .py file; the second call returns the module loaded before."""
    path = Path(path).resolve()
    if not path.is_file():
        raise FileNotFoundError(f"there is no module file {path}")
    manager = slicer.app.moduleManager()
    known = manager.module(path.stem)
    if known is not None and known.path == str(path):
        return known
    module = ScriptedModule(path)
    manager.add(module)
    setattr(slicer.modules, f"{module.name}Instance", module.instance)
    slicer.app.coreIOManager().scripted.register(module.name, module.python)
    return module


def _make_representation(module: ScriptedModule) -> qSlicerScriptedLoadableModuleWidget:
    def build(parent: Any) -> Any:
        # Looked up anew each time: a reload has replaced the module's source.
        widget = getattr(sys.modules[module.name], f"{module.name}Widget")(parent)
        setattr(slicer.modules, f"{module.name}Widget", widget)
        return widget

    representation = qSlicerScriptedLoadableModuleWidget(build)
    representation.setObjectName(f"{module.name}ModuleWidget")
    representation.setMRMLScene(slicer.mrmlScene)
    representation.reload()
    return representation


def open_panel(module: ScriptedModule) -> Any:
    """Open the module's panel (or enter the open one) and return its widget object."""
    if module.representation is None:
        module.representation = _make_representation(module)
    if not module.representation.isEntered:
        module.representation.enter()
    return module.representation.self()


def close_panel(module: ScriptedModule) -> None:
    """Leave the panel, let it clean up and destroy its widgets; nothing happens when it is closed."""
    representation, module.representation = module.representation, None
    if representation is None:
        return
    import shiboken6

    if representation.isEntered:
        representation.exit()
    slicer.app.moduleManager().moduleAboutToBeUnloaded.emit(module.name)  # calls cleanup(), as in Slicer
    if hasattr(slicer.modules, f"{module.name}Widget"):
        delattr(slicer.modules, f"{module.name}Widget")
    slicer.app.processEvents()
    for selector in representation.findChildren(qMRMLNodeComboBox):
        selector.stop_observing()
    shiboken6.delete(representation)
    qt_signals.forget_deleted(shiboken6.isValid)
    gc.collect()
