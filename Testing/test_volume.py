"""Volumes as values, and through every file format: geometry, type and voxels come back, or a sentence says why not."""

import json
import locale
import struct
from pathlib import Path

import numpy as np
import pytest
import SimpleITK as sitk
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from MedAELib import Volume
from MedAELib.errors import BadInput, MedAEError

FORMATS = [".nii.gz", ".nii", ".nrrd", ".mha"]
TYPES = ["int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]


def oblique(angles=(20, -30, 40), spacing=(0.7, 1.3, 5.0), origin=(-101.1234, 33.3, 212.7)) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = Rotation.from_euler("xyz", angles, degrees=True).as_matrix() * spacing
    affine[:3, 3] = origin
    return affine


def noise(shape=(1, 7, 5, 4), dtype="int16", seed=0) -> np.ndarray:
    return (np.random.default_rng(seed).normal(size=shape) * 50).astype(dtype)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("dtype", TYPES)
def test_voxels_type_and_oblique_geometry_survive_a_file(tmp_path, suffix, dtype):
    volume = Volume(noise(dtype=dtype), oblique())
    volume.save(tmp_path / f"scan{suffix}")
    again = Volume.load(tmp_path / f"scan{suffix}")
    assert again.array.dtype == np.dtype(dtype)
    assert np.array_equal(again.array, volume.array)
    # NIfTI keeps its matrix in float32, whose step at 212 mm is 1.5e-5 mm.
    assert np.abs(again.affine - volume.affine).max() < (2e-5 if "nii" in suffix else 1e-9)
    assert again.name == "scan"


@settings(max_examples=40)
@given(
    angles=st.tuples(*[st.floats(-180, 180)] * 3),
    spacing=st.tuples(*[st.floats(0.1, 20)] * 3),
    origin=st.tuples(*[st.floats(-80, 80)] * 3),
    shape=st.tuples(*[st.integers(1, 6)] * 3),
    suffix=st.sampled_from(FORMATS),
)
def test_any_right_angled_geometry_survives_a_file(tmp_path_factory, angles, spacing, origin, shape, suffix):
    path = tmp_path_factory.mktemp("geometry") / f"scan{suffix}"
    volume = Volume(noise((1, *shape)), oblique(angles, spacing, origin))
    volume.save(path)
    again = Volume.load(path)
    assert again.shape == shape
    assert np.abs(again.affine - volume.affine).max() < 1e-5


def test_the_place_in_the_patient_is_the_one_that_itk_says(tmp_path):
    image = sitk.GetImageFromArray(noise()[0].T)
    image.SetOrigin((10, 20, 30))
    image.SetSpacing((2, 3, 4))
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    volume = Volume.load(tmp_path / "scan.nrrd")
    left_posterior_superior = image.TransformIndexToPhysicalPoint((3, 2, 1))
    ras = volume.affine @ [3, 2, 1, 1]
    assert np.allclose(ras[:3], np.array(left_posterior_superior) * [-1, -1, 1])
    assert volume.array[0, 3, 2, 1] == image.GetPixel(3, 2, 1)


def test_a_flat_image_is_a_volume_of_one_slice_and_returns_to_a_flat_file(tmp_path):
    pixels = noise((6, 4), "uint8")
    sitk.WriteImage(sitk.GetImageFromArray(pixels), str(tmp_path / "flat.png"))
    volume = Volume.load(tmp_path / "flat.png")
    assert volume.shape == (4, 6, 1)
    volume.save(tmp_path / "again.png")
    assert np.array_equal(sitk.GetArrayFromImage(sitk.ReadImage(str(tmp_path / "again.png"))), pixels)


def test_colours_are_channels(tmp_path):
    pixels = noise((6, 4, 3), "uint8")
    sitk.WriteImage(sitk.GetImageFromArray(pixels, isVector=True), str(tmp_path / "colour.png"))
    volume = Volume.load(tmp_path / "colour.png")
    assert volume.array.shape == (3, 4, 6, 1)
    assert np.array_equal(volume.array[:, 2, 5, 0], pixels[5, 2])


def test_frames_of_a_4d_file_are_channels_and_return_to_a_4d_file(tmp_path):
    frames = noise((5, 4, 6, 7))  # t, k, j, i
    image = sitk.GetImageFromArray(frames, isVector=False)
    image.SetSpacing((1, 2, 3, 0.5))
    sitk.WriteImage(image, str(tmp_path / "cine.nii.gz"))
    volume = Volume.load(tmp_path / "cine.nii.gz")
    assert volume.array.shape == (5, 7, 6, 4)
    assert volume.array[3, 1, 2, 0] == frames[3, 0, 2, 1]
    volume.save(tmp_path / "again.nii.gz")
    again = sitk.ReadImage(str(tmp_path / "again.nii.gz"))
    assert again.GetSize() == (7, 6, 4, 5)
    assert np.allclose(again.GetSpacing(), (1, 2, 3, 0.5))
    assert np.array_equal(sitk.GetArrayFromImage(again), frames)


@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("kept", [0, 10, 100, 348, 0.3, 0.6, 0.9, -20])
def test_a_truncated_file_is_refused_and_never_read_as_zeros(tmp_path, suffix, kept):
    path = tmp_path / f"scan{suffix}"
    Volume(noise((1, 40, 30, 20)), oblique()).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(kept * len(whole)) if isinstance(kept, float) else kept])
    with pytest.raises(MedAEError) as error:
        Volume.load(path)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", [".nii", ".nii.gz", ".nrrd", ".mha"])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("shape, meta", [((1, 4, 5, 6), {}), ((3, 4, 5, 6), {"frames": True}), ((3, 4, 5, 6), {})])
