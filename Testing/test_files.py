"""Files as they arrive: damaged, with names of persons in them, or where nothing can be written."""

import os
import struct
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk

from MedAELib import Volume
from MedAELib.completeness import check_whole
from MedAELib.engine import memory
from MedAELib.errors import BadInput, DiskFull, MedAEError, OutOfMemory
from MedAELib.files import save_all


def picture(shape, dtype="int16") -> sitk.Image:
    return sitk.GetImageFromArray(np.random.default_rng(0).integers(1, 250, shape).astype(dtype))


@pytest.mark.parametrize("cut", [1, 20, 0.05, 0.5])
@pytest.mark.parametrize(
    "name, shape, dtype",
    [
        ("a.hdr", (9, 16, 16), "int16"),
        ("a.img", (9, 16, 16), "int16"),
        ("a.vtk", (9, 16, 16), "int16"),
        ("a.gipl", (9, 16, 16), "int16"),
        ("a.mha", (9, 16, 16), "int16"),
        ("a.nrrd", (9, 16, 16), "int16"),
        ("a.hdf5", (9, 16, 16), "int16"),
        ("a.tif", (9, 16, 16), "int16"),
        ("b.tif", (16, 16), "uint16"),
        ("b.png", (16, 16), "uint16"),
        ("b.bmp", (16, 16), "uint8"),
        ("b.jpg", (16, 16), "uint8"),
    ],
)
def test_a_whole_file_is_read_and_a_truncated_one_never(tmp_path, name, shape, dtype, cut):
    path = tmp_path / name
    sitk.WriteImage(picture(shape, dtype), str(path))
    read = Volume.load(path)
    assert read.array.shape[1:] == (shape[-1], shape[-2], shape[0] if len(shape) == 3 else 1)
    data = path.with_suffix(".img") if name == "a.hdr" else path
    content = data.read_bytes()
    data.write_bytes(content[: -cut if cut >= 1 else int(len(content) * (1 - cut))])
    try:
        again = Volume.load(path)
    except MedAEError as fault:
        assert str(path) in str(fault) and "\n" not in str(fault)
    else:  # what was cut off was no voxel
        assert np.array_equal(again.array, read.array)


@pytest.mark.parametrize("missing", ["a.img", "a.hdr"])
def test_one_half_of_a_pair_is_refused(tmp_path, missing):
    sitk.WriteImage(picture((4, 5, 6)), str(tmp_path / "a.hdr"))
    (tmp_path / missing).unlink()
    (left,) = tmp_path.iterdir()
    with pytest.raises(BadInput, match=f"{missing} is missing"):
        Volume.load(left)


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_tiff_of_either_byte_order_and_of_64_bits_is_read(tmp_path, order):
    sitk.WriteImage(picture((6, 5), "uint16"), str(tmp_path / "a.tif"))
    header = {"<": b"II", ">": b"MM"}[order]
    fields = [(273, 4, 1, 8 + 8 + 8 + 2 * 20 + 8), (279, 4, 1, 10)]
    entries = b"".join(struct.pack(f"{order}HHQI4x", *field) for field in fields)
    big = header + struct.pack(f"{order}HHHQQ", 43, 8, 0, 16, 2) + entries + struct.pack(f"{order}Q", 0)
    for data, whole in ((b"x" * 10, True), (b"x" * 9, False)):
        (tmp_path / "b.tif").write_bytes(big + data)
        if whole:
            check_whole(tmp_path / "b.tif", "TIFFImageIO", 10)
        else:
            with pytest.raises(BadInput):
                check_whole(tmp_path / "b.tif", "TIFFImageIO", 10)


def test_a_format_that_does_not_show_whether_it_is_whole_is_refused(tmp_path):
    (tmp_path / "a.pic").write_bytes(b"x" * 99)
    with pytest.raises(BadInput, match="does not show") as fault:
        check_whole(tmp_path / "a.pic", "BioRadImageIO", 10)
    assert "NRRD" in fault.value.next_step
    image = picture((3, 4, 5))
    writer = sitk.ImageFileWriter()
    writer.SetFileName(str(tmp_path / "a.vtk"))
    writer.Execute(image)
    text = (tmp_path / "a.vtk").read_bytes().replace(b"BINARY", b"ASCII")
    (tmp_path / "a.vtk").write_bytes(text.split(b"default\n")[0] + b"default\n" + b"7 " * 60)
    with pytest.raises(BadInput):
        Volume.load(tmp_path / "a.vtk")


def test_a_volume_is_measured_in_bytes_and_twice_over(tmp_path, monkeypatch):
    sitk.WriteImage(picture((10, 10, 10), "float64"), str(tmp_path / "a.nrrd"))
    for free, fits in ((20_000, True), (15_000, False)):
        monkeypatch.setattr(memory, "free_system_memory", lambda free=free: free)
        if fits:
            assert Volume.load(tmp_path / "a.nrrd").array.nbytes == 8000
        else:
            with pytest.raises(OutOfMemory):
                Volume.load(tmp_path / "a.nrrd")


