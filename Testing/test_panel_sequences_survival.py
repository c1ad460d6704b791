"""Whatever happens to a run on a sequence, the scene is as it was, or the results come as well as they can."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_sequence, oblique_affine, run_until
from sequence_tools import browser_of, choose, scene_as_text, shown, slowly, voxels  # noqa: F401  (slowly is a fixture)

pytestmark = pytest.mark.usefixtures("slowly")
MEANWHILE = {"behaviour": "steps", "steps": 15, "seconds": 0.02}


@pytest.mark.parametrize("moment", ["exporting", "running", "importing"])
def test_cancel_leaves_the_scene_as_it_was(panel: OpenPanel, moment: str) -> None:
    choose(panel, add_sequence())
    before = scene_as_text()
    panel.behaviour = MEANWHILE
    panel.ui.applyButton.click()
    panel.spin(lambda: panel.controller.state == moment and 0 < panel.controller.fraction < 1)
    panel.ui.cancelButton.click()
    panel.spin(lambda: panel.controller.state == "cancelled", 1)
    assert scene_as_text() == before


def test_a_fault_while_nodes_are_written_leaves_no_half_result(
    panel: OpenPanel, monkeypatch: pytest.MonkeyPatch
) -> None:
    from MedAELib import nodes

    def stamp(node: Any, *arguments: Any) -> None:
        if node.GetName() == "perfusion removed noise":
            raise ValueError("a defect")

    nodes.removed_noise_colors()  # the table may stay
    sequence = add_sequence()
    choose(panel, sequence)
    before = scene_as_text()
    monkeypatch.setattr(nodes, "stamp", stamp)
    panel.run()
    assert panel.controller.state == "failed"
    assert browser_of(sequence).GetNumberOfSynchronizedSequenceNodes(True) == 1
    assert scene_as_text() == before


def test_voxels_edited_while_they_are_read_are_noticed(panel: OpenPanel) -> None:
    import slicer

    sequence = add_sequence()
    choose(panel, sequence)
    panel.ui.applyButton.click()
    assert panel.controller.state == "exporting"
    last = sequence.GetNthDataNode(3)
    slicer.util.arrayFromVolume(last)[0, 0, 0] = 7
    slicer.util.arrayFromVolumeModified(last)
    panel.spin(lambda: not panel.controller.busy)
    assert panel.ui.statusLabel.text == "'perfusion' was changed while it was being read. Press Apply again."


@pytest.mark.parametrize("gone", ["sequence", "browser", "both"])
def test_without_sequence_or_browser_the_results_still_come(panel: OpenPanel, gone: str) -> None:
    import slicer

    from MedAELib import nodes

    sequence = add_sequence()
    matrix = slicer.util.vtkMatrixFromArray(np.array([[1, 0, 0, 25.0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "bed")
    transform.SetMatrixTransformToParent(matrix)
    shown(sequence).SetAndObserveTransformNodeID(transform.GetID())
    before, browser = voxels(sequence), browser_of(sequence)
    choose(panel, sequence)
    panel.behaviour = MEANWHILE
    panel.ui.applyButton.click()
    panel.spin(lambda: panel.controller.state == "running")
    for node in (*([browser] if gone != "sequence" else []), *([sequence] if gone != "browser" else [])):
        slicer.mrmlScene.RemoveNode(node)
    panel.spin(lambda: not panel.controller.busy)
    result = panel.controller.results["denoised"]
    np.testing.assert_array_equal(voxels(result), before - (before > 0))
    assert browser_of(result) is None
    moved = 25.0 if gone != "browser" else 0.0  # without the sequence, frames lie where the patient was
    placed = nodes.affine_of(result.GetNthDataNode(0))[:3, 3]
    np.testing.assert_allclose(placed, oblique_affine()[:3, 3] + (moved, 0, 0), atol=1e-9)


def test_a_result_of_a_closed_scene_is_recovered_as_sequences(panel: OpenPanel) -> None:
    import slicer

    from MedAEPanel import sequences

    sequence = add_sequence()
    before, index = voxels(sequence), sequences.indexOf(sequence)
    choose(panel, sequence)
    panel.behaviour = MEANWHILE
    panel.ui.applyButton.click()
    panel.spin(lambda: panel.controller.state == "running")
    slicer.mrmlScene.Clear()
    panel.spin(lambda: not panel.controller.busy)
    assert panel.ui.recoverLabel.text == "Not in the scene: the result of 'perfusion'."
    panel.ui.recoverButton.click()
    panel.spin(lambda: not panel.controller.busy)
    result = panel.controller.results["denoised"]
    assert sequences.indexOf(result) == index
    np.testing.assert_array_equal(voxels(result), before - (before > 0))


def test_a_killed_worker_leaves_the_scene_as_it_was(panel: OpenPanel) -> None:
    choose(panel, add_sequence())
    before = scene_as_text()
    panel.behaviour = {"behaviour": "kill"}
    panel.run()
    assert panel.controller.state == "failed"
    assert scene_as_text() == before


def test_a_sequence_outlives_the_export_of_many_small_steps(panel: OpenPanel) -> None:
    """The frames are read where they are, one after another, in slabs."""
    from MedAEPanel.request import Request

    sequence = add_sequence(frames=6)
    panel.controller.apply(Request(sequence, "denoise", {}, {"denoised": None}))
    steps = []
    run_until(
        panel.controller, lambda: steps.append(panel.controller.fraction) or panel.controller.state != "exporting"
    )
    assert len(set(steps)) > 5
    run_until(panel.controller, lambda: not panel.controller.busy)
    assert panel.controller.state == "done"
