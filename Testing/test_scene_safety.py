"""Whatever happens to a run, in any order: no node that was there is lost or changed, and the next run works.

`MEDAE_ALL_CASES=1 python -m pytest -m slow Testing/test_scene_safety.py` draws a thousand sequences, else sixty.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from panel_tools import MODULE

DEFAULT_SEQUENCES = 60
ALL_SEQUENCES = 1000
SLICE = 47  # of the slow ones in one test, so that several processes can share them
SLICES = range(DEFAULT_SEQUENCES, ALL_SEQUENCES, SLICE)
DRAWN = SLICES if os.environ.get("MEDAE_ALL_CASES") else ()
MUST_HAPPEN = (
    *("exporting", "starting", "running", "cancelling", "importing", "done", "cancelled", "failed"),
    "a sequence is done",
    *("second apply refused", "result offered", "killed while running", "killed while starting", "killed while done"),
    *("closed while exporting", "closed while starting", "closed while running", "closed while importing"),
)


@pytest.fixture
def driver(slicer_host: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A driver of random sequences, with the module's real panel listening to its controller."""
    from SlicerHost.module_loader import load_module, open_panel

    module = load_module(MODULE)
    from scene_driver import SceneDriver

    from MedAEPanel import shared

    driver = SceneDriver(tmp_path / "runs")
    shared.replace(driver.controller)
    open_panel(module)
    driver.panel = module.widgetRepresentation()
    driver.install_trouble(monkeypatch)
    yield driver
    driver.close()


@pytest.mark.timeout(900)
def test_random_sequences_never_lose_or_change_a_node(driver: Any) -> None:
    for seed in range(DEFAULT_SEQUENCES):
        driver.run(seed)
    missed = [what for what in MUST_HAPPEN if not driver.seen[what]]
    assert not missed, f"never happened: {missed}"


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("first", DRAWN)
def test_a_thousand_random_sequences_never_lose_or_change_a_node(driver: Any, first: int) -> None:
    for seed in range(first, first + SLICE):
        driver.run(seed)


def test_the_driver_notices_a_changed_and_a_lost_node(driver: Any) -> None:
    import slicer

    driver.run(1, length=2)
    scan = slicer.util.getNode("CT")
    slicer.util.arrayFromVolume(scan)[0, 0, 0] += 1
    with pytest.raises(AssertionError, match="was changed"):
        driver.check()
    slicer.mrmlScene.RemoveNode(scan)
    with pytest.raises(AssertionError, match="is lost"):
        driver.check()
