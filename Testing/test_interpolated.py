"""An MRI that was interpolated to more voxels is denoised on the grid that was measured."""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.ndimage import gaussian_filter, zoom

from MedAELib.engine.run import Engine
from MedAELib.errors import Cancelled
from MedAELib.model import Model
from MedAELib.noise_band import WHOLE, noise_band
from MedAELib.tasks.coarser import coarser_shape, enlarged, resampled
from MedAELib.tasks.denoise import denoise, denoise_and_map
from MedAELib.tasks.run_denoise import run_denoise
from MedAELib.tasks.seen import see
from MedAELib.training.anatomy import generated_volume
from MedAELib.volume import Volume


def cpu(tile: int = 0) -> Engine:
    return Engine("cpu", "float32", tile)


def model() -> Model:
    return Model.load("mr-denoise")


def volume_of(*frames: np.ndarray) -> Volume:
    return Volume(np.stack(frames).astype(np.float32), np.diag([0.5, 0.5, 2, 1]), {"name": "head", "modality": "MR"})


def filled_up(voxels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """The magnitude of what a scanner makes of complex voxels, zeros put around what was measured."""
    waves = np.fft.fftshift(np.fft.fftn(voxels))
    missing = [(wide - size, size) for wide, size in zip(shape, waves.shape, strict=True)]
    waves = np.fft.ifftshift(np.pad(waves, [(lack // 2, lack - lack // 2) for lack, _ in missing]))
    return np.abs(np.fft.ifftn(waves)) * (np.prod(shape) / voxels.size)


@cache
def scans(shape: tuple[int, ...], level: float = 50.0, seed: int = 90_003) -> tuple[np.ndarray, ...]:
    """The scan as it was measured, filled up with zeros, and the latter without noise."""
    clean = 1000.0 * generated_volume("MR", seed, 48)
    generator = np.random.default_rng(seed)
    noise = generator.normal(0, level, clean.shape) + 1j * generator.normal(0, level, clean.shape)
    return np.abs(clean + noise), filled_up(clean + noise, shape), filled_up(clean.astype(complex), shape)


@pytest.mark.parametrize("shape", [(96, 96, 48), (72, 48, 48), (48, 48, 110), (66, 66, 66)])
def test_the_grid_that_was_measured_is_told(shape):
    _, noisy, _ = scans(shape)
    told = np.array(noise_band(noisy)) * shape
    assert told == pytest.approx([48, 48, 48], rel=0.13) and (told > 46).all()


@pytest.mark.parametrize("factors", [(2, 2, 1), (1.6, 1.6, 1)])
def test_a_scan_that_somebody_enlarged_is_told_too(factors):
    shares = noise_band(zoom(scans((48, 48, 48))[0], factors, order=3))
    assert shares[:2] == pytest.approx([1.08 / factors[0]] * 2, abs=0.05) and shares[2] == 1


@pytest.mark.parametrize("level", [0.0, 2.0, 10.0, 150.0])
@pytest.mark.parametrize("blur", [0.0, 1.0])
@pytest.mark.parametrize("seed", [90_003, 90_010, 90_013, 90_015, 90_020, 90_022, 6])
def test_of_a_scan_as_it_was_measured_all_frequencies_count(seed, blur, level):
    """However smooth its anatomy is, whether it or its noise was blurred, and with little noise or none."""
    assert noise_band(gaussian_filter(scans((48, 48, 48), level, seed)[0], blur)) == WHOLE


@pytest.mark.parametrize("seed", [4, 21, 90_007])
@pytest.mark.parametrize("level", [5.0, 10.0])
def test_weak_noise_is_no_reason_to_smooth_anatomy(seed, level):
    """On the coarser grid anatomy is finer, and looks like noise where there is little."""
    _, noisy, clean = scans((96, 96, 48), level, seed)
    result = denoise(volume_of(noisy), model(), engine=cpu(), passes=1).array[0]
    bright = clean > 100
    assert np.std((result - clean)[bright]) < 1.05 * np.std((noisy - clean)[bright])


@pytest.mark.parametrize("shape", [(1, 40, 40), (12, 12, 12), (40, 3, 17)])
def test_tiny_constant_and_unusual_volumes_are_left_as_they_are(shape):
    noise = np.random.default_rng(0).normal(500, 50, shape)
    assert noise_band(noise) == noise_band(np.zeros(shape, np.int16)) == WHOLE


def test_one_voxel_that_is_not_finite_hides_nothing():
    _, noisy, _ = scans((96, 96, 48))
    broken = noisy.copy()
    broken[0, 0, 0], broken[40, 40, 20] = np.nan, np.inf
    assert noise_band(broken) == pytest.approx(noise_band(noisy), abs=0.01)


@pytest.mark.parametrize("shape, level", [((96, 96, 48), 30.0), ((96, 96, 48), 90.0), ((48, 48, 96), 90.0)])
def test_noise_goes_and_is_told_as_before_the_interpolation(shape, level):
    measured, noisy, clean = scans(shape, level)
    bright = clean > 3 * level
    denoised, noise = denoise_and_map(volume_of(noisy), model(), engine=cpu())
    before, after = (float(np.std((voxels - clean)[bright])) for voxels in (noisy, denoised.array[0]))
    plain, _ = denoise_and_map(volume_of(measured), model(), engine=cpu())
    truth = 1000.0 * generated_volume("MR", 90_003, 48)
    inside = truth > 3 * level
    reached = float(np.std((plain.array[0] - truth)[inside]) / np.std((measured - truth)[inside]))
    assert after / before < 1.2 * reached < 0.75
    assert float(np.sqrt(np.mean(noise.array[0][bright] ** 2))) == pytest.approx(before, rel=0.12)


def test_what_the_scan_holds_beyond_the_noise_stays():
    _, noisy, _ = scans((96, 96, 48))
    removed = noisy - denoise(volume_of(noisy), model(), engine=cpu()).array[0]
    waves = np.abs(np.fft.fftn(removed))[48, :, :], np.abs(np.fft.fftn(removed))[:, 48, :]
    assert np.std(removed) > 10 and max(float(part.max()) for part in waves) < 0.01 * np.abs(np.fft.fftn(removed)).max()


def test_every_tile_strength_and_frame_gives_what_it_should():
    noisy = scans((72, 48, 48))[1][:, 8:40, 8:40]
    assert noise_band(noisy)[0] < 0.75
    volume, darker = volume_of(noisy, 0.5 * noisy), volume_of(noisy)
    whole, tiled = (denoise(volume, model(), engine=cpu(tile), passes=1).array for tile in (0, 24))
    assert np.abs(whole - tiled).max() < 1e-3 * noisy.max()
    assert np.array_equal(denoise(darker, model(), engine=cpu(), passes=1, strength=0).array[0], volume.array[0])
    half = denoise(darker, model(), engine=cpu(), passes=1, strength=0.5).array[0]
    full = denoise(darker, model(), engine=cpu(), passes=1).array[0]
    assert half == pytest.approx((full + volume.array[0]) / 2, abs=0.01)


def test_masked_air_whole_numbers_and_frames_that_are_not_finite_stay():
    _, noisy, _ = scans((96, 96, 48))
    numbers = np.rint(noisy).astype(np.int16)
    numbers[:20] = 0
    result = denoise(Volume(numbers[None], np.eye(4), {"modality": "MR"}), model(), engine=cpu(), passes=1).array
    assert result.dtype == np.int16 and not result[0, :19].any() and result.min() == 0
    broken = noisy.copy()
    broken[40, 40, 20] = np.nan
    made = denoise(volume_of(broken, noisy, noisy), model(), engine=cpu(), passes=1).array
    assert np.isnan(made[0, 40, 40, 20]) and np.isfinite(made).sum() == made.size - 1


def test_a_slab_is_seen_on_the_grid_of_the_whole():
    _, noisy, _ = scans((96, 96, 48))
    seen = see(volume_of(noisy), model())
    assert seen.grid[2] == 48 and all(46 < size < 56 for size in seen.grid[:2])
    assert seen.slab(2, 10, 14).grid == (*seen.grid[:2], 4) and seen.slab(0, 20, 40).grid[1:] == seen.grid[1:]
    assert see(volume_of(scans((48, 48, 48))[0]), model()).grid == (48, 48, 48)


def test_a_single_slice_that_was_filled_up_is_denoised_too():
    _, noisy, clean = scans((96, 96, 48))
    noisy, clean = noisy[..., 24:25], clean[..., 24:25]
    result = denoise(volume_of(noisy), model(), engine=cpu(), passes=1)
    bright = clean > 150
    assert np.std((result.array[0] - clean)[bright]) < 0.75 * np.std((noisy - clean)[bright])


def test_the_report_names_the_grid_and_trust_goes_the_same_way():
    _, noisy, _ = scans((96, 96, 48))
    wanted = {"model": "mr-denoise", "device": "cpu", "precision": "float32", "trust": True, "passes": 1}
    room = lambda name, shape, dtype: np.empty(shape, dtype)  # noqa: E731
    report = run_denoise(volume_of(noisy), wanted, lambda *told: None, room).report
    assert report["grid"] == list(see(volume_of(noisy), model()).grid)
    assert report["noise_before"] == pytest.approx(50, rel=0.2) and not report["warnings"]
    lesions = [row["value"] for row in report["trust"] if "esion" in row["name"]]
    assert lesions and all(0 < value < 130 for value in lesions if value is not None)


def test_a_run_can_be_cancelled_before_between_and_behind():
    _, noisy, _ = scans((96, 96, 48))
    calls = []
    denoise(volume_of(noisy), model(), engine=cpu(), passes=1, progress=lambda *told: calls.append(told))
    parts = [part for _, part, _ in calls]
    assert parts == sorted(parts) and {whole for *_, whole in calls} == {noisy.size} and parts[0] == 0
    for stop in (1, len(calls) // 2, len(calls)):
        count = iter(range(1, len(calls) + 1))

        def cancel(*told: object, count=count, stop=stop) -> None:
            if next(count) == stop:
                raise Cancelled

        with pytest.raises(Cancelled):
            denoise(volume_of(noisy), model(), engine=cpu(), passes=1, progress=cancel)


sizes = st.tuples(*[st.integers(2, 14)] * 3)


@given(sizes, sizes, st.integers(0, 2**31))
def test_a_finer_grid_holds_all_that_a_coarser_one_does(few, more, seed):
    shape = tuple(map(min, few, more))
    voxels = np.random.default_rng(seed).normal(0, 100, shape).astype(np.float32)
    finer = resampled(voxels, tuple(map(max, few, more)))
    assert resampled(finer, shape) == pytest.approx(voxels, abs=0.01)
    assert resampled(np.full(shape, 7.0), more) == pytest.approx(np.full(more, 7.0), abs=1e-4)


@given(sizes, sizes, st.integers(0, 2**31))
def test_an_enlarged_field_stays_within_its_range(few, more, seed):
    field = np.random.default_rng(seed).uniform(1, 3, few).astype(np.float32)
    made = enlarged(field, more)
    assert made.shape == more and field.min() - 1e-5 <= made.min() and made.max() <= field.max() + 1e-5


@given(sizes, st.tuples(*[st.floats(0.05, 1)] * 3))
def test_no_axis_becomes_shorter_than_a_network_can_use(shape, band):
    assert all(few == size or 4 <= few < size for few, size in zip(coarser_shape(shape, band), shape, strict=True))


@pytest.mark.data
def test_clinical_scans_that_a_scanner_filled_up_are_told(data_folder):
    """Raw scans of two patients, three sequences each: all were filled up along one axis, by 1.35 to 1.6."""
    paths = sorted(data_folder.glob("ms_longitudinal/*study1*.nii.gz"))
    shares = [noise_band(Volume.load(path).array[0]) for path in paths]
    assert len(shares) == 6 and all(0.6 < share[0] < 0.78 and share[1:] == (1, 1) for share in shares)
