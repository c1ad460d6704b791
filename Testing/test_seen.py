"""What a denoiser sees of odd scans: values below 0 in MRI, padding, fill values, and sequences with empty frames."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from trust_scans import organs

from MedAELib import Volume
from MedAELib.errors import BadInput
from MedAELib.modality import guess_modality
from MedAELib.model import Model
from MedAELib.tasks.common import TaskResult
from MedAELib.tasks.reconstruct import reconstruct
from MedAELib.tasks.run import run_task
from MedAELib.tasks.seen import see
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.corruptions import magnitude_noise
from MedAELib.training.projection import scan_noise

SIZE = 40


@cache
def scans(modality: str) -> tuple[np.ndarray, np.ndarray]:
    """A generated scan and its truth, float32 [i, j, k]: MRI to 1150 with a noise of 50, CT with one of 30 HU."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.from_numpy(generated_volume(modality, 5, 64))
    if modality == "MR":
        noisy = magnitude_noise(clean, 0.05, generator)
    else:
        noise = scan_noise(clean, 3.0, generator)
        noisy = clean + 0.03 * noise / noise.std()
    part = (slice(12, 12 + SIZE),) * 3
    return 1000 * noisy.numpy()[part], 1000 * clean.numpy()[part]


def denoised(scan: np.ndarray, modality: str = "MR", **wanted: Any) -> TaskResult:
    """What the task makes of a scan [i, j, k] or of frames [c, i, j, k], on one processor."""
    frames = scan[None] if scan.ndim == 3 else scan
    volume = Volume(frames, np.eye(4), {"name": "scan", "frames": scan.ndim == 4})
    parameters = {"model": f"{modality.lower()}-denoise", "passes": 1, "device": "cpu", **wanted}
    return run_task("denoise", {"input": volume}, parameters, progress=lambda *_: None)


def error(result: np.ndarray, modality: str = "MR", where: Any = ...) -> float:
    """The root mean square error against the truth."""
    return math.sqrt(float(np.mean((result - scans(modality)[1])[where] ** 2)))


@cache
def plain(modality: str = "MR") -> float:
    """The error of the ordinary scan's result."""
    return error(denoised(scans(modality)[0], modality).outputs["denoised"].array[0], modality)


@pytest.mark.parametrize("kind", ["standardised", "lowered", "lowered, whole numbers", "lowered, in float64"])
def test_an_mri_with_values_below_zero_is_denoised_like_the_same_scan_from_zero_on(kind):
    noisy, _ = scans("MR")
    offset, scale = (-float(noisy.mean()), float(noisy.std())) if kind == "standardised" else (-500.0, 1.0)
    types = {"lowered, whole numbers": "int16", "lowered, in float64": "f8"}
    scan = ((noisy + offset) / scale).astype(types.get(kind, "f4"))
    result = denoised(scan, noise=True, removed=True, trust=True)
    made = result.outputs["denoised"].array[0]
    assert made.dtype == scan.dtype
    assert error(made * np.float64(scale) - offset) < 1.02 * plain()
    assert np.allclose(result.outputs["removed"].array[0] + made, scan, atol=1e-3 * scale)
    assert scale * result.report["noise_before"] == pytest.approx(50, rel=0.1)
    assert scale * np.median(result.outputs["noise"].array) == pytest.approx(54, rel=0.1)
    assert any("far below 0, unlike MRI" in warning for warning in result.report["warnings"])
    assert "Poor" not in result.report["verdict"]


def padded(scan: np.ndarray, value: float, share: str) -> tuple[np.ndarray, np.ndarray]:
    """A scan with a fill value in a third of it, in a small block or in one voxel; and where the scan is left."""
    place = {"third": np.s_[..., :14], "block": np.s_[20:24, 20:24, 20:24], "voxel": np.s_[20, 20, 20]}[share]
    filled, left = scan.copy(), np.ones(scan.shape, bool)
    filled[place], left[place] = value, False
    return filled, left