def test_voxels_that_are_not_finite_are_read_as_what_they_are(tmp_path, suffix, dtype, shape, meta):
    array = np.random.default_rng(0).normal(300, 50, shape).astype(dtype)
    array[-1, 1, 2, 3], array[0, 0, 0, 1], array[0, 3, 4, 5] = np.nan, np.inf, -np.inf
    Volume(array, np.eye(4), meta).save(tmp_path / f"scan{suffix}")
    np.testing.assert_array_equal(Volume.load(tmp_path / f"scan{suffix}").array, array)


@pytest.mark.parametrize("order", ["<", ">"])
def test_voxels_that_are_not_finite_are_found_in_either_byte_order_and_beyond_the_first_block(
    tmp_path, order, monkeypatch
):
    monkeypatch.setattr("MedAELib.nifti._BLOCK", 64)
    array = np.arange(4 * 5 * 6, dtype=f"{order}f4").reshape(6, 5, 4)  # [k, j, i]
    array[5, 2, 1] = np.nan
    header = bytearray(352)
    struct.pack_into(f"{order}i", header, 0, 348)
    struct.pack_into(f"{order}8h", header, 40, 3, 4, 5, 6, 1, 1, 1, 1)
    struct.pack_into(f"{order}2h", header, 70, 16, 32)
    struct.pack_into(f"{order}8f", header, 76, 1, 1, 1, 1, 1, 1, 1, 1)
    struct.pack_into(f"{order}f", header, 108, 352)
    header[344:348] = b"n+1\0"
    (tmp_path / "scan.nii").write_bytes(bytes(header) + array.tobytes())
    np.testing.assert_array_equal(Volume.load(tmp_path / "scan.nii").array[0], array.T)


def test_a_neighbour_of_the_same_base_name_is_not_read_instead(tmp_path):
    first, second = Volume(noise(seed=1), np.eye(4)), Volume(noise(seed=2), np.eye(4))
    first.save(tmp_path / "scan.nii")
    second.save(tmp_path / "scan.nii.gz")
    assert np.array_equal(Volume.load(tmp_path / "scan.nii.gz").array, second.array)
    assert np.array_equal(Volume.load(tmp_path / "scan.nii").array, first.array)


@settings(max_examples=60)
@given(content=st.binary(max_size=600), suffix=st.sampled_from([*FORMATS, ".dcm", ".png", ".tif", ".vtk", ".hdr"]))
def test_random_bytes_are_refused_in_one_sentence(tmp_path_factory, content, suffix):
    path = tmp_path_factory.mktemp("garbage") / f"scan{suffix}"
    path.write_bytes(content)
    with pytest.raises(MedAEError) as error:
        Volume.load(path)
    assert "\n" not in str(error.value)


