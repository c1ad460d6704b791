"""Going on from a model that fuses several kinds of scan: they are those of the model, in its order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from train_tools import run, shrink_patches
from volumes import blob

from MedAELib import Model, Volume
from MedAELib.bundle import Kind, Spec, Window, read_bundle

KINDS = ("T1", "T2", "FLAIR")
WINDOW = Window("percentile", 0.0, 99.9)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """Models that fuse three kinds of scan: one that says which, one that does not, and one that translates."""
    folder = tmp_path_factory.mktemp("start")
    arguments = {"channels": [4, 6], "strides": [2, 2], "modalities": 3}
    kinds = tuple(Kind(name, "MR", WINDOW, 0.0, 600.0) for name in KINDS)
    for name, task, more in (
        ("named", "reconstruct", {"modalities": KINDS}), ("old", "reconstruct", {}),
        ("pairs", "translate", {"kinds": kinds}),
    ):  # fmt: skip
        Model.create(Spec("fusion", arguments, 3, task, "MR", WINDOW, **more)).save(
            folder / name, name=name, description="For tests.", card="# x\n", licence="Apache-2.0\n", figures={},
            limits=[], training_data=[],
        )  # fmt: skip
    (folder / "scans").mkdir()
    for n in range(3):
        for kind in KINDS:
            Volume(blob(n, (16, 16, 12))[None], np.eye(4)).save(folder / "scans" / f"p{n}_{kind}.nii")
    return folder


def train(place: Path, start: str, output: Path, *more: str) -> int:
    return run("train", place / "scans", "--start", place / start, "--device", "cpu", "--steps", 1, *more,
               "--output", output)  # fmt: skip


@pytest.mark.parametrize(
    ("start", "more", "said"),
    [
        ("named", "--modalities T2 T1 FLAIR", "named fuses T1, T2, FLAIR, in this order, and not T2, T1, FLAIR. Leave"),
        ("named", "--modalities T1 T2", "and not T1, T2."),
        ("named", "--modalities T1 T2 PD", "and not T1, T2, PD."),
        ("old", "", "old fuses 3 modalities, but does not say which. Name them with --modalities, in its order"),
        ("old", "--modalities T1 T2", "old fuses 3 modalities, not 2. Name them"),
        ("pairs", "--translate T2 FLAIR", "and not T2, T1, FLAIR. Name them so"),
        ("pairs", "--translate T1 FLAIR --modalities PD", "and not T1, PD, FLAIR."),
        ("pairs", "--translate T1 FLAIR --members 3", "pairs is one network, so no ensemble can begin with it. Leave"),
    ],
)
def test_other_modalities_or_another_order_are_refused_in_one_sentence(place, tmp_path, capfd, start, more, said):
    assert train(place, start, tmp_path / "m", *more.split()) == 2
    (line,) = capfd.readouterr().err.strip().splitlines()
    assert said in line and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("start", "more"),
    [("named", ""), ("named", "--modalities t1 T2 flair"), ("old", "--modalities T1 T2 FLAIR"), ("pairs", "")],
)
def test_the_modalities_of_the_model_are_kept(place, tmp_path, monkeypatch, start, more):
    shrink_patches(monkeypatch)
    assert train(place, start, tmp_path / "m", *more.split()) == 0
    made = read_bundle(tmp_path / "m")
    assert made.spec.modalities == KINDS and "--modalities T1 T2 FLAIR" in made.card


@pytest.mark.parametrize("members", [[], ["--members", "1"]])
def test_a_translation_keeps_its_kinds(place, tmp_path, monkeypatch, members):
    shrink_patches(monkeypatch)
    assert train(place, "pairs", tmp_path / "m", "--translate", "t1", "FLAIR", *members) == 0
    assert tuple(kind.name for kind in read_bundle(tmp_path / "m").spec.kinds) == KINDS
