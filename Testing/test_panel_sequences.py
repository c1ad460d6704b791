"""A sequence as input: all frames are denoised, the results play in step with it and can be compared and saved."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_scan, add_sequence, oblique_affine
from sequence_tools import browser_of, choose, shown, voxels
from test_panel import PLAIN
from test_panel_compare import backgrounds, layers, readout, show

from MedAELib.errors import BadInput


def test_the_input_line_says_how_many_frames_there_are(panel: OpenPanel) -> None:
    choose(panel, add_sequence())
    assert panel.ui.inputSelector.currentNode().GetName() == "perfusion"
    text = panel.ui.inputLabel.text.translate(PLAIN)
    assert text.startswith("CT by its values. 4 frames of 12 x 10 x 8 voxels of 0.7 x 0.8 x 2.5 mm, values -10")
    assert text.endswith(" in the middle frame.")
    assert panel.ui.modelComboBox.currentText == "Automatic (ct_denoise)"
    assert panel.ui.applyButton.enabled and panel.ui.applyButton.text == "Apply"


def test_the_volume_that_shows_a_sequence_stays_one_frame_and_says_how_to_have_all(panel: OpenPanel) -> None:
    import slicer

    sequence = add_sequence()
    panel.run(shown(sequence))
    assert panel.ui.inputLabel.text.endswith(
        "One frame of the sequence 'perfusion'; choose the sequence to have all frames denoised."
    )
    result = panel.controller.results["denoised"]
    assert result.GetClassName() == "vtkMRMLScalarVolumeNode"
    first = voxels(sequence)[0]
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(result), first - (first > 0))


def test_every_frame_is_denoised_and_the_results_are_sequences_with_the_same_index(panel: OpenPanel) -> None:
    from MedAELib import nodes
    from MedAEPanel import sequences

    sequence = add_sequence()
    before = voxels(sequence)
    panel.ui.noiseCheckBox.checked = panel.ui.trustCheckBox.checked = True
    panel.run(sequence)
    results = panel.controller.results
    assert {name: (node.GetName(), node.GetClassName()) for name, node in results.items()} == {
        "denoised": ("perfusion denoised", "vtkMRMLSequenceNode"),
        "removed": ("perfusion removed noise", "vtkMRMLSequenceNode"),
        "noise": ("perfusion noise map", "vtkMRMLScalarVolumeNode"),
        "trust": ("perfusion trust figures", "vtkMRMLTableNode"),
    }
    after, removed = voxels(results["denoised"]), voxels(results["removed"])
    assert after.dtype == before.dtype
    np.testing.assert_array_equal(after, before - (before > 0))
    np.testing.assert_array_equal(removed, before > 0)
    np.testing.assert_array_equal(voxels(sequence), before)
    for name in ("denoised", "removed"):
        assert sequences.indexOf(results[name]) == sequences.indexOf(sequence)
        assert nodes.provenance(results[name])["inputName"] == "perfusion"
        for frame in sequences.voxelNodes(results[name]):
            np.testing.assert_allclose(nodes.affine_of(frame), oblique_affine(), atol=1e-9)
    assert nodes.results_of(sequence) == results


def test_the_results_play_in_step_with_the_input_in_its_browser(panel: OpenPanel) -> None:
    import slicer

    from MedAELib import nodes

    sequence = add_sequence()
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "bed")
    shown(sequence).SetAndObserveTransformNodeID(transform.GetID())
    panel.run(sequence)
    denoised, removed = (panel.controller.results[name] for name in ("denoised", "removed"))
    browser = browser_of(sequence)
    assert browser_of(denoised) is browser and browser_of(removed) is browser
    for number in (0, 2, 3, 1):
        browser.SetSelectedItemNumber(number)
        for result in (denoised, removed):
            np.testing.assert_array_equal(slicer.util.arrayFromVolume(shown(result)), voxels(result)[number])
    display = shown(denoised).GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel(), display.GetAutoWindowLevel()) == (350, 40, 0)
    display = shown(removed).GetDisplayNode()
    assert (display.GetColorNode().GetName(), display.GetLevel()) == (nodes.COLORS, 0)
    assert shown(denoised).GetParentTransformNode() is transform
    assert shown(removed).GetParentTransformNode() is transform
    slicer.util.arrayFromVolume(shown(denoised))[...] = 0
    assert voxels(denoised).any()


def test_results_stand_beside_the_sequence_and_what_shows_them_beside_what_shows_it(panel: OpenPanel) -> None:
    import slicer

    sequence = add_sequence()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    folders = [hierarchy.CreateFolderItem(hierarchy.GetSceneItemID(), name) for name in ("raw", "views")]
    for node, folder in zip((sequence, shown(sequence)), folders):
        hierarchy.SetItemParent(hierarchy.GetItemByDataNode(node), folder)
    panel.ui.noiseCheckBox.checked = True
    panel.run(sequence)
    results = panel.controller.results
    parent = {
        node.GetName() + node.GetClassName()[7:]: hierarchy.GetItemParent(hierarchy.GetItemByDataNode(node))
        for result in (results["denoised"], results["removed"])
        for node in (result, shown(result))
    }
    assert parent == {
        "perfusion denoisedSequenceNode": folders[0],
        "perfusion denoisedScalarVolumeNode": folders[1],
        "perfusion removed noiseSequenceNode": folders[0],
        "perfusion removed noiseScalarVolumeNode": folders[1],
    }
    assert hierarchy.GetItemParent(hierarchy.GetItemByDataNode(results["noise"])) == folders[1]


def test_a_sequence_without_a_browser_gives_sequences_that_cannot_be_compared_yet(panel: OpenPanel) -> None:
    sequence = add_sequence(browser=False)
    panel.run(sequence)
    assert panel.controller.state == "done"
    assert browser_of(panel.controller.results["denoised"]) is None
    assert not panel.ui.beforeButton.enabled
    assert panel.ui.sideBySideButton.toolTip == (
        "'perfusion' is in no sequence browser, so no frame of it is shown; add it in the module Sequences."
    )
    panel.choose(add_scan())
    assert panel.ui.beforeButton.toolTip.startswith("Nothing to compare yet")


@pytest.mark.parametrize("frames", [1, 2])
def test_a_sequence_of_few_frames_is_a_sequence_too(panel: OpenPanel, frames: int) -> None:
    panel.run(add_sequence(frames=frames))
    assert panel.controller.results["denoised"].GetNumberOfDataNodes() == frames


# ---- what is refused ----


def odd_frame(what: str) -> Any:
    """A node that does not belong among the frames of `add_sequence`."""
    import slicer

    if what == "label map":
        return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "odd")
    if what == "empty":
        return slicer.mrmlScene.AddNewNodeByClass("vtkMRMLScalarVolumeNode", "odd")
    node = add_scan(
        "odd", (12, 10, 7) if what == "size" else (12, 10, 8), "float32" if what == "voxel type" else "int16"
    )
    if what == "place":
        node.SetOrigin(1.0, 2.0, 3.0)
    return node


@pytest.mark.parametrize(
    ("what", "sentence"),
    [
        ("size", "Frame 3 of 'perfusion' has another size than the first frame. MedAE needs frames of one size,"),
        ("voxel type", "Frame 3 of 'perfusion' has another voxel type than the first frame. MedAE needs"),
        ("place", "Frame 3 of 'perfusion' lies elsewhere than the first frame. MedAE needs frames of one size"),
        ("empty", "Frame 3 of 'perfusion' holds no voxels."),
        ("label map", "Frame 3 of 'perfusion' is a label map, not a scan;"),
    ],
)
def test_frames_that_do_not_belong_together_are_refused(panel: OpenPanel, what: str, sentence: str) -> None:
    import slicer

    sequence = add_sequence(browser=False)
    odd = odd_frame(what)
    sequence.RemoveDataNodeAtValue("3.0")
    sequence.SetDataNodeAtValue(odd, "3.0")
    slicer.mrmlScene.RemoveNode(odd)
    choose(panel, sequence)
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip.startswith(sentence)
    assert panel.ui.inputLabel.text == panel.ui.applyButton.toolTip
    with pytest.raises(BadInput, match=re.escape(sentence.partition(". ")[0])):
        panel.widget.logic.denoise(sequence)


def test_a_sequence_without_frames_is_refused_and_looked_at_again_when_frames_come(panel: OpenPanel) -> None:
    sequence = add_sequence(frames=0, browser=False)
    choose(panel, sequence)
    assert panel.ui.applyButton.toolTip.startswith("'perfusion' is a sequence without frames.")
    sequence.SetDataNodeAtValue(add_scan(), "0")
    panel.spin(lambda: panel.ui.applyButton.enabled, 3)


def test_an_existing_volume_cannot_receive_frames_but_the_noise_map(panel: OpenPanel) -> None:
    chosen = add_scan("mine", size=(2, 2, 2))
    choose(panel, add_sequence())
    panel.parameters.denoisedVolume = chosen
    assert not panel.ui.applyButton.enabled
    assert panel.ui.applyButton.toolTip == (
        "The results of a sequence are new sequences; an existing volume cannot receive them."
        " Choose 'Create new volume'."
    )
    with pytest.raises(BadInput, match="an existing volume cannot receive them"):
        panel.widget.logic.denoise(panel.parameters.inputVolume, removedNode=chosen)
    panel.parameters.denoisedVolume, panel.parameters.noiseVolume = None, shown(panel.parameters.inputVolume)
    panel.parameters.makeNoise = True
    assert panel.ui.applyButton.toolTip.startswith("The output is the input itself")
    panel.parameters.noiseVolume = chosen
    panel.run()
    assert panel.controller.results["noise"] is chosen
    assert chosen.GetImageData().GetDimensions() == (12, 10, 8)


# ---- compare ----


def test_before_side_by_side_and_strength_work_on_the_present_frame(panel: OpenPanel) -> None:
    import slicer

    sequence = add_sequence()
    show(shown(sequence))
    panel.run(sequence)
    assert set(backgrounds().values()) == {"perfusion denoised"}
    panel.ui.beforeButton.click()
    assert set(backgrounds().values()) == {"perfusion"}
    panel.ui.beforeButton.click()
    panel.ui.strengthSlider.value = 0.4
    assert set(layers().values()) == {("perfusion", "perfusion denoised", 0.4)}
    panel.ui.strengthSlider.value = 1.0
    panel.ui.sideBySideButton.click()
    manager = slicer.app.layoutManager()
    composites = [manager.sliceWidget(name).mrmlSliceCompositeNode() for name in manager.sliceViewNames()]
    background = {slicer.mrmlScene.GetNodeByID(found.GetBackgroundVolumeID()).GetName() for found in composites}
    assert background == {"perfusion", "perfusion denoised", "perfusion removed noise"}
    panel.ui.sideBySideButton.click()


def test_the_probe_follows_the_frames(panel: OpenPanel) -> None:
    import SlicerHost

    sequence = add_sequence()
    panel.run(sequence)
    SlicerHost.move_cursor(tuple((oblique_affine() @ (5, 7, 3, 1))[:3]))
    for number in (0, 2):
        browser_of(sequence).SetSelectedItemNumber(number)
        value = int(voxels(sequence)[number, 3, 7, 5])
        assert readout(panel) == [str(value), str(value - (value > 0)), str(int(value > 0))]


def test_a_sequence_has_no_preview(panel: OpenPanel, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("MedAEPanel.preview.SMALLEST", 0)
    sequence = add_sequence()
    show(shown(sequence))
    choose(panel, sequence)
    panel.ui.applyButton.click()
    assert not panel.controller.preview.pending
    panel.spin(lambda: not panel.controller.busy)
    assert panel.controller.results["denoised"].GetNumberOfDataNodes() == 4


# ---- scripts and saved scenes ----


def test_the_logic_returns_the_sequence_of_results(panel: OpenPanel) -> None:
    sequence = add_sequence("rest", frames=3, dtype="uint16")
    result = panel.widget.logic.denoise(sequence, removed=True)
    assert (result.GetName(), result.GetNumberOfDataNodes()) == ("rest denoised", 3)
    assert voxels(result).dtype == np.uint16
    assert panel.widget.logic.firstScan() is shown(sequence)


def test_what_shows_a_result_is_no_scan(panel: OpenPanel) -> None:
    import slicer

    sequence = add_sequence()
    panel.widget.logic.denoise(sequence)
    source = shown(sequence)
    slicer.mrmlScene.RemoveNode(sequence)  # the browser forgets both sequences, and leaves the volumes behind
    slicer.mrmlScene.RemoveNode(source)
    assert panel.widget.logic.firstScan() is None


def test_sequences_come_back_from_a_saved_scene(panel: OpenPanel, tmp_path: Path) -> None:
    import slicer

    from MedAELib import nodes
    from MedAEPanel import sequences

    sequence = add_sequence()
    panel.run(sequence)
    before = {name: voxels(node) for name, node in panel.controller.results.items()}
    told, index = nodes.provenance(panel.controller.results["denoised"]), sequences.indexOf(sequence)
    path = tmp_path / "scene.mrb"
    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear()
    assert not panel.ui.beforeButton.enabled
    slicer.util.loadScene(str(path))
    sequence = panel.parameters.inputVolume
    assert (sequence.GetName(), sequence.GetClassName()) == ("perfusion", "vtkMRMLSequenceNode")
    found = nodes.results_of(sequence)
    assert set(found) == set(before)
    for name, node in found.items():
        np.testing.assert_array_equal(voxels(node), before[name])
        assert sequences.indexOf(node)["values"] == index["values"]
        assert (node.GetIndexName(), node.GetIndexUnit()) == ("time", "s")
        assert browser_of(node) is browser_of(sequence)
        np.testing.assert_allclose(nodes.affine_of(node.GetNthDataNode(2)), oblique_affine(), atol=1e-5)
    assert nodes.provenance(found["denoised"]) == told
    assert shown(found["removed"]).GetDisplayNode().GetColorNode().GetName() == nodes.COLORS
    browser_of(sequence).SetSelectedItemNumber(2)
    np.testing.assert_array_equal(slicer.util.arrayFromVolume(shown(found["denoised"])), before["denoised"][2])
    show(shown(sequence))
    assert panel.ui.beforeButton.enabled
    panel.ui.beforeButton.click()
    assert set(backgrounds().values()) == {"perfusion"}