def test_a_header_that_promises_more_than_the_memory_is_refused_before_reading(tmp_path):
    header = "NRRD0004\ntype: short\ndimension: 3\nsizes: 100000 100000 100000\nencoding: raw\nendian: little\n\n"
    (tmp_path / "huge.nrrd").write_bytes(header.encode() + b"\0" * 100)
    with pytest.raises(MedAEError, match="memory"):
        Volume.load(tmp_path / "huge.nrrd")


def test_a_nifti_header_with_absurd_dimensions_is_refused(tmp_path):
    Volume(noise(), np.eye(4)).save(tmp_path / "scan.nii")
    content = bytearray((tmp_path / "scan.nii").read_bytes())
    for bad in (struct.pack("<8h", 3, -7, 5, 4, 1, 1, 1, 1), struct.pack("<8h", 99, 7, 5, 4, 1, 1, 1, 1)):
        content[40:56] = bad
        (tmp_path / "scan.nii").write_bytes(content)
        with pytest.raises(MedAEError):
            Volume.load(tmp_path / "scan.nii")


@pytest.mark.parametrize(
    "array, affine",
    [
        (np.zeros((3, 3, 3)), np.eye(4)),
        (np.zeros((1, 0, 3, 3)), np.eye(4)),
        (np.zeros((1, 3, 3, 3), complex), np.eye(4)),
        (np.zeros((1, 3, 3, 3)), np.zeros((4, 4))),
        (np.zeros((1, 3, 3, 3)), np.full((4, 4), np.nan)),
        (np.zeros((1, 3, 3, 3)), np.eye(3)),
    ],
)
def test_what_is_no_volume_is_refused(array, affine):
    with pytest.raises(BadInput):
        Volume(array, affine)


def test_a_volume_cannot_be_written_into():
    volume = Volume(noise(), np.eye(4))
    with pytest.raises(ValueError, match="read-only"):
        volume.array[0, 0, 0, 0] = 1
    with pytest.raises(ValueError, match="read-only"):
        volume.affine[0, 3] = 1
    with pytest.raises(TypeError):
        volume.meta["name"] = "other"


def test_making_a_volume_leaves_the_callers_array_writable():
    array = noise()
    Volume(array, np.eye(4))
    array[0, 0, 0, 0] = 7
    assert array[0, 0, 0, 0] == 7


def test_like_keeps_the_place_and_refuses_another_size():
    volume = Volume(noise(), oblique(), {"name": "scan", "modality": "CT"})
    other = volume.like(np.zeros((2, 7, 5, 4)), name="other")
    assert np.array_equal(other.affine, volume.affine)
    assert (other.name, other.meta["modality"], other.channels) == ("other", "CT", 2)
    with pytest.raises(BadInput):
        volume.like(np.zeros((1, 7, 5, 3)))


def test_spacing_is_the_distance_between_voxels():
    assert np.allclose(Volume(noise(), oblique()).spacing, (0.7, 1.3, 5.0))


@pytest.mark.parametrize("name", ["scan.xyz", "scan", "absent/scan.nrrd", "scan.dcm"])
def test_a_file_that_cannot_be_written_is_refused_and_nothing_is_left(tmp_path, name):
    with pytest.raises(BadInput):
        Volume(noise(), np.eye(4)).save(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_volume_of_many_slices_is_not_written_as_a_flat_image(tmp_path):
    with pytest.raises(BadInput, match="one slice"):
        Volume(noise(dtype="uint8"), np.eye(4)).save(tmp_path / "scan.png")


def test_a_failed_write_keeps_the_file_that_was_there(tmp_path, monkeypatch):
    path = tmp_path / "scan.nrrd"
    volume = Volume(noise(), np.eye(4))
    volume.save(path)
    before = path.read_bytes()

    def broken(*_):
        raise RuntimeError("no space left")

    monkeypatch.setattr(sitk, "WriteImage", broken)
    with pytest.raises(MedAEError):
        volume.like(volume.array + 1).save(path)
    assert path.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir()] == ["scan.nrrd"]


