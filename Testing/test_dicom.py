"""DICOM folders as scanners and archives leave them: what is one even, right-angled stack is read, all else refused."""

import locale
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from dicom_tools import write, write_stack

from MedAELib import Volume
from MedAELib.codec.volumes import compress
from MedAELib.errors import BadInput


@pytest.fixture(autouse=True)
def character_set():
    """ITK's DICOM writer sets it to ASCII for the whole process."""
    before = locale.setlocale(locale.LC_CTYPE)
    yield
    locale.setlocale(locale.LC_CTYPE, before)


def profile(volume: Volume) -> list[list[int]]:
    """The values along k of each frame."""
    return volume.array[:, 0, 0].tolist()


def refusal(folder: Path) -> str:
    with pytest.raises(BadInput) as fault:
        Volume.load(folder)
    assert str(folder) in str(fault.value) and "\n" not in str(fault.value) and fault.value.next_step
    return str(fault.value)


def test_a_series_may_lie_in_several_folders_and_in_any_order(tmp_path):
    for number in range(9):
        write(tmp_path / f"{number % 3}" / f"{number}.dcm", number, (0, 0, 10 - 2.5 * number))
    write(tmp_path / "copies" / "of4.dcm", 4, (0, 0, 0))
    volume = Volume.load(tmp_path)
    assert profile(volume) == [list(range(8, -1, -1))]
    assert np.allclose(volume.affine, np.diag([-0.5, -0.5, 2.5, 1]) + np.array([[0, 0, 0, x] for x in (0, 0, -10, 0)]))


def test_repeated_positions_become_frames(tmp_path):
    for number in range(12):  # all positions of a frame, then the next frame
        write(tmp_path / f"{number}.dcm", number, (0, 0, 2 * (number % 4)))
    volume = Volume.load(tmp_path)
    assert profile(volume) == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9, 10, 11]]
    assert volume.spacing == (0.5, 0.5, 2) and volume.meta["frames"]
    volume.save(tmp_path / "cine.nrrd")
    assert sitk.ReadImage(str(tmp_path / "cine.nrrd")).GetSize() == (6, 4, 4, 3)


@pytest.mark.parametrize("tag", ["t0020_0100", "t0018_1060", "t0018_0086", "t0018_9087", "t0020_0012"])
def test_frames_are_told_apart_by_what_they_are_not_by_the_number(tmp_path, tag):
    numbers = np.random.default_rng(3).permutation(8)
    for at, number in enumerate(numbers):
        time = "9" if at < 4 else "10"
        write(tmp_path / f"{at}.dcm", int(number), (0, 0, at % 4), value=at, **{tag: time})
    assert profile(Volume.load(tmp_path)) == [[0, 1, 2, 3], [4, 5, 6, 7]]


def test_one_position_many_times_is_one_slice_in_frames(tmp_path):
    for number in range(5):
        write(tmp_path / f"{number}.dcm", number, (0, 0, 7))
    assert Volume.load(tmp_path).array.shape == (5, 6, 4, 1)


def test_frames_of_which_some_slices_are_missing_are_refused(tmp_path):
    for number in range(11):
        write(tmp_path / f"{number}.dcm", number, (0, 0, 2 * (number % 4)))
    assert "has 3 slices" in refusal(tmp_path)


def test_frames_that_nothing_tells_apart_are_refused(tmp_path):
    for number in range(8):
        write(tmp_path / f"{number}.dcm", number, (0, 0, 2 * (number % 4)), t0020_0013="1")
    assert "nothing tells which belong together" in refusal(tmp_path)


@pytest.mark.parametrize("missing", [1, 5, 13])
def test_a_missing_slice_is_named_by_its_neighbours(tmp_path, missing):
    write_stack(tmp_path, 1.25 * np.arange(15))
    (tmp_path / f"{missing:03d}.dcm").unlink()
    told = refusal(tmp_path)
    assert f"2.5 mm between {missing - 1:03d}.dcm and {missing + 1:03d}.dcm, 1.25 mm elsewhere" in told


@pytest.mark.parametrize("heights", [[0, 2, 4, 6.1, 8.1], [0, 0.05, 0.1, 0.2], [0, 1, 3]])
def test_uneven_slices_are_refused(tmp_path, heights):
    write_stack(tmp_path, heights)
    assert "not evenly spaced" in refusal(tmp_path)


def test_positions_that_were_rounded_are_even(tmp_path):
    write_stack(tmp_path, np.round(-311.7 + 0.625 * np.arange(30), 2))
    assert Volume.load(tmp_path).spacing[2] == pytest.approx(0.625, abs=1e-3)


def test_a_tilted_gantry_is_refused(tmp_path):
    for number in range(8):
        write(tmp_path / f"{number}.dcm", number, (0, 0.3 * number, 2 * number))
    assert "right angles" in refusal(tmp_path)


