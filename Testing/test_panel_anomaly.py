"""The anomaly task in the panel: overlay, threshold, segmentation, table that jumps the slices; saved scenes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_scan, add_shown_scan, write_model

from MedAELib import nodes


@pytest.fixture
def looking(panel: OpenPanel) -> OpenPanel:
    """A panel with a scan, shown in every view, and the anomaly task."""
    panel.choose(add_shown_scan("T1 head"))
    panel.parameters.task = "anomaly"
    panel.parameters.model = "none"
    return panel


def _composites() -> list[Any]:
    """What the user's own slice views show; views of a comparison, once opened, stay in the scene."""
    import slicer

    nodes_of_all = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    return [node for node in nodes_of_all if not node.GetLayoutName().startswith("MedAE")]


def _foregrounds() -> set[Any]:
    return {node.GetForegroundVolumeID() for node in _composites()}


def _backgrounds() -> set[Any]:
    return {node.GetBackgroundVolumeID() for node in _composites()}


def test_only_the_widgets_of_the_task_are_shown(looking: OpenPanel) -> None:
    ui = looking.ui
    assert not ui.Anomaly.isHidden()
    assert ui.outputsCollapsibleButton.isHidden() and ui.trustCollapsibleButton.isHidden()
    looking.parameters.task = "denoise"
    assert ui.Anomaly.isHidden()
    assert not ui.outputsCollapsibleButton.isHidden()


def test_a_section_that_opens_shows_the_widgets_of_the_task_alone(looking: OpenPanel) -> None:
    ui = looking.ui
    looking.parameters.task = "denoise"
    ui.advancedCollapsibleButton.collapsed = True
    looking.parameters.task = "anomaly"
    ui.advancedCollapsibleButton.collapsed = False
    assert ui.adaptCheckBox.isHidden() and ui.passesComboBox.isHidden() and not ui.calibrationComboBox.isHidden()
    looking.parameters.task = "denoise"
    assert not ui.adaptCheckBox.isHidden() and not ui.passesComboBox.isHidden() and ui.calibrationComboBox.isHidden()


def test_the_panel_says_beforehand_when_brightness_alone_will_be_shown(looking: OpenPanel, models) -> None:
    ui = looking.ui
    assert ui.modelLabel.text == "The map shows brightness alone."
    looking.parameters.model = ""
    assert ui.modelLabel.text.startswith("No model was made for this kind of scan: the map shows brightness alone.")
    write_model(models / "t1_anomaly", "CT", task="anomaly")  # the scan looks like CT
    looking.widget.panel.update()
    assert "It is used where part of the body and tissue are as in its training" in ui.modelLabel.text
    looking.parameters.model = "t1_anomaly"
    assert "It is used where" not in ui.modelLabel.text
    looking.parameters.task, looking.parameters.model = "features", ""
    assert "encoder of ct-denoise" in ui.modelLabel.text


def test_a_run_makes_map_segmentation_and_table_and_shows_the_map(looking: OpenPanel) -> None:
    scan = looking.parameters.inputVolume
    looking.run()
    results = looking.controller.results
    assert set(results) == {"anomaly", "regions", "found"}
    assert results["anomaly"].GetName() == "T1 head unlike normal"
    segmentation = results["regions"]
    assert segmentation.GetClassName() == "vtkMRMLSegmentationNode"
    segments = segmentation.GetSegmentation()
    assert segments.GetNumberOfSegments() == 1
    assert segments.GetNthSegment(0).GetName() == "Region 1 (right, brighter)"
    assert all(nodes.input_of(node) is scan for node in results.values())
    assert nodes.provenance(results["anomaly"])["thresholdZ"] == "2.326"
    assert _foregrounds() == {results["anomaly"].GetID()}
    assert looking.ui.overlayCheckBox.checked
    display = results["anomaly"].GetDisplayNode()
    assert display.GetApplyThreshold() and display.GetLowerThreshold() == pytest.approx(2.326)
    assert "0.50 ml" in looking.ui.regionsBrowser.toPlainText()
    assert results["regions"].GetName() == "T1 head regions"
    told = looking.ui.statusLabel.text
    assert "regions above the threshold: 1. As a whole (score 3.00)" in told
    assert told.endswith("4 of 5 normal scans. Most of the scan is unlike.")


