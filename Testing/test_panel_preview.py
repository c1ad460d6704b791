"""The preview: the visible slices first, shown over the input, then the whole volume; nothing of it stays behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_scan
from test_panel_compare import show

ROOT = Path(__file__).resolve().parents[1]
SIZE = (24, 20, 60)


@pytest.fixture
def previewed(panel: OpenPanel, monkeypatch: pytest.MonkeyPatch) -> OpenPanel:
    """A panel that shows a preview of small volumes too."""
    monkeypatch.setattr("MedAEPanel.preview.SMALLEST", 0)
    return panel


def _foregrounds() -> set[Any]:
    import slicer

    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return {c.GetForegroundVolumeID() for c in composites if c.GetLayoutName() in ("Red", "Green", "Yellow")}


def _previews() -> list[Any]:
    import slicer

    return [n for n in slicer.util.getNodesByClass("vtkMRMLScalarVolumeNode") if "preview" in n.GetName()]


def _start_preview(previewed: OpenPanel) -> None:
    """Apply to a shown scan, and wait until its preview is under way."""
    scan = add_scan(size=SIZE)
    show(scan)
    previewed.choose(scan)
    previewed.behaviour = {"behaviour": "steps", "steps": 10, "seconds": 0.02}
    previewed.ui.applyButton.click()
    previewed.spin(lambda: previewed.controller.state == "running")


def test_the_slab_follows_the_slice_that_is_looked_at(previewed: OpenPanel) -> None:
    import slicer

    from MedAEPanel.preview import visibleSlab

    scan = add_scan(size=SIZE)
    assert visibleSlab(scan) is None  # nobody looks at it
    show(scan)
    red = slicer.app.layoutManager().sliceWidget("Red").sliceLogic()
    axis, start, stop = visibleSlab(scan)
    assert axis == 2 and 0 <= start < stop <= 60 and stop - start <= 20
    bounds = [0.0] * 6
    scan.GetRASBounds(bounds)
    red.SetSliceOffset(bounds[4] + 1)
    assert visibleSlab(scan)[1] == 0
    turned = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    scan.SetAndObserveTransformNodeID(turned.GetID())
    assert visibleSlab(scan)[1] == 0


@pytest.mark.parametrize("further", [0, 1, 2, 3])
def test_the_preview_looks_like_the_slice_of_the_whole_volume(further: int, previewed: OpenPanel) -> None:
    import slicer

    from MedAELib.model import Model
    from MedAELib.tasks.denoise import denoise
    from MedAELib.volume import Volume
    from MedAEPanel.preview import visibleSlab

    voxels = np.random.default_rng(1).normal(40, 30, (1, 32, 32, 40)).astype(np.float32)
    scan = add_scan(size=voxels.shape[1:])
    show(scan)
    view = slicer.util.getNode("vtkMRMLSliceNodeRed")
    view.SetSliceOffset(view.GetSliceOffset() + further * scan.GetSpacing()[2])
    axis, start, stop = visibleSlab(scan)
    shown = stop - 9  # eight slices follow it
    assert axis == 2 and start % 4 == 0 and stop - start < 40
    model, whole = Model.load(ROOT / "Resources" / "Models" / "ct-denoise"), Volume(voxels, np.eye(4))
    wanted = denoise(whole, model, passes=1).array[..., shown]
    found = denoise(whole.slab(2, start, stop), model, passes=1).array[..., shown - start]
    removed = voxels[..., shown] - wanted
    assert np.sqrt(np.mean((found - wanted) ** 2)) < 0.1 * np.sqrt(np.mean(removed**2))


def test_the_visible_slices_come_first_and_the_whole_volume_replaces_them(previewed: OpenPanel) -> None:
    import slicer

    from MedAELib import nodes

    scan = add_scan(size=SIZE)
    show(scan)
    previewed.choose(scan)
    previewed.ui.applyButton.click()
    previewed.spin(lambda: bool(_previews()) and _foregrounds() == {_previews()[0].GetID()})
    preview = _previews()[0]
    assert preview.GetHideFromEditors() and not preview.GetSaveWithScene()
    assert preview.GetImageData().GetDimensions()[2] < 60
    k = round(np.linalg.solve(nodes.affine_of(scan), nodes.affine_of(preview)[:, 3])[2])
    voxels, whole = slicer.util.arrayFromVolume(preview), slicer.util.arrayFromVolume(scan)[k : k + 25]
    np.testing.assert_array_equal(voxels, (whole - (whole > 0))[: len(voxels)])
    previewed.spin(lambda: previewed.controller.busy)
    previewed.spin(lambda: not previewed.controller.busy)
    assert previewed.controller.state == "done"
    assert _previews() == [] and _foregrounds() == {None}
    result = previewed.controller.results["denoised"]
    assert result.GetImageData().GetDimensions() == SIZE
    assert nodes.results_of(scan)["denoised"] is result
    assert result.GetName() == "CT chest denoised"


def test_cancel_during_either_run_leaves_the_scene_as_it_was(previewed: OpenPanel) -> None:
    import slicer

    scan = add_scan(size=SIZE)
    show(scan)
    previewed.choose(scan)
    count = slicer.mrmlScene.GetNumberOfNodes()
    previewed.behaviour = {"behaviour": "steps", "seconds": 0.05}
    previewed.ui.applyButton.click()
    previewed.spin(lambda: previewed.controller.state == "running")
    previewed.ui.cancelButton.click()
    previewed.spin(lambda: not previewed.controller.busy)
    slicer.app.processEvents()
    assert not previewed.controller.busy and slicer.mrmlScene.GetNumberOfNodes() == count
    previewed.ui.applyButton.click()
    previewed.spin(lambda: bool(_previews()))
    previewed.spin(lambda: previewed.controller.state == "running")
    previewed.ui.cancelButton.click()
    previewed.spin(lambda: not previewed.controller.busy)
    assert slicer.mrmlScene.GetNumberOfNodes() == count


def test_a_preview_can_be_declined(previewed: OpenPanel) -> None:
    scan = add_scan(size=SIZE)
    show(scan)
    previewed.ui.previewCheckBox.checked = False
    previewed.run(scan)
    assert previewed.controller.results["denoised"].GetImageData().GetDimensions() == SIZE


def test_a_reload_during_the_preview_keeps_the_whole_run(previewed: OpenPanel) -> None:
    _start_preview(previewed)
    previewed.widget.onReload()
    previewed.spin(lambda: "denoised" in previewed.controller.results and not _previews())
    previewed.spin(lambda: not previewed.controller.busy)
    assert previewed.controller.results["denoised"].GetName() == "CT chest denoised"
    assert previewed.controller.results["denoised"].GetImageData().GetDimensions() == SIZE
    assert _previews() == []


def test_the_worker_reads_the_whole_volume_for_the_preview_too(previewed: OpenPanel) -> None:
    from MedAELib.worker import runs
    from MedAEPanel.preview import visibleSlab

    _start_preview(previewed)  # how strong the noise is, a few slices tell otherwise than the whole volume
    run = previewed.controller._run
    given = runs.read_inputs(run)["input"]
    assert not isinstance(given, bytes) and given.shape == SIZE
    assert tuple(runs.read_job(run).parameters["slab"]) == visibleSlab(previewed.controller._target.inputNode())
    del given
    previewed.ui.cancelButton.click()
    previewed.spin(lambda: not previewed.controller.busy)


def test_a_preview_alone_is_never_offered_as_a_result(previewed: OpenPanel) -> None:
    import slicer

    _start_preview(previewed)
    slicer.mrmlScene.Clear(0)
    previewed.spin(lambda: not previewed.controller.busy)
    assert previewed.controller.unclaimed() == []
    assert not previewed.controller.remark


def test_a_preview_left_by_a_crash_is_cleared_away(previewed: OpenPanel) -> None:
    from MedAELib.worker import runs

    folder = previewed.controller._runs
    for origin in ({"preview": True}, {"wanted": {"denoised": "whole"}}):
        run = runs.create_run(folder, "denoise", {}, origin)
        (run / "result.json").write_text("{}")
        for mark in run.glob("owner*.json"):
            mark.unlink()
    left = previewed.controller.unclaimed()
    assert [dict(runs.read_job(run).origin) for run in left] == [{"wanted": {"denoised": "whole"}}]


def test_a_whole_run_that_cannot_start_after_its_preview_says_why(previewed: OpenPanel) -> None:
    scan = add_scan(size=SIZE)
    show(scan)
    previewed.choose(scan)
    previewed.ui.applyButton.click()
    previewed.spin(lambda: previewed.controller.state in ("importing", "done"))
    scan.SetAndObserveImageData(None)
    previewed.spin(lambda: previewed.controller.state == "failed")
    assert "holds no voxels" in previewed.ui.statusLabel.text
    assert _previews() == []


def _apply_failing(panel: OpenPanel, text: str) -> None:
    scan = add_scan(size=SIZE)
    show(scan)
    panel.choose(scan)
    panel.behaviour = {"behaviour": "raise", "error": "BadInput", "text": text}
    panel.ui.applyButton.click()


def test_a_preview_that_fails_does_not_take_the_whole_run_with_it(previewed: OpenPanel) -> None:
    _apply_failing(previewed, "The volume holds no finite value.")
    previewed.behaviour = {"behaviour": "quick"}
    previewed.spin(lambda: "denoised" in previewed.controller.results)
    previewed.spin(lambda: not previewed.controller.busy)
    assert previewed.controller.state == "done" and _previews() == []
    assert previewed.controller.results["denoised"].GetImageData().GetDimensions() == SIZE


def test_a_whole_run_that_fails_after_its_preview_failed_ends(previewed: OpenPanel) -> None:
    _apply_failing(previewed, "Not this one.")
    previewed.spin(lambda: previewed.controller.state == "failed" and not previewed.controller.preview.pending)
    assert not previewed.controller.busy and "Not this one." in previewed.ui.statusLabel.text
