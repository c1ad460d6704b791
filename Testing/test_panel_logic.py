"""MedAE from Slicer's Python console, and the module's own self-test as Slicer's harness runs it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import MODULE, add_scan

from MedAELib.errors import BadInput, MedAEError


def test_denoise_returns_the_result_node(panel: OpenPanel) -> None:
    import slicer

    scan = add_scan()
    result = panel.widget.logic.denoise(scan, strength=0.5)
    assert result.GetName() == "CT chest denoised"
    voxels = slicer.util.arrayFromVolume(scan)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), voxels - (voxels > 0))


def test_denoise_writes_into_the_nodes_that_are_given(panel: OpenPanel) -> None:
    output, noise = add_scan("out", size=(2, 2, 2)), add_scan("noise", size=(2, 2, 2))
    assert panel.widget.logic.denoise(add_scan(), output, removedNode=noise) is output
    assert noise.GetImageData().GetDimensions() == (24, 20, 12)
    assert noise.GetDisplayNode().GetLevel() == 0


def test_denoise_need_not_wait(panel: OpenPanel) -> None:
    panel.behaviour = {"behaviour": "steps", "steps": 5, "seconds": 0.02}
    controller = panel.widget.logic.denoise(add_scan(), waitForCompletion=False)
    assert controller.busy
    with pytest.raises(MedAEError, match="still working on 'CT chest'"):
        panel.widget.logic.denoise(add_scan("other"))
    panel.spin(lambda: not controller.busy)
    assert controller.results["denoised"].GetName() == "CT chest denoised"


def test_a_failure_is_raised_with_its_sentence(panel: OpenPanel) -> None:
    panel.behaviour = {"behaviour": "raise", "error": "torch.OutOfMemoryError", "text": "CUDA out of memory"}
    with pytest.raises(MedAEError, match="too little free memory") as caught:
        panel.widget.logic.denoise(add_scan())
    assert caught.value.kind == "out of memory"
    assert caught.value.next_step


@pytest.mark.parametrize("wrong", [None, "vtkMRMLLabelMapVolumeNode", "vtkMRMLTextNode"])
def test_what_is_no_scan_is_refused(panel: OpenPanel, wrong: str | None) -> None:
    import slicer

    node = slicer.mrmlScene.AddNewNodeByClass(wrong, "wrong") if wrong else None
    with pytest.raises(BadInput):
        panel.widget.logic.denoise(node)
    assert panel.controller.state == "idle"


def test_the_other_maps_of_unlike_stand_beside_the_signed_difference(panel: OpenPanel) -> None:
    import slicer

    scan = add_scan("head")
    made = panel.widget.logic.run("anomaly", scan, typical=True, others=True)
    names = {"typical", "residual", "map_residual", "map_bright", "map_contrast"}
    assert names <= set(made)
    assert made["residual"].GetName() == "head minus typical"
    assert slicer.util.arrayFromVolume(made["residual"]).min() == -3
    assert made["map_residual"].GetName() == "head map residual"
    assert slicer.util.arrayFromVolume(made["map_residual"]).min() == 2
    for name in ("map_residual", "map_bright"):
        display = made[name].GetDisplayNode()
        assert display.GetColorNode().GetName() == made["anomaly"].GetDisplayNode().GetColorNode().GetName()
        assert display.GetApplyThreshold() and display.GetLowerThreshold() == pytest.approx(2.326)


def test_any_task_can_be_run_by_its_name(panel: OpenPanel) -> None:
    scan, logic = add_scan(), panel.widget.logic
    made = logic.run("features", scan, per="slice", latent=True)
    assert {name: node.GetName() for name, node in made.items()} == {
        "features": "CT chest features", "code": "CT chest code",
    }  # fmt: skip
    assert panel.controller.report["asked"]["per"] == "slice"
    assert logic.run("denoise", scan, outputs={"denoised": None}).GetName() == "CT chest denoised"
    panel.behaviour = {"behaviour": "hang"}
    controller = logic.run("features", scan, waitForCompletion=False)
    controller.cancel()
    assert controller.wait() == "cancelled"
    with pytest.raises(BadInput):
        logic.run("features", None)


def test_the_first_scan_is_no_result_of_medae(panel: OpenPanel) -> None:
    logic = panel.widget.logic
    assert logic.firstScan() is None
    scan = add_scan()
    logic.denoise(scan)
    assert logic.firstScan() is scan


@pytest.mark.timeout(900)
def test_the_self_test_of_the_module_passes(slicer_host: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the bundled models and the real worker, if both are there; else those tests skip, as they do in Slicer."""
    from SlicerHost.module_loader import load_module
    from SlicerHost.runner import run_module_tests

    module = load_module(MODULE)
    from MedAEPanel import shared
    from MedAEPanel.controller import RunController

    controller = shared.replace(RunController(tmp_path / "runs"))
    result = run_module_tests(module)
    controller.close()
    assert result.wasSuccessful()
    assert result.testsRun >= 6


