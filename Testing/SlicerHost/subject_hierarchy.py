"""Subject hierarchy items appear for new nodes, as Slicer's plugins make them (they are not part of the MRML core)."""

from __future__ import annotations

from typing import Any

import slicer
import vtk

_SHOWN = (
    "vtkMRMLVolumeNode",
    "vtkMRMLSegmentationNode",
    "vtkMRMLModelNode",
    "vtkMRMLMarkupsNode",
    "vtkMRMLTransformNode",
    "vtkMRMLTableNode",
    "vtkMRMLTextNode",
    "vtkMRMLPlotChartNode",
    "vtkMRMLPlotSeriesNode",
    "vtkMRMLSequenceNode",
    "vtkMRMLSequenceBrowserNode",
)


def watch(scene: Any) -> None:
    """Keep the scene's subject hierarchy in step with its nodes."""
    slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_added(_caller: Any, _event: str, node: Any) -> None:
        if not scene.IsImporting() and not scene.IsClosing():
            _add(scene, node)

    @vtk.calldata_type(vtk.VTK_OBJECT)
    def on_about_to_be_removed(_caller: Any, _event: str, node: Any) -> None:
        if not scene.IsClosing() and not node.IsA("vtkMRMLSubjectHierarchyNode"):
            _remove(scene, node)

    def on_imported(_caller: Any, _event: str) -> None:
        for index in range(scene.GetNumberOfNodes()):
            _add(scene, scene.GetNthNode(index))

    def on_closed(_caller: Any, _event: str) -> None:
        slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)

    scene.AddObserver(scene.NodeAddedEvent, on_added)
    scene.AddObserver(scene.NodeAboutToBeRemovedEvent, on_about_to_be_removed)
    scene.AddObserver(scene.EndImportEvent, on_imported)
    scene.AddObserver(scene.EndCloseEvent, on_closed)


def _add(scene: Any, node: Any) -> None:
    if node is None or node.GetHideFromEditors() or not any(node.IsA(name) for name in _SHOWN):
        return
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    if hierarchy.GetItemByDataNode(node) == hierarchy.GetInvalidItemID():
        hierarchy.CreateItem(hierarchy.GetSceneItemID(), node)


def _remove(scene: Any, node: Any) -> None:
    if not any(node.IsA(name) for name in _SHOWN):
        return
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(scene)
    item = hierarchy.GetItemByDataNode(node)
    if item != hierarchy.GetInvalidItemID():
        hierarchy.RemoveItem(item, False, False)
