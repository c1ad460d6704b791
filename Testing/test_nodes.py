"""Nodes of Slicer's real MRML core to values and back: nothing of the input is lost, copied or changed."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from panel_tools import add_scan, oblique_affine

from MedAELib.errors import BadInput
from MedAELib.volume import Volume

pytestmark = pytest.mark.usefixtures("slicer_host")


@pytest.fixture
def nodes() -> ModuleType:
    """The module under test; it imports slicer, so only after the host has started."""
    from MedAELib import nodes

    return nodes


def add_result(nodes: ModuleType, scan: Any, array: np.ndarray | None = None, **options: Any) -> Any:
    """Write an array [1, i, j, k] (default: the scan's voxels less 1) as a result of the scan."""
    source = nodes.read(scan)
    volume = source.like(source.array - 1 if array is None else array)
    filling = nodes.Filling(volume)
    while not filling.step(1 << 12):
        pass
    place, original = nodes.place_of(scan), options.pop("original", scan)
    return nodes.write(filling.image, volume.affine, place, "a result", original=original, **options)


def test_reading_gives_the_node_s_own_memory_with_i_first(nodes: ModuleType) -> None:
    import slicer

    scan = add_scan(size=(24, 20, 12))
    volume = nodes.read(scan)
    voxels = slicer.util.arrayFromVolume(scan)
    assert volume.array.shape == (1, 24, 20, 12)
    assert np.shares_memory(volume.array, voxels)
    assert volume.array[0, 5, 7, 9] == voxels[9, 7, 5]
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0, 0] = 1


def test_an_oblique_anisotropic_affine_is_read_exactly(nodes: ModuleType) -> None:
    np.testing.assert_allclose(nodes.read(add_scan()).affine, oblique_affine(), atol=1e-9)


def test_the_voxels_outlive_the_node_while_they_are_exported(nodes: ModuleType) -> None:
    import slicer

    scan = add_scan()
    volume, before = nodes.read(scan), slicer.util.arrayFromVolume(scan).T.copy()
    slicer.mrmlScene.RemoveNode(scan)
    slicer.mrmlScene.Clear()
    np.testing.assert_array_equal(volume.array[0], before)


def test_a_vector_volume_is_read_with_one_channel_per_component(nodes: ModuleType) -> None:
    import slicer

    values = np.arange(4 * 5 * 6 * 3, dtype=np.uint8).reshape(4, 5, 6, 3)
    node = slicer.util.addVolumeFromArray(values, nodeClassName="vtkMRMLVectorVolumeNode", name="photo")
    with pytest.raises(BadInput, match="photo"):
        nodes.read_scan(node)
    volume = nodes.read(node)
    assert volume.array.shape == (3, 6, 5, 4)
    assert volume.array[2, 1, 3, 2] == values[2, 3, 1, 2]


@pytest.mark.parametrize(
    ("class_name", "reason"),
    [
        ("vtkMRMLLabelMapVolumeNode", "is a label map"),
        ("vtkMRMLSegmentationNode", "is a segmentation"),
        ("vtkMRMLSequenceNode", "is a sequence of volumes"),
        ("vtkMRMLDiffusionTensorVolumeNode", "holds tensors"),
        ("vtkMRMLDiffusionWeightedVolumeNode", "is a diffusion series"),
        ("vtkMRMLModelNode", "is not a volume"),
        ("vtkMRMLScalarVolumeNode", "holds no voxels"),
        ("vtkMRMLVectorVolumeNode", "holds no voxels"),
    ],
)
def test_what_is_no_scan_is_refused_in_a_sentence_that_names_the_node(
    nodes: ModuleType, class_name: str, reason: str
) -> None:
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass(class_name, "my node")
    with pytest.raises(BadInput, match=rf"^'my node' {reason}.*\.$"):
        nodes.read(node)


def test_nothing_selected_is_refused(nodes: ModuleType) -> None:
    with pytest.raises(BadInput, match="No volume is selected"):
        nodes.read(None)


def test_an_image_with_an_axis_of_no_voxels_is_refused(nodes: ModuleType) -> None:
    import slicer
    import vtk

    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "flat")
    image = vtk.vtkImageData()
    image.SetDimensions(4, 0, 4)
    node.SetAndObserveImageData(image)
    with pytest.raises(BadInput, match="'flat' holds no voxels"):
        nodes.read(node)