def test_an_oblique_series_whose_slices_move_along_their_normal_is_read(tmp_path):
    angle = np.deg2rad(25)
    row, column = np.array([1, 0, 0]), np.array([0, np.cos(angle), np.sin(angle)])
    turned = "\\".join(f"{x:.6f}" for x in [*row, *column])
    for number in range(20):
        place = np.round([5, 6, 7] + 3 * number * np.cross(row, column), 4)
        write(tmp_path / f"{number}.dcm", number, place, t0020_0037=turned)
    volume = Volume.load(tmp_path)
    assert profile(volume) == [list(range(20))]
    assert np.allclose(volume.affine[:3, 2], np.cross(row, column) * [-3, -3, 3], atol=1e-3)


def test_mixed_sizes_and_directions_are_refused(tmp_path):
    write_stack(tmp_path / "sizes", range(4))
    write(tmp_path / "sizes" / "x.dcm", 9, (0, 0, 4), size=(4, 6))
    assert "6 x 4 in 000.dcm, 4 x 6 in x.dcm" in refusal(tmp_path / "sizes")
    write_stack(tmp_path / "turned", range(4))
    write(tmp_path / "turned" / "x.dcm", 9, (0, 0, 4), t0020_0037="0\\1\\0\\0\\0\\1")
    assert "directions" in refusal(tmp_path / "turned")


def test_the_localizer_of_a_series_is_left_out(tmp_path):
    write_stack(tmp_path, range(4), t0008_0008="ORIGINAL\\PRIMARY\\AXIAL")
    write(tmp_path / "x.dcm", 9, (0, 0, 4), size=(9, 9), t0008_0008="ORIGINAL\\PRIMARY\\LOCALIZER")
    assert profile(Volume.load(tmp_path)) == [[0, 1, 2, 3]]


def test_a_single_slice_and_a_file_of_many_frames_are_read(tmp_path):
    write(tmp_path / "one" / "a.dcm", 3, (1, 2, 3))
    assert Volume.load(tmp_path / "one").shape == (6, 4, 1)
    many = np.arange(5 * 4 * 6, dtype="uint16").reshape(5, 4, 6)
    (tmp_path / "many").mkdir()
    sitk.WriteImage(sitk.GetImageFromArray(many), str(tmp_path / "many" / "a.dcm"))
    assert np.array_equal(Volume.load(tmp_path / "many").array[0].T, many)


def patch(path: Path, old: bytes, new: bytes) -> None:
    content = path.read_bytes()
    assert content.count(old) == 1 and len(old) == len(new)
    path.write_bytes(content.replace(old, new))


def test_slices_that_do_not_say_where_they_lie_are_refused(tmp_path):
    write_stack(tmp_path, range(3))
    for path in tmp_path.iterdir():
        patch(path, b"\x20\0\x32\0", b"\x20\0\x33\0")
    assert "does not say where its slices lie" in refusal(tmp_path)


def test_each_slice_keeps_its_own_rescale(tmp_path):
    """As PET has it; ITK takes the first slice's whole numbers for the type of all."""
    write(tmp_path / "0.dcm", 0, (0, 0, 0), value=3)
    for number, slope in ((1, b".5"), (2, b".2")):
        write(tmp_path / f"{number}.dcm", number, (0, 0, number), value=12, t0028_1053="4", t0028_1052="0")
        patch(tmp_path / f"{number}.dcm", b"\x28\0\x53\x10\x02\0\0\x004 ", b"\x28\0\x53\x10\x02\0\0\0" + slope)
    assert profile(Volume.load(tmp_path))[0] == pytest.approx([3, 1.5, 0.6])


@pytest.mark.parametrize("cut", [2, 30, 48])
def test_a_truncated_slice_is_named_even_at_the_end_of_the_stack(tmp_path, cut):
    write_stack(tmp_path, range(5), t0008_0016="1.2.840.10008.5.1.4.1.1.2")
    path = tmp_path / "004.dcm"
    path.write_bytes(path.read_bytes()[:-cut])
    with pytest.raises(BadInput, match=r"004\.dcm is damaged or truncated"):
        Volume.load(tmp_path)


@pytest.mark.parametrize("ending", [".dcm", ".mha", ".nrrd"])
def test_nobody_is_named_by_what_is_made_of_a_single_file(tmp_path, ending):
    write(tmp_path / "a.dcm", 1, (0, 0, 0), t0010_0010="Someone^Real", t0010_0020="4711", t0018_0060="120")
    path = tmp_path / f"a{ending}"
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(tmp_path / "a.dcm"))
    reader.LoadPrivateTagsOn()
    image = reader.Execute()
    if ending != ".dcm":  # ITK takes the tags of DICOM along
        for key in reader.GetMetaDataKeys():
            image.SetMetaData(key, reader.GetMetaData(key))
        sitk.WriteImage(image, str(path))
    volume = Volume.load(path)
    header = volume.meta["header"]
    assert header["0018|0060"] == "120" and not {"0010|0010", "0010|0020"} & set(header)
    for given in (volume, volume.like(volume.array, header={**header, "0010|0010": "Someone^Real"})):
        given.save(tmp_path / "b.nrrd")
        for written in (compress(given), (tmp_path / "b.nrrd").read_bytes()):
            assert b"Someone" not in written and b"4711" not in written
