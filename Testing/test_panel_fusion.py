"""Explain and Features in the panel with a model that fuses: which modality the input is, the others, what is made."""

from __future__ import annotations

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_scan, write_model
from test_panel_analysing import point_at
from test_panel_translate import FUSION, KINDS, MR, rows

from MedAELib import nodes
from MedAELib.bundle import Spec

NAMES = ("T1", "T2", "FLAIR")
SPEC = Spec("fusion", {"modalities": 3, "channels": [4], "strides": [2]}, 3, "reconstruct", "MR", MR, modalities=NAMES)
MADE = ("typical", "residual_1_7mm", "residual_4mm", "baseline_residual_1_7mm", "baseline_residual_4mm")


@pytest.fixture
def scan(panel: OpenPanel, models):
    """A model that fuses three modalities is chosen to explain a T2."""
    write_model(models / "three", spec=SPEC)
    node = add_scan(name="patient1 T2")
    panel.choose(node)
    panel.parameters.task, panel.parameters.model = "explain", "three"
    return node


def test_the_other_modalities_can_be_chosen_where_the_model_fuses(panel: OpenPanel, scan, models) -> None:
    ui = panel.ui
    assert not ui.translateFrame.isHidden() and ui.translateTargetComboBox.isHidden()
    assert ui.translateSourceComboBox.currentText == "T2" and list(rows(panel)) == ["T1", "FLAIR"]
    ui.translateSourceComboBox.setCurrentIndex(2)
    assert list(rows(panel)) == ["T1", "T2"]
    panel.parameters.model = ""
    assert ui.translateFrame.isHidden() and panel.widget.panel._request().inputs is None
    write_model(models / "maker", spec=Spec("ensemble", FUSION, 2, "translate", "MR", MR, KINDS))
    panel.parameters.model = "maker"
    assert ui.translateFrame.isHidden(), "a model that makes another kind of scan is not explained"
    panel.parameters.task = "translate"
    assert not ui.translateFrame.isHidden() and not ui.translateTargetComboBox.isHidden()


def test_each_modality_has_results_of_its_own_beside_those_of_the_input(panel: OpenPanel, scan) -> None:
    import slicer

    first = add_scan(name="patient1 T1")
    rows(panel)["T1"].setCurrentNode(first)
    panel.run()
    assert panel.controller.state == "done", panel.ui.statusLabel.text
    asked = panel.controller.report["asked"]
    assert asked["modality"] == "T2" and asked["others"] == {"with_0": "T1"}
    made = panel.controller.results
    assert set(made) == {*MADE, *(f"{name}_of_t1" for name in MADE)}
    assert made["typical_of_t1"].GetName() == "patient1 T2 nearest typical of t1"
    shown = {name: made[name].GetDisplayNode() for name in made}
    assert shown["typical"].GetWindow() == scan.GetDisplayNode().GetWindow()
    low, high = made["typical_of_t1"].GetImageData().GetScalarRange()
    assert shown["typical_of_t1"].GetWindow() == pytest.approx(high - low), "not that of another scan"
    assert shown["residual_4mm_of_t1"].GetLevel() == 0
    voxels = slicer.util.arrayFromVolume(scan)
    np.testing.assert_allclose(slicer.util.arrayFromVolume(made["typical_of_t1"]), 11.0 * voxels)
    rows(panel)["FLAIR"].setCurrentNode(first)
    assert "chosen as two kinds" in panel.ui.problemLabel.text and not panel.ui.applyButton.enabled


def test_the_code_is_moved_with_the_other_modalities_and_scripts_name_them(panel: OpenPanel, scan) -> None:
    import slicer

    from MedAEPanel import scripting

    first = add_scan(name="patient1 T1")
    rows(panel)["T1"].setCurrentNode(first)
    layout = slicer.app.layoutManager()
    views = [layout.sliceWidget(name).sliceLogic().GetSliceCompositeNode() for name in ("Red", "Yellow")]
    for view, node in zip(views, (scan, first), strict=True):
        view.SetBackgroundVolumeID(node.GetID())
    point_at(scan, (2, 3, 1))
    panel.ui.traverseButton.click()
    panel.spin(lambda: not panel.controller.busy)
    asked = panel.controller.report["asked"]
    assert asked["others"] == {"with_0": "T1"} and asked["modality"] == "T2"
    assert set(panel.controller.results) == {f"traversal_{n}{end}" for n in (1, 2) for end in ("", "_of_t1")}
    panel.ui.directionComboBox.setCurrentIndex(1)
    panel.ui.traversalSlider.value = -1
    shown = {view.GetName(): slicer.mrmlScene.GetNodeByID(view.GetForegroundVolumeID()) for view in views}
    values = {name: float(slicer.util.arrayFromVolume(node).max()) for name, node in shown.items()}
    assert values == {views[0].GetName(): -2, views[1].GetName(): -20}
    request = scripting.taskRequest("explain", scan, None, {}, {"modality": "T2", "others": {"T1": first}})
    assert request.inputs == {"input": scan, "with_0": first}
    assert request.parameters == {"modality": "T2", "others": {"with_0": "T1"}}


