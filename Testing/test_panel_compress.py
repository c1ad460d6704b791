"""The compress task in the panel: a compressed volume in the scene, its figures, Decode, what was lost, scenes."""

from __future__ import annotations

import hashlib
import json
import struct
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from panel_fixtures import OpenPanel
from panel_tools import add_sequence, add_shown_scan

from MedAELib import nodes


@pytest.fixture
def compressing(panel: OpenPanel) -> OpenPanel:
    """A panel with a scan, shown in every view, and the compress task."""
    panel.choose(add_shown_scan("CT chest"))
    panel.parameters.task = "compress"
    return panel


def _decode(panel: OpenPanel) -> Any:
    panel.ui.decodeButton.click()
    panel.spin(lambda: not panel.controller.busy)
    assert panel.controller.state == "done", panel.ui.statusLabel.text
    return panel.controller.results["decoded"]


def test_only_the_widgets_of_the_task_are_shown(compressing: OpenPanel) -> None:
    ui = compressing.ui
    assert not ui.Compress.isHidden() and ui.outputsCollapsibleButton.isHidden()
    assert ui.modelComboBox.isHidden()
    assert ui.largestErrorSpinBox.isHidden() and ui.timesSmallerSpinBox.isHidden()
    compressing.parameters.promise = "max-error"
    assert not ui.largestErrorSpinBox.isHidden() and ui.largestErrorSpinBox.suffix == " HU"
    compressing.parameters.task = "denoise"
    assert ui.Compress.isHidden() and not ui.modelComboBox.isHidden()


def test_a_lossless_run_makes_a_compressed_volume_that_decodes_bit_for_bit(compressing: OpenPanel) -> None:
    scan = compressing.parameters.inputVolume
    assert compressing.parameters.makeLost and not compressing.ui.lostCheckBox.enabled  # nothing is lost
    compressing.run()
    assert set(compressing.controller.results) == {"latent"}
    latent = compressing.controller.results["latent"]
    assert latent.GetName() == "CT chest compressed" and compressing.parameters.latent is latent
    assert nodes.input_of(latent) is scan
    told = nodes.provenance(latent)
    assert told["task"] == "compress" and len(told["modelSHA256"]) == 64 and float(told["ratio"]) > 1.2
    assert "bit for bit" in compressing.ui.latentLabel.text and compressing.ui.guidanceLabel.isHidden()
    assert "times smaller" in compressing.ui.statusLabel.text
    decoded = _decode(compressing)
    assert decoded.GetName() == "CT chest decoded" and nodes.input_of(decoded) is scan
    assert nodes.read(decoded).array.tobytes() == nodes.read(scan).array.tobytes()
    assert nodes.read(decoded).array.dtype == np.int16
    np.testing.assert_allclose(nodes.affine_of(decoded), nodes.affine_of(scan), atol=1e-9)
    display = decoded.GetDisplayNode()
    assert (display.GetWindow(), display.GetLevel()) == (350, 40)
    assert compressing.ui.beforeButton.enabled and compressing.ui.probeOutputHeading.text == "Decoded"


def test_what_was_lost_is_a_volume_in_diverging_colours_and_the_figures_are_shown(compressing: OpenPanel) -> None:
    scan = compressing.parameters.inputVolume
    compressing.parameters.promise, compressing.parameters.largestError = "max-error", 30
    assert compressing.ui.lostCheckBox.enabled
    compressing.run()
    lost = compressing.controller.results["lost"]
    assert lost.GetName() == "CT chest lost by compression"
    assert lost.GetDisplayNode().GetColorNode().GetName() == nodes.COLORS
    text = compressing.ui.latentLabel.text
    for figure in ("PSNR", "SSIM", "Largest error", "Bits per voxel", "HU"):
        assert figure in text
    assert compressing.ui.guidanceLabel.isHidden()
    latent = compressing.parameters.latent
    latent.SetAttribute("MedAE.bitsPerVoxel", "1.6")  # a small volume does not become so small: its header weighs most
    compressing.widget.panel.update()
    assert "more than the 8 that the German guidance accepts for CT" in compressing.ui.guidanceLabel.text
    decoded = _decode(compressing)
    difference = nodes.read(scan).array.astype(int) - nodes.read(decoded).array
    np.testing.assert_array_equal(difference, nodes.read(lost).array)
    assert np.abs(difference).max() <= 30 and np.abs(difference).max() > 0