def test_the_typical_scan_can_be_compared(looking: OpenPanel) -> None:
    looking.behaviour = {"behaviour": "quick", "model": "any"}
    looking.run()
    results = looking.controller.results
    assert {"typical", "residual"} <= set(results)
    assert looking.ui.beforeButton.enabled
    assert looking.ui.probeOutputHeading.text == "Typical"
    scan, typical = looking.parameters.inputVolume.GetID(), results["typical"].GetID()
    assert _backgrounds() == {scan}  # the map lies over the scan
    looking.ui.beforeButton.checked = False
    assert _backgrounds() == {typical}
    assert _foregrounds() == {results["anomaly"].GetID()}
    assert results["residual"].GetDisplayNode().GetColorNode().GetName() == nodes.COLORS


def test_the_threshold_acts_at_once_and_says_what_it_means(looking: OpenPanel) -> None:
    looking.run()
    result = looking.controller.results["anomaly"]
    before = nodes.read(result).array.copy()
    looking.ui.thresholdSlider.value = 0.5
    assert result.GetDisplayNode().GetLowerThreshold() == pytest.approx(0.5)
    assert "100 % of this scan" in looking.ui.thresholdLabel.text
    looking.ui.thresholdSlider.value = 3.0
    assert "0.13 % of normal tissue" in looking.ui.thresholdLabel.text
    np.testing.assert_array_equal(nodes.read(result).array, before)


def test_the_map_can_be_taken_away_and_another_overlay_is_left_alone(looking: OpenPanel) -> None:
    import slicer

    looking.run()
    looking.ui.overlayCheckBox.checked = False
    assert _foregrounds() == {None}
    other = add_scan(name="mine")
    composite = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")[0]
    composite.SetForegroundVolumeID(other.GetID())
    looking.ui.overlayCheckBox.checked = True
    assert composite.GetForegroundVolumeID() == other.GetID()


def test_the_other_maps_are_one_click_away_with_the_same_threshold(looking: OpenPanel) -> None:
    box = looking.ui.mapComboBox
    looking.run()
    assert not box.enabled and "Also make the other maps" in box.toolTip
    looking.ui.othersCheckBox.checked = True
    assert looking.parameters.makeOthers
    looking.run()
    results = looking.controller.results
    assert {"anomaly", "map_bright", "map_contrast", "map_residual"} <= set(results)
    assert box.enabled and _foregrounds() == {results["anomaly"].GetID()}
    looking.ui.thresholdSlider.value = 1.5
    box.setCurrentIndex(box.findData("map_bright"))
    bright = results["map_bright"]
    assert _foregrounds() == {bright.GetID()}
    assert bright.GetDisplayNode().GetLowerThreshold() == pytest.approx(1.5)
    assert "100 % of this scan" in looking.ui.thresholdLabel.text  # this map is 2 everywhere
    looking.ui.thresholdSlider.value = 3.0
    assert bright.GetDisplayNode().GetLowerThreshold() == pytest.approx(3.0)
    assert "0 % of this scan" in looking.ui.thresholdLabel.text
    looking.ui.overlayCheckBox.checked = False
    assert _foregrounds() == {None}
    looking.run()
    assert _foregrounds() == {looking.controller.results["anomaly"].GetID()} and box.currentIndex == 0
    looking.ui.othersCheckBox.checked = False
    looking.run()  # the maps of the run before belong to another one
    assert not box.enabled and box.count == 1


def test_the_steps_of_the_preparation_can_be_looked_at(looking: OpenPanel) -> None:
    looking.run()
    assert "step_mask" not in looking.controller.results
    looking.ui.stepsCheckBox.checked = True
    looking.run()
    mask, seen = (looking.controller.results[name] for name in ("step_mask", "step_seen"))
    assert (mask.GetName(), seen.GetName()) == ("T1 head mask", "T1 head as the model sees it")
    assert nodes.read(mask).array.max() == 1
    assert mask.GetDisplayNode().GetWindow() < 10  # not that of the scan
    made = looking.widget.logic.findUnlike(looking.parameters.inputVolume, model="none", others=True, steps=True)
    assert made.GetName().startswith("T1 head unlike normal")
    assert {"map_bright", "step_seen"} <= set(looking.controller.results)