def test_the_cache_of_files_counts_as_free_in_a_container(tmp_path, monkeypatch):
    monkeypatch.setattr(memory, "_CONTROL_GROUP", tmp_path)
    assert memory._container_limit() is None
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 200\nfile 700\ninactive_anon 5\ninactive_file 650\nactive_file 50\n")
    assert memory._container_limit() == 750
    (tmp_path / "memory.max").write_text("max\n")
    assert memory._container_limit() is None


@pytest.mark.parametrize("suffix", [".png", ".tif", ".nrrd", ".nii.gz", ".mha"])
@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int16", "int32", "int64", "float32", "float64", "bool"])
@pytest.mark.parametrize("channels", [1, 3])
def test_a_format_takes_a_type_or_says_so_in_words_of_writing(tmp_path, suffix, dtype, channels):
    voxels = np.random.default_rng(0).integers(0, 2, (channels, 6, 5, 1)).astype(dtype)
    path = tmp_path / f"a{suffix}"
    try:
        Volume(voxels, np.eye(4)).save(path)
    except BadInput as fault:
        assert suffix in (".png", ".tif") and f"does not hold {dtype} values" in str(fault)
        assert list(tmp_path.iterdir()) == []
    else:
        assert np.array_equal(Volume.load(path).array, voxels)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_of_several_results_all_are_written_or_none(tmp_path, monkeypatch, dtype):
    whole = Volume(np.ones((1, 4, 4, 1), dtype), np.eye(4))
    write, written = sitk.WriteImage, []

    def second_fails(image, name, compressed):
        written.append(name)
        if len(written) == 2:
            raise RuntimeError("ImageIO gave up")
        write(image, name, compressed)

    monkeypatch.setattr(sitk, "WriteImage", second_fails)
    with pytest.raises(BadInput, match=r"b\.png cannot be written"):
        save_all({tmp_path / "a.nrrd": whole, tmp_path / "b.png": whole})
    assert list(tmp_path.iterdir()) == [] and len(written) == (2 if dtype == "uint16" else 0)


@pytest.mark.parametrize("kept", [0, 0.5, 0.8])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif"])
def test_a_file_that_the_writer_cut_short_without_a_word_is_never_put_in_place(tmp_path, monkeypatch, suffix, kept):
    whole, write = Volume(np.arange(16, dtype="uint16").reshape(1, 4, 4, 1), np.eye(4)), sitk.WriteImage
    before = {name: f"old {name}" for name in ("report.md", f"b{suffix}")}
    for name, text in before.items():
        (tmp_path / name).write_text(text)

    def cut(image, name, compressed):
        write(image, name, compressed)
        if name.endswith(suffix):
            os.truncate(name, int(Path(name).stat().st_size * kept))

    monkeypatch.setattr(sitk, "WriteImage", cut)
    files = {tmp_path / "a.nrrd" if suffix != ".nrrd" else tmp_path / "a.mha": whole, tmp_path / f"b{suffix}": whole}
    with pytest.raises(DiskFull, match=rf"b\{suffix} cannot be written: the disk is full"):
        save_all(files, {tmp_path / "report.md": "new"})
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == before


def test_volumes_whose_report_finds_no_room_are_not_put_in_place(tmp_path, monkeypatch):
    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(DiskFull, match=r"a\.json cannot be written: the disk is full"):
        save_all({tmp_path / "a.nii.gz": Volume(np.ones((1, 4, 4, 4)), np.eye(4))}, {tmp_path / "a.json": "{}"})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
@pytest.mark.parametrize("noisy", [True, False])
@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif"])
def test_wherever_the_room_ends_a_file_is_whole_or_refused(tmp_path, suffix, noisy):
    import resource

    shape, path = ((1, 90, 90, 1) if suffix in (".png", ".tif") else (1, 20, 20, 20)), tmp_path / f"a{suffix}"
    volume = Volume(np.random.default_rng(0).integers(0, 60000 if noisy else 1, shape).astype("uint16"), np.eye(4))
    volume.save(path)
    full, before = path.stat().st_size, resource.getrlimit(resource.RLIMIT_FSIZE)
    for room in {0, 1, 352, 4096, full // 2, *range(max(full - 300, 2), full, 7), *range(full - 20, full)}:
        path.unlink(missing_ok=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (min(room, full - 1), before[1]))
        try:
            with pytest.raises(DiskFull, match="cannot be written: the disk is full"):
                volume.save(path)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert list(tmp_path.iterdir()) == []
    volume.save(path)
    assert np.array_equal(Volume.load(path).array, volume.array)


def test_a_folder_without_dicom_is_looked_through_in_silence(tmp_path, capfd):
    from MedAELib.dicom import holds_series

    (tmp_path / "inner").mkdir()
    assert not holds_series(tmp_path)
    assert capfd.readouterr() == ("", "")


def test_files_are_read_where_standard_error_is_closed(tmp_path):
    """As of a program that was started without a terminal."""
    Volume(np.zeros((1, 3, 4, 5), np.int16), np.eye(4)).save(tmp_path / "scan.nrrd")
    code = "import os, sys; os.close(2); from MedAELib import Volume; print(Volume.load(sys.argv[1]).shape)"
    command = [sys.executable, "-c", code, str(tmp_path / "scan.nrrd")]
    run = subprocess.run(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, encoding="utf-8", timeout=120)
    assert run.returncode == 0 and run.stdout == "(3, 4, 5)\n"
