"""What the panel tells of a run while it goes on and afterwards, and what it keeps out of sight."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from generated_bodies import body
from panel_fixtures import OpenPanel
from panel_tools import add_scan

SLOW_RUN = {"behaviour": "steps", "steps": 200, "seconds": 0.02}


def test_progress_shows_stage_percentage_and_remaining_time(panel: OpenPanel) -> None:
    panel.choose(add_scan())
    panel.behaviour = {"behaviour": "steps", "steps": 40, "seconds": 0.05}
    panel.ui.applyButton.click()
    panel.spin(lambda: panel.controller.fraction > 0.4 and panel.controller.state == "running")
    assert panel.ui.progressBar.format.startswith("Denoising ")
    assert re.search(r" %, about \d+ s left$", panel.ui.progressBar.format)
    assert panel.ui.progressBar.value > 400
    assert panel.ui.cancelButton.enabled
    assert not panel.ui.applyButton.enabled
    panel.ui.cancelButton.click()
    panel.spin(lambda: not panel.controller.busy, 1)


def test_a_run_that_only_gets_further_is_shown_without_a_look_at_scene_and_folders(
    panel: OpenPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedAELib import bundle, nodes

    panel.choose(add_scan())
    panel.behaviour = SLOW_RUN
    panel.ui.applyButton.click()
    settled = time.monotonic() + 0.6  # a volume that was touched is looked at once more soon after
    panel.spin(lambda: panel.controller.state == "running" and time.monotonic() > settled)
    looked: list[str] = []
    for module, name in ((bundle, "bundled_folders"), (nodes, "results_of")):
        monkeypatch.setattr(module, name, _telling(getattr(module, name), looked))
    shown = panel.ui.progressBar.value
    panel.spin(lambda: panel.ui.progressBar.value > shown + 200)
    assert looked == []
    panel.ui.cancelButton.click()
    panel.spin(lambda: not panel.controller.busy, 1)
    assert {"bundled_folders", "results_of"} <= set(looked)


def _telling(function: Callable[..., Any], told: list[str]) -> Callable[..., Any]:
    def tell(*arguments: Any) -> Any:
        told.append(function.__name__)
        return function(*arguments)

    return tell


@pytest.mark.parametrize(("seconds", "said"), [(0.12, "0.12 s"), (16.1, "16.1 s"), (386.4, "6.44 min")])
def test_a_long_run_is_told_in_minutes(panel: OpenPanel, seconds: float, said: str) -> None:
    from MedAEPanel.running import statusText

    panel.run(add_scan())
    panel.controller.report = {**panel.controller.report, "seconds": seconds}
    assert f"done in {said} on cpu;" in statusText(panel.controller)


def test_bar_and_status_take_no_room_while_there_is_nothing_to_tell(panel: OpenPanel) -> None:
    bar, status = panel.ui.progressBar, panel.ui.statusLabel
    panel.choose(add_scan())
    assert bar.isHidden() and status.isHidden()
    panel.behaviour = SLOW_RUN
    panel.ui.applyButton.click()
    assert not bar.isHidden() and not status.isHidden()
    panel.ui.cancelButton.click()
    panel.spin(lambda: not panel.controller.busy, 1)
    assert bar.isHidden() and not status.isHidden()


def test_what_is_told_of_a_run_names_its_task_and_volume_when_others_are_chosen(panel: OpenPanel) -> None:
    panel.run(add_scan("first scan"))
    panel.choose(add_scan("second scan"))
    panel.parameters.task = "train"
    assert panel.ui.statusLabel.text.startswith("Denoise 'first scan': done")


def test_the_card_is_there_only_where_a_model_is_chosen(panel: OpenPanel) -> None:
    panel.choose(add_scan())
    shown = {}
    for task in ("denoise", "features", "compress", "train"):
        panel.parameters.task = task
        shown[task] = not panel.ui.cardCollapsibleButton.isHidden()
    assert shown == {"denoise": True, "features": False, "compress": False, "train": False}


def test_the_tooltip_of_the_task_says_what_it_does(panel: OpenPanel) -> None:
    from MedAELib.tasks import TASKS

    panel.choose(add_scan())
    for name, task in TASKS.items():
        panel.parameters.task = name
        assert panel.ui.taskComboBox.toolTip == task.description


def test_a_ct_with_1024_added_is_told_and_waits_for_a_model(panel: OpenPanel) -> None:
    import slicer

    voxels = body()[0].array[0].clip(-1024).transpose(2, 1, 0) + 1024
    panel.choose(slicer.util.addVolumeFromArray(voxels.astype("int16"), name="neck"))
    assert panel.ui.inputLabel.text.startswith("Looks like a CT with 1024 added to its Hounsfield units; if it is one,")
    assert not panel.ui.applyButton.enabled and "No model was made" in panel.ui.modelLabel.text
    panel.parameters.model = "ct_denoise"
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Apply anyway"
    assert "denoising takes that into account" in panel.ui.warningLabel.text


def test_a_volume_with_nothing_in_it_is_told_and_refused_but_for_compression(panel: OpenPanel) -> None:
    import slicer

    ui, shape = panel.ui, (10, 12, 14)
    for name, voxels, line, sentence in (
        ("flat", np.zeros(shape, np.int16), "all of the value 0.", "flat has the same value, 0, everywhere."),
        ("void", np.full(shape, np.nan, np.float32), "none of them a number.", "void holds no voxel that is a number."),
    ):
        panel.choose(slicer.util.addVolumeFromArray(voxels, name=name))
        for task, model in (("denoise", ""), ("denoise", "ct_denoise"), ("anomaly", "none")):
            panel.parameters.task, panel.parameters.model = task, model
            assert ui.inputLabel.text.endswith(line)
            assert not ui.applyButton.enabled and ui.applyButton.toolTip.startswith(sentence)
            told = f"{ui.modelLabel.text} {ui.problemLabel.text}"
            assert sentence in told and "kind of scan" not in told
        panel.parameters.task, panel.parameters.model = "compress", ""
        assert ui.applyButton.enabled


def test_the_range_of_values_is_told_of_the_voxels_that_are_numbers(panel: OpenPanel) -> None:
    import slicer

    voxels = np.random.default_rng(1).uniform(3, 90, (10, 12, 14)).astype(np.float32)
    voxels[0, 0, :4] = 2, 100, np.nan, np.inf
    panel.choose(slicer.util.addVolumeFromArray(voxels, name="holes"))
    assert panel.ui.inputLabel.text.endswith("values 2 to 100.")
