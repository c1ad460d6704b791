"""What the card of a trained model says of it is so: its figures, its limits, its time, and no place on the disk."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from train_tools import arguments, run, shrink_patches
from volumes import blob, write_volumes

from MedAELib import Model, Volume
from MedAELib.bundle import read_bundle
from MedAELib.networks import build
from MedAELib.training import session
from MedAELib.training.card import folder_told, without_place
from MedAELib.training.folder import cases_of, split
from MedAELib.training.held_out import paired_figures, told_box
from MedAELib.training.plan import WINDOWS
from MedAELib.training.sampling import windowed


@pytest.fixture(autouse=True)
def small_patches(monkeypatch) -> None:
    shrink_patches(monkeypatch)


def _card(scans: Path, out: Path, *options: object) -> str:
    assert run("train", scans, *options, "--steps", 2, "--output", out) == 0
    return Model.load(out).bundle.card


@pytest.mark.parametrize(
    ("options", "told", "box"),
    [
        (["--corrupt", "gaussian_noise"], "The clean scans that it learned from", "64 x 64 x 48 voxels at most."),
        (["--learn-from", "blind-spot"], "noise that neighbouring voxels share is taken", "64 x 64 x 48 voxels at"),
        (["--learn-from", "neighbours"], "learned from noisy scans alone", "64 x 64 x 48 voxels at most; of each 2 x"),
        ([], "A reconstruction is no measurement", "96 x 96 x 48 voxels at most."),
    ],
)
def test_the_limits_and_the_box_of_the_figures_are_those_of_how_it_was_learned(options, told, box, tmp_path):
    card = _card(write_volumes(tmp_path / "scans", 3), tmp_path / "m", *arguments("plain"), *options)
    assert told in card and f"Of the test subjects, in the middle {box}" in card
    if "--learn-from" in options:
        assert "clean scans" not in card and "The figures compare with scans that are as noisy themselves." in card


@pytest.mark.parametrize(("dims", "edges"), [(2, (160, 160, 6)), (3, (64, 64, 48))])
def test_the_box_that_is_told_is_the_one_that_is_measured(dims, edges, monkeypatch):
    from MedAELib.training import held_out

    seen, network = [], build("plain", dims, {"channels": [2, 2]})
    monkeypatch.setattr(held_out, "decibels", lambda made, target: seen.append(target.shape) or 0.0)
    (case,) = cases_of({"a": Volume(blob(0, (176, 168, 56))[None], np.eye(4))}, {}, print)
    source = windowed(case, WINDOWS["MR"])
    paired_figures([source], network, False, lambda sample, generator: (sample, sample), torch.device("cpu"))
    there = (seen[0][2], seen[0][3], seen[0][0]) if dims == 2 else tuple(seen[0][2:])
    assert there == edges
    assert told_box(network, "clean", True) == f"the middle {edges[0]} x {edges[1]} x {edges[2]} voxels at most"
    whole = build("dense", 2, {"grid": 16, "hidden": [8], "latent": 4})
    assert told_box(whole, "clean", False) == "the middle 48 slices at most"
    assert told_box(whole, "clean", True) == "the middle 6 slices at most"


def test_without_any_validation_figure_the_card_claims_no_best_moment(tmp_path):
    scans, names = tmp_path / "kinds", [f"p{n}" for n in range(4)]
    cases = cases_of({name: Volume(blob(0, (8, 8, 8))[None], np.eye(4)) for name in names}, {}, print)
    parts = split(cases, 0)
    held = {parts.validation[0].name, parts.test[0].name}
    for n, name in enumerate(names):
        (scans / name).mkdir(parents=True)
        for kind in ("T1", "FLAIR", "T2"):
            if (name, kind) not in {(one, "T1") for one in held}:
                Volume(blob(n, (16, 16, 12))[None], np.eye(4)).save(scans / name / f"{kind}.nii.gz")
    options = [*arguments("fusion"), "--translate", "T1", "T2", "--modalities", "FLAIR", "--dims", 2, "--members", 1]
    card = _card(scans, tmp_path / "m", *options)
    assert "It ran to its end." in card and "The weights are those of step" not in card
    assert "the network's: nobody was left to choose that by." in card
    assert "None. No held-out subject has both T1 and T2." in card and "only one subject" not in card


def test_time_and_devices_of_a_training_that_was_resumed_are_those_of_all_its_runs(tmp_path, monkeypatch):
    scans, out = write_volumes(tmp_path / "scans", 3), tmp_path / "m"

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    options = ["train", scans, *arguments("plain"), "--dims", 2, "--steps", 2, "--output", out]
    with monkeypatch.context() as patch:
        patch.setattr(session, "write_model", interrupted)
        assert run(*options) == 130
    last = tmp_path / "m.training" / "last.pt"
    torch.save(torch.load(last, weights_only=True) | {"seconds": 7e6, "devices": ["cuda", "cpu"]}, last)
    assert run(*options, "--resume") == 0
    assert "2 steps in 70000" in Model.load(out).bundle.card and " s on cuda and cpu." in Model.load(out).bundle.card


def test_no_place_on_the_disk_is_told(tmp_path, monkeypatch):
    scans = write_volumes(tmp_path / "scans", 3)
    (scans / "deep").mkdir()
    (scans / "deep" / "bad.nrrd").write_text("no volume")
    monkeypatch.chdir(scans)
    card = _card(Path(), tmp_path / "m", *arguments("plain"), "--dims", 2)
    assert "deep/bad.nrrd is left out" in card and str(tmp_path) not in card
    assert "`python -m MedAELib train scans --network" in card


def test_files_with_odd_names_leave_a_model_that_can_be_read(tmp_path):
    scans = write_volumes(tmp_path / "scans", 1)
    (scans / "subject0.nii.gz").rename(scans / "odd\x1b[2J\n.nii.gz")
    _card(scans, tmp_path / "m", *arguments("plain"), "--dims", 2)
    assert read_bundle(tmp_path / "m").training_data == ("odd?[2J?.nii.gz",)


@pytest.mark.parametrize(
    ("sentence", "told"),
    [
        ("a.nii is left out: /data/my scans/a.nii cannot be read.", "a.nii is left out: a.nii cannot be read."),
        ("x: /data/my scans holds two series", "x: my scans holds two series"),
        ("x: '/elsewhere/on/it/b.nii' is no volume", "x: 'b.nii' is no volume"),
        (r"x: D:\scans\b.nii is no volume", "x: b.nii is no volume"),
        ("x: CT/MR and 1/2 stay", "x: CT/MR and 1/2 stay"),
    ],
)
def test_a_sentence_keeps_names_only(sentence, told):
    assert without_place(sentence, Path("/data/my scans")) == told


def test_a_folder_of_one_letter_takes_no_words_away():
    assert without_place("a file in a/b.nii is a fault", Path("a")) == "a file in b.nii is a fault"
    assert folder_told(None) == folder_told(Path("/")) == "FOLDER" and folder_told(Path("x/y/..")) == "x"


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such names of files")
@pytest.mark.parametrize("task", ["network", pytest.param("anomaly", marks=pytest.mark.slow)])
def test_names_of_files_break_no_line_of_the_card_or_the_terminal(task, tmp_path, capfd):
    scans = write_volumes(tmp_path / "scans", 4)
    for n, name in enumerate((b"a\n- b\x1b[2J.nii.gz", b"c\nd.nii.gz", b"e\xff.nii.gz", b"f\ng.nii.gz")):
        (scans / f"subject{n}.nii.gz").rename(os.fsdecode(os.fsencode(scans) + b"/" + name))
    (scans / "bad\nfile.nrrd").write_text("no scan")
    (scans / "gone.nii").symlink_to(tmp_path / "nowhere.nii")
    what = arguments("plain") if task == "network" else ["--task", "anomaly", "--device", "cpu"]
    card = _card(scans, tmp_path / "m", *what)
    for name in ("a?- b?[2J", "c?d", "e?.nii.gz is left out: ", "f?g", "bad?file"):
        assert name in card
    told = capfd.readouterr().err
    assert "note: bad?file.nrrd is left out" in told and "\x1b" not in card + told
    assert "- gone.nii is left out: it is a link to what is not there." in card.splitlines()
    assert "note: gone.nii is left out" in told
    assert run("denoise", scans / "bad\nfile.nrrd", tmp_path / "out.nii") == 2
    assert len(capfd.readouterr().err.splitlines()) == 1
