"""The user's own models in the panel: imported, renamed, exported, removed, and written as ONNX."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from panel_fixtures import OpenPanel
from panel_tools import HOSTILE, add_scan, own_models, write_hostile, write_model, write_with_arguments

from MedAELib.bundle import Spec, Window


@pytest.fixture
def training(panel: OpenPanel) -> OpenPanel:
    """A panel with the Train task, whose models can be started from."""
    panel.parameters.task = "train"
    panel.behaviour = {}
    return panel


def test_own_models_are_imported_renamed_exported_and_removed(
    training: OpenPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qt

    ui = training.ui
    source, archive = write_model(tmp_path / "elsewhere" / "guest", "MR"), tmp_path / "out.zip"
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *a: str(source))
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *a: str(archive))
    monkeypatch.setattr(qt.QFileDialog, "getOpenFileName", lambda *a: str(archive))
    ui.importFolderButton.click()
    assert own_models() == ["guest"]
    training.parameters.trainStart = str(Path(os.environ["MEDAE_MODELS"]) / "guest")
    ui.ownModelsList.item(0).setText("pet")
    assert own_models() == ["pet"] and training.parameters.trainStart.endswith("pet")
    ui.ownModelsList.setCurrentRow(0)
    ui.exportModelButton.click()
    assert archive.is_file()
    ui.importFileButton.click()
    assert own_models() == ["pet", "pet-2"]
    ui.ownModelsList.setCurrentRow(1)
    ui.removeModelButton.click()
    assert "Delete pet-2" in ui.removeLabel.text and own_models() == ["pet", "pet-2"]
    ui.removeNoButton.click()
    assert ui.removeFrame.isHidden()
    ui.removeModelButton.click()
    ui.removeYesButton.click()
    assert own_models() == ["pet"]
    ui.ownModelsList.item(0).setText("a/b")
    assert own_models() == ["pet"] and "is no name" in ui.statusLabel.text
    assert ui.ownModelsList.item(0).text() == "pet"
    spec = Spec("unheard", {}, 3, "denoise", "MR", Window("percentile", 0.0, 99.9))
    write_model(source, spec=spec)
    ui.importFolderButton.click()
    assert own_models() == ["pet"] and "The network 'unheard' is unknown" in ui.statusLabel.text


def test_a_hostile_model_among_the_users_own_hides_no_other(training: OpenPanel) -> None:
    from MedAEPanel.models import Models

    own, told = Path(os.environ["MEDAE_MODELS"]), []
    write_model(own / "guest", "MR")
    for number, said in enumerate(HOSTILE.values()):
        write_hostile(own / f"hostile-{number}", *said)
    write_with_arguments(own / "fusion", '{"modalities": "x"}')
    found = [bundle.name for bundle in Models(told.append).everything() if bundle.folder.parent == own]
    assert found == ["guest"]
    names = [f"hostile-{number}" for number in range(len(HOSTILE))]
    assert all(any(str(own / name) in sentence for sentence in told) for name in [*names, "fusion"])
    training.widget.panel.update()
    assert training.ui.ownModelsList.item(0).text() == "guest" and training.ui.ownModelsList.item(1) is None


def test_the_worker_writes_the_network_of_a_model_as_onnx(
    training: OpenPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qt

    ui, path = training.ui, tmp_path / "guest.onnx"
    write_model(Path(os.environ["MEDAE_MODELS"]) / "guest", "MR")
    training.widget.panel.update()
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *a: str(path.with_suffix("")))
    assert not ui.exportOnnxButton.enabled
    ui.ownModelsList.setCurrentRow(0)
    ui.exportOnnxButton.click()
    assert training.controller.busy and not ui.exportOnnxButton.enabled
    training.spin(lambda: not training.controller.busy)
    assert path.read_bytes() == b"a network" and ui.exportOnnxButton.enabled
    assert ui.statusLabel.text == "The network of guest is written as ONNX (well formed)."
    monkeypatch.setattr(qt.QFileDialog, "getSaveFileName", lambda *a: str(tmp_path / "nowhere" / "x.onnx"))
    ui.exportOnnxButton.click()
    training.spin(lambda: not training.controller.busy)
    assert training.controller.state == "failed" and "cannot be written" in ui.statusLabel.text
    assert sorted(found.name for found in tmp_path.rglob("*.onnx") if "runs" not in found.parts) == ["guest.onnx"]


def test_any_model_may_be_added_for_features_and_explanations_and_one_removed_is_asked_for_again(
    panel: OpenPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import qt

    guest = write_model(Path(os.environ["MEDAE_MODELS"]) / "guest", "MR")
    monkeypatch.setattr(qt.QFileDialog, "getExistingDirectory", lambda *a: str(guest))
    panel.choose(add_scan())
    for task in ("features", "explain"):
        panel.parameters.task, panel.parameters.model = task, ""
        panel.ui.modelFolderButton.click()
        assert panel.parameters.model == str(guest) and panel.widget.panel.problem() == ""
    panel.parameters.task = "features"
    panel.parameters.model = str(guest)
    panel.ui.ownModelsList.setCurrentRow(0)
    panel.ui.removeModelButton.click()
    panel.ui.removeYesButton.click()
    assert own_models() == [] and not panel.ui.applyButton.enabled
    assert "choose another model" in panel.widget.panel.problem()
    panel.parameters.model = ""
    assert panel.widget.panel.problem() == ""
