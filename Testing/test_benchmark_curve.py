"""The denoisers' learning curve: each length is trained and measured once, and the page tells what they brought."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks import denoise_curve
from benchmarks.denoise_medae import safety
from models import small_model

from MedAELib.model import Model
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.patches import Source


def test_each_length_is_trained_once_and_measured_beside_the_bundled_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def sources(*_: Any) -> list[Source]:
        asked.append("sources")
        return [Source("generated", torch.from_numpy(generated_volume("MR", 2, 64)), generated=True)]

    monkeypatch.setattr(denoise_curve, "training_sources", sources)
    monkeypatch.setattr(denoise_curve, "validation_volume", lambda *_: torch.from_numpy(generated_volume("MR", 3, 32)))
    monkeypatch.setattr(denoise_curve, "safety", partial(safety, size=(20, 20, 12)))
    monkeypatch.setattr(denoise_curve, "flat_lesions", lambda made, _: {"flat_lesions_kept_0.05": _any_weight(made)})
    model = small_model(modality="MR", channels=4, blocks=1)
    first = denoise_curve.curve(model, "MR", [1, 3], tmp_path)
    again = denoise_curve.curve(model, "MR", [3, 1], tmp_path)
    assert [row["steps"] for row in first["rows"]] == [1, 3] and again["rows"] == first["rows"]
    assert asked == ["sources"]
    short, long, bundled = *first["rows"], first["bundled"]
    for name in ("psnr_0.09", "zero_filled_psnr_0.03", "pure_noise_kept_0.05", "flat_lesions_kept_0.05"):
        assert len({row[name] for row in (short, long, bundled)}) == 3
    assert "| 3 | " in denoise_curve.report([first])


def _any_weight(model: Model) -> float:
    """Stands for a figure that takes long: it differs from training to training."""
    return float(next(model.network.parameters()).detach().flatten()[0])


def test_the_page_says_what_the_last_doubling_brought_and_how_far_the_bundled_model_is() -> None:
    def row(steps: int, decibel: float) -> dict[str, Any]:
        return {"steps": steps, "cpu_seconds": 2.0 * steps, "losses": [0.5, 0.25], "psnr_0.08": decibel,
                "noisy_0.08": 20.0, "pure_noise_kept_0.04": 8.0, "flat_lesions_kept_0.04": 80.0}  # fmt: skip

    bundled = {**row(0, 33.5), "sha256": "0123456789abcdef"}
    further = [{"step": 500, "psnr_0.08": 33.1, "flat_kept": 0.05, "loss": 0.4}]
    table = {"modality": "CT", "rows": [row(500, 32.25), row(250, 30.0)], "parameters": 1234, "bundled": bundled}
    page = denoise_curve.report([{**table, "further": further}])
    assert "## CT: ct-denoise, 1,234 parameters" in page
    assert "| steps | mean loss, each 500 steps | PSNR, 80 HU | pure noise kept, 40 HU (%) | flat les" in page
    short, long = ("| 250 | 0.50, 0.25 | 30.00 | 8.00 | 80.00 |", "| 500 | 0.50, 0.25 | 32.25 | 8.00 | 80.00 |")
    assert -1 < page.find(short) < page.find(long)
    assert "| bundled (0123456789ab) | | 33.50 | 8.00 | 80.00 |" in page
    assert "from 250 to 500 steps +2.25 dB, from there to the bundled model +1.25 dB" in page
    assert "A step took 2.00 processor seconds." in page and "| 500 | 33.10 | 0.050 |" in page
