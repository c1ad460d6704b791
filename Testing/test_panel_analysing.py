"""Translate, features and explain in the panel: what is shown and asked for, and what stands in the scene then."""

from __future__ import annotations

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_scan

from MedAELib import nodes
from MedAELib.volume import Volume


@pytest.fixture
def scan(panel: OpenPanel):
    node = add_scan(name="head")
    panel.choose(node)
    return node


@pytest.mark.parametrize("task", ["translate", "features", "explain"])
def test_only_the_widgets_of_the_task_are_shown(panel: OpenPanel, scan, task: str) -> None:
    from MedAEPanel import analysing

    panel.parameters.task = task
    ui = panel.widget.ui
    shown = {name for names in analysing.WIDGETS.values() for name in names if not getattr(ui, name).isHidden()}
    assert shown == set(analysing.WIDGETS[task])
    assert not ui.Analyse.isHidden()
    panel.parameters.task = "denoise"
    assert ui.Analyse.isHidden()


def test_a_translation_needs_a_model_and_the_others_choose_one_themselves(panel: OpenPanel, scan) -> None:
    panel.parameters.task = "translate"
    assert "no model" in panel.widget.panel.problem().lower()
    for task in ("features", "explain"):
        panel.parameters.task = task
        assert panel.widget.panel.problem() == ""


def test_the_crosshair_counts_only_within_the_volume(panel: OpenPanel, scan) -> None:
    import slicer

    from MedAEPanel import analysing

    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is None:
        crosshair = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCrosshairNode")
    inside = (nodes.affine_of(scan) @ [2, 3, 1, 1])[:3]
    crosshair.SetCrosshairRAS(*map(float, inside))
    np.testing.assert_allclose(analysing.crosshairIn(scan), inside, atol=1e-6)
    crosshair.SetCrosshairRAS(1e4, 0.0, 0.0)
    assert analysing.crosshairIn(scan) == []


def test_the_crosshair_is_found_in_a_scan_that_a_transform_moves(panel: OpenPanel, scan) -> None:
    """Registered scans, and those of a tilted gantry, lie under one; the run gets the millimetres of the volume."""
    import slicer

    from MedAEPanel import analysing

    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    moved = np.array([[0, -1, 0, 40], [1, 0, 0, -7], [0, 0, 1, 300], [0, 0, 0, 1]], float)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
    scan.SetAndObserveTransformNodeID(transform.GetID())
    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    if crosshair is None:
        crosshair = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCrosshairNode")
    local = nodes.affine_of(scan) @ [2, 3, 1, 1]
    crosshair.SetCrosshairRAS(*map(float, (moved @ local)[:3]))
    np.testing.assert_allclose(analysing.crosshairIn(scan), local[:3], atol=1e-6)
    crosshair.SetCrosshairRAS(*map(float, local[:3]))
    assert analysing.crosshairIn(scan) == []


def test_the_file_of_a_case_is_a_whole_path(panel: OpenPanel, scan, tmp_path) -> None:
    """In a scene file it stands relative to the scene, where nobody would find it later."""
    import slicer

    from MedAEPanel import analysing

    assert analysing.fileOf(scan) == ""
    slicer.util.saveNode(scan, str(tmp_path / "head.nrrd"))
    slicer.mrmlScene.SetRootDirectory(str(tmp_path))
    scan.GetStorageNode().SetFileName("head.nrrd")
    assert analysing.fileOf(scan) == str(tmp_path / "head.nrrd")


def test_each_feature_is_a_column_of_the_table() -> None:
    from MedAEPanel import analysing

    row = {"item": 0, "r": 1.0, "a": 2.0, "s": 3.0, "values": [4.0, 5.0]}
    report = {"task": "features", "names": ["mean", "spread"], "features": [row]}
    assert analysing.rows(report, "features") == [
        {"item": "0", "r": 1.0, "a": 2.0, "s": 3.0, "mean": 4.0, "spread": 5.0}
    ]
    assert analysing.rows({}, "similar") == []


