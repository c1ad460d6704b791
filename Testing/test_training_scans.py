"""What a folder of scans holds: every DICOM series once, whosever folders it lies in; links; no label maps."""

import locale
from pathlib import Path

import numpy as np
import pytest
from dicom_tools import write, write_stack
from generated_heads import head

from MedAELib import Volume
from MedAELib.errors import BadInput
from MedAELib.training.folder import Case, read_folder
from MedAELib.training.scans import holds_scans, scans_in

HEIGHTS = [0, 2, 4, 6]


@pytest.fixture(autouse=True)
def character_set():
    """ITK's DICOM writer sets it to ASCII for the whole process."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    locale.setlocale(locale.LC_CTYPE, before)


def series(folder: Path, uid: str, patient: str = "", said: str = "", ending: str = ".dcm", **more: str) -> None:
    """A series of four slices, of this patient and description."""
    tags = {"t0020_000e": f"1.2.3.{uid}", "t0010_0020": patient, "t0008_103e": said, **more}
    write_stack(folder, HEIGHTS, ending, 100 * int(uid), **tags)


def read(folder: Path, tmp_path: Path, subject: str = "") -> tuple[dict[str, Case], list[str]]:
    """The cases by name, and what was told."""
    told: list[str] = []
    cases = read_folder(folder, tmp_path / "cache", [], subject, told.append, remark=told.append)
    assert len({case.name for case in cases}) == len(cases)
    return {case.name: case for case in cases}, told


def scan(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head((8.0, 8.0, 8.0), seed=seed)[0].save(path)


def test_every_series_of_a_folder_is_a_case_called_by_what_it_is(tmp_path):
    folder = tmp_path / "scans"
    series(folder / "anna", "1", "A", "T1 axial")
    series(folder / "anna" / "more", "2", "A", "T2/axial")
    write_stack(folder / "anna", HEIGHTS, ".2.dcm", 300, t0020_000e="1.2.3.3", t0008_103e="T1 axial", t0010_0020="A")
    series(folder / "bert", "4", "B", "T1 axial")
    cases, told = read(folder, tmp_path)
    assert sorted(cases) == ["anna/T1 axial 1", "anna/T1 axial 2", "anna/more", "bert"]
    assert [case.subject for _, case in sorted(cases.items())] == ["anna", "anna", "anna", "bert"]
    values = {name: np.unique(case.voxels).tolist() for name, case in cases.items()}
    assert values["anna/more"] == [200, 201, 202, 203] and values["bert"] == [400, 401, 402, 403]
    assert not told


def test_localizers_and_what_is_drawn_upon_scans_are_named_and_left_out(tmp_path):
    folder = tmp_path / "scans"
    series(folder / "anna", "1", "A", "T1")
    series(folder / "anna" / "l", "2", "A", "scout", t0008_0008="ORIGINAL\\PRIMARY\\LOCALIZER")
    series(folder / "anna" / "s", "3", "A", "plan", t0008_0060="SEG")
    series(folder / "anna" / "d", "4", "A", "plan", t0008_0060="RTDOSE")  # without the scale that a dose must have
    cases, told = read(folder, tmp_path)
    assert list(cases) == ["anna"]
    assert len(told) == 3 and "anna/l is left out: it is a localizer" in " ".join(told)
    assert "anna/s is left out: it holds segments" in " ".join(told)
    assert any(one.startswith("anna/d is left out") and "cannot be read" in one for one in told)


@pytest.mark.parametrize("ending", ["", ".17", ".ima"])
def test_dicom_files_are_known_by_their_content(tmp_path, ending):
    folder = tmp_path / "scans"
    series(folder / "anna", "1", "A", ending=ending)
    (folder / "anna" / "README").write_text("no scan")
    (folder / "anna" / "DICOMDIR").write_bytes(bytes(128) + b"DICM" + bytes(100))
    assert holds_scans(folder)
    cases, told = read(folder, tmp_path)
    assert list(cases) == ["anna"] and cases["anna"].voxels.shape == (1, 6, 4, 4) and not told


def test_a_stray_slice_beside_the_folders_of_patients_puts_nobody_into_two_parts(tmp_path):
    folder = tmp_path / "scans"
    for uid, name in enumerate(("anna", "bert", "carl"), 1):
        series(folder / name, str(uid), name.upper())
    (folder / "anna" / "100.dcm").rename(folder / "100.dcm")
    cases, _ = read(folder, tmp_path)
    assert {name: case.subject for name, case in cases.items()} == {name: name for name in ("anna", "bert", "carl")}
    assert cases["anna"].voxels.shape == (1, 6, 4, 4)


def test_folders_of_one_patient_are_one_subject_and_the_number_is_told_to_nobody(tmp_path):
    folder = tmp_path / "scans"
    series(folder / "first", "1", "SECRET-1")
    series(folder / "second", "2", "SECRET-2")
    series(folder / "third", "3", "SECRET-1")
    cases, told = read(folder, tmp_path)
    assert [cases[name].subject for name in ("first", "second", "third")] == ["first", "second", "first"]
    seen = repr(cases) + " ".join(told) + " ".join(str(case.header) for case in cases.values())
    assert "SECRET" not in seen and "SECRET" not in repr(scans_in(folder, print))
    assert [case.subject for case in read(folder, tmp_path, "^(.)")[0].values()] == ["f", "s", "t"]


def test_one_number_for_everybody_joins_nobody(tmp_path):
    folder = tmp_path / "scans"
    for uid, name in enumerate(("anna", "bert", "carl"), 1):
        series(folder / name, str(uid), "ANON")
    cases, told = read(folder, tmp_path)
    assert {name: case.subject for name, case in cases.items()} == {name: name for name in cases}
    assert len(cases) == 3 and len(told) == 1 and "same patient number" in told[0]


def test_a_damaged_slice_leaves_out_its_series_alone(tmp_path):
    folder = tmp_path / "scans"
    series(folder / "anna", "1", "A")
    series(folder / "bert", "2", "B")
    broken = folder / "bert" / "202.dcm"
    broken.write_bytes(broken.read_bytes()[:600])
    cases, told = read(folder, tmp_path)
    assert list(cases) == ["anna"]
    assert len(told) == 1 and told[0].startswith("bert is left out") and "damaged or truncated" in told[0]


def test_links_are_followed_and_each_file_counts_once(tmp_path):
    folder, elsewhere = tmp_path / "scans", tmp_path / "elsewhere"
    for n in range(3):
        scan(elsewhere / f"p{n}" / "scan.nii.gz", n)
    folder.mkdir()
    for name in ("p0", "p1"):
        (folder / name).symlink_to(elsewhere / name)
    (folder / "again").symlink_to(elsewhere / "p0")
    (folder / "loop").symlink_to(folder)
    (folder / "nothing").symlink_to(tmp_path / "missing")
    (folder / "p2.nii.gz").symlink_to(elsewhere / "p2" / "scan.nii.gz")
    names = [one.name for one in scans_in(folder, print)]
    assert len(names) == 3 and "p1/scan.nii.gz" in names and "p2.nii.gz" in names
    assert len(read(folder, tmp_path)[0]) == 3


@pytest.mark.parametrize("name", ["p1/anna_seg.nii.gz", "p1/other.nrrd", "labels/anna.nii.gz"])
def test_label_maps_beside_scans_are_named_and_left_out(tmp_path, name):
    folder = tmp_path / "scans"
    scan(folder / "p1" / "anna.nii.gz")
    volume, _ = head((8.0, 8.0, 8.0))
    (folder / name).parent.mkdir(exist_ok=True)
    volume.like((volume.array > np.median(volume.array)).astype(np.uint8)).save(folder / name)
    cases, told = read(folder, tmp_path)
    assert list(cases) == ["p1/anna.nii.gz"]
    assert told == [f"{name} is left out: it holds few different values, as a label map does."]


def test_many_labels_are_known_by_their_patches_in_a_file_of_such_a_name_and_noise_is_not(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    places = np.indices((24, 24, 24)) // 6
    labels = (places[0] * 16 + places[1] * 4 + places[2] + 1).astype(np.int16)[None]
    noise = np.random.default_rng(0).integers(0, 200, (1, 24, 24, 24)).astype(np.int16)
    for name, voxels in (("x_labels.nrrd", labels), ("masked.nrrd", noise), ("y_mask.nrrd", noise)):
        Volume(voxels, np.eye(4)).save(folder / name)
    cases, told = read(folder, tmp_path)
    assert sorted(cases) == ["masked.nrrd", "y_mask.nrrd"] and "x_labels.nrrd is left out" in told[0]


def test_a_folder_of_label_maps_alone_is_refused_in_a_sentence(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    volume, _ = head((8.0, 8.0, 8.0))
    volume.like((volume.array > 20).astype(np.uint8)).save(folder / "one.nrrd")
    with pytest.raises(BadInput, match="holds label maps only"):
        read(folder, tmp_path)


def test_a_single_dicom_file_right_in_the_folder_is_a_scan(tmp_path):
    folder = tmp_path / "scans"
    for number in range(2):
        write(folder / f"{number}.dcm", number, (0, 0, 0), t0020_000e=f"1.2.3.{number}", t0010_0020=str(number))
    scans = scans_in(folder, print)
    assert len(scans) == 2 and len({one.name for one in scans}) == 2


@pytest.mark.parametrize("where", [".", "anna"])
def test_a_dicom_file_that_is_no_image_is_named_and_does_not_stand_for_the_scans_in_folders_below_it(tmp_path, where):
    folder = tmp_path / "scans"
    series(folder / "anna" / "ct", "1", "A")
    series(folder / "bert" / "ct", "2", "B")
    (folder / where / "plan.dcm").write_bytes(bytes(128) + b"DICM" + bytes(200))
    cases, told = read(folder, tmp_path)
    assert sorted(cases) == ["anna/ct", "bert/ct"]
    name = "plan.dcm" if where == "." else "anna/plan.dcm"
    assert len(told) == 1 and told[0].startswith(f"{name} is left out") and "cannot be read" in told[0]


def test_series_without_a_number_are_called_the_same_whatever_their_files_are_called(tmp_path):
    for copy, order in (("one", (1, 2, 3)), ("other", (3, 1, 2))):
        for place, uid in enumerate(order):
            tags = {"t0020_000e": f"1.2.3.{uid}", "t0008_103e": "T1", "t0010_0020": "A"}
            write_stack(tmp_path / copy / "anna", HEIGHTS, f".{place}.dcm", 100 * uid, **tags)
            for path in (tmp_path / copy / "anna").glob(f"{uid}*.{place}.dcm"):
                path.rename(path.with_name(f"{place}-{path.name}"))
    for copy in ("one", "other"):
        found = {one.name: one.series.first.series for one in scans_in(tmp_path / copy, print)}
        assert found == {f"anna/T1 {n}": f"1.2.3.{n}" for n in (1, 2, 3)}
