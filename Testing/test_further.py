"""Further scans by `--with KIND=FILE`: the series that a kind names, and no scan that is taken as two kinds."""

import numpy as np
import pytest
from dicom_tools import UID, write_stack

from MedAELib import Volume
from MedAELib.errors import BadInput
from MedAELib.further import further_scans, load_as, load_further


@pytest.fixture
def folder(tmp_path):
    """A folder of DICOM with two series, the first of which has more slices."""
    for number, (name, count) in enumerate((("T1 ax", 6), ("T2 ax", 4)), 1):
        tags = {"x0008_103e": name, "x0020_000e": f"{UID}.9{number}", "x0008_0060": "MR"}
        write_stack(tmp_path / "scans" / name, range(count), first=10 * number, **tags)
    return tmp_path / "scans"


def test_a_kind_names_its_series_of_a_folder_with_several(folder):
    first = Volume.load(folder, "T1")
    found = load_further(further_scans([f"t2={folder}"]), folder, first)
    assert list(found) == ["with_0"] and found["with_0"].shape[2] == 4 and first.shape[2] == 6
    for kind, fault in (("FLAIR", "no series that match"), ("T1", "named as T1 and as another scan")):
        with pytest.raises(BadInput, match=fault):
            load_further({kind: folder}, folder, first)


def test_the_input_is_the_series_that_its_kind_names_too(folder):
    second = load_as(folder, "T2")
    assert second.shape[2] == 4 and load_as(folder, "T2", "T1").shape[2] == 6 and load_as(folder, "").shape[2] == 6
    assert load_further({"T1": folder}, folder, second)["with_0"].shape[2] == 6
    with pytest.raises(BadInput, match="2 series that match 'ax'") as fault:
        load_as(folder, "ax")
    assert "folders of their own" in fault.value.next_step


def test_one_scan_is_never_two_kinds(tmp_path):
    volume = Volume(np.zeros((1, 4, 4, 4), np.float32), np.eye(4))
    for name in ("a", "b", "c"):
        volume.save(tmp_path / f"{name}.nii.gz")
    a, b, c = (tmp_path / f"{name}.nii.gz" for name in "abc")
    assert list(load_further({"T2": b, "T3": c}, a, volume)) == ["with_0", "with_1"]
    for others in ({"T2": a}, {"T2": b, "T3": tmp_path / "." / "b.nii.gz"}):
        with pytest.raises(BadInput, match="as another scan"):
            load_further(others, a, volume)


def test_a_folder_of_one_series_needs_no_name(folder, tmp_path):
    volume = Volume(np.zeros((1, 4, 4, 4), np.float32), np.eye(4))
    assert load_further({"PD": folder / "T2 ax"}, tmp_path / "a.nrrd", volume)["with_0"].shape[2] == 4