def test_the_real_worker_denoises_a_node_with_a_model_from_a_folder(
    slicer_host: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer
    from models import save_small_model

    from SlicerHost.module_loader import load_module

    save_small_model(tmp_path / "small")
    module = load_module(MODULE)
    from MedAELib import nodes
    from MedAEPanel import shared
    from MedAEPanel.controller import RunController

    controller = shared.replace(RunController(tmp_path / "runs"))
    scan = add_scan(dtype="int16")
    before = slicer.util.arrayFromVolume(scan).copy()
    result = module.python.MedAELogic().denoise(scan, model=tmp_path / "small", removed=True, device="cpu")
    controller.close()
    noise = slicer.util.arrayFromVolume(nodes.results_of(scan)["removed"])
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(scan), before)
    assert slicer.util.arrayFromVolume(result).dtype == np.int16
    np.testing.assert_array_equal(before - slicer.util.arrayFromVolume(result), noise)
    told = nodes.provenance(result)
    assert told["model"] == "small"
    assert len(told["modelSHA256"]) == 64
    assert "torch" in told["versions"]


@pytest.mark.parametrize(("seconds", "said"), [(60, "did better on a part"), (10, "no better on a part")])
def test_the_panel_says_whether_the_model_adapted_and_its_doubts(panel: OpenPanel, seconds: int, said: str) -> None:
    panel.parameters.adapt, panel.parameters.adaptSeconds = True, seconds
    panel.run(add_scan())
    text = panel.ui.statusLabel.text
    assert text.startswith("Denoise 'CT chest': done in 0.1 s on cpu")
    assert said in text and text.endswith("The volume is doubtful.")


def test_what_a_scene_of_a_later_version_wants_is_told_and_can_be_chosen_anew(panel: OpenPanel) -> None:
    panel.choose(add_scan())
    panel.parameters.task = "dream"
    assert "'dream', which this version of MedAE does not know" in panel.ui.problemLabel.text
    panel.parameters.task, panel.parameters.trainGoal, panel.parameters.trainNetwork = "train", "fly", "wings"
    assert panel.ui.trainGoalComboBox.currentText == "Remove noise, from good scans"
    assert panel.ui.trainNetworkComboBox.currentText == "Denoising"


def test_the_tab_key_reaches_everything_from_top_to_bottom(panel: OpenPanel) -> None:
    """The sections come from files of their own, and Qt would put them behind what stands below them."""
    order, widget, ui = [], panel.ui.inputsCollapsibleButton, panel.ui
    for _ in range(1000):
        order.append(widget.objectName)
        widget = widget.nextInFocusChain()
        if widget is ui.inputsCollapsibleButton:
            break
    wanted = [
        "taskComboBox", "removedCheckBox", "typicalCheckBox", "promiseComboBox", "featuresPerComboBox",
        "trainGoalComboBox", "importFileButton", "deviceComboBox", "applyButton", "beforeButton",
    ]  # fmt: skip
    assert [order.index(name) for name in wanted] == sorted(order.index(name) for name in wanted)