def test_the_table_tells_the_sharpest_map_and_tables_of_earlier_versions_do_not(looking: OpenPanel) -> None:
    from MedAEPanel import overlay

    looking.run()
    rows = nodes.table_rows(looking.controller.results["found"])
    assert rows[0]["sharpest_map"] == "contrast"
    told = looking.ui.regionsBrowser.toPlainText()
    assert "sharpest in" in told and "contrast" in told
    earlier = {name: value for name, value in rows[0].items() if not name.startswith("sharpest")}
    assert "0.50 ml" in overlay.html([earlier]) and "sharpest" not in overlay.html([earlier])


def test_a_region_without_a_side_is_named_and_listed_without_one(looking: OpenPanel) -> None:
    from MedAEPanel import overlay

    looking.run()
    row = {**nodes.table_rows(looking.controller.results["found"])[0], "side": "", "rate": ""}
    assert overlay.segmentName(row) == "Region 1 (brighter)"
    assert overlay.segmentName({**row, "side": "left"}) == "Region 1 (left, brighter)"
    assert "<td></td><td>brighter</td>" in overlay.html([row])


def test_volumes_that_are_too_large_are_said_to_be_so(looking: OpenPanel) -> None:
    from MedAEPanel import overlay

    looking.run()
    assert overlay.TOO_LARGE in looking.ui.regionsBrowser.toPlainText()
    row = nodes.table_rows(looking.controller.results["found"])[0]
    assert overlay.TOO_LARGE not in overlay.html([{**row, "brightness": "darker"}])


def test_a_legend_tells_the_threshold_and_its_rate_where_the_map_is_shown(looking: OpenPanel) -> None:
    import slicer

    looking.behaviour = {"behaviour": "quick", "model": "any"}
    looking.run()
    node = looking.controller.results["anomaly"]
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(node)
    assert legend.GetTitleText() == "z > 2.33\n1 % of normal"
    looking.ui.thresholdSlider.value = 3.0
    assert legend.GetTitleText() == "z > 3.00\n0.13 % of normal"
    assert slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode") == [legend]
    assert node.GetDisplayNode().GetClassName() == "vtkMRMLScalarVolumeDisplayNode"