def segmentation(scan, names=("liver", "liver", "spleen")):
    """A segmentation of cubes on the voxels of a scan."""
    import slicer

    labels = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLabelMapVolumeNode", "labels")
    voxels = np.zeros(slicer.util.arrayFromVolume(scan).shape, np.int16)
    for number in range(len(names)):
        voxels[2:6, 3:9, 2 + 6 * number : 6 + 6 * number] = number + 1
    slicer.util.updateVolumeFromArray(labels, voxels)
    labels.SetIJKToRASMatrix(slicer.util.vtkMatrixFromArray(nodes.affine_of(scan)))
    node = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "organs")
    slicer.vtkSlicerSegmentationsModuleLogic.ImportLabelmapToSegmentationNode(labels, node)
    for number, name in enumerate(names):
        node.GetSegmentation().GetNthSegment(number).SetName(name)
    slicer.mrmlScene.RemoveNode(labels)
    return node, voxels


def test_the_features_of_segments_are_asked_for_with_labels_and_names(panel: OpenPanel, scan) -> None:
    import slicer

    ui = panel.ui
    panel.parameters.task = "features"
    assert ui.segmentsSelector.isHidden()
    panel.parameters.featuresPer = "segment"
    assert not ui.segmentsSelector.isHidden() and not ui.applyButton.enabled
    assert "Choose the segmentation" in ui.problemLabel.text
    organs, voxels = segmentation(scan)
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    turn = np.array([[0, -1, 0, 40], [1, 0, 0, -7], [0, 0, 1, 300], [0, 0, 0, 1]], float)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(turn))
    for node in (scan, organs):
        node.SetAndObserveTransformNodeID(transform.GetID())
    panel.parameters.segments = organs
    request = panel.widget.panel._request()
    assert request.parameters["segment_names"] == {"1": "liver (1)", "2": "liver (2)", "3": "spleen"}

    from MedAEPanel.source import Source

    (labels,) = Source(request.nodes()["segments"], request.inputNode).frames
    np.testing.assert_array_equal(labels.array[0].T, voxels)
    np.testing.assert_allclose(labels.affine, nodes.affine_of(scan), atol=1e-9)
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode")
    panel.run()
    assert panel.controller.state == "done", ui.statusLabel.text
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLLabelMapVolumeNode") == before