@pytest.mark.parametrize(
    ("modality", "value", "share"),
    [
        ("MR", -1000, "third"), ("MR", -32768, "block"), ("MR", -1e6, "voxel"), ("MR", 32767, "third"),
        ("MR", 32767, "block"), ("MR", 1e6, "voxel"), ("MR", 1e9, "voxel"), ("CT", 32767, "third"),
        ("CT", -32768, "third"), ("CT", 1e9, "voxel"),
    ],
)  # fmt: skip
def test_fill_values_do_no_harm_and_stay_as_they_are(modality, value, share):
    filled, left = padded(scans(modality)[0], value, share)
    result = denoised(filled, modality, removed=True)
    made = result.outputs["denoised"].array[0]
    assert (made[~left] == np.float32(value)).all() and not result.outputs["removed"].array[0][~left].any()
    air = np.where(left, scans(modality)[0], 0 if modality == "MR" else -1000).astype(np.float32)
    ordinary = denoised(air, modality)
    assert error(made, modality, left) < 1.02 * error(ordinary.outputs["denoised"].array[0], modality, left)
    assert result.report["noise_before"] == pytest.approx(ordinary.report["noise_before"], rel=0.02)
    assert any("no part of the scan; they stay" in warning for warning in result.report["warnings"])
    assert result.report["units"] == ("HU" if modality == "CT" else "")


def test_trust_does_not_see_fill_values():
    filled, _ = padded(scans("MR")[0], 32767, "third")
    air = np.where(filled == 32767, np.float32(0), filled)
    found, wanted = (denoised(scan, trust=True).report for scan in (filled, air))
    assert found["verdict"] == wanted["verdict"]
    for one, other in zip(found["trust"], wanted["trust"], strict=True):
        if other["value"] is None:
            assert one == other
            continue
        assert one["verdict"] == other["verdict"] and one["value"] == pytest.approx(other["value"], 0.05, 0.02)


@pytest.mark.parametrize(
    ("modality", "change"),
    [
        ("MR", lambda scan: scan), ("MR", lambda scan: scan.astype(np.int16)), ("CT", lambda scan: scan),
        ("MR", lambda scan: np.where(scan > 900, scan * 8, scan)),  # bright vessels
        ("MR", lambda scan: scan - 0.03 * scan.max()),  # ringing
        ("MR", lambda scan: np.clip(scan, 0, 600)),  # saturated
        ("MR", lambda scan: np.where(scan < 150, np.float32(0), scan)),  # without background
        ("CT", lambda scan: np.where(scan > 600, np.float32(3071), scan)),  # metal
        ("CT", lambda scan: np.where(scan > 600, np.float32(21_551), scan)),  # metal on an extended scale
        ("CT", lambda scan: np.where(np.arange(SIZE) < 8, np.float32(-3024), scan)),  # beside the field of view
    ],
)  # fmt: skip
def test_ordinary_scans_are_seen_as_they_are(modality, change):
    from MedAELib.tasks.seen import see

    volume = Volume(change(scans(modality)[0])[None], np.eye(4))
    seen = see(volume, Model.load(f"{modality.lower()}-denoise"))
    assert seen.volume is volume and seen.zero == 0 and not seen.notes


def test_a_drawing_of_few_values_holds_no_fill_value():
    from MedAELib.tasks.seen import see

    drawing = np.zeros((1, 16, 16, 16), np.float32)
    drawing[0, 4:12], drawing[0, 6:8] = 1, 1000
    assert not see(Volume(drawing, np.eye(4)), Model.load("mr-denoise")).notes


def test_a_ct_with_a_fill_value_is_told_by_the_rest():
    for value in (32767, -32768):
        filled, _ = padded(scans("CT")[0], value, "third")
        assert guess_modality(Volume(filled[None], np.eye(4))) == "CT"


def frames(*empty: int, value: float = math.nan) -> np.ndarray:
    """Four noisy frames of one scan; those that are named hold one value."""
    _, clean = scans("MR")
    random = np.random.default_rng(1)
    noise = 50 * random.normal(size=(4, 2, *clean.shape))
    made = [np.hypot(clean + real, imaginary) for real, imaginary in noise]
    return np.array([np.full_like(frame, value) if n in empty else frame for n, frame in enumerate(made)], np.float32)


