"""The bundled denoisers: better than a Gaussian filter, no shift, nothing invented, exact tiles, a full card."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter
from torch import Generator

from MedAELib.bundle import bundled_models, models_folder
from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.networks.mirrored import PASSES, Mirrored
from MedAELib.noise import noise_unit
from MedAELib.quality import psnr, ssim
from MedAELib.tasks.denoise import denoise
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.cohort import CT_TEST, MR_TEST, averaged_down, clean_volumes, data_folder
from MedAELib.training.corruptions import magnitude_noise
from MedAELib.training.projection import scan_noise
from MedAELib.volume import Volume

NAMES = ("ct-denoise", "mr-denoise")
SCALE = 1000.0  # of stored intensities: HU for CT, arbitrary for MR


@pytest.fixture(scope="module", params=NAMES)
def model(request) -> Model:
    return Model.load(request.param)


def _denoised(model: Model, windowed: np.ndarray, passes: int = 1, **engine) -> np.ndarray:
    volume = Volume((windowed * SCALE)[None].astype(np.float32), np.eye(4), {"modality": model.spec.modality})
    return denoise(volume, model, engine=Engine(device="cpu", **engine), passes=passes).array[0] / SCALE


def _scanner(model: Model, clean: np.ndarray, spacing: float = 4.0, seed: int = 7) -> Callable[[float], np.ndarray]:
    """What gives the clean volume with noise of a level; the scan behind the noise of CT is simulated only once."""
    reference = torch.from_numpy(np.ascontiguousarray(clean))
    if model.spec.modality == "MR":
        return lambda level: magnitude_noise(reference, level, Generator().manual_seed(seed)).numpy()
    noise = scan_noise(reference, spacing, Generator().manual_seed(seed))
    noise /= noise[(reference > -0.15) & (reference < 0.15)].std()
    return lambda level: (reference + level * noise).numpy()


def _noisy(model: Model, clean: np.ndarray, level: float) -> np.ndarray:
    return _scanner(model, clean)(level)


def _levels(model: Model) -> tuple[float, ...]:
    return (0.05, 0.15) if model.spec.modality == "MR" else (0.02, 0.08)


def _clearly_better(model: Model, clean: np.ndarray, noisy: np.ndarray, ours: np.ndarray) -> None:
    """Better than the noisy input and than the same Gaussian filter at its best width."""
    mask = clean > (10 / 255 if model.spec.modality == "MR" else -0.5)
    span = 1.0 if model.spec.modality == "MR" else 0.4
    smoothed = [gaussian_filter(noisy, width) for width in (0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1.0, 1.3)]
    best = max(smoothed, key=lambda image: psnr(clean, image, span, mask))
    assert psnr(clean, ours, span, mask) > psnr(clean, noisy, span, mask)
    assert psnr(clean, ours, span, mask) > psnr(clean, best, span, mask)
    assert ssim(clean, ours, span, mask) > ssim(clean, best, span, mask) - 0.02


def test_each_modality_has_one_denoiser_with_a_full_card():
    bundles = {bundle.name: bundle for bundle in bundled_models("denoise")}
    assert set(NAMES) <= set(bundles)
    for name in NAMES:
        bundle = bundles[name]
        assert bundle.spec.modality == name[:2].upper()
        assert bundle.limits and bundle.training_data and bundle.figures
        assert "research use" in bundle.card.lower()
        assert bundle.licence.startswith("CC BY")
    assert sum(path.stat().st_size for path in models_folder().rglob("*") if path.is_file()) < 20_000_000


def test_generated_anatomy_comes_out_better_than_from_a_gaussian_filter_at_its_best_width(model):
    clean = generated_volume(model.spec.modality, 70_001, 48)
    scan = _scanner(model, clean)
    for level in _levels(model):
        _clearly_better(model, clean, scan(level), _denoised(model, scan(level)))


def test_each_doubling_of_the_passes_is_nearer_to_the_truth(model):
    clean = generated_volume(model.spec.modality, 70_001, 32)
    noisy = _noisy(model, clean, _levels(model)[0])
    errors = [float(np.mean((_denoised(model, noisy, passes=passes) - clean) ** 2)) for passes in PASSES]
    assert all(more < fewer for fewer, more in pairwise(errors))
    alone = []
    for passes in PASSES[::3]:  # without a second look, which does much of what more passes do
        made = np.empty_like(clean)
        Engine("cpu").run(
            Mirrored(model.network, passes), noisy, (0.0, noise_unit(noisy, model.spec.modality == "CT")),
            lambda core, before, after, made=made: made.__setitem__(core, after),
        )  # fmt: skip
        alone.append(float(np.mean((made - clean) ** 2)))
    assert alone[1] < 0.98 * alone[0]


@pytest.mark.data
def test_held_out_subjects_come_out_better_than_from_a_gaussian_filter_at_its_best_width(model):
    if not data_folder().is_dir():
        pytest.skip("no real scans: MEDAE_DATA is not set and ../shared/data is absent")
    for pattern, factors in list((MR_TEST if model.spec.modality == "MR" else CT_TEST).items())[:2]:
        volume, voxels = next(clean_volumes(data_folder(), pattern, model.spec.modality))
        voxels = averaged_down(voxels, factors)
        crop = [slice(max(size - most, 0) // 2, (size + most) // 2) for size, most in zip(voxels.shape, (64, 64, 32))]
        whole = voxels[:, :, crop[2]]  # a scanner sees whole slices
        scan = _scanner(model, whole, volume.spacing[0])
        for level in _levels(model):
            noisy = scan(level)[*crop[:2]]
            _clearly_better(model, whole[*crop[:2]], noisy, _denoised(model, noisy))


def test_a_sequence_flickers_no_more_than_frames_denoised_one_by_one_and_less_than_its_noise(model):
    clean = generated_volume(model.spec.modality, 70_001, 32)
    scans = [_scanner(model, clean, seed=frame)(_levels(model)[1]) for frame in range(5)]
    frames = Volume((np.stack(scans) * SCALE).astype(np.float32), np.eye(4), {"modality": model.spec.modality})
    together = denoise(frames, model, engine=Engine(device="cpu"), passes=1).array / SCALE
    alone = np.stack([_denoised(model, frame) for frame in scans])
    assert together.std(0).mean() < 1.01 * alone.std(0).mean() < 0.8 * np.stack(scans).std(0).mean()


def test_a_clean_volume_is_left_alone(model):
    """Anatomy that is flat somewhere; where texture is everywhere, it passes for noise, and the cards say so."""
    found = (generated_volume(model.spec.modality, seed, 48) for seed in range(70_002, 70_020))
    flat = list(islice((clean for clean in found if noise_unit(clean, model.spec.modality == "CT") < 0.01), 3))
    assert len(flat) == 3
    for clean in flat:
        change = _denoised(model, clean) - clean
        assert float(np.sqrt(np.mean(change**2))) < 0.003


def test_a_constant_volume_stays_exactly_flat(model):
    flat = np.full((20, 20, 20), 0.4, np.float32)
    assert float(np.abs(_denoised(model, flat) - flat).max()) < 0.002


def test_pure_noise_gives_a_flat_result_without_a_shift(model):
    base, level = (0.5, 0.06) if model.spec.modality == "MR" else (0.04, 0.03)
    flat = np.full((48, 48, 48), base, np.float32)
    noisy = _noisy(model, flat, level)
    inside = (slice(8, -8),) * 3
    ours = _denoised(model, noisy)[inside]
    assert float(ours.std()) < 0.25 * float(noisy[inside].std())
    assert abs(float(ours.mean()) - base) < (0.005 if model.spec.modality == "MR" else 0.001)


def test_more_noise_never_gives_a_better_result(model):
    clean = generated_volume(model.spec.modality, 70_003, 40)
    scan = _scanner(model, clean)
    errors = [float(np.mean((_denoised(model, scan(level)) - clean) ** 2)) for level in (0.01, 0.03, 0.09)]
    assert all(quiet < loud for quiet, loud in pairwise(errors))


def test_tiles_and_bfloat16_do_not_change_what_is_seen(model):
    noisy = _noisy(model, generated_volume(model.spec.modality, 70_004, 44)[:, :28, :24], 0.05)
    whole = _denoised(model, noisy, precision="float32")
    assert float(np.abs(_denoised(model, noisy, tile=24, precision="float32") - whole).max()) < 1e-4
    rounded = _denoised(model, noisy, precision="bfloat16") - whole
    assert float(np.sqrt(np.mean(rounded**2))) < 0.02 * 0.05


def test_the_intensity_unit_of_an_mri_does_not_matter():
    model = Model.load("mr-denoise")
    noisy = _noisy(model, generated_volume("MR", 70_005, 32), 0.08)
    one = _denoised(model, noisy, precision="float32")
    thousand = _denoised(model, noisy * 1000, precision="float32") / 1000
    change = np.abs(one - thousand)
    # Of blocks that are equally alike but for the last bit another may be taken: there the result is a little another.
    assert float(np.sqrt(np.mean(np.square(change)))) < 1e-4 and float(change.max()) < 0.05 * 0.08