def test_a_segmentation_that_lies_elsewhere_or_is_empty_is_refused_in_words(panel: OpenPanel, scan) -> None:
    import slicer

    from MedAELib.errors import BadInput
    from MedAEPanel import segments

    organs, _voxels = segmentation(scan)
    far = add_scan(name="far")
    far.SetOrigin(5000, 0, 0)
    with pytest.raises(BadInput, match="No segment of 'organs' lies in 'far'"):
        segments.labelsOf(organs, far)
    with pytest.raises(BadInput, match="'none' holds no segment"):
        segments.labelsOf(slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode", "none"), scan)


def test_the_code_is_a_sequence_with_a_volume_for_each_channel(panel: OpenPanel, scan) -> None:
    import slicer

    from MedAEPanel import sequences

    panel.parameters.task = "features"
    panel.run()
    assert set(panel.controller.results) == {"features"}
    panel.parameters.makeCode = True
    panel.run()
    code = panel.controller.results["code"]
    assert (code.GetName(), code.GetNumberOfDataNodes()) == ("head code", 3)
    assert sequences.indexOf(code)["name"] == "channel" and sequences.indexOf(code)["values"] == ["1", "2", "3"]
    assert nodes.input_of(code) is scan and nodes.provenance(code)["output"] == "code"
    shown = sequences.shown(code)
    assert (slicer.util.arrayFromVolume(shown) == 1).all()
    assert shown.GetDisplayNode().GetWindow() != scan.GetDisplayNode().GetWindow()
    first = nodes.affine_of(scan) @ [0.5, 0.5, 0.5, 1]
    np.testing.assert_allclose(nodes.affine_of(shown) @ [0, 0, 0, 1], first, atol=1e-6)
    panel.parameters.task = "compress"  # whose result is another kind of latent
    assert panel.parameters.latent is None


def similar(name: str, path: str = "", **more: str) -> dict[str, str]:
    """A row of the table of similar cases, as text."""
    row = {"case": "head", "item": "volume", "rank": "1", "similar_case": name, "similar_item": "volume"}
    return {**row, "distance": "0.5", "r": "-20", "a": "15", "s": "105", "similar_file": path, **more}


def test_the_features_are_added_to_the_known_cases_only_where_that_is_asked_for(panel: OpenPanel, scan) -> None:
    panel.parameters.task = "features"
    ui = panel.ui
    assert not ui.rememberCheckBox.enabled
    panel.parameters.rememberCase = True
    request = panel.widget.panel._request()
    assert request.parameters["index"] == "" and request.parameters["remember"] is False
    ui.knownCasesEdit.currentPath = "/tmp/known.csv"
    assert ui.rememberCheckBox.enabled and panel.widget.panel._request().parameters["remember"] is True


def test_a_click_opens_a_similar_case_from_the_scene_or_from_its_file(panel: OpenPanel, scan, tmp_path) -> None:
    import qt
    import slicer

    shown, ui = panel.widget.panel.similar, panel.ui
    other = add_scan(name="other <1>")
    slicer.util.saveNode(other, str(tmp_path / "kept.nrrd"))
    path = str(tmp_path / "kept.nrrd")
    shown.setRows([similar("other <1>"), similar("kept", path), similar("gone", str(tmp_path / "gone.nrrd"))])
    page = ui.similarBrowser.toPlainText()
    assert "other <1>" in page and "kept" in page and "0.5" in page
    view = slicer.mrmlScene.GetNodeByID("vtkMRMLSliceNodeRed")
    composite = slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()

    ui.similarBrowser.anchorClicked.emit(qt.QUrl("#0"))
    assert composite.GetBackgroundVolumeID() == other.GetID()
    middle = [view.GetSliceToRAS().GetElement(row, 3) for row in range(3)]
    np.testing.assert_allclose(middle, [-20, 15, 105], atol=1)

    ui.similarBrowser.anchorClicked.emit(qt.QUrl("#1"))
    opened = slicer.util.getNode("kept")
    assert composite.GetBackgroundVolumeID() == opened.GetID()
    ui.similarBrowser.anchorClicked.emit(qt.QUrl("#2"))
    assert "gone is not in the scene" in ui.statusLabel.text
    assert composite.GetBackgroundVolumeID() == opened.GetID()
    shown.setRows([similar("a", item="0"), similar("b", item="1")])
    assert "here" in ui.similarBrowser.toPlainText()


def point_at(scan, voxel) -> None:
    """Put the crosshair into a voxel of the scan."""
    import slicer

    crosshair = slicer.mrmlScene.GetFirstNodeByClass("vtkMRMLCrosshairNode")
    crosshair = crosshair or slicer.mrmlScene.AddNewNodeByClass("vtkMRMLCrosshairNode")
    crosshair.SetCrosshairRAS(*map(float, (nodes.affine_of(scan) @ [*voxel, 1])[:3]))


def traverse(panel: OpenPanel, scan, voxel=(2, 3, 1)) -> None:
    """Put the crosshair into a voxel of the scan and press the button."""
    point_at(scan, voxel)
    panel.parameters.task = "explain"
    panel.ui.traverseButton.click()
    panel.spin(lambda: not panel.controller.busy)


def test_a_slider_moves_the_code_at_the_crosshair_over_the_scan(panel: OpenPanel, scan) -> None:
    import slicer

    ui, composite = panel.ui, slicer.app.layoutManager().sliceWidget("Red").sliceLogic().GetSliceCompositeNode()
    composite.SetBackgroundVolumeID(scan.GetID())
    panel.parameters.channel = 4
    traverse(panel, scan)
    assert panel.controller.state == "done", ui.statusLabel.text
    asked = panel.controller.report["asked"]
    assert asked["parts"] == ["traversal"] and asked["channel"] == 4
    np.testing.assert_allclose(asked["point"], (nodes.affine_of(scan) @ [2, 3, 1, 1])[:3], atol=1e-5)
    titles = [ui.directionComboBox.itemText(number) for number in range(ui.directionComboBox.count)]
    assert titles == ["Channel 4 (50 % of the variance)", "Channel 4 (25 % of the variance)"]
    assert "at most 7, 14" in ui.traversalLabel.text

    def shown() -> float:
        node = slicer.mrmlScene.GetNodeByID(composite.GetForegroundVolumeID())
        return float(slicer.util.arrayFromVolume(node).max())

    assert composite.GetBackgroundVolumeID() == scan.GetID() and composite.GetForegroundOpacity() == 1
    assert shown() == 0
    ui.traversalSlider.value = 1
    assert shown() == 1
    ui.directionComboBox.setCurrentIndex(1)
    assert shown() == 2
    ui.traversalSlider.value = -0.8
    assert shown() == -2


def test_another_traversal_takes_the_place_of_the_one_before(panel: OpenPanel, scan) -> None:
    import slicer

    traverse(panel, scan)
    counts = {kind: slicer.mrmlScene.GetNumberOfNodesByClass(f"vtkMRML{kind}Node") for kind in (
        "Sequence", "SequenceBrowser", "ScalarVolume", "VolumeDisplay",
    )}  # fmt: skip
    assert counts["Sequence"] == 2
    traverse(panel, scan, (5, 5, 5))
    assert counts == {kind: slicer.mrmlScene.GetNumberOfNodesByClass(f"vtkMRML{kind}Node") for kind in counts}
    traverse(panel, scan, (900, 0, 0))
    assert "Put the crosshair into the scan" in panel.ui.statusLabel.text


@pytest.mark.slow
def test_the_real_worker_puts_tables_and_volumes_beside_the_scan(slicer_host, tmp_path) -> None:
    """One worker for all of them, as in Slicer."""
    import slicer
    from demo.session import Session

    head = np.random.default_rng(0).normal(0, 20, (1, 40, 40, 20)).astype(np.int16)
    Volume(head, np.diag([1.0, 1.0, 2.0, 1.0])).save(tmp_path / "head.nrrd")
    with Session(tmp_path / "runs") as session:
        scan = session.load(tmp_path / "head.nrrd", "head", (0, 400))
        session.panel.parameters.task = "features"
        rows = nodes.table_rows(session.apply(scan).nodes["features"])
        assert len(rows) == 1 and len(rows[0]) > 10
        session.panel.parameters.task = "explain"
        results = session.apply(scan).nodes
        assert {"typical", "residual_4mm", "baseline_residual_4mm"} <= set(results)
        np.testing.assert_allclose(nodes.affine_of(results["typical"]), nodes.affine_of(scan), atol=1e-6)
        point_at(scan, (20, 20, 10))
        session.panel.ui.traverseButton.click()
        session.controller.wait()
        assert session.controller.state == "done"
        results = session.controller.results
        assert [results[name].GetNumberOfDataNodes() for name in ("traversal_1", "traversal_2")] == [9, 9]
        frames = [slicer.util.arrayFromVolume(results["traversal_1"].GetNthDataNode(n)) for n in (0, 8)]
        assert frames[0].shape == (20, 40, 40) and np.abs(frames[0] - frames[1]).max() > 0
        assert "% of the variance" in session.panel.ui.directionComboBox.currentText
