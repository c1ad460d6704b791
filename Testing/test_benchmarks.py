"""Every benchmark can be started: what it needs of the library is there."""

from __future__ import annotations

import importlib
import itertools
from pathlib import Path

import pytest
import torch
from train_tools import shrink_patches
from volumes import write_volumes

SCRIPTS = sorted(path.stem for path in (Path(__file__).parent / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_finds_what_it_needs_of_the_library(name, slicer_host):
    assert importlib.import_module(f"benchmarks.{name}").__doc__


@pytest.mark.parametrize("name", ["plain", "adversarial"])
def test_steps_of_the_loop_and_bare_ones_are_measured_in_turns(name, tmp_path, monkeypatch):
    """By a clock that goes on by one at each look, turns of both take one: nothing else lies between them."""
    from benchmarks import family_timing

    from MedAELib.training.federated.federation import Federation
    from MedAELib.training.folder import read_folder, split
    from MedAELib.training.plan import make_plan

    shrink_patches(monkeypatch)
    cases = read_folder(write_volumes(tmp_path / "scans"), tmp_path / "cache", [], "", lambda note: None)
    tiny = {"channels": [4, 6], "strides": [2, 2]}
    options = Federation(name, 2, "MR", 1, 1, 2, arguments=tiny).options()
    plan = make_plan(options, split(cases, 0), torch.device("cpu"))
    ticks = itertools.count()
    monkeypatch.setattr(family_timing, "_now", lambda: (float(tick := next(ticks)), 2.0 * tick))
    assert family_timing.timing(plan) == {"bare": 0.25, "loop": 1.0, "loop_wall": 1.0, "loading": 4.0}


def test_a_translation_wins_where_it_is_better_than_both_simple_ways():
    from benchmarks.translate_fused import PLAIN, report

    def row(alone: float, both: float) -> dict:
        simple = {"matching": 20.0, "polynomial 1": 21.0, "polynomial 2": 23.0, PLAIN: 21.5}
        figures = {"alone": alone, "both": both, **simple}
        told = {name: {"psnr": value, "ssim": value / 100} for name, value in figures.items()}
        return {
            "target": "T2", "case": "patient01_study1_.nii.gz", "steps": 5, "seconds": 7,
            "alone": told["alone"], "both": told["both"], "simple": {name: told[name] for name in simple},
        }  # fmt: skip

    page = report([row(22.0, 24.0), row(23.5, 22.9)])
    assert "| T2 | patient 01, visit 1 | 22.00 / 0.220 | 24.00 / 0.240 | 20.00 / 0.200 | 23.00 / 0.230 |" in page
    assert "Of 2 rows" in page and "of T1 alone PSNR 1 and SSIM 1, of T1 and the third kind PSNR 1 and SSIM 1." in page
    assert "it is better, of T1 alone, in PSNR 2 and SSIM 2." in page


def test_the_family_page_counts_what_beats_averaging():
    from benchmarks.family_report import report

    rows = [
        {"name": name, "psnr": value, "ssim": 0.5, "latent": 0.25, "latent_numbers": 4, "latent_shape": "a cell",
         "steps": 1, "parameters": 1, "operations": 1.0, "bare": 1.0, "loop": 1.0, "loop_wall": 1.0, "loading": 0.1}
        for name, value in (("plain-2", 21.0), ("fusion-2", 19.0), ("denoising-2", 30.0), ("plain-3", 22.0),
                            ("averaging-2", 20.0))
    ]  # fmt: skip
    page = report([{"modality": "MR", "subjects": {"training": 1, "validation": 1, "test": 1}, "rows": rows}])
    assert "Of 2 networks that reconstruct 1 have a higher PSNR than plain averaging" in page
