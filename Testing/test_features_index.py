"""The table of known cases: no row of it is lost, whatever is added to it and by how many; damage is told."""

from __future__ import annotations

import csv
import threading

import numpy as np
import pytest
from models import save_small_model
from volumes import blob

from MedAELib.__main__ import main
from MedAELib.errors import BadInput
from MedAELib.features.neighbours import KNOWN, Meaning, Table, joining, nearest_of_each, read_table, write_table
from MedAELib.volume import Volume


def table(case: str, *items: str, settings: str = "own voxels", middle: str = "0.0") -> Table:
    """Rows of one case with two features."""
    known = tuple((case, item, middle, "0.0", "0.0", "9", "", "abc", settings) for item in items)
    return Table(("a", "b"), known, np.arange(2.0 * len(items)).reshape(-1, 2))


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a model, a scan, and a label map with the labels 4 and 10."""
    folder = tmp_path_factory.mktemp("index")
    save_small_model(folder / "model", modality="MR")
    scan = Volume(blob(0, (16, 16, 12))[None], np.eye(4), {"modality": "MR"})
    scan.save(folder / "scan.nii.gz")
    labels = np.zeros(scan.array.shape, np.int16)
    labels[0, 2:8, 2:8, 2:8], labels[0, 9:13, 9:13, 5:9] = 4, 10
    scan.like(labels).save(folder / "labels.nii.gz")
    return folder


def run(place, output, *arguments) -> int:
    """The command on the scan."""
    words = [str(place / "scan.nii.gz"), str(output), *map(str, arguments)]
    return main(["features", *words, "--model", str(place / "model"), "--device", "cpu"])


def test_a_slice_and_a_segment_of_one_name_are_two_rows_of_the_index(place, tmp_path):
    index, output = tmp_path / "index.csv", tmp_path / "table.csv"
    segments = ("--per", "segment", "--segments", place / "labels.nii.gz")
    assert run(place, output, "--index", index, "--per", "slice") == 0
    slices = [row[1] for row in read_table(index).known]
    assert {"4", "10"} <= set(slices)
    for _ in range(2):
        assert run(place, output, "--index", index, *segments) == 0
        assert run(place, output, "--index", index) == 0
        assert sorted(row[1] for row in read_table(index).known) == sorted([*slices, "4", "10", "volume"])


def test_slices_are_compared_with_slices_only(place, tmp_path, capsys):
    index, near = tmp_path / "index.csv", tmp_path / "near.csv"
    (tmp_path / "other.nii.gz").write_bytes((place / "scan.nii.gz").read_bytes())

    def other(*arguments) -> list[dict[str, str]]:
        words = [tmp_path / "other.nii.gz", tmp_path / "o.csv", "--index", index, "--neighbours", near, *arguments]
        assert main(["features", *map(str, words), "--model", str(place / "model"), "--device", "cpu"]) == 0
        return list(csv.DictReader(near.open()))

    assert run(place, tmp_path / "o.csv", "--index", index) == 0
    assert other("--per", "slice") == []
    assert "holds no rows per slice of other cases" in capsys.readouterr().err
    assert run(place, tmp_path / "o.csv", "--index", index, "--per", "slice") == 0
    assert {row["similar_item"] for row in other()} == {"volume"}
    assert "volume" not in {row["similar_item"] for row in other("--per", "slice")}


def test_rows_of_a_fusion_that_does_not_say_its_modalities_are_not_compared_and_replaced(tmp_path):
    old = table("head", "volume").joined(table("foot", "volume"), tmp_path)
    assert Meaning.of(old.known[0]) != Meaning.of(table("head", "volume", settings="own voxels, of T1").known[0])
    joined = old.joined(table("head", "volume", settings="own voxels, of T1"), tmp_path)
    assert [(row[0], row[8]) for row in joined.known] == [("foot", "own voxels"), ("head", "own voxels, of T1")]
    joined = joined.joined(table("head", "volume", settings="own voxels, of T1 + T2"), tmp_path)
    assert len(joined.known) == 3


def test_rows_of_an_index_that_does_not_say_what_they_describe_are_replaced_where_they_are_the_same(tmp_path):
    old = table("head", "2", "3").joined(table("foot", "2", middle="7.0"), tmp_path)
    joined = old.joined(table("head", "2", settings="own voxels, per slice"), tmp_path)
    assert [row[:2] for row in joined.known] == [("head", "3"), ("foot", "2"), ("head", "2")]
    joined = joined.joined(table("foot", "2", settings="own voxels, per segment"), tmp_path)
    assert [row[:2] for row in joined.known].count(("foot", "2")) == 2
    with pytest.raises(BadInput, match="other settings"):
        joined.joined(table("hand", "2", settings="3 mm, per segment"), tmp_path)


def test_runs_that_add_to_one_index_at_a_time_lose_no_row(tmp_path):
    index = tmp_path / "index.csv"

    def add(number: int) -> None:
        for turn in range(4):
            with joining(index, table(f"case {number} {turn}", "volume")):
                pass

    runs = [threading.Thread(target=add, args=(number,)) for number in range(4)]
    for one in runs:
        one.start()
    for one in runs:
        one.join()
    assert len(read_table(index).known) == 16
    assert [path.name for path in tmp_path.iterdir()] == ["index.csv"]


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_table_that_is_cut_short_or_damaged_is_no_table(tmp_path, share):
    path = tmp_path / "index.npz"
    write_table(path, table("head", *map(str, range(50))))
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(BadInput, match="is no table of features"):
        read_table(path)
    for at in range(60, len(whole) - 1, 37):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x55]) + whole[at + 1 :])
        try:
            read_table(path)
        except BadInput as error:
            assert "is no table of features" in str(error)


def test_no_similar_cases_are_a_table_with_its_names_and_endings_may_be_in_capitals(place, tmp_path):
    output, near = tmp_path / "Q.CSV", tmp_path / "NEAR.CSV"
    assert run(place, output, "--neighbours", near) == 0
    assert near.read_text().startswith("case,item,rank,similar_case,similar_item,distance,r,a,s,similar_file\n")
    assert len(list(csv.reader(near.open()))) == 1 and len(read_table(output).known) == 1
    assert run(place, tmp_path / "Q.NPZ") == 0 and read_table(tmp_path / "Q.NPZ").known[0][0] == "scan"
    assert len(KNOWN) == 9


def test_codes_never_take_the_place_of_an_input_and_are_written_only_where_all_goes_well(place, tmp_path, capsys):
    scan, codes = Volume.load(place / "scan.nii.gz"), tmp_path / "codes"
    for name in ("tiny", "tiny-latent"):
        scan.save(tmp_path / f"{name}.nrrd")
    scan.like(np.zeros_like(scan.array)).save(tmp_path / "empty.nrrd")
    before = (tmp_path / "tiny-latent.nrrd").read_bytes()
    common = ["--model", str(place / "model"), "--device", "cpu"]
    pair = [str(tmp_path / f"{name}.nrrd") for name in ("tiny", "tiny-latent")]
    assert main(["features", *pair, str(tmp_path / "t.csv"), "--latent", str(tmp_path), *common]) == 2
    assert "is the input itself" in capsys.readouterr().err
    assert (tmp_path / "tiny-latent.nrrd").read_bytes() == before
    failing = [pair[0], str(tmp_path / "empty.nrrd"), str(tmp_path / "t.csv")]
    assert main(["features", *failing, "--latent", str(codes), *common]) == 2
    assert "the same value, 0, everywhere" in capsys.readouterr().err
    assert not codes.exists() and not (tmp_path / "t.csv").exists()
    assert main(["features", pair[0], str(tmp_path / "t.csv"), "--latent", str(codes), *common]) == 0
    assert [path.name for path in codes.iterdir()] == ["tiny-latent.nrrd"]


def test_a_long_index_is_compared_quickly_and_in_the_same_order():
    rng = np.random.default_rng(0)
    values = rng.normal(size=(3000, 20)) * rng.uniform(0.1, 50, 20) + 100
    index = Table(("",) * 20, tuple((str(n), *[""] * 8) for n in range(3000)), values)
    asked, told = values[:70] + 0.1, []
    found = nearest_of_each(index, asked, 4, "standardised", lambda done, total: told.append((done, total)))
    far = np.sqrt(np.square((values - asked[:, None]) / values.std(axis=0)).mean(axis=2))
    assert [[n for n, _ in row] for row in found] == np.argsort(far, axis=1)[:, :4].tolist()
    np.testing.assert_allclose([[d for _, d in row] for row in found], np.sort(far, axis=1)[:, :4], rtol=1e-5)
    assert told[0] == (0, 70) and told[-1] == (70, 70)
