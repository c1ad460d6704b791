"""A single slice: denoised better than by a Gaussian filter, along any axis, however it is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import small_model
from scipy.ndimage import gaussian_filter
from torch import Generator

from MedAELib import Volume, denoise
from MedAELib.engine.run import Engine
from MedAELib.modality import check_domain
from MedAELib.model import Model
from MedAELib.tasks.denoise import denoise_and_map
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.corruptions import magnitude_noise, projection_noise


def cpu(tile: int = 0) -> Engine:
    return Engine("cpu", "float32", tile)


def slices(modality: str, level: float, axis: int) -> tuple[np.ndarray, np.ndarray]:
    """A noisy slice of generated anatomy, one voxel thin along an axis, and its truth."""
    clean = torch.from_numpy(generated_volume(modality, 90_003, 64))
    generator = Generator().manual_seed(1)
    if modality == "MR":
        noisy = magnitude_noise(clean, level, generator)
    else:
        noisy = clean + level * projection_noise(clean.shape, generator)
    return tuple(1000 * voxels.numpy().take([30], axis) for voxels in (noisy, clean))


@pytest.mark.parametrize("modality, level, axis", [("MR", 0.05, 0), ("MR", 0.15, 1), ("MR", 0.05, 2), ("CT", 0.05, 2)])
def test_a_slice_is_denoised_better_than_by_the_best_gaussian(modality, level, axis):
    noisy, clean = slices(modality, level, axis)
    volume = Volume(noisy[None], np.eye(4), {"name": "slice", "modality": modality})
    result = denoise(volume, Model.load(f"{modality.lower()}-denoise"), passes=1, engine=cpu()).array[0]
    inside = clean > (150 if modality == "MR" else -500)

    def error(voxels: np.ndarray) -> float:
        return float(np.sqrt(np.mean((voxels - clean)[inside] ** 2)))

    widths = (0.5, 0.7, 0.9, 1.2, 1.6)
    plain = min(error(gaussian_filter(noisy, [0 if n == axis else w for n in range(3)])) for w in widths)
    assert error(result) < 0.95 * plain


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("tile", [4, 8])
def test_any_tile_gives_the_whole_slices_result_and_noise(tile, axis):
    shape = [21, 14]
    shape.insert(axis, 1)
    array = np.random.default_rng(0).normal(300, 90, (1, *shape)).clip(0).astype(np.float32)
    volume, model = Volume(array, np.eye(4)), small_model()
    made = [denoise_and_map(volume, model, engine=cpu(size), passes=1) for size in (tile, 0)]
    for cut, whole in zip(*made, strict=True):
        assert cut.shape == tuple(shape) and np.abs(cut.array - whole.array).max() <= 1e-3 * whole.array.max()
    assert (made[1][1].array > 0).all()
    assert np.array_equal(denoise(volume, model, engine=cpu(), passes=1).array, made[1][0].array)


def test_progress_of_a_slice_covers_its_voxels():
    told = []
    volume = Volume(np.random.default_rng(0).normal(300, 90, (1, 20, 18, 1)).astype(np.float32), np.eye(4))
    denoise(volume, small_model(), engine=cpu(7), progress=lambda stage, done, total: told.append((done, total)))
    assert told[-1] == (360, 360) and all(0 <= done <= 360 for done, _ in told)


@pytest.mark.parametrize("shape, told", [((1, 70, 40), "one slice"), ((70, 5, 40), "5 slices"), ((70, 40, 9), "")])
def test_a_slice_along_any_axis_is_told(shape, told):
    volume = Volume(np.random.default_rng(0).rayleigh(300, (1, *shape)), np.eye(4), {"name": "scan"})
    found = [said for said in check_domain(volume, small_model().spec) if "works in 3D" in said]
    assert [told in said for said in found] == ([True] if told else [])


@pytest.mark.parametrize("modality, level", [("MR", 0.06), ("CT", 0.05)])
def test_the_noise_of_slices_is_told_as_it_is(modality, level):
    told, model = [], Model.load(f"{modality.lower()}-denoise")
    for seed in (90_003, 90_005, 90_007, 90_009, 90_011):
        clean, generator = torch.from_numpy(generated_volume(modality, seed, 64)), Generator().manual_seed(seed)
        if modality == "MR":
            noisy = magnitude_noise(clean, level, generator)
        else:
            noisy = clean + level * projection_noise(clean.shape, generator)
        voxels = 1000 * noisy.numpy()[None, :, :, 30:31]
        _, noise = denoise_and_map(Volume(voxels, np.eye(4), {"modality": modality}), model, engine=cpu(), passes=1)
        tissue = clean.numpy()[:, :, 30:31] > (3 * level if modality == "MR" else -0.5)
        told.append(float(np.median(noise.array[0][tissue])) / (1000 * level))
    assert np.median(told) == pytest.approx(1, abs=0.08)