@pytest.mark.parametrize("dtype", ["uint8", "int16", "uint16", "int32", "uint32", "float32", "float64"])
def test_a_result_keeps_type_place_and_voxels(nodes: ModuleType, dtype: str) -> None:
    import slicer

    scan = add_scan(dtype=dtype)
    voxels = slicer.util.arrayFromVolume(scan)
    result = add_result(nodes, scan, voxels.T[np.newaxis].copy())
    written = slicer.util.arrayFromVolume(result)
    assert written.dtype == voxels.dtype
    np.testing.assert_array_equal(written, voxels)
    np.testing.assert_allclose(nodes.affine_of(result), oblique_affine(), atol=1e-9)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([-128, 127], np.int8), "int16"),
        (np.array([False, True]), "uint8"),
        (np.array([0.5, 2.25], np.float16), "float32"),
        (np.array([0, 5], np.uint64), "int32"),
        (np.array([0, 4_000_000_000], np.uint64), "uint32"),
        (np.array([-3, 5], np.int64), "int32"),
        (np.array([-3, 5_000_000_000], np.int64), "float64"),
        (np.array([-300, 300], ">i2"), "int16"),
    ],
)
def test_types_that_slicer_cannot_save_become_the_nearest_one_without_loss(
    nodes: ModuleType, values: np.ndarray, expected: str
) -> None:
    import slicer

    volume = Volume(values.reshape(1, 2, 1, 1), np.eye(4))
    filling = nodes.Filling(volume)
    while not filling.step():
        pass
    node = nodes.write(filling.image, volume.affine, nodes.Place(), "converted")
    written = slicer.util.arrayFromVolume(node)
    assert written.dtype == np.dtype(expected)
    np.testing.assert_array_equal(written.ravel(), values.astype(expected))


@pytest.mark.parametrize("order", ["C", "F"])
def test_filling_slab_by_slab_copies_everything_in_any_memory_order(nodes: ModuleType, order: Any) -> None:
    import slicer

    values = np.asarray(np.random.default_rng(0).normal(size=(1, 9, 8, 7)).astype(np.float32), order=order)
    filling, steps = nodes.Filling(Volume(values, np.eye(4))), 0
    while not filling.step(max_bytes=300):
        steps += 1
        assert 0 < filling.fraction < 1
    assert steps >= 5
    node = nodes.write(filling.image, np.eye(4), nodes.Place(), "filled")
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(node).T, values[0])


def test_a_result_of_several_channels_is_not_a_scalar_volume(nodes: ModuleType) -> None:
    with pytest.raises(BadInput, match="3 values per voxel"):
        nodes.Filling(Volume(np.zeros((3, 2, 2, 2)), np.eye(4)))


def test_a_result_takes_over_transform_window_level_and_colours(nodes: ModuleType) -> None:
    import slicer

    scan = add_scan()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "bed")
    scan.SetAndObserveTransformNodeID(transform.GetID())
    scan.GetDisplayNode().SetAndObserveColorNodeID("vtkMRMLColorTableNodeIron")
    scan.GetDisplayNode().SetInterpolate(0)
    result = add_result(nodes, scan)
    display = result.GetDisplayNode()
    assert result.GetParentTransformNode() is transform
    assert (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()) == (350, 40, 0)
    assert display.GetColorNodeID() == "vtkMRMLColorTableNodeIron"
    assert not display.GetInterpolate()


def test_without_the_input_in_another_scene_the_result_still_lies_where_the_patient_was(nodes: ModuleType) -> None:
    import slicer
    import vtk

    scan = add_scan()
    shift = vtk.vtkMatrix4x4()
    shift.SetElement(0, 3, 50.0)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "bed")
    transform.SetMatrixTransformToParent(shift)
    scan.SetAndObserveTransformNodeID(transform.GetID())
    place = nodes.Place.from_json(nodes.place_of(scan).to_json())
    slicer.mrmlScene.Clear()
    other = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "another transform")
    assert other.GetID() == place.transform_id
    filling = nodes.Filling(Volume(np.zeros((1, 2, 2, 2), np.int16), oblique_affine()))
    filling.step()
    result = nodes.write(filling.image, oblique_affine(), place, "recovered")
    assert result.GetParentTransformNode() is None
    np.testing.assert_allclose(nodes.affine_of(result)[:3, 3], oblique_affine()[:3, 3] + (50, 0, 0), atol=1e-9)


def test_a_result_stands_beside_its_input_in_the_subject_hierarchy(nodes: ModuleType) -> None:
    import slicer

    scan = add_scan()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "patient")
    study = hierarchy.CreateStudyItem(patient, "study")
    hierarchy.SetItemParent(hierarchy.GetItemByDataNode(scan), study)
    result = add_result(nodes, scan)
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(result)) == study


def test_writing_changes_nothing_of_the_input(nodes: ModuleType) -> None:
    import slicer

    scan = add_scan()
    before = (slicer.util.arrayFromVolume(scan).tobytes(), nodes.affine_of(scan).tolist(), scan.GetName())
    attributes = {name: scan.GetAttribute(name) for name in scan.GetAttributeNames()}
    result = add_result(nodes, scan)
    nodes.stamp(result, {"task": "denoise"}, scan)
    slicer.util.arrayFromVolume(result)[...] = 0
    assert (slicer.util.arrayFromVolume(scan).tobytes(), nodes.affine_of(scan).tolist(), scan.GetName()) == before
    assert {name: scan.GetAttribute(name) for name in scan.GetAttributeNames()} == attributes