def test_a_ratio_above_the_guidance_is_warned_of_before_the_run(compressing: OpenPanel) -> None:
    compressing.parameters.promise, compressing.parameters.timesSmaller = "ratio", 20
    assert "more than any guidance accepts for CT" in compressing.ui.guidanceLabel.text
    compressing.parameters.timesSmaller = 4
    assert compressing.ui.guidanceLabel.isHidden()


def test_once_it_is_made_the_guidance_speaks_of_the_compressed_volume_itself(compressing: OpenPanel) -> None:
    """A file is often a little smaller than asked for, which may be on the other side of a limit."""
    compressing.parameters.promise, compressing.parameters.timesSmaller = "ratio", 1.5
    compressing.run()
    latent = compressing.parameters.latent
    made = {"mode": '{"kind": "ratio", "times": 1.5}', "bitsPerVoxel": "1.9", "maxError": "3"}
    for name, value in made.items():
        latent.SetAttribute(f"MedAE.{name}", value)
    compressing.widget.panel.update()
    assert "8.42 times smaller" in compressing.ui.guidanceLabel.text
    compressing.parameters.timesSmaller = 30
    assert "30 times smaller" in compressing.ui.guidanceLabel.text


def test_a_compressed_volume_comes_back_with_a_saved_scene(compressing: OpenPanel, tmp_path: Path) -> None:
    import slicer

    scan = compressing.parameters.inputVolume
    transform = slicer.mrmlScene.AddNewNodeByClass("vtkMRMLLinearTransformNode", "moved")
    transform.GetTransformToParent()
    scan.SetAndObserveTransformNodeID(transform.GetID())
    before = nodes.read(scan).array.tobytes()
    compressing.parameters.makeLost = False
    compressing.run()
    figures = compressing.ui.latentLabel.text
    slicer.mrmlScene.RemoveNode(scan)
    assert slicer.util.saveScene(str(tmp_path / "scene.mrb"))
    slicer.mrmlScene.Clear(0)
    slicer.util.loadScene(str(tmp_path / "scene.mrb"))
    compressing.widget.enter()
    assert compressing.parameters.latent.GetName() == "CT chest compressed"
    assert compressing.ui.latentLabel.text == figures
    decoded = _decode(compressing)
    assert nodes.read(decoded).array.tobytes() == before
    assert decoded.GetParentTransformNode().GetName() == "moved"
    assert slicer.util.saveScene(str(tmp_path / "again.mrb"))


def test_changed_data_are_refused_in_a_sentence(compressing: OpenPanel) -> None:
    compressing.parameters.makeLost = False
    compressing.run()
    compressing.parameters.latent.GetNodeReference("MedAE.data").SetParameter("maez", "no base64!")
    compressing.ui.decodeButton.click()
    assert "its data were deleted or changed" in compressing.ui.statusLabel.text


def test_cancel_leaves_the_scene_as_it_was(compressing: OpenPanel) -> None:
    import slicer

    compressing.behaviour = {"behaviour": "hang"}
    before = slicer.mrmlScene.GetNumberOfNodes()
    compressing.ui.applyButton.click()
    compressing.spin(lambda: compressing.controller.state == "running")
    compressing.ui.cancelButton.click()
    compressing.spin(lambda: compressing.controller.state == "cancelled")
    assert slicer.mrmlScene.GetNumberOfNodes() == before


def test_a_sequence_is_refused_with_what_to_do(compressing: OpenPanel) -> None:
    compressing.choose(add_sequence(frames=2))
    assert not compressing.ui.applyButton.enabled
    assert "choose the volume that its browser shows" in compressing.ui.applyButton.toolTip


