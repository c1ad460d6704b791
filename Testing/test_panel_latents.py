"""Compressed volumes as nodes: what Slicer shows of them is small, and their files stay with them in every scene."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import fake_codec
import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_shown_scan, scan_voxels

from MedAELib import nodes
from MedAELib.errors import BadInput
from MedAELib.volume import Volume
from SlicerHost.packaging_stub import packaging_calls

SMALL = 2000  # characters


def _file(largest_error: int = 0) -> bytes:
    """A compressed scan as a file."""
    mode = {"mode": "max-error", "value": largest_error} if largest_error else {}
    volume = Volume(scan_voxels((24, 20, 12), "int16", 3).T[np.newaxis], np.eye(4), {"name": "CT chest"})
    return fake_codec.compress(volume, mode, None)[2]


def _opened(path: Path, data: bytes) -> Any:
    """A file in the scene; nothing is decoded."""
    import slicer

    path.write_bytes(data)
    return slicer.util.loadNodeFromFile(path, "MedAECompressedVolume", {"decode": False})


@pytest.fixture
def latent(panel: OpenPanel, tmp_path: Path) -> Any:
    """A compressed volume that came from a file, in the scene."""
    return _opened(tmp_path / "chest.maez", _file())


def _seen() -> list[Any]:
    """All nodes that Slicer shows in Data, whose text is the tooltip of their row."""
    import slicer

    found = slicer.util.getNodesByClass("vtkMRMLTextNode")
    return [node for node in found if not node.GetHideFromEditors()]


def _hidden() -> list[Any]:
    """All nodes that keep the file of a compressed volume."""
    import slicer

    found = slicer.util.getNodesByClass("vtkMRMLScriptedModuleNode")
    return [node for node in found if node.HasParameter("maez")]


def _reloaded(path: Path) -> Any:
    """The compressed volume of a scene after it was saved and opened again."""
    import slicer

    assert slicer.util.saveScene(str(path))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(path))
    (found,) = _seen()
    return found


def _decoded(panel: OpenPanel, latent: Any) -> Any:
    """The volume that a press on Decode makes."""
    panel.widget.enter()
    panel.parameters.task, panel.parameters.latent = "compress", latent
    panel.ui.decodeButton.click()
    panel.spin(lambda: not panel.controller.busy)
    assert panel.controller.state == "done", panel.ui.statusLabel.text
    return panel.controller.results["decoded"]


def _saved(node: Any, path: Path) -> bytes:
    """What Save writes."""
    import slicer

    assert slicer.util.saveNode(node, str(path), {})
    return path.read_bytes()


def _holds(node: Any) -> bool:
    """Whether the file of a node is there."""
    from MedAEPanel import latents

    return latents.bytesOf(node) == _file()


def test_what_slicer_shows_of_a_compressed_volume_are_its_figures(panel: OpenPanel) -> None:
    import slicer

    panel.choose(add_shown_scan("CT chest"))
    panel.parameters.task = "compress"
    panel.parameters.promise, panel.parameters.largestError = "max-error", 30
    panel.run()
    (shown,) = _seen()
    for figure in ("Compressed by MedAE", "times smaller", "Bits per voxel: ", "PSNR: ", "SSIM: ", "Largest error: "):
        assert figure in shown.GetText()
    told = nodes.provenance(shown)
    assert f"Model: {told['model']}" in shown.GetText() and len(shown.GetText()) < SMALL
    (hidden,) = _hidden()
    hierarchy = slicer.vtkMRMLSubjectHierarchyNode.GetSubjectHierarchyNode(slicer.mrmlScene)
    assert hidden.GetHideFromEditors() and not hierarchy.GetItemByDataNode(hidden)
    assert len(base64.b64decode(hidden.GetParameter("maez"))) == int(told["bytes"])


def test_a_file_that_says_much_of_itself_becomes_no_long_text(panel: OpenPanel, tmp_path: Path) -> None:
    from MedAELib.codec.container import open_container, write_container

    container = open_container(_file(), "The file")
    header = {**container.header, "model": {**container.header["model"], "name": "m" * 100_000}}
    latent = _opened(tmp_path / "long.maez", write_container(header, [bytes(container.payload)]))
    assert len(latent.GetText()) <= SMALL


@pytest.mark.parametrize("name", ["scene.mrml", "scene.mrb"])
def test_it_decodes_after_its_scene_was_saved_and_opened(
    panel: OpenPanel, latent: Any, tmp_path: Path, name: str
) -> None:
    latent.SetName("renamed")
    again = _reloaded(tmp_path / name)
    assert again.GetName() == "renamed" and len(again.GetText()) < SMALL
    assert _decoded(panel, again).GetImageData().GetNumberOfPoints() > 0
    assert len(_hidden()) == 1 and _hidden()[0].GetHideFromEditors()
    assert _saved(again, tmp_path / "again.maez") == _file()


def test_the_file_lies_in_the_scene_as_the_save_dialog_writes_no_file_of_a_hidden_node(
    panel: OpenPanel, latent: Any, tmp_path: Path
) -> None:
    import slicer

    slicer.mrmlScene.SetRootDirectory(str(tmp_path))
    assert slicer.mrmlScene.Commit(str(tmp_path / "scene.mrml"))  # the scene only: no file of any node
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrml"))
    (again,) = _seen()
    assert _saved(again, tmp_path / "again.maez") == _file()


def test_two_scenes_are_joined_without_mixing_up_their_files(panel: OpenPanel, latent: Any, tmp_path: Path) -> None:
    import slicer

    from MedAEPanel import latents

    assert slicer.util.saveScene(str(tmp_path / "one.mrb"))
    slicer.mrmlScene.Clear(0)
    other = _file(largest_error=9)
    _opened(tmp_path / "other.maez", other)
    assert slicer.mrmlScene.ReadFromMRB(str(tmp_path / "one.mrb"), False)
    found = {latents.bytesOf(node) for node in _seen()}
    assert found == {other, _file()}


def test_what_is_hidden_goes_with_the_last_node_that_shows_it(panel: OpenPanel, latent: Any) -> None:
    import slicer

    twin = slicer.mrmlScene.AddNode(slicer.vtkMRMLTextNode())
    twin.Copy(latent)  # Clone in Data
    slicer.mrmlScene.RemoveNode(latent)
    assert _holds(twin)
    slicer.mrmlScene.RemoveNode(twin)
    assert not _hidden()


def test_a_closed_scene_leaves_nothing(panel: OpenPanel, latent: Any) -> None:
    import slicer

    slicer.mrmlScene.Clear(0)
    assert not _hidden() and not _seen()


def test_undo_brings_a_removed_one_back(panel: OpenPanel, latent: Any) -> None:
    import slicer

    scene = slicer.mrmlScene
    scene.SetUndoOn()
    latent.SetUndoEnabled(True)
    scene.SaveStateForUndo()
    scene.RemoveNode(latent)
    assert not _seen()
    scene.Undo()
    scene.SetUndoOff()
    (again,) = _seen()
    assert _holds(again)
    scene.RemoveNode(again)
    assert not _hidden()


def test_changed_or_deleted_data_are_refused_in_a_sentence(panel: OpenPanel, latent: Any) -> None:
    import slicer

    from MedAEPanel import latents

    latent.SetText("a note of the user")
    assert _holds(latent)
    _hidden()[0].SetParameter("maez", "no base64!")
    with pytest.raises(BadInput, match="holds no compressed volume: its data were deleted or changed"):
        latents.bytesOf(latent)
    slicer.mrmlScene.RemoveNode(_hidden()[0])
    with pytest.raises(BadInput, match="deleted or changed"):
        latents.bytesOf(latent)


def _add_of_earlier_version() -> Any:
    """A compressed volume as earlier versions kept it: the whole file in the text that Slicer shows."""
    import slicer

    node = slicer.vtkMRMLTextNode()
    node.SetName("CT chest compressed")
    node.SetForceCreateStorageNode(node.CreateStorageNodeAlways)
    node.SetText(base64.b64encode(_file()).decode("ascii"))
    told = {"output": "latent", "place": nodes.Place(name="CT chest").to_json(), "bytes": 1234, "ratio": 2.5}
    nodes.stamp(node, told)
    return slicer.mrmlScene.AddNode(node)


@pytest.mark.parametrize("name", ["scene.mrml", "scene.mrb"])
def test_a_scene_of_an_earlier_version_opens(panel: OpenPanel, tmp_path: Path, name: str) -> None:
    _add_of_earlier_version()
    again = _reloaded(tmp_path / name)
    assert "2.5 times smaller" in again.GetText() and len(again.GetText()) < SMALL
    texts = {path: path.read_bytes() for path in tmp_path.glob("*.txt")}
    decoded = _decoded(panel, again)
    assert decoded.GetName() == "CT chest decoded" and np.ptp(nodes.read(decoded).array) > 0
    assert again.GetStorageNode() is None  # saving would write the figures over the file of the scene before
    assert _holds(_reloaded(tmp_path / f"again-{name}"))
    assert json.loads(nodes.provenance(_seen()[0])["place"])["name"] == "CT chest"
    assert name == "scene.mrb" or texts


def _drop(folder: Path, *names: str) -> Any:
    """Several files opened at once; what Slicer tells the user then."""
    import slicer

    messages = slicer.vtkMRMLMessageCollection()
    for name in names:
        (folder / f"{name}.maez").write_bytes(_file())
        told = {"fileName": str(folder / f"{name}.maez")}
        assert slicer.app.coreIOManager().loadNodes("MedAECompressedVolume", told, None, messages)
    return messages


def _volumes() -> int:
    import slicer

    return slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLScalarVolumeNode")


def test_all_files_that_are_dropped_at_once_are_decoded(panel: OpenPanel, tmp_path: Path) -> None:
    messages = _drop(tmp_path, "a", "b", "c")
    assert panel.controller.busy and messages.GetNumberOfMessages() == 0
    panel.spin(lambda: _volumes() == 3 and not panel.controller.busy)
    assert any("'c' is decoded after" in line for line in panel.controller.log)


def test_a_file_that_is_opened_during_a_run_is_decoded_after_it(panel: OpenPanel, tmp_path: Path) -> None:
    panel.choose(add_shown_scan("CT chest"))
    panel.ui.applyButton.click()
    _drop(tmp_path, "a")
    panel.spin(lambda: panel.controller.report.get("task") == "decompress" and not panel.controller.busy)
    assert panel.controller.state == "done"


def test_cancel_ends_those_that_wait_and_says_so(panel: OpenPanel, tmp_path: Path) -> None:
    panel.behaviour = {"behaviour": "hang"}
    _drop(tmp_path, "a", "b", "c")
    panel.spin(lambda: panel.controller.state == "running")
    panel.controller.cancel()
    panel.spin(lambda: not panel.controller.busy)
    assert panel.controller.remark == "Cancelled; not decoded: 'b', 'c'."
    panel.behaviour = {"behaviour": "quick"}
    _drop(tmp_path, "d")
    panel.spin(lambda: _volumes() == 1 and not panel.controller.busy)


def test_one_that_was_deleted_meanwhile_is_left_out(panel: OpenPanel, tmp_path: Path) -> None:
    import slicer

    _drop(tmp_path, "a", "b", "c")
    slicer.mrmlScene.RemoveNode(slicer.util.getNode("b"))
    panel.spin(lambda: _volumes() == 2 and not panel.controller.busy)


def test_one_that_cannot_be_decoded_is_told_and_the_others_are_decoded(panel: OpenPanel, tmp_path: Path) -> None:
    import slicer

    _drop(tmp_path, "a", "b", "c")
    slicer.util.getNode("b").GetNodeReference("MedAE.data").SetParameter("maez", "no base64!")
    panel.spin(lambda: _volumes() == 2 and not panel.controller.busy)
    assert any("'b' is in the scene but not decoded" in line for line in panel.controller.log)


def test_without_its_packages_medae_says_that_a_file_is_not_decoded(panel: OpenPanel, tmp_path: Path) -> None:
    import vtk

    packaging_calls.satisfied = False
    messages = _drop(tmp_path, "a")
    assert messages.GetNumberOfMessagesOfType(vtk.vtkCommand.WarningEvent) == 1
    for told in (messages.GetAllMessagesAsString(), panel.ui.statusLabel.text):
        assert "'a' is in the scene but not decoded" in told and "press Decode" in told
    assert len(_seen()) == 1 and not panel.controller.busy
