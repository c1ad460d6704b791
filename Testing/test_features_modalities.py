"""`python -m MedAELib features --modalities`: files of one subject as the channels of a model that fuses them."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from models import save_small_model
from train_tools import run
from volumes import blob

from MedAELib import Model, Volume
from MedAELib.bundle import METADATA, Spec, Window

KINDS = ("T1", "T2", "FLAIR")
SHAPE = (16, 14, 12)


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A model of T1, T2 and FLAIR, and subjects: the first as files and as one file in the model's order."""
    folder = tmp_path_factory.mktemp("fused")
    arguments = {"channels": [4, 8], "strides": [2, 2], "modalities": 3}
    window = Window("percentile", 0.0, 99.9)
    spec = Spec("fusion", arguments, 3, "reconstruct", "MR", window, modalities=KINDS)
    Model.create(spec).save(
        folder / "model", name="three", description="For tests.", card="# three\n", licence="Apache-2.0\n", figures={},
        limits=[], training_data=[],
    )  # fmt: skip
    save_small_model(folder / "single", modality="MR")
    scans = np.stack([blob(n, SHAPE) * (n + 1) for n in range(3)]).astype(np.float32)
    for kind, array in zip(KINDS, scans, strict=True):
        Volume(array[None], np.eye(4)).save(folder / f"p1_{kind}.nii.gz")
        (folder / "p2").mkdir(exist_ok=True)
        if kind != "FLAIR":
            Volume(array[None] * 2 + 1, np.eye(4)).save(folder / "p2" / f"{kind.lower()}.nrrd")
    Volume(scans, np.eye(4)).save(folder / "together.nrrd")
    return folder


def features(place: Path, *arguments: object, model: str = "model") -> int:
    return run("features", *arguments, "--model", place / model, "--device", "cpu")


def numbers(table: Path) -> dict[str, list[str]]:
    """The features by the case."""
    rows = list(csv.reader(table.open()))
    first = rows[0].index("settings") + 1
    return {row[rows[0].index("case")]: row[first:] for row in rows[1:]}


def test_files_become_channels_in_the_order_of_the_model_whatever_their_own(place, tmp_path, capsys):
    table, report = tmp_path / "table.csv", tmp_path / "report.json"
    files = [place / "p1_T2.nii.gz", place / "p2" / "t2.nrrd", place / "p1_FLAIR.nii.gz", place / "p1_T1.nii.gz"]
    files.append(place / "p2" / "t1.nrrd")
    assert features(place, *files, table, "--modalities", "--report", report) == 0
    told = capsys.readouterr().err
    assert "p2 has no FLAIR." in told and "p1 has no" not in told and "read as T1, T2, FLAIR" in told
    assert [one["input"] for one in json.loads(report.read_text())] == ["p1", "p2"]
    assert features(place, place / "together.nrrd", tmp_path / "one.csv") == 0
    made, whole = numbers(table), numbers(tmp_path / "one.csv")["together"]
    assert list(made) == ["p1", "p2"] and made["p1"] == whole != made["p2"]


def test_further_scans_are_named_and_one_alone_is_told_by_its_name(place, tmp_path, capsys):
    table, whole = tmp_path / "table.csv", tmp_path / "whole.csv"
    first, second, third = (place / f"p1_{kind}.nii.gz" for kind in ("T1", "T2", "FLAIR"))
    assert features(place, second, table, "--with", f"FLAIR={third}", "--with", f"T1={first}") == 0
    assert "p1_T2 is taken as T2." in capsys.readouterr().err
    assert features(place, place / "together.nrrd", whole) == 0
    assert numbers(table)["p1_T2"] == numbers(whole)["together"]
    assert features(place, second, table) == 0
    alone = numbers(table)["p1_T2"]
    assert features(place, second, table, "--modality", "T2") == 0
    assert numbers(table)["p1_T2"] == alone != numbers(whole)["together"]
    assert features(place, second, table, "--modality", "t2", "--with", f"flair={third}", "--with", f"t1={first}") == 0
    assert numbers(table)["p1_T2"] == numbers(whole)["together"]
    for more, fault in (
        (["--modality", "PD"], "The model does not know 'PD'. It knows T1, T2, FLAIR."),
        (["--with", f"pd={first}"], "The model does not know 'pd'. It knows T1, T2, FLAIR."),
        (["--modality", "t2", "--with", f"T2={first}"], "The model does not fuse these scans."),
        (["--with", f"t1={first}", "--with", f"T1={third}"], "Two further scans are of one kind."),
        (["--with", f"T2={second}"], "named as T2 and as another scan"),
        (["--modality", "T1"], "its name says T2"),
        ([third, "--with", f"T1={first}"], "belong to one volume"),
        (["--with", "T1"], "KIND=FILE"),
        (["--with", f"T1={second}"], "is named as T1 and as another scan"),
        (["--modalities", "--modality", "T2"], "Leave out --modality and --with"),
    ):
        capsys.readouterr()
        inputs = [second, *more[:1], table, *more[1:]] if isinstance(more[0], type(third)) else [second, table, *more]
        assert features(place, *inputs) == 2
        assert fault in capsys.readouterr().err


