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
