"""The Train task in the panel: what is learned from, the live curve, stop and cancel, the model in every list."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_scan, own_models

SLOW = {"steps": 400, "seconds": 0.03}


@pytest.fixture
def training(panel: OpenPanel) -> OpenPanel:
    """A panel with three scans, ticked, and the Train task."""
    scans = [add_scan(name=f"scan {number}", seed=number) for number in range(3)]
    panel.parameters.task = "train"
    panel.behaviour = {}
    for row in range(len(scans)):
        tick(panel, row, True)
    return panel


def tick(panel: OpenPanel, row: int, on: bool) -> None:
    """As a click on the box of a volume in the list."""
    import qt

    panel.ui.trainVolumesList.item(row).setCheckState(qt.Qt.Checked if on else qt.Qt.Unchecked)


def test_every_volume_has_a_box_to_tick(panel: OpenPanel) -> None:
    import qt

    add_scan(name="scan")
    panel.parameters.task = "train"
    assert panel.ui.trainVolumesList.item(0).data(qt.Qt.CheckStateRole) is not None


def begin(panel: OpenPanel, **behaviour: Any) -> None:
    """Press Apply and wait for the first points of the curve."""
    panel.behaviour = {**SLOW, **behaviour}
    panel.ui.applyButton.click()
    panel.spin(lambda: len(panel.controller.learning.rows) >= 3)


def names(kind: str) -> list[str]:
    """The nodes of a class that belong to the training."""
    import slicer

    return sorted(n.GetName() for n in slicer.util.getNodesByClass(kind) if n.GetName().startswith("my-model"))


def test_the_chosen_volumes_are_learned_from_and_the_model_is_in_the_lists_at_once(training: OpenPanel) -> None:
    ui = training.ui
    assert ui.inputsCollapsibleButton.isHidden() and not ui.Train.isHidden()
    tick(training, 1, False)
    assert ui.trainDataLabel.text.startswith("2 volumes of 2 subjects.")
    training.run()
    report = training.controller.report
    assert report["inputs"] == {"volume_0": [1, 24, 20, 12], "volume_1": [1, 24, 20, 12]}
    assert report["parameters"]["names"] == {"volume_0": "scan 0", "volume_1": "scan 2"}
    assert report["parameters"]["network"] == "denoising" and report["parameters"]["size"] == "medium"
    assert own_models() == ["my-model"]
    assert "my-model is trained" in ui.statusLabel.text and "32.00 dB" in ui.statusLabel.text
    assert ui.ownModelsList.count == 1 and "1 model, " in ui.ownModelsLabel.text
    training.parameters.task = "denoise"
    offered = [ui.modelComboBox.itemText(index) for index in range(ui.modelComboBox.count)]
    assert "my-model (MRI, 3D)" in offered


def test_the_curve_is_live_in_charts_and_the_slice_in_a_view(training: OpenPanel) -> None:
    import slicer

    layout = slicer.app.layoutManager().layout
    begin(training)
    learning = training.controller.learning
    assert names("vtkMRMLPlotChartNode") == ["my-model held-out PSNR (dB) chart", "my-model loss chart"]
    table = slicer.util.getNode("my-model learning curve").GetTable()
    seen = table.GetNumberOfRows()
    assert [table.GetValue(0, column).ToDouble() for column in range(3)] == [1, 1, 21]
    assert slicer.app.layoutManager().layout != layout and training.ui.trainShowButton.checked
    charts = {v.GetLayoutName(): v.GetPlotChartNodeID() for v in slicer.util.getNodesByClass("vtkMRMLPlotViewNode")}
    assert charts["MedAELoss"] and charts["MedAEQuality"] and charts["MedAELoss"] != charts["MedAEQuality"]
    picture = slicer.app.layoutManager().sliceWidget("MedAEHeldOut").sliceLogic().GetBackgroundLayer().GetVolumeNode()
    before = slicer.util.arrayFromVolume(picture).copy()
    training.spin(lambda: len(learning.rows) >= seen + 3)
    assert table.GetNumberOfRows() > seen
    assert float(slicer.util.arrayFromVolume(picture).min()) > float(before.max())
    assert "of 400, loss" in training.ui.trainCurveLabel.text and "best" in training.ui.trainCurveLabel.text
    training.ui.trainShowButton.click()
    assert slicer.app.layoutManager().layout == layout


def test_stop_keeps_the_best_so_far(training: OpenPanel) -> None:
    begin(training)
    assert training.ui.trainStopButton.enabled
    training.ui.trainStopButton.click()
    assert not training.ui.trainStopButton.enabled
    training.spin(lambda: not training.controller.busy)
    assert training.controller.state == "done"
    assert training.controller.report["steps"] < 400
    assert own_models() == ["my-model"]
    assert names("vtkMRMLTableNode") == ["my-model learning curve"]


def _leaves_no_run(training: OpenPanel) -> None:
    training.controller.wait()  # until the files of the last run are deleted
    assert not [path for path in training.controller._runs.iterdir() if path.is_dir()]


def test_cancel_keeps_nothing_and_takes_less_than_a_second(training: OpenPanel) -> None:
    import slicer

    before, layout = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLDisplayableNode"), _layout()
    begin(training, behaviour="hang")
    started = time.monotonic()
    training.ui.cancelButton.click()
    training.spin(lambda: not training.controller.busy)
    assert time.monotonic() - started < 1.5  # the bar is 1 s on a machine that does nothing else
    assert training.controller.state == "cancelled"
    assert own_models() == [] and names("vtkMRMLNode") == [] and _layout() == layout
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLDisplayableNode") == before
    _leaves_no_run(training)


def _layout() -> int:
    import slicer

    return slicer.app.layoutManager().layout


def test_a_killed_worker_ends_the_training_with_a_sentence_and_leaves_the_curve(training: OpenPanel) -> None:
    begin(training)
    os.kill(training.controller._client.pid, signal.SIGKILL)
    training.spin(lambda: not training.controller.busy)
    assert training.controller.state == "failed" and own_models() == []
    assert "out of memory" in training.ui.statusLabel.text
    assert names("vtkMRMLTableNode") == ["my-model learning curve"]
    training.behaviour = {}
    training.run()
    assert own_models() == ["my-model"]


def test_an_interrupted_training_goes_on_from_its_checkpoint(training: OpenPanel) -> None:
    ui = training.ui
    assert ui.trainResumeFrame.isHidden()
    begin(training, checkpoints=True, steps=60)
    os.kill(training.controller._client.pid, signal.SIGKILL)
    training.spin(lambda: not training.controller.busy)
    assert training.controller.state == "failed" and not ui.trainResumeFrame.isHidden()
    assert "my-model, after" in ui.trainResumeLabel.text and "of 60 steps" in ui.trainResumeLabel.text
    ui.trainResumeButton.click()
    assert training.controller.busy and ui.trainResumeFrame.isHidden()
    training.spin(lambda: not training.controller.busy)
    assert training.controller.state == "done" and own_models() == ["my-model"]
    assert [row[0] for row in training.controller.learning.rows] == list(range(1, 61))
    assert ui.trainResumeFrame.isHidden()
    _leaves_no_run(training)


def test_an_interrupted_training_can_be_given_up_and_a_cancelled_one_is_gone(training: OpenPanel) -> None:
    begin(training, checkpoints=True, behaviour="kill")
    training.spin(lambda: not training.controller.busy)
    training.ui.trainDropButton.click()
    assert training.ui.trainResumeFrame.isHidden()
    begin(training, checkpoints=True)
    training.ui.cancelButton.click()
    training.spin(lambda: not training.controller.busy)
    assert training.ui.trainResumeFrame.isHidden()
    _leaves_no_run(training)


def test_kinds_of_scan_and_objectives_are_asked_for_where_they_apply(training: OpenPanel) -> None:
    ui, wanted, section = training.ui, training.parameters, training.widget.panel.train
    assert ui.trainKindsEdit.isHidden() and not ui.trainObjectiveComboBox.enabled
    assert "objective" not in section.request().parameters
    wanted.trainGoal, wanted.trainNetwork, wanted.trainObjective = "reconstruct", "fusion", "l1=1"
    ui.trainKindsEdit.text = "T1, T2 T1"
    assert not ui.trainKindsEdit.isHidden() and ui.trainObjectiveComboBox.currentText == "Absolute error"
    parameters = section.request().parameters
    assert parameters["network"] == "fusion" and parameters["modalities"] == ["T1", "T2"]
    assert parameters["objective"] == "l1=1"
    wanted.trainGoal, wanted.trainNetwork = "translate", "translating"
    parameters = section.request().parameters
    assert parameters["translate"] == ["T1", "T2"] and parameters["modalities"] == []
    ui.trainKindsEdit.text = "T1 T2 FLAIR"
    assert "Only the fusion network" in ui.applyButton.toolTip
    ui.trainKindsEdit.text = "T1"
    assert "Say which kinds of scan" in ui.applyButton.toolTip


def test_a_model_of_what_is_unlike_normal_scans_has_a_network_and_a_figure_of_its_own(training: OpenPanel) -> None:
    import slicer

    ui, wanted = training.ui, training.parameters
    wanted.trainDims, wanted.trainObjective, wanted.trainGoal = 2, "l1=1", "anomaly"
    assert (ui.trainNetworkComboBox.currentText, ui.trainDimsComboBox.currentText) == ("Normative", "As the scans are")
    boxes = (ui.trainNetworkComboBox, ui.trainDimsComboBox, ui.trainSizeComboBox, ui.trainObjectiveComboBox)
    assert not any(box.enabled for box in boxes) and ui.trainKindsEdit.isHidden()
    asked = training.widget.panel.train.request().parameters
    assert asked["task"] == "anomaly" and not {"network", "dims", "size", "objective"} & set(asked)
    tick(training, 0, False), tick(training, 1, False)
    assert "two subjects or more" in ui.applyButton.toolTip
    tick(training, 0, True)
    training.run()
    assert "average precision on held-out subjects" in ui.trainCurveLabel.text
    charts = slicer.util.getNodesByClass("vtkMRMLPlotChartNode")
    assert sorted(chart.GetYAxisTitle() for chart in charts) == ["held-out average precision", "loss"]
    wanted.trainGoal = "denoise"
    assert ui.trainDimsComboBox.currentText == "2D" and ui.trainSizeComboBox.enabled


def test_a_closed_scene_deleted_nodes_and_a_reload_do_not_end_a_training(training: OpenPanel) -> None:
    import slicer

    begin(training, steps=120)
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("my-model learning curve"))
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("my-model loss chart"))
    rows = len(training.controller.learning.rows)
    training.spin(lambda: len(training.controller.learning.rows) > rows)
    training.ui.trainShowButton.click()  # off
    training.ui.trainShowButton.click()
    assert names("vtkMRMLTableNode") == ["my-model learning curve"]
    slicer.mrmlScene.Clear(0)
    training.widget.enter()
    training.widget.onReload()
    rows = len(training.controller.learning.rows)
    training.spin(lambda: len(training.controller.learning.rows) > rows or not training.controller.busy)
    training.spin(lambda: not training.controller.busy)
    assert training.controller.state == "done" and own_models() == ["my-model"]


def test_all_choices_come_back_with_a_saved_scene(training: OpenPanel, tmp_path: Path) -> None:
    import slicer

    ui = training.ui
    tick(training, 0, False)
    ui.trainGoalComboBox.setCurrentIndex(2)
    ui.trainNetworkComboBox.setCurrentIndex(2)
    ui.trainSizeComboBox.setCurrentIndex(0)
    ui.trainMinutesSpinBox.value = 12.5
    ui.trainNameEdit.text = "codes"
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    training.widget.enter()
    wanted = training.widget.panel.train.request()
    assert wanted.parameters["network"] == "variational" and wanted.parameters["size"] == "small"
    assert wanted.parameters["minutes"] == 12.5 and wanted.goal.name == "codes"
    assert sorted(wanted.parameters["names"].values()) == ["scan 1", "scan 2"]


def test_volumes_of_one_patient_stay_together(training: OpenPanel) -> None:
    import slicer

    hierarchy = slicer.mrmlScene.GetSubjectHierarchyNode()
    patient = hierarchy.CreateSubjectItem(hierarchy.GetSceneItemID(), "P1")
    for number in (0, 1):
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(slicer.util.getNode(f"scan {number}")), patient)
    training.widget.panel.update()
    assert "3 volumes of 2 subjects" in training.ui.trainDataLabel.text
    subjects = training.widget.panel.train.request().parameters["subjects"]
    assert set(subjects) == {"volume_0", "volume_1"} and len(set(subjects.values())) == 1


def test_apply_says_what_is_missing(training: OpenPanel, tmp_path: Path) -> None:
    ui = training.ui
    for row in range(3):
        tick(training, row, False)
    assert not ui.applyButton.enabled and "Tick the volumes" in ui.applyButton.toolTip
    training.parameters.trainSource = "folder"
    assert "Choose the folder" in ui.applyButton.toolTip
    ui.trainFolderEdit.currentPath = str(tmp_path)
    assert ui.applyButton.enabled
    ui.trainNameEdit.text = "../x"
    assert "Give the model a name" in ui.applyButton.toolTip
    ui.trainNameEdit.text = "ct_denoise"  # a bundled one
    assert training.widget.panel.train.request().goal.name == "ct_denoise-2"
    assert training.widget.panel.train.request().parameters["folder"] == str(tmp_path)


def test_the_list_follows_the_scene(training: OpenPanel) -> None:
    import slicer

    listed = training.ui.trainVolumesList
    new = add_scan(name="late")
    training.spin(lambda: listed.count == 4)
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("scan 0"))
    slicer.mrmlScene.RemoveNode(new)
    training.spin(lambda: listed.count == 2)
    assert "2 volumes of 2 subjects" in training.ui.trainDataLabel.text


def test_a_model_that_could_not_be_kept_is_recovered(training: OpenPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    from MedAELib import library
    from MedAELib.errors import DiskFull

    def full(*_: object) -> None:
        raise DiskFull("The disk has no room for the model.")

    with monkeypatch.context() as disk:
        disk.setattr(library, "import_model", full)
        training.run()
    assert training.controller.state == "failed" and "no room" in training.ui.statusLabel.text
    assert own_models() == [] and "my-model" in training.ui.recoverLabel.text
    training.ui.recoverButton.click()
    training.spin(lambda: not training.controller.busy)
    assert training.controller.state == "done" and own_models() == ["my-model"]


def test_a_start_fixes_the_network_and_a_missing_one_is_named(training: OpenPanel) -> None:
    ui, wanted = training.ui, training.parameters
    wanted.trainStart = "mr_denoise"
    assert not ui.trainNetworkComboBox.enabled and not ui.trainSizeComboBox.enabled
    assert ui.trainNetworkComboBox.currentText == "Denoising"
    parameters = training.widget.panel.train.request().parameters
    assert parameters["start"] == "mr_denoise" and "network" not in parameters
    wanted.trainStart = "/nowhere"
    assert "/nowhere cannot be used" in ui.applyButton.toolTip


@pytest.mark.slow
def test_a_real_training_makes_a_model_that_denoises(panel: OpenPanel) -> None:
    import slicer
    from phantom import add_noise, head

    from MedAELib.worker.client import WorkerClient

    folder = panel.controller._runs
    panel.controller._client = WorkerClient(folder, environment={"OMP_NUM_THREADS": "1"})
    for seed in range(3):
        made = head("MR", seed=seed, shape=(48, 56, 24), spacing=(4, 4, 5))
        voxels = add_noise(made, 20)
        kji = voxels.transpose(2, 1, 0).astype(np.float32)
        slicer.util.addVolumeFromArray(kji, ijkToRAS=made.affine, name=f"h{seed}")
    panel.parameters.task, panel.behaviour = "train", {"steps": 12}
    panel.parameters.trainSize = "small"
    for row in range(3):
        tick(panel, row, True)
    panel.ui.applyButton.click()
    panel.spin(lambda: not panel.controller.busy, seconds=280)
    assert panel.controller.state == "done", panel.ui.statusLabel.text
    assert own_models() == ["my-model"] and len(panel.controller.learning.rows) >= 2
    card = (Path(os.environ["MEDAE_MODELS"]) / "my-model" / "docs" / "README.md").read_text()
    assert card.startswith("# my-model") and "h1" in card and "12 steps" in card
    panel.behaviour = {}
    scan = slicer.util.getNode("h0")
    panel.parameters.task = "denoise"
    panel.parameters.model = str(Path(os.environ["MEDAE_MODELS"]) / "my-model")
    panel.choose(scan)
    panel.ui.applyButton.click()
    panel.spin(lambda: not panel.controller.busy, seconds=200)
    assert panel.controller.state == "done", panel.ui.statusLabel.text