@pytest.mark.parametrize("value", [math.nan, 0.0])
@pytest.mark.parametrize("empty", [(2,), (0, 1, 3)])
def test_frames_that_are_empty_say_nothing_of_the_others(empty, value):
    whole, result = denoised(frames(), noise=True), denoised(frames(*empty, value=value), noise=True, trust=True)
    full = [n for n in range(4) if n not in empty]
    assert np.array_equal(result.outputs["denoised"].array[list(empty)], frames(*empty, value=value)[list(empty)], True)
    for n in full:
        assert error(result.outputs["denoised"].array[n]) < 1.02 * error(whole.outputs["denoised"].array[n])
    assert result.report["noise_before"] == pytest.approx(whole.report["noise_before"], rel=0.05)
    assert 9 < result.report["noise_after"] < 18  # of 50; by the truth 13 in flat tissue
    assert np.median(result.outputs["noise"].array) == pytest.approx(np.median(whole.outputs["noise"].array), rel=0.05)
    assert result.report["noise_map"] == f"root mean square over {len(full)} frames"
    assert "Nothing was removed" not in result.report["verdict"]
    assert len(result.report["trust"]) > 3


def test_a_sequence_of_empty_frames_alone_is_left_as_it_is():
    result = denoised(np.zeros((3, 16, 16, 16), np.float32), trust=True, noise=True)
    assert np.abs(result.outputs["denoised"].array).max() < 0.1 and not result.outputs["noise"].array.any()
    assert result.report["noise_before"] == 0 and any("everywhere" in told for told in result.report["warnings"])


def test_a_reconstruction_and_its_window_take_no_part_in_fill_values(tmp_path):
    from models import small_model

    model = small_model("plain", modality="MR")
    filled, left = padded(scans("MR")[0], 1e9, "block")
    low, high = see(Volume(filled[None], np.eye(4)), model).window
    ordinary = see(Volume(scans("MR")[0][None], np.eye(4)), model).window
    assert (low, high) == pytest.approx(ordinary, rel=0.05)
    made = reconstruct(Volume(filled[None], np.eye(4)), model).array[0]
    assert (made[~left] == np.float32(1e9)).all() and np.abs(made[left]).max() < 1e5


@pytest.mark.parametrize("start", [4, 40])
def test_a_slab_is_seen_in_the_unit_of_the_whole_volume_whatever_its_own_is(start):
    random, size = np.random.default_rng(2), (64, 48, 48)
    level = np.where(np.arange(size[0]) < 32, 25.0, 75.0)[:, None, None]
    real, imaginary = (level * random.normal(size=size) for _ in range(2))
    noisy = np.hypot(organs(size) + real, imaginary).astype(np.float32)
    volume = Volume(noisy[None], np.diag([2.0, 1, 1, 1]), {"name": "scan", "modality": "MR"})
    slab, middle = [0, start, start + 20], start + 9
    whole, part = (
        run_task("denoise", {"input": volume}, {"passes": 1, "device": "cpu", **more}, progress=lambda *_: None)
        for more in ({}, {"slab": slab})
    )
    alone = volume.slab(*slab)
    wanted, found = whole.outputs["denoised"].array[0, middle], part.outputs["denoised"]
    removed = np.sqrt(np.mean((noisy[middle] - wanted) ** 2))
    assert found.shape == alone.shape and np.array_equal(found.affine, alone.affine)
    assert part.report["noise_before"] == whole.report["noise_before"]
    assert np.sqrt(np.mean((found.array[0, 9] - wanted) ** 2)) < 0.2 * removed  # in its own unit 0.8, from 40 on


@pytest.mark.parametrize("slab", [[0, 4], [3, 0, 4], [0, 4, 4], [0, -1, 4], [0, 0, 41], [0, 0, 2.5]])
def test_slices_that_are_not_there_are_refused(slab):
    volume = Volume(scans("MR")[0][None], np.eye(4), {"name": "scan", "modality": "MR"})
    with pytest.raises(BadInput, match="scan has no slices"):
        run_task("denoise", {"input": volume}, {"slab": slab}, progress=lambda *_: None)