def test_the_legend_is_drawn_with_the_map_and_goes_with_it(looking: OpenPanel) -> None:
    import slicer

    from SlicerHost.pictures import render_slice

    render_slice(fit=True)
    looking.run()
    legend = slicer.modules.colors.logic().GetColorLegendDisplayNode(looking.controller.results["anomaly"])
    with_legend = render_slice()
    legend.SetVisibility(0)
    without = render_slice()
    assert (with_legend != without)[:, with_legend.shape[1] // 2 :].sum() > 1000
    legend.SetVisibility(1)
    looking.ui.overlayCheckBox.checked = False
    map_off = render_slice()
    legend.SetVisibility(0)
    np.testing.assert_array_equal(render_slice(), map_off)


def test_a_slicer_without_legends_shows_the_map_nevertheless(looking: OpenPanel, monkeypatch) -> None:
    import slicer

    monkeypatch.delattr(slicer.modules, "colors")
    looking.run()
    assert _foregrounds() == {looking.controller.results["anomaly"].GetID()}
    assert slicer.util.getNodesByClass("vtkMRMLColorLegendDisplayNode") == []


def test_a_click_on_a_row_jumps_the_slices(looking: OpenPanel) -> None:
    import qt
    import slicer

    looking.run()
    rows = nodes.table_rows(looking.controller.results["found"])
    looking.ui.regionsBrowser.anchorClicked.emit(qt.QUrl("#0"))
    view = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    middle = [view.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
    assert middle == pytest.approx([float(rows[0][name]) for name in ("right_mm", "front_mm", "head_mm")], abs=0.1)


def test_results_and_choices_come_back_with_a_saved_scene(looking: OpenPanel, tmp_path: Any) -> None:
    import slicer

    looking.parameters.falseAlarms = 0.5
    looking.run()
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    looking.widget.enter()
    assert looking.parameters.task == "anomaly" and looking.parameters.falseAlarms == 0.5
    scan = looking.parameters.inputVolume
    results = nodes.results_of(scan)
    assert {"anomaly", "regions", "found"} <= set(results)
    assert results["regions"].GetSegmentation().GetNumberOfSegments() == 1
    assert "0.50 ml" in looking.ui.regionsBrowser.toPlainText()
    assert looking.ui.thresholdSlider.enabled


def test_cancel_leaves_the_scene_as_it_was(looking: OpenPanel) -> None:
    import slicer

    looking.behaviour = {"behaviour": "hang"}
    before = slicer.mrmlScene.GetNumberOfNodes()
    looking.ui.applyButton.click()
    looking.spin(lambda: looking.controller.state == "running")
    looking.ui.cancelButton.click()
    looking.spin(lambda: looking.controller.state == "cancelled")
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    assert _foregrounds() == {None}


def test_the_table_tells_rarity_mean_and_centre_and_words_stay_whole(looking: OpenPanel) -> None:
    from PySide6.QtGui import QTextDocument

    from MedAEPanel import overlay

    looking.run()
    (row,) = nodes.table_rows(looking.controller.results["found"])
    told = looking.ui.regionsBrowser.toPlainText().split("\n")
    titles = ["volume", "peak z", "side", "brightness", "sharpest in", "p", "mean z", "centre (R, A, S mm)"]
    assert [line for line in told if line in titles] == titles
    centre = ", ".join(f"{float(row[name]):.1f}" for name in ("right_mm", "front_mm", "head_mm"))
    assert {"0.50 ml", "5.0", "right", "brighter", "contrast", "≤ 0.0005", centre} <= set(told)
    assert "0.0062" in overlay.html([{**row, "rate": 0.0062}])
    for nothing in ("", None):  # without a model
        page = overlay.html([{**row, "rate": nothing}])
        assert "≤" not in page and ">p<" not in page
    document = QTextDocument()
    document.setHtml(overlay.html([{**row, "brightness": "darker"}]))  # of which no caution is told below the table
    heights = []
    for width in (2000, 100):
        document.textWidth = width
        heights.append(document.size.height())
    assert heights[0] == heights[1]  # what is too wide is scrolled


def test_what_scores_are_relative_to_is_chosen_kept_and_told(looking: OpenPanel) -> None:
    ui, parameters, box = looking.ui, looking.parameters, looking.ui.calibrationComboBox
    ui.advancedCollapsibleButton.collapsed = False
    assert not ui.calibrationLabel.isHidden() and not box.isHidden()
    assert [box.itemText(index) for index in range(box.count)] == ["This scan (default)", "The normal scans"]
    assert not box.enabled  # without a model
    box.setCurrentIndex(1)
    looking.run()
    assert nodes.provenance(looking.controller.results["anomaly"])["calibration"] == "scan"
    assert "relative to" not in ui.thresholdLabel.text
    made = looking.widget.logic.findUnlike(parameters.inputVolume, model="any", calibration="population")
    assert nodes.provenance(made)["calibration"] == "population"
    assert "Scores are relative to the normal scans" in ui.thresholdLabel.text
    parameters.model = "any"
    assert box.enabled and parameters.calibration == "population"
    parameters.task = "denoise"
    assert box.isHidden() and ui.calibrationLabel.isHidden()


def test_apply_asks_for_what_scores_are_relative_to(looking: OpenPanel) -> None:
    from MedAEPanel import options

    looking.parameters.calibration = "population"
    assert options.parametersOf(looking.parameters, None)["calibration"] == "scan"
    looking.parameters.model = ""
    assert options.parametersOf(looking.parameters, None)["calibration"] == "population"


def test_every_word_of_a_row_jumps_the_slices(looking: OpenPanel) -> None:
    import re

    looking.run()
    page = looking.ui.regionsBrowser.toHtml().replace("\N{NO-BREAK SPACE}", " ").replace("&nbsp;", " ")
    linked = "".join(re.findall(r'<a href="#0">(.*?)</a>', page, re.DOTALL))
    assert all(word in linked for word in (">1<", "0.50 ml", "right", "brighter", "contrast"))
