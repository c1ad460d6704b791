"""The denoising benchmark's interpolated MRI and repeated scans: what is put in is what is told."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from benchmarks import denoise_interpolated
from benchmarks.denoise_cases import Case, body
from benchmarks.denoise_interpolated import KINDS, LEVELS, by_kind, interpolated_cases
from benchmarks.denoise_repeats import figures

from MedAELib.model import Model
from MedAELib.training.anatomy import generated_volume
from MedAELib.volume import Volume


@pytest.fixture(scope="module")
def clean() -> np.ndarray:
    return generated_volume("MR", 90_003, 32)


def test_each_kind_has_its_grid_its_anatomy_and_the_noise_that_is_left(clean, monkeypatch):
    case = Case("head", clean, body(clean, "MR"), {})
    monkeypatch.setattr(denoise_interpolated, "cases", lambda *_: iter([case]))
    made = list(interpolated_cases(Path(), (32, 32, 32), 1))
    assert len(made) == len(KINDS)
    for (kind, factors), found in zip(KINDS, made, strict=True):
        assert found.clean.shape == tuple(round(32 * factor) for factor in factors)
        assert found.clean.mean() == pytest.approx(clean.mean(), rel=0.05)
        for level in LEVELS:
            left = found.scans[level].level / level
            assert left == pytest.approx(1, abs=0.1) if kind == "zero filling" else 0.4 < left < 1
    row = {"case": made[0].name, "level": 0.03, "method": "MedAE", "psnr": 30.0}
    page = by_kind({"rows": [row], "noise_map": [{"case": made[0].name, "level": 0.03, "ratio": 0.9}]})
    assert "| zero filling 2 x 2 x 1 | 3 % | 1 | 30.00 | 0.90 to 0.90 |" in page


def test_repeats_of_generated_anatomy_agree_with_the_noise_map(clean):
    generator = np.random.default_rng(0)
    frames = [np.abs(1000 * clean + 40 * generator.normal(size=clean.shape)) for _ in range(4)]
    volume = Volume(np.stack(frames).astype(np.float32), np.eye(4), {"modality": "MR"})
    told = figures(Model.load("mr-denoise"), "head", volume)
    assert told["frames"] == 4 and told["deviation"] == pytest.approx(40, rel=0.1)
    assert told["noise_map"] == pytest.approx(1, abs=0.15)
    assert told["sequence"] < 0.7 and told["sequence"] == pytest.approx(told["frame_by_frame"], rel=0.1)
