"""Every benchmark can be started: what it needs of the library is there."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

SCRIPTS = sorted(path.stem for path in (Path(__file__).parent / "benchmarks").glob("*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
def test_a_benchmark_finds_what_it_needs_of_the_library(name, slicer_host):
    assert importlib.import_module(f"benchmarks.{name}").__doc__