def test_the_input_is_refused_as_output(nodes: ModuleType) -> None:
    import slicer

    scan = add_scan()
    before = slicer.util.arrayFromVolume(scan).copy()
    with pytest.raises(BadInput, match="'CT chest' is the input"):
        add_result(nodes, scan, node=scan)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(scan), before)


def test_a_chosen_output_node_is_used_again_and_keeps_its_name(nodes: ModuleType) -> None:
    import slicer

    scan = add_scan(size=(24, 20, 12))
    chosen = add_scan("my output", size=(3, 3, 3))
    result = add_result(nodes, scan, node=chosen)
    assert result is chosen
    assert chosen.GetName() == "my output"
    assert slicer.util.arrayFromVolume(chosen).shape == (12, 20, 24)


def test_removed_noise_has_symmetric_diverging_colours_made_once(nodes: ModuleType) -> None:
    import slicer

    scan = add_scan()
    first = add_result(nodes, scan, removed_window=25.0)
    second = add_result(nodes, scan, removed_window=40.0)
    colors = first.GetDisplayNode().GetColorNode()
    assert second.GetDisplayNode().GetColorNode() is colors
    assert (first.GetDisplayNode().GetWindow(), first.GetDisplayNode().GetLevel()) == (50.0, 0.0)
    table = np.zeros((256, 4))
    for index in range(256):
        colors.GetColor(index, table[index])
    middle, low, high = table[127:129, :3], table[0, :3], table[255, :3]
    np.testing.assert_allclose(middle, 1.0)
    assert low[2] > low[0]
    assert high[0] > high[2]
    lightness = table[:, :3].mean(axis=1)
    assert (np.diff(lightness[:128]) >= 0).all()
    assert (np.diff(lightness[128:]) <= 0).all()
    assert len(slicer.util.getNodesByClass("vtkMRMLColorTableNode")) == len(
        {node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLColorTableNode")}
    )


def test_spread_is_the_magnitude_that_nearly_all_removed_noise_stays_below(nodes: ModuleType) -> None:
    noise = np.random.default_rng(1).normal(0, 10, (1, 80, 80, 80)).astype(np.float32)
    assert nodes.Filling(Volume(noise, np.eye(4))).spread() == pytest.approx(28, rel=0.1)
    assert nodes.Filling(Volume(np.zeros((1, 4, 4, 4)), np.eye(4))).spread() > 0


def test_results_and_their_provenance_come_back_from_an_mrb_file(nodes: ModuleType, tmp_path: Path) -> None:
    import slicer

    scan = add_scan()
    result, removed = add_result(nodes, scan), add_result(nodes, scan, removed_window=25.0)
    told = {
        "task": "denoise",
        "output": "denoised",
        "parameters": {"strength": 1.0, "model": 'a;b:"c" & <d>'},
        "tile": 64,
    }
    nodes.stamp(result, {"verdict": "of an earlier run"}, scan)
    nodes.stamp(result, told, scan)
    assert "verdict" not in nodes.provenance(result)
    nodes.stamp(removed, {"output": "removed"}, scan)
    before = nodes.provenance(result)
    voxels = slicer.util.arrayFromVolume(result).copy()
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear()
    slicer.util.loadScene(str(path))
    scan, result = slicer.util.getNode("CT chest"), slicer.util.getNode("a result")
    found = nodes.results_of(scan)
    assert found["denoised"] is result
    assert nodes.provenance(result) == before
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), voxels)
    np.testing.assert_allclose(nodes.affine_of(result), oblique_affine(), atol=1e-5)
    display = found["removed"].GetDisplayNode()
    assert display.GetColorNode().GetName() == nodes.COLORS
    assert display.GetColorNode().GetNumberOfColors() == 256
    assert display.GetWindow() == pytest.approx(50.0)
    assert nodes.removed_noise_colors() is display.GetColorNode()


def test_the_newest_result_of_an_input_is_found(nodes: ModuleType) -> None:
    scan, other = add_scan(), add_scan("other")
    results = [add_result(nodes, scan) for _ in range(3)]
    for result, date in zip(results, ("2026-01-02", "2026-01-03", "2026-01-01")):
        nodes.stamp(result, {"output": "denoised", "date": date}, scan)
    assert nodes.results_of(scan) == {"denoised": results[1]}
    assert nodes.results_of(other) == {}


def test_dicom_says_what_kind_of_scan_it_is(nodes: ModuleType) -> None:
    import slicer

    scan = add_scan()
    assert nodes.modality_of(scan) == ""
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    hierarchy.SetItemAttribute(hierarchy.GetItemByDataNode(scan), "DICOM.Modality", "MR")
    assert nodes.read(scan).meta["modality"] == "MR"
