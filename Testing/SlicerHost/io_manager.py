"""`slicer.app.coreIOManager()`: loading and saving of nodes and scenes with Slicer's own storage nodes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import slicer
import vtk

from . import file_types
from .scripted_io import ScriptedFiles

# vtkSlicerVolumesLogic::LoadingOptions
_VOLUME_OPTIONS = {"labelmap": 1, "center": 2, "singleFile": 4, "autoWindowLevel": 8, "discardOrientation": 16}


class CoreIOManager:
    """The part of qSlicerCoreIOManager that slicer.util drives."""

    def __init__(self, application: Any) -> None:
        self._application = application
        self.scripted = ScriptedFiles()

    def fileType(self, name: str) -> str:
        """Type of a file by its name."""
        reader = self.scripted.reader_of(str(name))
        return str(reader.fileType()) if reader is not None else file_types.file_type(name)

    def loadNodes(self, kind: str, properties: Mapping[str, Any], collection: Any = None, messages: Any = None) -> bool:
        """Load a file into the scene; True on success."""
        path = str(properties["fileName"])
        if not Path(path).exists():
            return False
        if kind == "SceneFile":
            return self._application.loadScene(path, bool(properties.get("clear", False)))
        loaded = self.scripted.load(kind, properties, messages)
        if loaded is not None:
            for node in loaded if collection is not None else ():
                collection.AddItem(node)
            return True
        node = self._load_volume(properties) if kind == "VolumeFile" else self._load_other(kind, properties)
        if node is None:
            return False
        if collection is not None:
            collection.AddItem(node)
        return True

    def _load_volume(self, properties: Mapping[str, Any]) -> Any:
        options = 0
        for name, flag in _VOLUME_OPTIONS.items():
            options |= flag if properties.get(name, name == "autoWindowLevel") else 0
        path = str(properties["fileName"])
        name = properties.get("name") or file_types.node_name(path)
        logic = slicer.modules.volumes.logic()
        node = logic.AddArchetypeVolume(path, name, options, vtk.vtkStringArray())
        if node is not None and properties.get("show", True):
            self._application.applicationLogic().GetSelectionNode().SetActiveVolumeID(node.GetID())
            self._application.applicationLogic().PropagateVolumeSelection()
        return node

    def _load_other(self, kind: str, properties: Mapping[str, Any]) -> Any:
        path, scene = str(properties["fileName"]), slicer.mrmlScene
        if kind == "MarkupsFile":
            node_id = slicer.modules.markups.logic().LoadMarkups(path)
            return scene.GetNodeByID(node_id) if node_id else None
        if kind not in file_types.NODE_CLASSES:
            return None
        name = properties.get("name") or file_types.node_name(path)
        node = scene.AddNewNodeByClass(file_types.NODE_CLASSES[kind], scene.GenerateUniqueName(name))
        if isinstance(node, slicer.vtkMRMLTextNode):
            node.SetForceCreateStorageNode(node.CreateStorageNodeAlways)
        node.AddDefaultStorageNode(path)
        storage = node.GetStorageNode()
        storage.SetFileName(path)
        if not storage.ReadData(node):
            scene.RemoveNode(storage)
            scene.RemoveNode(node)
            return None
        if hasattr(node, "CreateDefaultDisplayNodes"):
            node.CreateDefaultDisplayNodes()
        return node

    def saveNodes(self, kind: str, properties: Mapping[str, Any], messages: Any = None) -> bool:
        """Save one node or the scene; True on success."""
        path = str(properties["fileName"])
        if kind == "SceneFile":
            return self._application.saveScene(path)
        node = slicer.mrmlScene.GetNodeByID(properties["nodeID"])
        writer = self.scripted.writer_of(node, path)
        if writer is not None:
            return self.scripted.save(writer, properties, messages)
        if node.GetStorageNode() is None:
            if isinstance(node, slicer.vtkMRMLTextNode):
                node.SetForceCreateStorageNode(node.CreateStorageNodeAlways)  # short texts would get none
            node.AddDefaultStorageNode(path)
        storage = node.GetStorageNode()
        storage.ResetFileNameList()
        storage.SetFileName(path)
        if "useCompression" in properties:
            storage.SetUseCompression(properties["useCompression"])
        return bool(storage.WriteData(node))

    def exportNodes(
        self, ids: Any, names: Any, properties: Mapping[str, Any], harden: bool = False, messages: Any = None
    ) -> bool:
        """Write nodes to files."""
        return all(
            self.saveNodes("NodeFile", {**properties, "nodeID": node_id, "fileName": name}, messages)
            for node_id, name in zip(ids, names)
        )

    def fileWriterFileType(self, _node: Any) -> str:
        """Type under which a node is written."""
        return "NodeFile"

    def extractKnownExtension(self, name: str, _node: Any) -> str:
        """Ending of a file name, as Slicer understands it."""
        return file_types.extension(name)

    def fileWriterExtensions(self, node: Any) -> tuple[str, ...]:
        """Formats offered for writing."""
        return ("NRRD (.nrrd)", "NIfTI (.nii.gz)", *self.scripted.filters(node))

    def registeredFileReaderCount(self, _kind: str) -> int:
        """How many readers know a type."""
        return 1
