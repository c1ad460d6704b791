"""A run survives other modules, a closed scene, deleted nodes, a reload of the module and a crash of Slicer."""

from __future__ import annotations

import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import ROOT, add_scan, oblique_affine

MEANWHILE = {"behaviour": "steps", "steps": 15, "seconds": 0.02}


def start(panel: OpenPanel, scan: Any) -> None:
    """Press Apply and wait until the worker is at work."""
    panel.choose(scan)
    panel.behaviour = MEANWHILE
    panel.ui.applyButton.click()
    panel.spin(lambda: panel.controller.state == "running")


def test_a_run_goes_on_while_the_user_works_in_another_module(panel: OpenPanel) -> None:
    start(panel, add_scan())
    representation = panel.module.widgetRepresentation()
    representation.exit()
    panel.spin(lambda: not panel.controller.busy)
    assert panel.controller.results["denoised"].GetName() == "CT chest denoised"
    representation.enter()
    assert panel.ui.statusLabel.text.startswith("Denoise 'CT chest': done")
    assert panel.ui.beforeButton.enabled


def test_without_its_input_the_result_still_comes_as_a_new_volume(panel: OpenPanel) -> None:
    import slicer

    from MedAELib import nodes

    scan = add_scan()
    start(panel, scan)
    slicer.mrmlScene.RemoveNode(scan)
    panel.spin(lambda: not panel.controller.busy)
    result = panel.controller.results["denoised"]
    assert result.GetName() == "CT chest denoised"
    np.testing.assert_allclose(nodes.affine_of(result), oblique_affine(), atol=1e-9)
    assert nodes.input_of(result) is None
    assert nodes.provenance(result)["inputName"] == "CT chest"


def test_without_its_chosen_output_the_result_comes_as_a_new_volume(panel: OpenPanel) -> None:
    import slicer

    scan, chosen = add_scan(), add_scan("mine", size=(2, 2, 2))
    panel.choose(scan)
    panel.parameters.denoisedVolume = chosen
    start(panel, scan)
    slicer.mrmlScene.RemoveNode(chosen)
    impostor = add_scan("impostor", size=(2, 2, 2))
    panel.spin(lambda: not panel.controller.busy)
    assert panel.controller.results["denoised"].GetName() == "CT chest denoised"
    assert impostor.GetImageData().GetDimensions() == (2, 2, 2)


def test_a_node_that_got_the_id_of_the_deleted_output_is_not_overwritten(panel: OpenPanel) -> None:
    import slicer

    from MedAEPanel.target import NodeReference

    first = add_scan("first", size=(2, 2, 2))
    reference = NodeReference(first)
    assert reference.node() is first
    identifier = first.GetID()
    del first
    slicer.mrmlScene.Clear()
    second = add_scan("second", size=(2, 2, 2))
    assert second.GetID() == identifier
    assert reference.node() is None


def test_a_closed_scene_gets_no_result_but_the_panel_offers_it(panel: OpenPanel) -> None:
    import slicer

    from MedAELib import nodes

    start(panel, add_scan())
    slicer.mrmlScene.Clear()
    panel.spin(lambda: not panel.controller.busy)
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")
    assert panel.ui.statusLabel.text.startswith("The scene was closed during the run")
    assert panel.ui.recoverFrame.isVisibleTo(panel.widget.parent)
    assert panel.ui.recoverLabel.text == "Not in the scene: the result of 'CT chest'."
    panel.ui.recoverButton.click()
    panel.spin(lambda: not panel.controller.busy)
    assert panel.controller.state == "done"
    result = panel.controller.results["denoised"]
    np.testing.assert_allclose(nodes.affine_of(result), oblique_affine(), atol=1e-9)
    assert (result.GetDisplayNode().GetWindow(), result.GetDisplayNode().GetLevel()) == (350, 40)
    assert not panel.ui.recoverFrame.isVisibleTo(panel.widget.parent)
    assert panel.controller.unclaimed() == []


def test_a_scene_closed_while_the_volume_is_read_ends_the_run(panel: OpenPanel) -> None:
    import slicer

    panel.choose(add_scan())
    panel.ui.applyButton.click()
    assert panel.controller.state == "exporting"
    slicer.mrmlScene.Clear()
    assert panel.controller.state == "cancelled"
    assert panel.controller.unclaimed() == []


def test_a_volume_edited_while_it_is_read_is_refused(panel: OpenPanel) -> None:
    import slicer

    scan = add_scan()
    panel.choose(scan)
    panel.ui.applyButton.click()
    slicer.util.arrayFromVolume(scan)[0, 0, 0] = 7
    slicer.util.arrayFromVolumeModified(scan)
    panel.spin(lambda: not panel.controller.busy)
    assert panel.controller.state == "failed"
    assert panel.ui.statusLabel.text == "'CT chest' was changed while it was being read. Press Apply again."


def finished_run_of_a_dead_slicer(folder: Path) -> Path:
    """A complete run folder whose process has ended."""
    code = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import numpy as np
