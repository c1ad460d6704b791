"""`python -m MedAELib features`: tables, indices and similar cases; what is wrong is one line and leaves nothing."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from models import save_small_model
from volumes import write_volumes

from MedAELib.__main__ import main
from MedAELib.errors import BadInput
from MedAELib.features.neighbours import KNOWN, Table, nearest, read_table, write_table
from MedAELib.volume import Volume


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("features")
    write_volumes(folder / "scans")
    save_small_model(folder / "model", modality="MR")
    save_small_model(folder / "other", modality="MR", seed=5)
    labels = Volume.load(folder / "scans" / "subject0.nii.gz")
    labels.like((labels.array > 300).astype(np.uint8)).save(folder / "labels.nii.gz")
    return folder


def run(place, *arguments, model="model") -> int:
    words = [str(place / "scans" / f"{a}.nii.gz") if str(a).startswith("subject") else str(a) for a in arguments]
    return main(["features", *words, "--model", str(place / model), "--device", "cpu"])


@pytest.mark.parametrize("ending", [".csv", ".npz"])
def test_cases_are_embedded_indexed_and_found_again(place, tmp_path, capsys, ending):
    index, table, near = tmp_path / f"index{ending}", tmp_path / "table.csv", tmp_path / "near.csv"
    assert run(place, "subject0", "subject1", "subject2", table, "--index", index, "--latent", tmp_path) == 0
    rows = list(csv.DictReader(table.open()))
    assert [row["case"] for row in rows] == ["subject0", "subject1", "subject2"]
    assert list(rows[0])[: len(KNOWN)] == list(KNOWN) and len(rows[0]) == len(KNOWN) + 8 * 4 + 2 * 4 + 2 * 3 + 5
    assert Volume.load(tmp_path / "subject1-latent.nrrd").channels == 8
    # The same scan under another name has itself as the nearest case, at no distance.
    copy = tmp_path / "again.nii.gz"
    copy.write_bytes((place / "scans" / "subject1.nii.gz").read_bytes())
    capsys.readouterr()
    assert run(place, copy, table, "--index", index, "--similar", "2", "--neighbours", near) == 0
    assert "subject1 volume\t0\n" in capsys.readouterr().out
    found = list(csv.DictReader(near.open()))
    assert [row["rank"] for row in found] == ["1", "2"]
    assert found[0]["similar_case"] == "subject1" and float(found[0]["distance"]) == 0
    assert found[0]["similar_file"].endswith("subject1.nii.gz") and float(found[1]["distance"]) > 0
    assert [row[0] for row in read_table(index).known] == ["subject0", "subject1", "subject2", "again"]
    # A case that is known already is replaced, and is not its own neighbour.
    assert run(place, "subject1", table, "--index", index, "--neighbours", near) == 0
    assert "subject1" not in [row["similar_case"] for row in csv.DictReader(near.open())]
    assert len(read_table(index).known) == 4


def test_another_file_of_the_same_name_does_not_take_the_place_of_a_known_case(place, tmp_path, capsys):
    table, index, twin = tmp_path / "table.csv", tmp_path / "index.csv", tmp_path / "other" / "subject0.nii.gz"
    assert run(place, "subject0", table, "--index", index) == 0
    before = index.read_bytes()
    twin.parent.mkdir()
    twin.write_bytes((place / "scans" / "subject1.nii.gz").read_bytes())
    assert run(place, twin, table, "--index", index) == 2
    assert "already holds a case subject0 of another file" in capsys.readouterr().err
    assert index.read_bytes() == before


def test_segments_are_rows(place, tmp_path):
    table = tmp_path / "table.csv"
    assert run(place, "subject0", table, "--per", "segment", "--segments", place / "labels.nii.gz") == 0
    assert [row["item"] for row in csv.DictReader(table.open())] == ["1"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.nii", "out.csv"], "missing.nii"),
        (["subject0", "out.txt"], "out.txt"),
        (["subject0", "subject0", "out.csv"], "subject0"),
        (["subject0", "out.csv", "--per", "segment"], "label map"),
        (["subject0", "subject1", "out.csv", "--per", "segment", "--segments", "LABELS"], "belongs to one"),
        (["subject0", "out.csv", "--index", "BROKEN"], "broken.csv is no table"),
        (["subject0", "out.csv", "--index", "OTHER"], "another model"),
        (["subject0", "out.csv", "--index", "SETTINGS"], "other settings"),
        (["subject0", "out.csv", "--latent", "nowhere/deeper"], "nowhere"),
        (["subject0", "out.csv", "--similar", "-1"], "-1"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(arguments, said, place, tmp_path, monkeypatch, capfd):
    kept = place / "kept"
    if not kept.exists():
        kept.mkdir()
        (kept / "broken.csv").write_text("a,b\n1,2\n")
        assert run(place, "subject0", kept / "table.csv", "--index", kept / "other.csv", model="other") == 0
        assert run(place, "subject0", kept / "table.csv", "--index", kept / "settings.csv", "--spacing", "3") == 0
    named = {name.upper(): kept / f"{name}.csv" for name in ("broken", "other", "settings")}
    before = {path: path.read_bytes() for path in kept.iterdir()}
    monkeypatch.chdir(tmp_path)
    capfd.readouterr()
    assert run(place, *(named.get(a, place / "labels.nii.gz" if a == "LABELS" else a) for a in arguments)) == 2
    told = capfd.readouterr().err
    assert told.strip().splitlines()[-1].startswith("medae: ") and said in told and "Traceback" not in told
    assert list(tmp_path.iterdir()) == [] and {path: path.read_bytes() for path in kept.iterdir()} == before


numbers = st.floats(-1e6, 1e6)


@given(values=arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 5)), elements=numbers))
def test_a_table_comes_back_from_its_file_as_it_was(values, tmp_path_factory):
    folder = tmp_path_factory.mktemp("tables")
    rest = ("volume", "0", "1", "2", "9", "", "abc", "own voxels")
    known = tuple((f"case {n}, of many", *rest) for n in range(len(values)))
    table = Table(tuple(f"mean_{n:03d}" for n in range(values.shape[1])), known, values)
    for name in ("table.csv", "table.npz"):
        write_table(folder / name, table)
        back = read_table(folder / name)
        assert back.names == table.names and back.known == table.known
        np.testing.assert_array_equal(back.values, values)


@given(
    values=arrays(np.float64, st.tuples(st.integers(1, 8), st.just(4)), elements=numbers),
    distance=st.sampled_from(["standardised", "cosine"]),
)
def test_nearest_is_in_order_never_negative_and_finds_the_row_itself(values, distance):
    known = tuple((str(n), *[""] * (len(KNOWN) - 1)) for n in range(len(values)))
    found = nearest(Table(("a", "b", "c", "d"), known, values), values[0], 5, distance)
    distances = [d for _, d in found]
    assert distances == sorted(distances) and min(distances) >= 0 and len(found) == min(5, len(values))
    if distance == "standardised" or np.linalg.norm(values[0]) > 1e-6:
        assert distances[0] == pytest.approx(0, abs=1e-6)


def test_an_unknown_distance_is_refused():
    with pytest.raises(BadInput, match="manhattan"):
        nearest(Table(("a",), (), np.zeros((0, 1))), np.zeros(1), 1, "manhattan")
