"""Anomaly maps of odd files: missing slices, label maps, one value everywhere; and models of other tasks."""

from __future__ import annotations

import numpy as np
import pytest
from anomaly_tools import on_few_cells, tiny_normative
from generated_heads import head
from hypothesis import given
from hypothesis import strategies as st

from MedAELib.anomaly.gaps import missing_slices
from MedAELib.anomaly.prepare import prepared_for
from MedAELib.bundle import Spec, Window
from MedAELib.errors import BadInput, BadModel
from MedAELib.model import Model
from MedAELib.tasks.anomaly import anomaly
from MedAELib.volume import Volume


@pytest.fixture(autouse=True)
def few_cells(monkeypatch) -> None:
    on_few_cells(monkeypatch)


def warnings(volume: Volume, model: Model | None) -> list[str]:
    return anomaly(volume, model).report["warnings"]


@given(
    axis=st.integers(0, 2),
    gaps=st.sets(st.integers(1, 8), min_size=1, max_size=6),
    value=st.sampled_from([0.0, -1000.0, np.nan]),
)
def test_missing_slices_are_counted_along_any_axis_and_those_at_the_ends_are_not_missed(axis, gaps, value):
    voxels = np.moveaxis(np.random.default_rng(0).random((10, 6, 7), np.float32), 0, axis)
    there = np.moveaxis(voxels, axis, 0)
    assert missing_slices(Volume(voxels[None], np.eye(4))) == ""
    there[[0, 9]] = 0
    shown = sorted(set(range(1, 9)) - gaps)
    inner = {gap for gap in gaps if shown[0] < gap < shown[-1]}
    there[sorted(gaps)] = value
    told = missing_slices(Volume(voxels[None], np.eye(4), {"name": "scan"}))
    assert bool(told) == bool(inner)
    if inner:
        one = "1 slice along" if len(inner) == 1 else f"{len(inner)} slices along"
        assert f"scan lacks {one} its {('first', 'second', 'third')[axis]} axis" in told and f"{min(inner)}" in told


@pytest.mark.parametrize("air", [0, -1000])
def test_empty_slices_between_a_head_and_stray_voxels_are_not_missing(air):
    voxels = np.full((40, 30, 20), air, np.int16)
    voxels[8:30, 6:24] = np.random.default_rng(0).integers(50, 90, (22, 18, 20))
    voxels[35, 7, 9] = 60  # beyond air of one value, as in a masked scan
    voxels[2, 3, 4] = 32_767
    assert missing_slices(Volume(voxels[None], np.eye(4))) == ""
    for value in (air, 70, 32_767):
        voxels[20:22] = value
        assert "lacks 2 slices along its first axis (20 to 21):" in missing_slices(Volume(voxels[None], np.eye(4)))


def test_missing_slices_are_told_with_their_numbers_and_not_called_noise_alone(tmp_path):
    model = tiny_normative(tmp_path / "model")
    model.bundle.calibration["gate"]["odds"] = [-100.0]  # everything is unlike the training scans
    whole = head((4.0, 4.0, 4.0))[0]
    assert any("Most of the scan" in said and "slices" not in said for said in warnings(whole, model))
    voxels = whole.array.copy()
    voxels[..., 20:23] = 0
    told = warnings(whole.like(voxels), model)
    assert any("lacks 3 slices along its third axis (20 to 22)" in said for said in told)
    assert any("Most of the scan" in said and "missing slices" in said for said in told)
    assert any("lacks 3 slices" in said for said in warnings(whole.like(voxels), None))


def test_voxels_that_are_not_finite_are_counted_and_told_with_what_they_were_taken_as():
    scan = head((4.0, 4.0, 4.0))[0]
    assert not any("finite" in said for said in warnings(scan, None))
    voxels = scan.array.copy()
    voxels[0, 20, 20:23, 20], voxels[0, 5, 5, 5], voxels[0, 6, 6, 6] = np.nan, np.inf, -np.inf
    told = warnings(scan.like(voxels), None)
    assert any("head holds 5 voxels that are not finite, taken as 0;" in said for said in told)
    body = np.where(scan.array > 60, 40 + scan.array / 10, -1000).astype(np.float32)
    body[0, 20, 20, 20] = np.nan
    told = warnings(Volume(body, scan.affine, {"name": "neck", "modality": "CT"}), None)
    assert any("neck holds 1 voxel that is not finite, taken as air;" in said for said in told)


def test_a_label_map_is_told(tmp_path):
    scan = head((4.0, 4.0, 4.0))[0]
    labels = scan.like(np.digitize(scan.array, [60, 150, 250]).astype(np.uint8))
    for model in (tiny_normative(tmp_path / "model"), None):
        assert any("as a label map does" in said for said in warnings(labels, model))
        assert not any("as a label map does" in said for said in warnings(scan, model))


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize("value", [7.0, np.nan])
def test_one_value_everywhere_is_refused_also_where_the_grid_reaches_beyond_the_volume(value, modality):
    flat = Volume(np.full((1, 21, 21, 21), value), np.diag([3.0, 3, 3, 1]), {"name": "flat", "modality": modality})
    with pytest.raises(BadInput, match="flat has the same value everywhere"):
        anomaly(flat, None)


@pytest.mark.parametrize("modality", ["CT", "MR"])
def test_a_model_of_another_task_is_named_as_such_whatever_the_scan(modality):
    plain = Model.create(Spec("plain", {}, 3, "denoise", modality, Window("fixed", 0.0, 1.0)))
    with pytest.raises(BadModel, match="made for the task 'denoise', not to find what is unlike"):
        prepared_for(head((4.0, 4.0, 4.0))[0], plain)