def test_scripts_compress_and_decompress_nodes_and_files(compressing: OpenPanel, tmp_path: Path) -> None:
    from MedAELib.errors import BadInput
    from MedAEPanel import latents

    scan = compressing.parameters.inputVolume
    logic = compressing.widget.logic
    latent = logic.compress(scan, "max-error", 5, lost=True)
    assert latents.isLatent(latent)
    latents.write(latent, tmp_path / "chest.maez")
    decoded = logic.decompress(tmp_path / "chest.maez")
    assert np.abs(nodes.read(decoded).array.astype(int) - nodes.read(scan).array).max() <= 5
    assert decoded.GetDisplayNode().GetWindow() == 350  # the file says how it was shown
    with pytest.raises(BadInput, match="not a compressed volume"):
        logic.decompress(scan)


def test_a_file_opens_by_its_name_and_decodes_while_slicer_goes_on(compressing: OpenPanel, tmp_path: Path) -> None:
    import slicer

    from MedAEPanel import latents

    scan = compressing.parameters.inputVolume
    latent = compressing.widget.logic.compress(scan)
    counted = {name: nodes.provenance(latent)[name] for name in ("bytes", "ratio", "bitsPerVoxel", "modality")}
    assert slicer.util.saveNode(latent, str(tmp_path / "chest.maez"), {})
    slicer.mrmlScene.Clear(0)
    opened = slicer.util.loadNodeFromFile(tmp_path / "chest.maez", properties={})
    assert opened.GetName() == "chest" and compressing.controller.busy  # decoding goes on beside
    compressing.spin(lambda: not compressing.controller.busy)
    decoded = compressing.controller.results["decoded"]
    assert decoded.GetName() == "CT chest decoded" and nodes.input_of(decoded) is opened
    assert decoded.GetDisplayNode().GetWindow() == 350
    composites = slicer.util.getNodesByClass("vtkMRMLSliceCompositeNode")
    assert {view.GetBackgroundVolumeID() for view in composites} == {decoded.GetID()}  # as all that is opened
    told = nodes.provenance(opened)
    assert told["maxError"] == "0.0" and float(told["ratio"]) > 1.2
    assert {name: told[name] for name in counted} == counted and int(told["bytes"]) == len(latents.bytesOf(opened))


def test_a_forged_header_is_not_believed(compressing: OpenPanel, tmp_path: Path) -> None:
    from MedAELib.codec.container import open_container, read_container, write_container
    from MedAEPanel import latents

    latent = compressing.widget.logic.compress(compressing.parameters.inputVolume)
    container = open_container(latents.bytesOf(latent), "it")
    endless = json.loads("1e999")
    forged = {
        **container.header, "mode": {"kind": "psnr", "decibels": 1e300},
        "figures": {"psnr": 10**400, "ssim": 0.5, "max_error": 1e300}, "display": {"window": 1e300, "level": 0},
        "volume": {**container.header["volume"], "dtype": "int\u00b2" + "9" * 5000},
    }  # fmt: skip
    path = tmp_path / "forged.maez"
    whole = write_container(forged, [bytes(container.payload)])
    path.write_bytes(_with_text(whole, b"1e+300", b"1e999 "))
    assert read_container(path).header["figures"]["max_error"] == endless
    opened = latents.read(path)
    told = nodes.provenance(opened)
    assert told["ssim"] == "0.5" and "psnr" not in told and "maxError" not in told
    assert latents.modeOf(opened) == {"kind": "psnr"} and latents.placeOf(opened).window is None
    assert "inf" not in latents.figuresHtml(opened)


def _with_text(whole: bytes, old: bytes, new: bytes) -> bytes:
    """A file of version 1 with other text of the same length in its header."""
    size = struct.unpack_from("<I", whole, 12)[0]
    text = whole[48 : 48 + size].replace(old, new)
    return whole[:16] + hashlib.sha256(text).digest() + text + whole[48 + size :]


