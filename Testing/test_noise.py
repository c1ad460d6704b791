"""The noise unit: right on white, correlated, Rician and spatially rising noise; never nothing, never a traceback."""

from __future__ import annotations

import functools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import zoom
from torch import Generator

from MedAELib import Volume
from MedAELib.noise import interpolated, noise_unit
from MedAELib.tasks.run_denoise import run_denoise
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.corruptions import low_passed, magnitude_noise, projection_noise

_anatomy = functools.cache(generated_volume)


def _generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


@pytest.mark.parametrize("seed", [1, 2, 90_000])
@pytest.mark.parametrize("level", [0.02, 0.05, 0.15])
def test_rician_noise_on_anatomy_is_told_within_a_tenth(seed, level):
    clean = torch.from_numpy(_anatomy("MR", seed, 64))
    noisy = magnitude_noise(clean, level, _generator()).numpy()
    share = noise_unit(noisy * 700, False) / 700 / level
    assert 0.9 < share < 1.1


def test_untouched_air_tells_the_noise_beside_anatomy_that_is_nowhere_flat():
    texture = 1 + 0.2 * torch.randn((64, 64, 64), generator=_generator(1))
    clean = torch.where(torch.arange(64)[:, None, None] < 24, 0, texture)
    noisy = magnitude_noise(clean, 0.04, _generator()).numpy()
    assert noise_unit(noisy, False) == pytest.approx(0.04, rel=0.05)
    masked = np.where(clean > 0, noisy, 0)
    assert noise_unit(masked, False) > 0.1  # too high, as the docstring says: nothing is flat and no air is left


@pytest.mark.parametrize("cutoff", [0.3, 0.5, 1.0])
def test_correlated_noise_in_a_body_is_told_within_a_fifth(cutoff):
    clean = _anatomy("CT", 90_001, 64)
    noisy = clean + 0.04 * projection_noise(clean.shape, _generator(), cutoff).numpy()
    assert noise_unit(noisy * 1000, True) == pytest.approx(40, rel=0.25)


def test_zero_filled_noise_is_not_taken_for_nothing():
    noise = low_passed(torch.randn((64, 64, 64), generator=_generator()), (0.6, 0.6, 1)).numpy()
    assert 0.8 < noise_unit(100 + noise, False) < 1.05  # half of it, by the finest detail alone
    anatomy = torch.from_numpy(_anatomy("MR", 90_000, 64))
    noisy = magnitude_noise(anatomy, 0.05, _generator(), cutoffs=(0.6, 0.6, 1)).numpy()
    assert noise_unit(noisy, False) == pytest.approx(0.05, rel=0.1)


@pytest.mark.parametrize("mean", [5, 30, 1000])
def test_pure_noise_is_told_within_a_twentieth(mean):
    noise = mean + torch.randn((64, 64, 48), generator=_generator(1)).numpy()
    assert noise_unit(noise, False) == pytest.approx(1, rel=0.05)


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("slices", range(1, 9))
def test_pure_noise_of_few_slices_is_told_within_a_twentieth(slices, axis):
    size = [144, 144]
    size.insert(axis, slices)
    told = [noise_unit(1000 + 20 * torch.randn(size, generator=_generator(seed)).numpy(), False) for seed in range(4)]
    assert np.mean(told) == pytest.approx(20, rel=0.05)


def test_clean_and_constant_volumes_have_next_to_no_noise_but_never_none():
    clean = generated_volume("MR", 90_000, 64)
    assert 0 < noise_unit(clean, False) < 0.01
    assert noise_unit(np.full((20, 20, 20), 7, np.int16), False) == 1.0
    assert noise_unit(np.full((4, 4, 4), np.nan), True) == 1.0


def test_the_unit_follows_the_scale_of_the_scan():
    noisy = magnitude_noise(torch.from_numpy(generated_volume("MR", 1, 48)), 0.05, _generator()).numpy()
    assert noise_unit(noisy * 1e6, False) == pytest.approx(1e6 * noise_unit(noisy, False), rel=1e-4)


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 9)] * 3),
    dtype=st.sampled_from(["uint8", "int16", "float32", "float64", "bool"]),
    seed=st.integers(0, 99),
    correlated=st.booleans(),
)
def test_any_volume_has_a_finite_unit_above_zero(shape, dtype, seed, correlated):
    array = np.random.default_rng(seed).normal(0, 50, shape).astype(dtype)
    unit = noise_unit(array, correlated)
    assert np.isfinite(unit) and unit > 0


@pytest.mark.parametrize("shape", [(2, 2, 2), (3, 3, 3), (5, 5, 5), (8, 8, 1), (40, 1, 1)])
def test_noise_of_a_few_voxels_is_not_told_far_too_strong(shape):
    scans = [np.random.default_rng(seed).normal(600, 50, shape).astype(np.float32) for seed in range(20)]
    told = [noise_unit(scan, correlated=False) / 50 for scan in scans]
    assert 0.8 < np.median(told) < 1.1 and max(told) < 1.6


@pytest.mark.parametrize("level", [0.03, 0.05, 0.15])
def test_a_scan_that_was_interpolated_is_told_from_one_with_white_noise(level):
    clean = torch.from_numpy(_anatomy("MR", 1, 64))
    noisy = magnitude_noise(clean, level, _generator()).numpy()
    finer = zoom(noisy[:40, :40, :40], (2, 2, 1), order=1), zoom(noisy[:40, :40, :40], 1.5, order=3)
    filled = magnitude_noise(clean, level, _generator(), cutoffs=(0.5, 0.5, 1.0)).numpy()
    assert not interpolated(noisy)
    assert all(interpolated(scan) for scan in (*finer, filled))


def test_the_report_says_that_interpolated_noise_goes_in_part_only():
    noisy = magnitude_noise(torch.from_numpy(_anatomy("MR", 1, 32)), 0.05, _generator()).numpy() * 700

    def said(array: np.ndarray) -> bool:
        scan = Volume(array[None].astype(np.float32), np.eye(4), {"name": "scan", "modality": "MR"})
        made = run_denoise(scan, {"model": "mr-denoise", "device": "cpu"}, lambda *_: None, _room)
        return any("interpolated" in warning for warning in made.report["warnings"])

    assert said(zoom(noisy, (2, 2, 1), order=1)[:32, :32]) and not said(noisy)


def _room(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    return np.empty(shape, dtype)