def test_what_is_missing_is_told_and_an_unknown_channel_refused(place, tmp_path, capsys):
    table = tmp_path / "table.csv"
    assert features(place, place / "p1_T2.nii.gz", table, "--with", f"T1={place / 'p1_T1.nii.gz'}") == 0
    told = capsys.readouterr().err
    assert "p1_T2 has no FLAIR." in told and "has no T1" not in told
    holes = np.stack([blob(n, SHAPE) for n in range(3)]).astype(np.float32)
    holes[1], holes[0, :4] = np.nan, np.nan
    Volume(holes, np.eye(4)).save(tmp_path / "holes.nrrd")
    assert features(place, tmp_path / "holes.nrrd", table) == 0
    told = capsys.readouterr().err
    assert "holes has no T2." in told and "they count as dark" in told and "stay as they are" not in told
    for name, fault in (("PD", "holds no scan of PD"), ("T2", "holds no scan of T2")):
        assert features(place, tmp_path / "holes.nrrd", table, "--modality", name) == 2
        assert fault in capsys.readouterr().err


def test_rows_of_other_modalities_are_kept_apart_and_not_compared(place, tmp_path, capsys):
    index, table, near = (tmp_path / name for name in ("index.csv", "table.csv", "near.csv"))
    files = {kind: place / f"p1_{kind}.nii.gz" for kind in KINDS}
    other = [place / "p2" / "t1.nrrd", place / "p2" / "t2.nrrd"]
    every = ["--modalities", "--index", index, "--neighbours", near]
    assert features(place, files["T1"], files["T2"], *other, table, *every) == 0
    assert features(place, *files.values(), table, *every) == 0, "a third scan locks nobody out"
    assert "rows of p2 are of other modalities, and are not compared" in capsys.readouterr().err
    assert len(near.read_text().splitlines()) == 1
    assert features(place, files["FLAIR"], files["T2"], files["T1"], table, *every) == 0, "nor does another order"
    rows = list(csv.DictReader(index.open()))
    settings = {(row["case"], row["settings"]) for row in rows}
    assert len(rows) == 3 and settings == {
        ("p1", "own voxels, of T1 + T2"), ("p2", "own voxels, of T1 + T2"), ("p1", "own voxels, of T1 + T2 + FLAIR"),
    }  # fmt: skip
    assert features(place, files["T2"], files["T1"], table, *every) == 0
    assert "p2" in near.read_text()
    stranger = tmp_path / "other" / "p1_T1.nii.gz"
    stranger.parent.mkdir()
    stranger.write_bytes(files["T1"].read_bytes())
    for more in ([], [files["T2"]]):
        capsys.readouterr()
        assert features(place, stranger, *more, table, *every) == 2, "nobody takes the place of another person"
        told = capsys.readouterr().err
        assert "already holds a case p1 of another file" in told or "have the name p1" in told


def test_names_that_tell_too_little_or_too_much_are_refused_in_one_line(place, tmp_path, capsys):
    table, first = tmp_path / "table.csv", place / "p1_T1.nii.gz"
    twin = tmp_path / "p1_T1.nrrd"
    same, small = tmp_path / "p1_t1.nii", tmp_path / "p1_T2.nrrd"
    for path in (twin, same):
        Volume.load(first).save(path)
    Volume(blob(0, (9, 9, 9))[None], np.eye(4)).save(small)
    frames = tmp_path / "p2_T1.nrrd"
    Volume.load(place / "together.nrrd").save(frames)
    for files, said in (
        ([first, place / "together.nrrd"], "together.nrrd tells none of T1, T2, FLAIR"),
        ([twin, same], "p1 cannot be described: two of its files are of the same modality"),
        ([twin, twin], "is named twice"),
        ([twin, small], "p1 cannot be described: its modalities have different sizes"),
        ([frames], "p2_T1.nrrd has 3 frames"),
        ([first, twin], "Two of the volumes have the name p1"),
    ):
        assert features(place, *files, table, "--modalities") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert said in line and not table.exists()
    assert features(place, first, table, "--modalities", model="single") == 2
    assert "fuses no modalities that it has names for" in capsys.readouterr().err
    assert run("features", first, table, "--modalities") == 2
    assert "The usual model fuses no modalities" in capsys.readouterr().err and not table.exists()


def test_a_name_that_tells_another_order_is_noted(place, tmp_path, capsys):
    for name, count in (("p1-FLAIR-T1-T2", 1), ("p1-T1-T2-FLAIR", 0)):
        Volume.load(place / "together.nrrd").save(tmp_path / f"{name}.nrrd")
        assert features(place, tmp_path / f"{name}.nrrd", tmp_path / "table.csv") == 0
        assert capsys.readouterr().err.count(f"The name of {name} tells FLAIR, T1, T2; check") == count


def test_the_bundle_names_its_channels_for_others_too(place):
    image = json.loads((place / "model" / METADATA).read_text())["network_data_format"]["inputs"]["image"]
    assert image["channel_def"] == {"0": "T1", "1": "T2", "2": "FLAIR"}