def test_save_offers_maez_for_volumes_too(compressing: OpenPanel, tmp_path: Path) -> None:
    import slicer

    scan = compressing.parameters.inputVolume
    manager = slicer.app.coreIOManager()
    assert "Compressed volume (*.maez)" in manager.fileWriterExtensions(scan)
    before = slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTextNode")
    assert slicer.util.saveNode(scan, str(tmp_path / "scan.maez"), {})
    assert slicer.mrmlScene.GetNumberOfNodesByClass("vtkMRMLTextNode") == before
    back = compressing.widget.logic.decompress(tmp_path / "scan.maez")
    assert nodes.read(back).array.tobytes() == nodes.read(scan).array.tobytes()
    assert slicer.util.saveNode(scan, str(tmp_path / "scan.nrrd"), {})


def test_saving_a_volume_leaves_the_chosen_compressed_volume_chosen(compressing: OpenPanel, tmp_path: Path) -> None:
    import slicer

    compressing.parameters.makeLost = False
    compressing.run()
    mine, figures = compressing.parameters.latent, compressing.ui.latentLabel.text
    for name in ("one.maez", "two.maez"):
        assert slicer.util.saveNode(compressing.parameters.inputVolume, str(tmp_path / name), {})
        compressing.widget.panel.update()
        assert compressing.parameters.latent is mine and compressing.ui.latentLabel.text == figures
    slicer.mrmlScene.RemoveNode(mine)
    compressing.widget.panel.update()
    assert compressing.parameters.latent is None


def test_saving_a_volume_can_be_cancelled_while_slicer_goes_on(
    compressing: OpenPanel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Slicer's own progress dialog leaves everything else open to clicks, and looks at none of them by itself."""
    import qt
    import slicer

    compressing.behaviour = {"behaviour": "hang"}
    scan, before = compressing.parameters.inputVolume, slicer.mrmlScene.GetNumberOfNodes()
    make, dialogs, seen = slicer.util.createProgressDialog, [], []

    def make_and_cancel(**options: Any) -> Any:
        dialogs.append(make(**options))
        qt.QTimer.singleShot(700, press_cancel)
        return dialogs[0]

    def press_cancel() -> None:
        seen.append((dialogs[0].windowModality == qt.Qt.ApplicationModal, dialogs[0].isVisible(), time.monotonic()))
        dialogs[0].cancel()

    monkeypatch.setattr(slicer.util, "createProgressDialog", make_and_cancel)
    slicer.app.setTestingEnabled(False)
    turns: list[float] = []
    timer = qt.QTimer()
    timer.setInterval(20)
    timer.timeout.connect(lambda: turns.append(time.monotonic()))
    timer.start()
    assert not slicer.util.saveNode(scan, str(tmp_path / "scan.maez"), {})
    ended = time.monotonic()
    timer.stop()
    ((modal, visible, pressed),) = seen
    assert modal and visible and not dialogs[0].isVisible() and ended - pressed < 1
    assert len(turns) > 5 and compressing.controller.state == "cancelled"
    assert slicer.mrmlScene.GetNumberOfNodes() == before and not list(tmp_path.glob("scan*"))
    compressing.controller.wait()
    assert not list((tmp_path / "runs").glob("*-compress-*"))


def test_saving_a_volume_behind_the_dialog_ends_by_itself(compressing: OpenPanel, tmp_path: Path) -> None:
    import slicer

    slicer.app.setTestingEnabled(False)
    scan, before = compressing.parameters.inputVolume, slicer.mrmlScene.GetNumberOfNodes()
    assert slicer.util.saveNode(scan, str(tmp_path / "scan.maez"), {})
    assert slicer.mrmlScene.GetNumberOfNodes() == before and (tmp_path / "scan.maez").stat().st_size > 1000


def test_a_damaged_file_is_refused_with_the_reason_and_the_scene_stays(compressing: OpenPanel, tmp_path: Path) -> None:
    import slicer

    path = tmp_path / "broken.maez"
    fixture = Path(__file__).parent / "fixtures" / "v1-lossless.maez"
    data = bytearray(fixture.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    before = slicer.mrmlScene.GetNumberOfNodes()
    with pytest.raises(RuntimeError, match="differs from its SHA-256"):
        slicer.util.loadNodeFromFile(path, properties={})
    assert slicer.mrmlScene.GetNumberOfNodes() == before
    path.write_bytes(fixture.read_bytes())
    assert slicer.util.loadNodeFromFile(path, properties={"decode": False}) is not None