from pathlib import Path
from MedAELib.volume import Volume
from MedAELib.worker.outputs import Outputs
from MedAELib.worker.runs import create_run
place = {{"node_id": "x", "name": "lost scan", "window": 100.0, "level": 10.0}}
origin = {{"place": place, "wanted": {{"denoised": "lost scan denoised"}}}}
run = create_run(Path({str(folder)!r}), "denoise", {{"model": "ct"}}, origin)
volume = Volume(np.full((1, 4, 3, 2), 5, np.int16), np.diag([2.0, 2.0, 3.0, 1.0]))
Outputs(run).finish({{"denoised": volume}}, {{"device": "cpu", "seconds": 1.5}})
print(run)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return Path(done.stdout.strip())


def test_a_finished_result_of_a_crashed_slicer_is_offered_at_the_next_start(panel: OpenPanel, tmp_path: Path) -> None:
    import slicer

    from MedAELib import nodes

    run = finished_run_of_a_dead_slicer(tmp_path / "runs")
    representation = panel.module.widgetRepresentation()
    representation.exit()
    representation.enter()
    assert panel.ui.recoverLabel.text == "Not in the scene: the result of 'lost scan'."
    panel.ui.recoverButton.click()
    panel.spin(lambda: not panel.controller.busy)
    result = panel.controller.results["denoised"]
    assert result.GetName() == "lost scan denoised"
    assert (slicer.util.arrayFromVolume(result) == 5).all()
    assert nodes.provenance(result)["seconds"] == "1.5"
    panel.controller.wait()  # until its files are deleted
    assert not run.exists()


def test_the_files_of_a_run_go_with_it_though_no_thread_gets_on_and_no_worker_is_left(
    panel: OpenPanel, tmp_path: Path
) -> None:
    """Slicer's idle main thread keeps Python's lock: only its timers work, and the panel's ends with the worker."""
    panel.run(add_scan())
    panel.controller.release()
    assert not any("delet" in thread.name.lower() or "discard" in thread.name for thread in threading.enumerate())
    panel.spin(lambda: not list((tmp_path / "runs").glob("*-denoise-*")), seconds=5)
    panel.spin(lambda: not panel.controller._timer.active, seconds=5)


def test_a_result_that_nobody_wants_is_discarded(panel: OpenPanel, tmp_path: Path) -> None:
    import slicer

    run = finished_run_of_a_dead_slicer(tmp_path / "runs")
    panel.widget.panel.runView.offer()
    panel.ui.discardButton.click()
    assert not run.exists()
    assert not panel.ui.recoverFrame.isVisibleTo(panel.widget.parent)
    assert not slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")


def test_a_damaged_result_is_refused_in_one_sentence_and_can_be_discarded(panel: OpenPanel, tmp_path: Path) -> None:
    run = finished_run_of_a_dead_slicer(tmp_path / "runs")
    voxels = run / "outputs" / "denoised.npy"
    data = bytearray(voxels.read_bytes())
    data[-1] ^= 255
    voxels.write_bytes(data)
    panel.widget.panel.runView.offer()
    panel.ui.recoverButton.click()
    assert "damaged" in panel.ui.statusLabel.text
    assert panel.controller.state == "idle"
    panel.ui.discardButton.click()
    assert not run.exists()


def test_a_reload_keeps_the_run_and_the_new_panel_shows_it(panel: OpenPanel) -> None:
    start(panel, add_scan())
    old_widget, old_class = panel.widget, type(panel.controller)
    panel.widget.onReload()
    assert panel.widget is not old_widget
    assert panel.widget.logic.controller is panel.controller
    assert panel.ui.cancelButton.enabled
    panel.spin(lambda: not panel.controller.busy)
    assert panel.ui.statusLabel.text.startswith("Denoise 'CT chest': done")
    assert panel.controller.results["denoised"].GetName() == "CT chest denoised"
    panel.widget.onReload()
    assert panel.controller.closed
    assert type(panel.widget.logic.controller) is not old_class
    panel.widget.logic.controller.close()


def test_a_result_for_which_memory_is_short_can_be_recovered_later(
    panel: OpenPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedAELib import nodes
    from MedAELib.errors import OutOfMemory

    def short(*arguments: Any) -> None:
        raise OutOfMemory("There is not enough memory left in Slicer for the result.")

    with monkeypatch.context() as patch:
        patch.setattr(nodes, "Filling", short)
        panel.run(add_scan())
    assert panel.controller.state == "failed"
    assert "not enough memory" in panel.ui.statusLabel.text
    assert panel.ui.recoverFrame.isVisibleTo(panel.widget.parent)
    with monkeypatch.context() as patch:  # memory is still short: nothing has happened, and it is offered again
        patch.setattr(nodes, "Filling", short)
        panel.ui.recoverButton.click()
        assert not panel.controller.busy
    assert panel.ui.recoverFrame.isVisibleTo(panel.widget.parent)
    panel.ui.recoverButton.click()
    panel.spin(lambda: not panel.controller.busy)
    assert panel.controller.state == "done"


def test_a_fault_while_nodes_are_written_leaves_no_half_result(
    panel: OpenPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    import slicer

    from MedAELib import nodes

    calls = []

    def stamp(*arguments: Any) -> None:
        calls.append(arguments)
        if len(calls) == 2:
            raise ValueError("a defect")

    monkeypatch.setattr(nodes, "stamp", stamp)
    panel.run(add_scan())
    assert panel.controller.state == "failed"
    names = [node.GetName() for node in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode")]
    assert names == ["CT chest"]
