"""Saving and restoring whole scenes: .mrb archives and .mrml files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import slicer


def save(scene: Any, path: str) -> bool:
    """Write the scene with its data; True on success."""
    if path.endswith(".mrb"):
        return bool(scene.WriteToMRB(path))
    if not path.endswith(".mrml"):
        return _save_as_folder(scene, path)
    scene.SetRootDirectory(str(Path(path).absolute().parent))
    scene.SetURL(path)
    for index in range(scene.GetNumberOfNodesByClass("vtkMRMLStorableNode")):
        node = scene.GetNthNodeByClass(index, "vtkMRMLStorableNode")
        if node.GetSaveWithScene():
            _save_data(node)
    return bool(scene.Commit(path))


def _save_as_folder(scene: Any, path: str) -> bool:
    Path(path).mkdir(parents=True, exist_ok=True)
    return bool(slicer.app.applicationLogic().SaveSceneToSlicerDataBundleDirectory(path, None))


def _save_data(node: Any) -> None:
    if node.GetStorageNode() is None:
        node.AddDefaultStorageNode()
    storage = node.GetStorageNode()
    if storage is None:
        return
    if not storage.GetFileName():
        storage.SetFileName(f"{node.GetName()}.{storage.GetDefaultWriteFileExtension()}")
    storage.WriteData(node)


def load(scene: Any, path: str, clear: bool) -> bool:
    """Read a scene, replacing or joining the present one; True on success."""
    if path.endswith(".mrb"):
        return bool(scene.ReadFromMRB(path, clear))
    scene.SetURL(path)
    scene.SetRootDirectory(str(Path(path).absolute().parent))
    return bool(scene.Connect() if clear else scene.Import())
