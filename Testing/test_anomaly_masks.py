"""The brain is found where a thin skull lets its tissue touch the scalp, in thick slices, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest
from generated_heads import head
from scipy.ndimage import gaussian_filter1d, zoom

from MedAELib.anomaly.grid import grid_around, onto_grid
from MedAELib.anomaly.masks import brain_mask
from MedAELib.volume import Volume

CELL = 3.0  # mm


def masked(volume: Volume, brain: np.ndarray) -> tuple[np.ndarray, np.ndarray, bool]:
    """The mask that is found, where the brain is, both on the grid, and whether a brain was found."""
    grid = grid_around(volume, CELL)
    found, told = brain_mask(onto_grid(volume.array[0], volume.affine, grid), CELL)
    return found, onto_grid(brain.astype(np.float32), volume.affine, grid) > 0.5, told


def dice(one: np.ndarray, two: np.ndarray) -> float:
    return float(2 * (one & two).sum() / (one.sum() + two.sum()))


def with_skull_of(volume: Volume, brightness: float) -> Volume:
    """With all that is darker than this beside the brain, within the scalp, as bright: a skull full of marrow, and
    membranes with contrast agent."""
    inside = volume.array[0] > 150
    for axis in range(3):
        before, behind = (np.logical_or.accumulate(np.flip(inside, axis) if turn else inside, axis) for turn in (0, 1))
        inside = before & np.flip(behind, axis)
    return volume.like(np.where(inside, np.maximum(volume.array[0], 300 * brightness), volume.array[0])[None])


def with_scalp_of(volume: Volume, brain: np.ndarray, factor: float) -> Volume:
    return volume.like(np.where(brain, volume.array[0], factor * volume.array[0])[None].astype(np.float32))


def thick(volume: Volume, axis: int, mm: float) -> Volume:
    factor = mm / volume.spacing[axis]
    smooth = gaussian_filter1d(volume.array[0], 0.4 * factor, axis)
    sizes, edges = [1.0] * 3, np.eye(4)
    sizes[axis], edges[axis, axis] = 1 / factor, factor
    return Volume(zoom(smooth, sizes, order=1)[None], volume.affine @ edges, volume.meta)


def test_a_brain_is_found_in_a_skull_that_is_nearly_as_bright_as_it():
    volume, brain = head((3.0, 3.0, 3.0))
    found, true, told = masked(with_skull_of(volume, 0.58), brain)
    assert told and dice(found, true) > 0.9


@pytest.mark.parametrize("factor", [0.3, 1.6])
def test_the_scalp_may_be_dark_or_bright(factor):
    volume, brain = head((3.0, 3.0, 3.0))
    found, true, told = masked(with_scalp_of(volume, brain, factor), brain)
    assert told and dice(found, true) > 0.9


def test_contrast_agent_in_large_veins_and_a_strong_coil_hide_no_brain():
    volume, brain = head((3.0, 3.0, 3.0))
    place = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in volume.shape], indexing="ij"))
    vein = (np.abs(place[0]) < 0.06) & (np.abs(place[1] + 0.78) < 0.06) & (np.abs(place[2]) < 0.5)
    coil = np.exp(-0.8 * place[2] ** 2 - 0.3 * place[1]).astype(np.float32)
    found, true, told = masked(volume.like((np.where(vein, 900, volume.array[0]) * coil)[None]), brain)
    assert told and dice(found, true) > 0.85


def test_in_slices_of_five_millimetres_a_brain_is_found_that_hangs_on_the_scalp():
    volume, brain = head((3.0, 3.0, 3.0))
    slices = thick(with_skull_of(volume, 0.48), 2, 5.0)
    found, told = brain_mask(onto_grid(slices.array[0], slices.affine, grid := grid_around(slices, CELL)), CELL)
    true = onto_grid(brain.astype(np.float32), volume.affine, grid) > 0.5
    assert told and dice(found, true) > 0.85


def test_what_has_the_size_of_a_brain_and_not_its_shape_is_looked_at_as_a_whole():
    volume, _ = head((3.0, 3.0, 3.0))
    place = np.stack(np.meshgrid(*[3.0 * (np.arange(n) - n / 2) for n in volume.shape], indexing="ij"))
    trunk = (np.abs(place[2]) < 80) & ((place[0] / 85) ** 2 + (place[1] / 95) ** 2 < 1)
    spine = trunk & (np.hypot(place[0], place[1] + 40) < 20)
    body = np.where(spine, 300, np.where(trunk, 140, 0)).astype(np.float32)
    body += np.abs(np.random.default_rng(0).normal(0, 6, body.shape)).astype(np.float32)
    assert not masked(volume.like(body[None]), trunk)[2]


@pytest.mark.slow
@pytest.mark.data
def test_a_brain_is_found_in_a_real_head_with_contrast_agent(data_folder):
    path = data_folder / "mr_misc" / "VS-SEG-001_T1c_0p82mm.nii.gz"
    if not path.exists():
        pytest.skip(f"no real scan: {path} is missing")
    volume = Volume.load(path)
    grid = grid_around(volume, 2.0)
    mask, told = brain_mask(onto_grid(volume.array[0], volume.affine, grid), 2.0)
    assert told and 1200 < mask.sum() * grid.cell_ml < 1700


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["mr_misc/cardiac_mr.nii.gz", "mr_misc/spine_t1w.nii.gz", "mr_misc/spine_t2w.nii.gz"])
def test_no_brain_is_found_in_other_parts_of_the_body(data_folder, name):
    if not (data_folder / name).exists():
        pytest.skip(f"no real scan: {data_folder / name} is missing")
    volume = Volume.load(data_folder / name)
    grid = grid_around(volume, 2.0)
    assert not brain_mask(onto_grid(volume.array[0], volume.affine, grid), 2.0)[1]
