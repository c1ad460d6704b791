"""`slicer.modules` and the module manager: Slicer's own logics, and the scripted modules that the host loads."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer
from PySide6 import QtCore

# name in the application logic -> class of the logic
LOGICS = {
    "Volumes": "vtkSlicerVolumesLogic",
    "Colors": "vtkSlicerColorLogic",
    "Segmentations": "vtkSlicerSegmentationsModuleLogic",
    "Terminologies": "vtkSlicerTerminologiesModuleLogic",
    "VolumeRendering": "vtkSlicerVolumeRenderingLogic",
    "SubjectHierarchy": "vtkSlicerSubjectHierarchyModuleLogic",
    "Markups": "vtkSlicerMarkupsLogic",
    "Models": "vtkSlicerModelsLogic",
    "Tables": "vtkSlicerTablesLogic",
    "Plots": "vtkSlicerPlotsLogic",
    "Texts": "vtkSlicerTextsLogic",
    "Transforms": "vtkSlicerTransformLogic",
    "Sequences": "vtkSlicerSequencesLogic",
    "CropVolume": "vtkSlicerCropVolumeLogic",
    "Units": "vtkSlicerUnitsLogic",
    "Data": "vtkSlicerDataModuleLogic",
    "SceneViews": "vtkSlicerSceneViewsModuleLogic",
}


class Module:
    """A module of Slicer's core: name and logic."""

    def __init__(self, name: str, logic: Any = None, path: str = "") -> None:
        self.name, self.title, self.path = name, name, path
        self._logic = logic
        self.representation: Any = None

    def logic(self) -> Any:
        """The module's logic, or None."""
        return self._logic

    def widgetRepresentation(self) -> Any:
        """The module's panel, or None while it is closed."""
        return self.representation


class ModuleManager(QtCore.QObject):
    """The modules by name."""

    moduleAboutToBeUnloaded = QtCore.Signal(str)
    moduleLoaded = QtCore.Signal(str)
    modulesLoaded = QtCore.Signal("QStringList")

    def __init__(self) -> None:
        super().__init__()
        self._modules: dict[str, Any] = {}

    def add(self, module: Any) -> None:
        """Make a module known, also as `slicer.modules.<lower case name>` (host only)."""
        self._modules[module.name] = module
        setattr(slicer.modules, module.name.lower(), module)

    def module(self, name: str) -> Any:
        """The module of that name, or None."""
        return self._modules.get(name)

    def modulesNames(self) -> tuple[str, ...]:
        """Names of all modules."""
        return tuple(self._modules)

    loadedModuleNames = modulesNames

    def isLoaded(self, name: str) -> bool:
        """Whether a module of that name is there."""
        return name in self._modules

    def factoryManager(self) -> ModuleManager:
        """The same object: the host has no separate factory."""
        return self


def create_logics(scene: Any, application_logic: Any, folder: str) -> dict[str, Any]:
    """Make Slicer's module logics and introduce them to each other, to the scene and to the application logic."""
    made: dict[str, Any] = {}
    for name, class_name in LOGICS.items():
        logic = getattr(slicer, class_name)()
        if hasattr(logic, "SetModuleShareDirectory"):
            share = Path(folder, "share", name)
            share.mkdir(parents=True, exist_ok=True)
            logic.SetModuleShareDirectory(str(share))
        if hasattr(logic, "SetMRMLApplicationLogic"):
            logic.SetMRMLApplicationLogic(application_logic)
        logic.SetMRMLScene(scene)
        application_logic.SetModuleLogic(name, logic)
        made[name] = logic
    return made