def test_features_are_of_all_modalities_and_of_segments_too(panel: OpenPanel, scan) -> None:
    import slicer

    from MedAEPanel import scripting

    first = add_scan(name="patient1 T1")
    panel.parameters.task = "features"
    assert not panel.ui.translateFrame.isHidden() and panel.ui.translateTargetComboBox.isHidden()
    rows(panel)["T1"].setCurrentNode(first)
    segmentation = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLSegmentationNode")
    panel.parameters.featuresPer, panel.parameters.segments = "segment", segmentation
    request = panel.widget.panel._request()
    assert request.inputs == {"input": scan, "segments": segmentation, "with_0": first}
    assert request.parameters["modality"] == "T2" and request.parameters["others"] == {"with_0": "T1"}
    assert list(request.outputs) == (["code"] if panel.parameters.makeCode else [])
    asked = {"modality": "T2", "others": {"T1": first}}
    request = scripting.taskRequest("features", scan, segmentation, {}, asked)
    assert request.inputs == {"input": scan, "with_0": first, "segments": segmentation}


@pytest.mark.slow
def test_the_real_worker_explains_two_scans_of_the_scene(slicer_host, tmp_path) -> None:
    """The second one has other voxels and is resampled; a script gets all outputs, moved codes too."""
    from demo.session import Session

    from MedAELib.model import Model
    from MedAELib.volume import Volume
    from MedAEPanel import scripting

    Model.create(SPEC).save(
        tmp_path / "three", name="three", description="Random.", card="# x", licence="x", figures={}, limits=[],
        training_data=[],
    )  # fmt: skip
    random = np.random.default_rng(0)
    for name, size, spacing in (("T1", (40, 40, 12), 1.0), ("T2", (20, 20, 12), 2.0)):
        array = np.abs(random.normal(300, 50, (1, *size))).astype(np.float32)
        Volume(array, np.diag([spacing, spacing, 2.0, 1.0])).save(tmp_path / f"{name}.nrrd")
    with Session(tmp_path / "runs") as session:
        scan, second = (session.load(tmp_path / f"{name}.nrrd", f"patient {name}", (0, 600)) for name in ("T1", "T2"))
        wanted = session.panel.parameters
        wanted.inputVolume, wanted.task, wanted.model = scan, "explain", str(tmp_path / "three")
        wanted.makeAttribution = True
        session.panel.translating._rows[0][1].setCurrentNode(second)
        run = session.apply(scan, str(tmp_path / "three"))
        assert run.report["modalities"] == ["T1", "T2"] and run.report["missing"] == ["FLAIR"]
        assert any("patient T2 (T2) was resampled" in note for note in run.report["warnings"])
        assert {"attribution", "attribution_of_t2", "residual_4mm_of_t2"} <= set(run.nodes)
        np.testing.assert_allclose(nodes.affine_of(run.nodes["typical_of_t2"]), nodes.affine_of(scan), atol=1e-6)
        asked = {"model": str(tmp_path / "three"), "modality": "T1", "others": {"T2": second}, "directions": 1}
        made = scripting.run(session.controller, scripting.taskRequest("explain", scan, None, {}, asked), True)
        assert made["traversal_1_of_t2"].GetNumberOfDataNodes() == 9 and "input_of_t2" in made
        del asked["directions"]
        scripting.run(session.controller, scripting.taskRequest("features", scan, None, {}, asked), True)
        told = session.controller.report["warnings"]
        assert any("patient T2 (T2) was resampled" in note for note in told)
