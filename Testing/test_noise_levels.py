"""Noise before and after: what is left in flat tissue is told as it is, also where it changes slowly."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter
from trust_scans import LEVELS, scan

from MedAELib import Volume
from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.tasks.denoise import denoise
from MedAELib.tasks.noise_levels import noise_levels


def cylinder(shape=(64, 64, 32)) -> np.ndarray:
    """A wide ball in an even cylinder in air, 1, 2 and 0."""
    i, j, k = (np.arange(n) - n / 2 for n in shape)
    made = np.where(np.hypot(i[:, None], j)[:, :, None] < 29, 1.0, 0) * np.ones(shape)
    made[(i[:, None, None] + 6) ** 2 + (j[:, None] - 4) ** 2 + k**2 < 11**2] = 2
    return made


def noisy(modality: str, clean: np.ndarray, level: float) -> Volume:
    """A scan of what is clean: Rician noise, or noise that is correlated in plane."""
    random = np.random.default_rng(2)
    real, other = (random.normal(0, 1, clean.shape) for _ in range(2))
    if modality == "CT":
        real = gaussian_filter(real, (0.8, 0.8, 0))
        array = clean + level * real / real.std()
    else:
        array = np.hypot(clean + level * real, level * other)
    return Volume(array.astype(np.float32)[None], np.eye(4), {"name": "scan", "modality": modality})


@pytest.mark.parametrize("slow", [0.0, 1.0, 2.0])
@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_what_is_left_of_the_noise_is_told_whether_it_changes_fast_or_slowly(modality, slow):
    made = scan(modality)
    rest = gaussian_filter(np.random.default_rng(5).normal(0, 1, made.clean.shape), slow)
    rest *= 0.2 * LEVELS[modality] / rest.std()
    result = made.volume.like((made.clean + rest).astype(np.float32)[None])
    before, after = noise_levels(made.volume, result)
    assert after / before == pytest.approx(0.2, rel=0.3)


@pytest.mark.parametrize("strength", [0.5, 1.0])
@pytest.mark.parametrize("modality, level", [("MR", 20), ("CT", 20), ("CT", 80)])
def test_a_bundled_model_leaves_as_much_noise_in_flat_tissue_as_is_told(modality, level, strength):
    clean = 600 * cylinder() if modality == "MR" else np.choose(cylinder().astype(int), [-1000, 40, 100])
    volume = noisy(modality, clean, level)
    model, engine = Model.load(f"{modality.lower()}-denoise"), Engine("cpu", "float32")
    result = denoise(volume, model, strength=strength, passes=1, engine=engine)
    before, after = noise_levels(volume, result)
    steps = gaussian_filter(clean.astype(float), 2)
    flat = (clean > -500) & (clean > 0) & (np.abs(steps - clean) < 0.02 * level)
    inside = (slice(6, -6), slice(6, -6), slice(5, -5))
    error = ((result.array[0] - clean)[inside])[flat[inside]]
    assert after == pytest.approx(float(error.std()), rel=0.35)
    assert after < 0.75 * before


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_a_constant_scan_with_noise_is_not_told_to_be_free_of_it(modality):
    volume = noisy(modality, np.full((48, 48, 32), 600.0 if modality == "MR" else 40.0), 20)
    model = Model.load(f"{modality.lower()}-denoise")
    result = denoise(volume, model, passes=1, engine=Engine("cpu", "float32"))
    true = float(result.array[0, 5:-5, 5:-5, 5:-5].std())
    assert noise_levels(volume, result)[1] == pytest.approx(true, rel=0.45)  # most of it fills the whole volume


def test_a_result_that_changed_nothing_has_the_noise_of_the_scan_and_half_of_it_has_half():
    made = scan("MR")
    before, after = noise_levels(made.volume, made.volume)
    assert before == after > 0
    assert noise_levels(made.volume, made.volume.like(0.5 * made.volume.array))[1] == pytest.approx(before / 2)


@pytest.mark.data
def test_what_is_left_in_a_repeated_scan_is_told_within_a_third(data_folder):
    """The noise of a phantom is that between its repeats, which hold slow changes too."""
    repeats = [Volume.load(data_folder / f"mr_phantom_repeat/epi_ascending_rep{n}.nii.gz") for n in (1, 2)]
    model = Model.load("mr-denoise")
    results = [denoise(repeat, model, passes=1, engine=Engine("cpu", "float32")) for repeat in repeats]
    (first, second), (left, right) = ([v.array[0].astype(float) for v in pair] for pair in (repeats, results))
    bright = gaussian_filter((first > 800).astype(float), 3) > 0.999
    kept = float((left - right)[bright].std() / (first - second)[bright].std())
    before, after = noise_levels(repeats[0], results[0])
    assert after / before == pytest.approx(kept, rel=1 / 3)
