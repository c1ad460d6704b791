"""Masked air and padding stay as they are, no MRI becomes negative, and other scans are denoised as before."""

from __future__ import annotations

import numpy as np
import pytest
from models import small_model

from MedAELib import Volume, denoise
from MedAELib.engine.run import Engine
from MedAELib.tasks import denoise as task
from MedAELib.tasks.background import constant

INSIDE = (slice(6, 22), slice(4, 20), slice(3, 13))


def masked(dtype="float32", fill=0, frames=1, shape=(28, 24, 16)) -> tuple[Volume, np.ndarray]:
    """Noise in a box, one value around it, and which voxels are around."""
    outside = np.ones(shape, bool)
    outside[INSIDE] = False
    noise = np.random.default_rng(4).normal(90, 25, (frames, *shape)).clip(1, 250)
    array = np.where(outside, fill, noise).astype(dtype)
    return Volume(array, np.eye(4), {"name": "scan", "frames": frames > 1}), outside


def run(volume: Volume, modality: str = "MR", tile: int = 0, **options) -> np.ndarray:
    model, engine = small_model(modality=modality), Engine("cpu", "float32", tile)
    return denoise(volume, model, engine=engine, passes=1, **options).array


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", "float64", "int64"])
def test_masked_air_of_an_mri_stays_to_the_last_voxel_and_tissue_does_not(dtype, strength):
    volume, outside = masked(dtype, frames=2)
    result = run(volume, strength=strength)
    assert np.array_equal(result[:, outside], volume.array[:, outside])
    assert (result[:, ~outside] != volume.array[:, ~outside]).mean() > 0.5


@pytest.mark.parametrize("fill", [-1024, -2000])
def test_the_padding_of_a_ct_stays(fill):
    volume, outside = masked("int16", fill)
    result = run(volume, "CT")
    assert np.array_equal(result[0, outside], volume.array[0, outside])
    assert (result[0, ~outside] != volume.array[0, ~outside]).mean() > 0.5


@pytest.mark.parametrize("tile", [1, 5, 16])
def test_masked_air_stays_however_the_volume_is_cut(tile):
    volume, _ = masked()
    assert np.abs(run(volume, tile=tile) - run(volume)).max() < 0.05


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_masked_air_of_a_single_slice_stays(axis):
    volume, outside = masked()
    volume, outside = Volume(volume.array.take([8], axis), np.eye(4)), outside.take([8], axis - 1)
    result = run(volume)
    assert np.array_equal(result[0, outside], volume.array[0, outside])
    assert (result[0, ~outside] != volume.array[0, ~outside]).any()


def test_magnitudes_do_not_become_negative_and_other_values_none_below_the_scans():
    array = np.random.default_rng(1).rayleigh(20, (1, 24, 20, 16)).astype(np.float32)
    array[:, 8:16, 8:16] += 4000
    assert run(Volume(array, np.eye(4))).min() >= 0
    moved = Volume(array - 3000, np.eye(4), {"modality": "MR"})
    assert run(moved).min() >= moved.array.min()


def test_a_scan_without_masked_air_is_denoised_as_if_there_were_no_such_rule(monkeypatch):
    array = np.random.default_rng(2).normal(900, 60, (1, 24, 20, 16)).round().astype(np.int16)
    volume = Volume(array, np.eye(4))
    result = run(volume)
    monkeypatch.setattr(task, "constant", lambda source, core: None)
    assert np.array_equal(run(volume), result)


def test_a_block_of_one_value_is_found_wherever_the_box_ends_and_less_is_none():
    voxels = np.arange(10 * 9 * 8).reshape(10, 9, 8)
    voxels[4:7, 3:6, 2:5] = 7
    voxels[0:2, 0:9, 0:8] = 5  # too thin
    whole = constant(voxels, (slice(0, 10), slice(0, 9), slice(0, 8)))
    assert whole is not None and whole.sum() == 27 and whole[4:7, 3:6, 2:5].all()
    for start in range(10):
        part = constant(voxels, (slice(start, start + 1), slice(2, 9), slice(0, 3)))
        expected = whole[start : start + 1, 2:9, 0:3]
        assert np.array_equal(np.zeros_like(expected) if part is None else part, expected)
