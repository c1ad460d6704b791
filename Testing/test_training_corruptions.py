"""The noise for training has the statistics it claims; generated anatomy and patches repeat with their seed."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.fft import dct
from torch import Generator

from MedAELib.training import patches
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.corruptions import corrupt_ct, corrupt_mr, low_passed, magnitude_noise, projection_noise
from MedAELib.training.patches import WHOLE, Source, body_around, draw_batch, draw_patch, windowed_ct, windowed_mr
from MedAELib.training.projection import scan_noise


def _generator(seed: int = 0) -> Generator:
    return Generator().manual_seed(seed)


def _lag_one(noise: torch.Tensor, axis: int) -> float:
    noise = noise - noise.mean()
    size = noise.shape[axis] - 1
    return float((noise.narrow(axis, 0, size) * noise.narrow(axis, 1, size)).mean() / noise.square().mean())


@pytest.mark.parametrize("sigma", [0.03, 0.15])
def test_rician_noise_without_signal_has_the_rayleigh_mean_and_variance(sigma):
    noisy = magnitude_noise(torch.zeros(64, 64, 64), sigma, _generator())
    assert float(noisy.mean()) == pytest.approx(sigma * math.sqrt(math.pi / 2), rel=0.01)
    assert float(noisy.var()) == pytest.approx((2 - math.pi / 2) * sigma**2, rel=0.02)


@pytest.mark.parametrize("coils", [1, 3])
def test_magnitude_noise_has_the_second_moment_of_the_non_central_chi_law(coils):
    noisy = magnitude_noise(torch.full((64, 64, 64), 0.5), 0.1, _generator(), coils)
    assert float(noisy.square().mean()) == pytest.approx(0.5**2 + 2 * coils * 0.1**2, rel=0.01)


def test_rician_noise_on_a_strong_signal_is_almost_gaussian():
    noisy = magnitude_noise(torch.full((64, 64, 64), 1.0), 0.02, _generator())
    assert float(noisy.std()) == pytest.approx(0.02, rel=0.02)
    assert float(noisy.mean()) == pytest.approx(1 + 0.02**2 / 2, abs=2e-4)


def test_zero_filled_noise_is_correlated_along_its_axis_alone_and_keeps_its_deviation():
    noise = low_passed(torch.randn(64, 64, 64, generator=_generator()), (0.6, 1, 1))
    assert float(noise.std()) == pytest.approx(1, rel=0.02)
    assert _lag_one(noise, 0) > 0.3
    assert abs(_lag_one(noise, 1)) < 0.02


@pytest.mark.parametrize(("cutoff", "low", "high"), [(0.2, 0.85, 1), (0.5, 0.5, 0.65), (1.2, -0.1, 0.1)])
def test_projection_noise_is_correlated_in_plane_by_its_kernel_and_white_across_slices(cutoff, low, high):
    noise = projection_noise((96, 96, 48), _generator(), cutoff)
    assert noise.shape == (96, 96, 48)
    assert float(noise.std()) == pytest.approx(1, rel=0.05)
    assert low < _lag_one(noise, 0) < high
    assert low < _lag_one(noise, 1) < high
    assert abs(_lag_one(noise, 2)) < 0.03


def test_projection_noise_has_hardly_any_power_at_low_frequencies():
    noise = projection_noise((128, 128, 16), _generator(), 0.5)
    power = torch.fft.fft2(noise.permute(2, 0, 1)).abs().square().mean(0)
    assert float(power[1:3, 1:3].mean()) < 0.35 * float(power[15:25, 15:25].mean())


def test_slices_mix_when_asked_and_streaks_have_a_direction():
    assert _lag_one(projection_noise((64, 64, 48), _generator(), 0.5, across=0.4), 2) > 0.3
    noise = projection_noise((96, 96, 32), _generator(3), 1.2, streaks=0.9)
    diagonals = [_lag_one(noise, 0), _lag_one(noise, 1)]
    assert max(abs(value) for value in diagonals) > 0.1


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_drawn_noise_levels_spread_over_their_range_and_some_patches_have_none(modality):
    clean = torch.full((24, 24, 24), 0.8 if modality == "MR" else 0.05)
    body, scan = torch.ones_like(clean), torch.randn(24, 24, 24, generator=_generator())
    generator = _generator()
    levels = []
    for _ in range(300):
        made = corrupt_mr(clean, generator) if modality == "MR" else corrupt_ct(clean, body, scan, generator)
        noisy, told, unit = made
        assert 1e-3 <= unit < 0.6
        levels.append(float((noisy - clean).std()))
        assert told.shape == clean.shape
        if levels[-1] > 0.01 and modality == "CT" and float(noisy.min()) > -1.02:
            assert float(told.square().mean().sqrt()) == pytest.approx(levels[-1], rel=0.25)
    quiet = sum(level == 0 for level in levels)
    assert 5 <= quiet <= 45
    loud = np.array([level for level in levels if level])
    low, high = (0.004, 0.2) if modality == "MR" else (0.002, 0.13)
    assert np.quantile(loud, 0.04) < low * 3
    assert np.quantile(loud, 0.95) > high / 3
    assert loud.max() < high * 3


def test_ct_noise_can_be_cut_off_at_the_lowest_stored_value():
    air = torch.full((16, 16, 16), -1.024)
    generator = _generator(1)
    nothing = torch.zeros_like(air)
    lowest = [float(corrupt_ct(air, nothing, nothing, generator)[0].min()) for _ in range(40)]
    assert any(value == pytest.approx(-1.024) for value in lowest)
    assert any(value < -1.03 for value in lowest)


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_generated_anatomy_is_in_range_has_structure_and_repeats_with_its_seed(modality):
    first, again, other = (generated_volume(modality, seed, 32) for seed in (5, 5, 6))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
    assert first.std() > 0.05
    assert first.min() >= (0 if modality == "MR" else -1.024)
    assert first.max() < 3.1


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_a_batch_depends_on_its_seed_alone_and_fits_small_sources(modality):
    voxels = generated_volume(modality, 1, 40)
    sources = [
        Source("large", torch.from_numpy(voxels)),
        Source("thin", torch.from_numpy(voxels[:, :, :5].copy()), weight=0.5),
        Source("noisy", torch.from_numpy(voxels), least=(2, 2, 1)),
    ]
    if modality == "CT":
        sources = [replace(source, body=source.voxels, noise=source.voxels) for source in sources]
    for seed in range(6):
        clean, lesions, maps, generated, bands = draw_batch(sources, modality, _generator(seed))
        again, *_ = draw_batch(sources, modality, _generator(seed))
        assert generated == [False] * len(clean)
        assert torch.equal(clean, again)
        assert len(bands) == len(clean) and all(0.3 < share <= 1 for band in bands for share in band)
        assert torch.isfinite(clean).all()
        assert lesions.shape == clean.shape
        assert float((lesions != 0).float().mean()) < 0.2
        assert clean.shape[1] == 1 and 200_000 < clean.numel() < 700_000
        assert maps.shape == (clean.shape[0], 2 if modality == "CT" else 0, *clean.shape[2:])
    before = torch.from_numpy(generated_volume(modality, 1, 40))
    assert torch.equal(sources[0].voxels, before)


def test_a_ct_lends_its_anatomy_to_mr_patches():
    head = torch.from_numpy(generated_volume("CT", 1, 40))
    clean, *_ = draw_batch([Source("CT", head, is_ct=True)], "MR", _generator(3))
    assert clean.min() >= 0
    assert float(clean.std()) > 0.05
    assert float(clean.max()) < 2.5
    again, *_ = draw_batch([Source("CT", head, is_ct=True)], "MR", _generator(4))
    assert not torch.equal(clean, again)


def test_mr_patches_are_zero_filled_in_plane_along_one_axis_or_in_all_of_a_scan_and_ct_never_is():
    voxels = torch.rand(64, 64, 64, generator=_generator())
    generator = _generator(1)
    kinds = []
    for _ in range(80):
        _, band = draw_patch(Source("noise", voxels), (32, 32, 32), "MR", generator)
        filled = [share for share in band if share < 1]
        assert len(set(filled)) <= 1 and all(0.38 < share < 0.87 for share in filled)
        kinds.append(len(filled))
    assert set(kinds) == {0, 1, 2, 3}
    assert 8 < sum(kind > 0 for kind in kinds) < 36
    ct = Source("CT", voxels, body=voxels, noise=voxels)
    assert {draw_patch(ct, (32, 32, 32), "CT", generator)[1] for _ in range(20)} == {WHOLE}


def test_a_zero_filled_patch_keeps_what_was_measured_and_nothing_above(monkeypatch):
    monkeypatch.setattr(patches, "CONSTANT_SHARE", {"MR": 0, "CT": 0})
    monkeypatch.setattr(patches, "LESION_SHARE", {False: 0, True: 0})
    voxels, generator, filled = 1 + torch.rand(64, 64, 64, generator=_generator()), _generator(2), 0
    for _ in range(40):
        (patch, _), band = draw_patch(Source("noise", voxels), (32, 32, 32), "MR", generator)
        for axis, share in enumerate(band):
            strength = np.abs(dct(patch.double().numpy(), axis=axis)).mean(tuple({0, 1, 2} - {axis}))
            above = strength[round(share * 32) :]
            assert share == 1 or above.max() < 1e-3 * strength.max()
            filled += share < 1
    assert filled > 5


def test_zero_filling_gives_a_wave_back_and_rings_at_a_step():
    place, finer = (torch.arange(20) + 0.5) / 20, (torch.arange(36) + 0.5) / 36
    wave = 1 + torch.cos(torch.pi * 7 * place)
    made = patches.zero_filled(wave[:, None, None].expand(20, 3, 4), (36, 3, 4))
    assert made.shape == (36, 3, 4)
    assert torch.allclose(made[:, 1, 2], (1 + torch.cos(torch.pi * 7 * finer)).abs(), atol=1e-4)
    step = patches.zero_filled((place > 0.5).float()[:, None, None] + 1, (36, 1, 1))
    assert 1.04 < float(step.max()) - 1 < 1.2
    assert float(step.mean()) == pytest.approx(1.5, abs=1e-4)


def test_noise_of_a_zero_filled_scan_is_by_chance_zero_filled_too():
    clean, generator = torch.full((32, 32, 32), 0.8), _generator(3)
    shares = []
    for _ in range(60):
        noisy, deviation, _ = corrupt_mr(clean, generator, (0.5, 1, 1))
        strength = torch.fft.rfft(noisy - clean, dim=0).abs().mean((1, 2))
        if float(deviation.max()) > 0:
            shares.append(float(strength[12:].mean() / strength[1:6].mean()))
    assert 5 < sum(share < 0.3 for share in shares) < 35


def test_a_simulated_scan_is_noisier_inside_a_body_and_its_noise_is_correlated_in_plane_alone():
    place = torch.linspace(-1, 1, 64)
    disc = (place[:, None] ** 2 + place[None, :] ** 2 < 0.7)[:, :, None].expand(64, 64, 24)
    noise = scan_noise(torch.where(disc, 0.0, -1.0), 5.0, _generator(), cutoff=0.5)
    assert noise.shape == (64, 64, 24)
    assert float(noise[28:36, 28:36].std()) > 1.5 * float(noise[2:8, 2:8].std())
    assert 0.4 < _lag_one(noise[20:44, 20:44], 0) < 0.9
    assert abs(_lag_one(noise[20:44, 20:44], 2)) < 0.1
    assert abs(float(noise.mean())) < 0.05 * float(noise.std())


def test_fewer_photons_make_a_noisier_scan():
    clean = torch.zeros(32, 32, 16)
    many, few = (scan_noise(clean, 3.0, _generator(), photons=photons, electronic=0) for photons in (4e5, 1e5))
    assert float(few.std() / many.std()) == pytest.approx(2, rel=0.02)


def test_body_around_is_largest_inside_the_body():
    voxels = np.full((40, 40, 4), -1, np.float32)
    voxels[10:30, 10:30] = 0
    around = body_around(voxels)
    assert around.min() >= 0 and around.max() == pytest.approx(1)
    assert around[20, 20, 2] > 3 * around[1, 1, 2]


def test_windows_put_tissue_where_the_networks_expect_it():
    assert windowed_ct(np.array([-3000, 0, 1000, 30000])).tolist() == pytest.approx([-1.024, 0, 1, 3.071])
    windowed = windowed_mr(np.linspace(-10, 1000, 100_000))
    assert windowed.min() == 0
    assert np.percentile(windowed, 99.9) == pytest.approx(1)
