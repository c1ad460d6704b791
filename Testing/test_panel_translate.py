"""Translate in the panel: from which kind to which, further scans for a model that fuses, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_scan, write_model

from MedAELib import nodes
from MedAELib.bundle import Kind, Spec, Window

MR = Window("percentile", 0.0, 99.9)
KINDS = tuple(Kind(name, "MR", MR, 0.0, 1000.0) for name in ("T1", "T2", "FLAIR"))
FUSION = {"network": "fusion", "arguments": {"modalities": 3}, "members": 3}


@pytest.fixture
def fusion(panel: OpenPanel, models):
    """A model that fuses three kinds is chosen, and a T1."""
    write_model(models / "three", spec=Spec("ensemble", FUSION, 2, "translate", "MR", MR, KINDS))
    scan = add_scan(name="patient1 T1")
    panel.choose(scan)
    panel.parameters.task, panel.parameters.model = "translate", "three"
    return scan


def rows(panel: OpenPanel) -> dict[str, object]:
    """The selectors of further scans that are shown, by the kind that their label names."""
    found = panel.widget.panel.translating._rows
    return {label.text.rstrip(":"): selector for label, selector in found if not selector.isHidden()}


def test_the_likely_kinds_are_chosen_and_the_rest_may_be_given(panel: OpenPanel, fusion) -> None:
    ui = panel.ui
    assert not ui.translateFrame.isHidden()
    assert (ui.translateSourceComboBox.currentText, ui.translateTargetComboBox.currentText) == ("T1", "FLAIR")
    assert list(rows(panel)) == ["T2"]
    panel.choose(add_scan(name="patient1 FLAIR"))
    assert (ui.translateSourceComboBox.currentText, ui.translateTargetComboBox.currentText) == ("FLAIR", "T2")
    assert list(rows(panel)) == ["T1"]
    panel.parameters.task = "features"
    assert not ui.translateFrame.isHidden() and ui.translateTargetComboBox.isHidden()
    panel.parameters.task = "explain"
    assert ui.translateFrame.isHidden(), "a model that makes another kind of scan is not explained"


def test_a_further_scan_is_read_with_the_kind_that_it_is(panel: OpenPanel, fusion) -> None:
    second = add_scan(name="patient1 T2")
    rows(panel)["T2"].setCurrentNode(second)
    panel.run()
    asked = panel.controller.report["asked"]
    assert asked == {"source": "T1", "target": "FLAIR", "others": {"with_0": "T2"}, "uncertainty": False}
    import slicer

    made = slicer.util.arrayFromVolume(panel.controller.results["translated"])
    np.testing.assert_allclose(made, 2.0 * slicer.util.arrayFromVolume(fusion))
    panel.ui.translateTargetComboBox.setCurrentIndex(1)  # T2 is made: it is not given, and comes back afterwards
    assert list(rows(panel)) == ["FLAIR"] and panel.widget.panel._request().inputs is None
    panel.ui.translateTargetComboBox.setCurrentIndex(2)
    assert rows(panel)["T2"].currentNode() is second
    slicer.mrmlScene.RemoveNode(second)
    panel.run()
    assert panel.controller.report["asked"]["others"] == {}


def test_a_further_scan_lies_where_its_transform_puts_it(panel: OpenPanel, fusion) -> None:
    import slicer

    second = add_scan(name="patient1 T2")
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode")
    moved = np.array([[0, -1, 0, 40], [1, 0, 0, -7], [0, 0, 1, 300], [0, 0, 0, 1]], float)
    transform.SetMatrixTransformToParent(slicer.util.vtkMatrixFromArray(moved))
    second.SetAndObserveTransformNodeID(transform.GetID())
    rows(panel)["T2"].setCurrentNode(second)
    panel.run()
    found = panel.controller.report["affines"]
    np.testing.assert_allclose(found["input"], nodes.affine_of(fusion), atol=1e-9)
    np.testing.assert_allclose(found["with_0"], moved @ nodes.affine_of(second), atol=1e-9)
    fusion.SetAndObserveTransformNodeID(transform.GetID())
    panel.run()
    np.testing.assert_allclose(panel.controller.report["affines"]["with_0"], nodes.affine_of(second), atol=1e-9)


def test_what_makes_no_sense_is_refused_in_a_sentence(panel: OpenPanel, fusion, models) -> None:
    ui = panel.ui
    ui.translateTargetComboBox.setCurrentIndex(0)
    assert "is T1 already" in ui.problemLabel.text and not ui.applyButton.enabled
    ui.translateTargetComboBox.setCurrentIndex(2)
    rows(panel)["T2"].setCurrentNode(fusion)
    assert "chosen as two kinds" in ui.problemLabel.text
    rows(panel)["T2"].setCurrentNode(None)
    assert ui.applyButton.enabled
    write_model(models / "single", spec=Spec("translating", {}, 2, "translate", "MR", MR, KINDS[:2]))
    panel.parameters.makeUncertainty = True
    assert ui.applyButton.enabled
    panel.parameters.model = "single"
    assert ui.translateFrame.isHidden() and "no ensemble" in ui.problemLabel.text
    panel.parameters.makeUncertainty = False
    panel.run()
    assert panel.controller.report["asked"]["others"] is None


def test_scripts_give_further_scans_by_their_kind(panel: OpenPanel, fusion) -> None:
    from MedAEPanel import scripting

    second = add_scan(name="second")
    request = scripting.taskRequest("translate", fusion, None, {"translated": None}, {"others": {"T2": second}})
    assert request.inputs == {"input": fusion, "with_0": second}
    assert request.parameters == {"others": {"with_0": "T2"}}


@pytest.mark.slow
def test_the_real_worker_fuses_two_scans_of_the_scene(slicer_host, tmp_path) -> None:
    """The second one has other voxels and is resampled."""
    from demo.session import Session

    from MedAELib.model import Model
    from MedAELib.volume import Volume

    Model.create(Spec("ensemble", FUSION, 2, "translate", "MR", MR, KINDS)).save(
        tmp_path / "three", name="three", description="Random.", card="# x", licence="x", figures={}, limits=[],
        training_data=[],
    )  # fmt: skip
    random = np.random.default_rng(0)
    for name, size, spacing in (("T1", (40, 40, 8), 1.0), ("T2", (20, 20, 8), 2.0)):
        array = np.abs(random.normal(300, 50, (1, *size))).astype(np.float32)
        Volume(array, np.diag([spacing, spacing, 2.0, 1.0])).save(tmp_path / f"{name}.nrrd")
    with Session(tmp_path / "runs") as session:
        scan, second = (session.load(tmp_path / f"{name}.nrrd", f"patient {name}", (0, 600)) for name in ("T1", "T2"))
        wanted = session.panel.parameters
        wanted.inputVolume, wanted.task, wanted.model = scan, "translate", str(tmp_path / "three")
        wanted.makeUncertainty = True
        session.panel.translating._rows[0][1].setCurrentNode(second)
        run = session.apply(scan, str(tmp_path / "three"))
        assert run.report["source"] == "T1 + T2" and run.report["target"] == "FLAIR"
        assert any("patient T2 (T2) was resampled" in note for note in run.report["warnings"])
        np.testing.assert_allclose(nodes.affine_of(run.nodes["translated"]), nodes.affine_of(scan), atol=1e-6)
        assert "uncertainty" in run.nodes