def test_provenance_and_header_travel_in_the_file(tmp_path):
    image = sitk.GetImageFromArray(noise()[0].T)
    image.SetMetaData("Site", "Ljubljana")
    sitk.WriteImage(image, str(tmp_path / "scan.nrrd"))
    volume = Volume.load(tmp_path / "scan.nrrd")
    provenance = {"model": "ct-denoise", "model_sha256": "ab" * 32}
    volume.like(volume.array, provenance=provenance).save(tmp_path / "result.nrrd")
    result = sitk.ReadImage(str(tmp_path / "result.nrrd"))
    assert json.loads(result.GetMetaData("MedAE")) == provenance
    assert result.GetMetaData("Site") == "Ljubljana"


def write_series(folder: Path, slices: int, description: str, seed: int, slope="2", intercept="-1024") -> np.ndarray:
    """A DICOM series stored with a rescale; the Hounsfield units [k, j, i] that it stands for."""
    folder.mkdir(exist_ok=True)
    hounsfield = (np.random.default_rng(seed).integers(0, 1000, (slices, 8, 6)) * 2 - 1024).astype("int16")
    before = locale.setlocale(locale.LC_CTYPE)
    writer = sitk.ImageFileWriter()
    writer.KeepOriginalImageUIDOn()
    for k in range(slices):
        image = sitk.GetImageFromArray(hounsfield[k])
        uid = f"1.2.826.0.1.{seed}"
        tags = {
            "0008|0060": "CT",
            "0008|103e": description,
            "0020|000e": uid,
            "0020|000d": "1.2.826.0.2",
            "0008|0018": f"{uid}.{k}",
            "0020|0032": f"-10\\-20\\{30 + 2.5 * k}",
            "0020|0037": "1\\0\\0\\0\\1\\0",
            "0020|0013": str(k),
            "0010|0010": "Someone^Real",
            "0028|1052": intercept,
            "0028|1053": slope,
        }
        for tag, value in tags.items():
            image.SetMetaData(tag, value)
        image.SetSpacing((0.5, 0.75))
        writer.SetFileName(str(folder / f"{seed}-{slices - k:03d}.dcm"))
        writer.Execute(image)
    locale.setlocale(locale.LC_CTYPE, before)  # ITK's DICOM writer sets it to ASCII for the whole process
    return hounsfield


def test_a_dicom_folder_gives_its_largest_series_or_the_named_one_in_hounsfield_units(tmp_path):
    large = write_series(tmp_path / "study", 5, "Chest soft", 1)
    small = write_series(tmp_path / "study", 3, "Scout", 2)
    volume = Volume.load(tmp_path / "study")
    assert volume.shape == (6, 8, 5)
    assert np.array_equal(volume.array[0].T, large)
    assert np.allclose(volume.spacing, (0.5, 0.75, 2.5))
    assert np.allclose(volume.affine @ [0, 0, 1, 1], (10, 20, 32.5, 1))
    assert volume.meta["modality"] == "CT"
    assert np.array_equal(Volume.load(tmp_path / "study", "scout").array[0].T, small)
    assert "Someone" not in json.dumps(dict(volume.meta))


def test_reading_a_dicom_folder_leaves_the_character_set_of_the_process_as_it_was(tmp_path):
    write_series(tmp_path / "study", 3, "Chest soft", 1)
    before = locale.setlocale(locale.LC_ALL)
    Volume.load(tmp_path / "study", "chest")
    assert locale.setlocale(locale.LC_ALL) == before


def test_an_unknown_series_is_refused_with_what_there_is(tmp_path):
    write_series(tmp_path / "study", 3, "Chest soft", 1)
    with pytest.raises(BadInput, match="Chest soft"):
        Volume.load(tmp_path / "study", "Abdomen")


def test_a_folder_without_dicom_and_a_missing_file_are_refused(tmp_path):
    for path in (tmp_path, tmp_path / "absent.nrrd"):
        with pytest.raises(BadInput):
            Volume.load(path)


@pytest.mark.data
def test_a_real_dicom_series_is_read(data_folder):
    volume = Volume.load(data_folder / "totalseg_examples" / "example_ct_dicom")
    assert volume.shape == (512, 512, 20)
    assert volume.meta["modality"] == "CT"
    assert volume.array.min() < -900
