"""Noise that is much stronger in one place than in another: found, removed everywhere, and told by the noise map."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest

from MedAELib import Volume
from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.noise import noise_unit
from MedAELib.tasks.denoise import denoise_and_map
from MedAELib.tasks.run_denoise import run_denoise
from MedAELib.tasks.seen import see
from MedAELib.tasks.uneven import noise_field
from MedAELib.training.anatomy import generated_volume

_anatomy = functools.cache(generated_volume)


def strengths(kind: str, shape: tuple[int, ...]) -> np.ndarray:
    """The deviation of the noise at each voxel: alike, or three times as strong in one half, or in the middle."""
    if kind == "even":
        return np.full(shape, 40, np.float32)
    if kind == "half":
        return np.where(np.arange(shape[0]) < shape[0] // 2, 25, 75).astype(np.float32)[:, None, None] + np.zeros(shape)
    places = np.stack(np.meshgrid(*[np.linspace(-1, 1, size) for size in shape], indexing="ij"))
    return 30 + 60 * np.exp(-2 * np.square(places).sum(0))


def measured(clean: np.ndarray, strength: Any, seed: int = 0) -> np.ndarray:
    """A magnitude with Rician noise."""
    drawn = np.random.default_rng(seed).normal(size=(2, *clean.shape)) * strength
    return np.hypot(clean + drawn[0], drawn[1]).astype(np.float32)


def scan(kind: str, size: int = 64, seed: int = 1) -> tuple[Volume, np.ndarray, np.ndarray]:
    """A noisy volume, the truth and the strength of its noise."""
    clean = 1000 * _anatomy("MR", seed, size)
    strength = strengths(kind, clean.shape)
    meta = {"name": "scan", "modality": "MR"}
    return Volume(measured(clean, strength)[None], np.eye(4), meta), clean, strength


@pytest.mark.parametrize("seed", [1, 2, 70_000])
@pytest.mark.parametrize("level", [10, 30, 50, 90, 150])
def test_noise_that_is_alike_everywhere_has_no_field(level, seed):
    noisy = measured(1000 * _anatomy("MR", seed, 64), level)
    assert noise_field(noisy, noise_unit(noisy, False)) is None


@pytest.mark.parametrize("shape", [(5, 64, 64), (1, 1, 1), (40, 40, 1), (6, 6, 6)])
def test_what_is_too_small_or_empty_has_none(shape):
    assert noise_field(measured(np.full(shape, 500.0), 50), 1.0) is None or min(shape) > 5
    assert noise_field(np.zeros((40, 40, 40), np.float32), 1.0) is None
    assert noise_field(np.full((40, 40, 40), np.nan, np.float32), 1.0) is None


@pytest.mark.parametrize("kind", ["half", "middle"])
def test_the_field_tells_how_strong_the_noise_is_in_tissue(kind):
    volume, clean, strength = scan(kind, 96)
    unit = noise_unit(volume.array[0], False)
    field = noise_field(volume.array[0], unit)
    assert field is not None and field.shape == clean.shape and field.dtype == np.float32 and field.min() >= 1
    share = (field * unit / strength)[clean > 3 * strength]
    assert 0.9 < np.median(share) < 1.1
    assert np.mean((share > 0.75) & (share < 1.33)) > 0.8


def test_strong_noise_goes_too_and_the_map_tells_it():
    volume, clean, strength = scan("half", seed=70_000)
    asked = {"model": "mr-denoise", "device": "cpu", "noise": True, "trust": True}
    result = run_denoise(volume, asked, lambda *_: None, lambda name, shape, dtype: np.empty(shape, dtype))
    strong = (strength > 60) & (clean > 200)
    left = result.outputs["denoised"].array[0] - clean
    assert np.sqrt(np.mean(np.square(left / strength)[strong])) < 0.55  # .87 and more in the unit of the quiet half
    assert np.median((result.outputs["noise"].array[0] / strength)[strong]) == pytest.approx(1, abs=0.15)
    figures = {row["name"]: row for row in result.report["trust"]}
    assert figures["Noise left where it is strongest"]["verdict"] == "good"


def test_tiles_agree_and_a_slab_is_seen_as_in_the_whole_volume():
    volume, _, _ = scan("half")
    model = Model.load("mr-denoise")
    whole = denoise_and_map(volume, model, engine=Engine("cpu", "float32"), passes=1)
    tiled = denoise_and_map(volume, model, engine=Engine("cpu", "float32", 24), passes=1)
    for one, other in zip(whole, tiled, strict=True):
        assert np.abs(one.array - other.array).max() < 0.5
    seen = see(volume, model)
    part = seen.slab(1, 10, 30)
    assert seen.field is not None and part.field is not None
    assert np.array_equal(part.field, seen.field[:, 10:30]) and part.field.shape == part.volume.shape


def test_frames_share_one_field_and_ct_has_none():
    volume, _, _ = scan("half")
    frames = Volume(np.concatenate([volume.array] * 3), np.eye(4), {"name": "frames", "modality": "MR", "frames": True})
    field = see(frames, Model.load("mr-denoise")).field
    assert field is not None and field.shape == volume.shape
    assert see(volume, Model.load("ct-denoise")).field is None


def test_a_frame_that_is_noisier_than_the_others_is_not_taken_for_uneven_noise():
    _, clean, _ = scan("half")
    draw, frames = np.random.default_rng(5), []
    for level in (20, 20, 60, 20, 20):
        real, imaginary = (draw.normal(0, level, clean.shape) for _ in range(2))
        frames.append(np.hypot(clean + real, imaginary))
    meta = {"name": "frames", "modality": "MR", "frames": True}
    assert see(Volume(np.array(frames, np.float32), np.eye(4), meta), Model.load("mr-denoise")).field is None
