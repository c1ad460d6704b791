"""The panel: what it shows, when Apply is possible, and a run from Apply to the result beside the input."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import MODULE, ROOT, add_scan, write_model

PLAIN = str.maketrans("\N{NO-BREAK SPACE}\N{MULTIPLICATION SIGN}\N{MINUS SIGN}", " x-")
OUT_OF_MEMORY = {"behaviour": "raise", "error": "torch.OutOfMemoryError", "text": "CUDA out of memory"}
SLOW_RUN = {"behaviour": "steps", "steps": 200, "seconds": 0.02}


def test_opening_the_panel_imports_installs_and_starts_nothing(tmp_path: Path) -> None:
    code = f"""
import os, sys
os.environ["MEDAE_RUNS"] = {str(tmp_path / "runs")!r}
import SlicerHost
SlicerHost.start()
from SlicerHost.module_loader import load_module, open_panel
module = load_module({str(MODULE)!r})
light = sorted(name for name in ("MedAELib.nodes", "MedAEPanel.panel", "SimpleITK", "torch") if name in sys.modules)
widget = open_panel(module)
heavy = sorted({{"torch", "monai", "scipy", "SimpleITK", "safetensors"}} & set(sys.modules))
import SlicerHost.packaging_stub as packaging
from SlicerHost import recorded_dialogs
print(light, heavy, packaging.packaging_calls.calls, recorded_dialogs.dialogs, widget.logic.controller.workerAlive)
SlicerHost.check()
"""
    environment = {
        **__import__("os").environ,
        "PYTHONPATH": str(ROOT / "Testing"),
    }  # only MedAE/ is added, as in Slicer
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[] [] [] [] False"


def test_the_panel_works_where_there_are_no_views(panel: OpenPanel) -> None:
    import slicer

    manager = slicer.app.layoutManager()
    slicer.app.setLayoutManager(None)
    try:
        panel.run(add_scan())
        panel.ui.beforeButton.click()
        panel.ui.sideBySideButton.click()
    finally:
        slicer.app.setLayoutManager(manager)
    assert panel.controller.state == "done"


def test_the_input_line_says_what_the_volume_is(panel: OpenPanel) -> None:
    panel.choose(add_scan(size=(24, 20, 12)))
    text = panel.ui.inputLabel.text.translate(PLAIN)
    assert text.startswith("CT by its values. 24 x 20 x 12 voxels of 0.7 x 0.8 x 2.5 mm, values -10")


def test_apply_is_disabled_until_it_is_possible_and_says_why(panel: OpenPanel) -> None:
    import slicer

    button = panel.ui.applyButton
    assert not button.enabled
    assert button.toolTip == panel.ui.problemLabel.text == "Choose a volume first."
    panel.choose(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "empty one"))
    assert not button.enabled
    assert "'empty one' holds no voxels" in button.toolTip and panel.ui.problemLabel.isHidden()  # it is told above
    scan = add_scan()
    panel.choose(scan)
    assert button.enabled
    panel.parameters.denoisedVolume = scan
    assert not button.enabled
    assert "the input itself" in button.toolTip
    other = add_scan("other")
    panel.parameters.denoisedVolume = panel.parameters.removedVolume = other
    assert not button.enabled
    assert "two outputs" in button.toolTip and button.toolTip == panel.ui.problemLabel.text
    panel.parameters.makeRemoved = False
    assert button.enabled and panel.ui.problemLabel.isHidden()


def test_a_model_that_this_computer_lacks_is_told_and_not_forgotten(panel: OpenPanel) -> None:
    panel.choose(add_scan())
    panel.parameters.model = "/somewhere/else/model"
    assert not panel.ui.applyButton.enabled
    assert "/somewhere/else/model cannot be used" in panel.ui.applyButton.toolTip
    assert panel.parameters.model == "/somewhere/else/model"


def test_automatic_takes_the_model_made_for_this_kind_of_scan(panel: OpenPanel) -> None:
    panel.choose(add_scan())
    assert panel.ui.modelComboBox.currentText == "Automatic (ct_denoise)"
    panel.choose(add_scan("head", dtype="uint16"))
    assert panel.ui.modelComboBox.currentText == "Automatic (mr_denoise)"
    panel.run()
    assert json.loads(provenance(panel)["parameters"])["model"] == "mr_denoise"


def provenance(panel: OpenPanel, output: str = "denoised") -> dict[str, str]:
    from MedAELib import nodes

    return nodes.provenance(panel.controller.results[output])


def test_the_model_card_shows_data_figures_limits_and_licence(panel: OpenPanel) -> None:
    panel.choose(add_scan())
    card = panel.ui.cardBrowser.toPlainText()
    for words in ("100 generated heads", "31.25", "Trained on adults only.", "Apache-2.0", "SHA-256"):
        assert words in card


def test_a_volume_that_does_not_suit_the_model_is_warned_of_and_still_possible(panel: OpenPanel) -> None:
    panel.choose(add_scan("head", dtype="uint16"))
    assert not panel.ui.warningLabel.isVisibleTo(panel.widget.parent)
    panel.parameters.model = "ct_denoise"
    assert "trained on CT" in panel.ui.warningLabel.text
    assert panel.ui.warningLabel.isVisibleTo(panel.widget.parent)
    assert panel.ui.applyButton.text == "Apply anyway"
    panel.run()
    assert panel.controller.state == "done"


def test_apply_makes_results_beside_the_input_and_tells_what_was_done(panel: OpenPanel) -> None:
    import slicer

    scan = add_scan()
    before = slicer.util.arrayFromVolume(scan).copy()
    panel.choose(scan)
    panel.parameters.strength, panel.parameters.tile, panel.parameters.precision = 0.5, 64, "float32"
    panel.run()
    results = panel.controller.results
    assert {name: node.GetName() for name, node in results.items()} == {
        "denoised": "CT chest denoised",
        "removed": "CT chest removed noise",
    }
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(results["denoised"]), before - (before > 0))
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(scan), before)
    told = provenance(panel)
    assert json.loads(told["parameters"]).items() >= {"strength": 0.5, "tile": 64, "precision": "float32"}.items()
    assert (told["inputName"], told["model"], told["device"]) == ("CT chest", "ct_denoise", "cpu")
    assert panel.ui.statusLabel.text == "Denoise 'CT chest': done in 0.1 s on cpu; estimated noise 20 → 8."
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    parents = {hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node)) for node in (scan, *results.values())}
    assert len(parents) == 1


def test_noise_map_and_trust_figures_stand_beside_the_input_when_asked_for(panel: OpenPanel) -> None:
    import slicer

    from MedAELib import nodes

    scan = add_scan()
    panel.choose(scan)
    assert "Not measured" in panel.ui.trustBrowser.toPlainText()
    panel.ui.noiseCheckBox.checked = panel.ui.trustCheckBox.checked = True
    assert panel.ui.noiseSelector.enabled
    panel.run()
    results = panel.controller.results
    assert set(results) == {"denoised", "removed", "noise", "trust"}
    assert results["noise"].GetName() == "CT chest noise map"
    assert slicer.util.arrayFromVolume(results["noise"]).max() == 20
    assert results["noise"].GetDisplayNode().GetWindowLevelMin() == 0
    assert results["trust"].GetClassName() == "vtkMRMLTableNode"
    first = nodes.table_rows(results["trust"])[0]
    assert list(first) == ["name", "value", "unit", "verdict", "explanation"]
    assert list(first.values()) == ["Bias in flat tissue", "0.25", "HU", "good", "None."]
    assert nodes.results_of(scan)["trust"] is results["trust"]
    shown = panel.ui.trustBrowser.toPlainText()
    assert "Trust it <b>." in shown and "0.25 HU" in shown and "Edges kept" in shown
    assert not panel.ui.trustCollapsibleButton.collapsed


def test_adapting_is_asked_for_in_seconds(panel: OpenPanel) -> None:
    panel.choose(add_scan())
    assert not panel.ui.adaptSpinBox.enabled
    panel.ui.adaptCheckBox.checked = True
    assert panel.ui.adaptSpinBox.enabled
    panel.ui.adaptSpinBox.value = 90
    panel.run()
    assert json.loads(provenance(panel)["parameters"])["adapt"] == 90


def test_the_passes_are_chosen_under_advanced_and_kept_with_the_result(panel: OpenPanel) -> None:
    panel.choose(add_scan())
    assert [panel.ui.passesComboBox.itemData(n) for n in range(panel.ui.passesComboBox.count)] == [0, 1, 2, 4, 8]
    panel.ui.passesComboBox.setCurrentIndex(3)
    assert panel.parameters.passes == 4
    panel.run()
    assert json.loads(provenance(panel)["parameters"])["passes"] == 4
    panel.ui.taskComboBox.setCurrentIndex(1)
    assert not panel.ui.passesComboBox.visible and not panel.ui.passesLabel.visible


def test_a_chosen_output_receives_the_result(panel: OpenPanel) -> None:
    scan, chosen = add_scan(), add_scan("mine", size=(2, 2, 2))
    panel.choose(scan)
    panel.parameters.denoisedVolume = chosen
    panel.run()
    assert panel.controller.results["denoised"] is chosen
    assert chosen.GetName() == "mine"


def test_the_outputs_are_those_chosen_when_apply_was_pressed(panel: OpenPanel) -> None:
    scan, chosen, later = add_scan(), add_scan("mine", size=(2, 2, 2)), add_scan("later", size=(2, 2, 2))
    panel.choose(scan)
    panel.parameters.denoisedVolume = chosen
    panel.behaviour = {"behaviour": "steps", "steps": 10, "seconds": 0.02}
    panel.ui.applyButton.click()
    panel.parameters.denoisedVolume = later
    panel.choose(later)
    scan.SetName("renamed")
    panel.spin(lambda: not panel.controller.busy)
    assert panel.controller.results["denoised"] is chosen
    assert later.GetImageData().GetDimensions() == (2, 2, 2)


@pytest.mark.parametrize("behaviour", [SLOW_RUN, {"behaviour": "hang"}, {"behaviour": "deaf"}])
def test_cancel_answers_within_a_second_and_leaves_the_scene_as_it_was(
    panel: OpenPanel, behaviour: dict[str, Any]
) -> None:
    import slicer

    panel.choose(add_scan())
    count = slicer.mrmlScene.GetNumberOfNodes()
    panel.behaviour = behaviour
    panel.ui.applyButton.click()
    panel.spin(lambda: panel.controller.state == "running")
    panel.ui.cancelButton.click()
    panel.spin(lambda: panel.controller.state == "cancelled", 1)
    assert slicer.mrmlScene.GetNumberOfNodes() == count
    assert panel.ui.statusLabel.text == "Cancelled; the scene is as it was."
    panel.behaviour = {"behaviour": "quick"}
    panel.run()
    assert panel.controller.state == "done"


def test_a_second_apply_is_refused_in_one_sentence(panel: OpenPanel) -> None:
    from MedAELib.errors import MedAEError
    from MedAEPanel.request import Request

    scan = add_scan()
    panel.choose(scan)
    panel.behaviour = SLOW_RUN
    panel.ui.applyButton.click()
    with pytest.raises(MedAEError, match="still working on 'CT chest'"):
        panel.controller.apply(Request(scan, "denoise", {}, {"denoised": None}))
    assert "working on 'CT chest'" in panel.ui.applyButton.toolTip
    panel.ui.cancelButton.click()
    panel.spin(lambda: not panel.controller.busy, 1)


@pytest.mark.parametrize(
    ("behaviour", "sentence"),
    [
        (OUT_OF_MEMORY, "too little free memory"),
        ({"behaviour": "disk full"}, "disk"),
        ({"behaviour": "kill"}, "ran out of memory"),
        ({"behaviour": "crash"}, "crashed"),
        ({"behaviour": "raise", "error": "ZeroDivisionError", "text": "boom"}, "unexpected fault"),
    ],
)
def test_a_failure_is_one_sentence_and_a_next_step_without_traceback(
    panel: OpenPanel, behaviour: dict[str, Any], sentence: str
) -> None:
    panel.behaviour = behaviour
    panel.run(add_scan())
    text = panel.ui.statusLabel.text
    assert panel.controller.state == "failed"
    assert sentence in text
    assert "Traceback" not in text + panel.ui.logEdit.plainText
    assert text.count(".") >= 2
    assert panel.ui.applyButton.enabled


def test_devices_are_listed_with_their_memory_once_the_worker_has_said_so(panel: OpenPanel) -> None:
    box = panel.ui.deviceComboBox
    assert [box.itemText(index) for index in range(box.count)] == ["Automatic", "Processor (CPU)"]
    panel.run(add_scan())
    assert [box.itemText(index) for index in range(box.count)] == ["Automatic", "Fake processor (8 GB)"]
    box.setCurrentIndex(1)
    assert panel.parameters.device == "cpu"


def test_release_ends_the_idle_worker(panel: OpenPanel) -> None:
    assert not panel.ui.releaseButton.enabled
    panel.run(add_scan())
    assert panel.ui.releaseButton.enabled
    panel.ui.releaseButton.click()
    panel.spin(lambda: not panel.controller.workerAlive, 3)
    panel.spin(lambda: not panel.ui.releaseButton.enabled, 3)


def test_the_log_keeps_what_the_worker_said_and_is_bounded(panel: OpenPanel) -> None:
    panel.run(add_scan())
    assert "Worker ready" in panel.ui.logEdit.plainText
    panel.controller.say("\n".join(f"line {number}" for number in range(5000)))
    panel.controller._notify()
    assert panel.ui.logEdit.blockCount <= 2000
    assert panel.ui.logEdit.plainText.endswith("line 4999")


def test_a_model_folder_of_one_s_own_can_be_added(panel: OpenPanel, tmp_path: Path) -> None:
    from SlicerHost import recorded_dialogs

    own = write_model(tmp_path / "my_model")
    panel.choose(add_scan())
    recorded_dialogs.answer(str(own))
    panel.ui.modelFolderButton.click()
    assert panel.parameters.model == str(own)
    assert panel.ui.modelComboBox.currentText == "my_model (CT, 3D)"
    panel.run()
    assert json.loads(provenance(panel)["parameters"])["model"] == str(own)


def test_a_damaged_model_folder_is_refused_in_one_sentence(panel: OpenPanel, tmp_path: Path) -> None:
    from SlicerHost import recorded_dialogs

    own = write_model(tmp_path / "my_model")
    (own / "models" / "model.safetensors").write_bytes(b"changed")
    panel.choose(add_scan())
    recorded_dialogs.answer(str(own))
    panel.ui.modelFolderButton.click()
    assert "differ from their SHA-256" in panel.ui.statusLabel.text
    assert panel.parameters.model == ""


def test_a_saved_scene_restores_every_choice(panel: OpenPanel, tmp_path: Path) -> None:
    import slicer

    scan, chosen = add_scan(), add_scan("mine")
    panel.choose(scan)
    wanted = {
        "model": "mr_denoise",
        "makeRemoved": False,
        "strength": 0.25,
        "device": "cpu",
        "precision": "float16",
        "tile": 96,
    }
    for name, value in wanted.items():
        setattr(panel.parameters, name, value)
    panel.parameters.denoisedVolume = chosen
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear()
    assert panel.parameters.strength == 1.0
    slicer.util.loadScene(str(path))
    assert {name: getattr(panel.parameters, name) for name in wanted} == wanted
    assert panel.parameters.inputVolume.GetName() == "CT chest"
    assert panel.parameters.denoisedVolume.GetName() == "mine"
    assert panel.ui.strengthSlider.value == 0.25
    assert panel.ui.tileSpinBox.value == 96
    assert panel.ui.modelComboBox.currentText.startswith("mr_denoise")
    assert panel.ui.precisionComboBox.currentText == "16 bit (float16)"
    assert not panel.ui.removedCheckBox.checked


def test_the_wheel_folder_is_remembered_by_the_computer_not_by_the_scene(panel: OpenPanel) -> None:
    import qt

    from SlicerHost.module_loader import close_panel, open_panel

    panel.ui.wheelFolderEdit.currentPath = "/media/wheels"
    close_panel(panel.module)
    assert open_panel(panel.module).ui.wheelFolderEdit.currentPath == "/media/wheels"
    qt.QSettings().remove("MedAE/WheelFolder")


def test_missing_packages_are_told_and_nothing_is_started(panel: OpenPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    from MedAEPanel import install

    monkeypatch.setattr(install, "missing", lambda lines: ["torch>=2.10"])
    panel.choose(add_scan())
    panel.ui.applyButton.click()
    assert "not installed: torch" in panel.ui.statusLabel.text
    assert panel.controller.state == "idle"
    assert not panel.controller.workerAlive
