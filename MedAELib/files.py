"""Volumes from files and to files: everything that SimpleITK reads, DICOM folders included, without losing the geometry."""

from __future__ import annotations

import errno
import json
import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .dicom import find_series, series_header
from .errors import BadInput, DiskFull, OutOfMemory
from .volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

# ITK counts towards the patient's left and back (LPS); Slicer and MedAE count towards the right and front (RAS).
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
PROVENANCE_KEY = "MedAE"
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif", ".tiff")
_FLAT = (".png", ".tif", ".tiff")
_FRACTION_OF_MEMORY = 0.9


def load(path: Path, series: str | None = None) -> Volume:
    """Read a volume from an image file, or the largest (or the named) series of a DICOM folder.

    The voxel type of the file is kept; a rescale that the file asks for is applied (so CT comes in Hounsfield units).
    A flat image becomes a volume of one slice; the frames of a 4D file become channels. Raises BadInput with one plain
    sentence when the file is missing, unreadable, truncated, empty, or larger than the memory.
    """
    import SimpleITK as sitk

    if not path.exists():
        raise BadInput(f"{path} does not exist.", "Check the path.")
    reader, header = _reader(sitk, path, series)
    pixel_type = None
    try:
        if isinstance(reader, sitk.ImageFileReader):
            reader.ReadImageInformation()
            pixel_type = reader.GetPixelID()
            _check_size(path, reader.GetSize(), reader.GetNumberOfComponents())
            header |= {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
        with _itk_silence():
            image = reader.Execute()
    except (RuntimeError, MemoryError) as error:
        raise BadInput(f"{path} cannot be read: {_reason(error)}.") from None
    if pixel_type is not None and "complex" in sitk.GetPixelIDValueAsString(pixel_type):
        raise BadInput(f"{path} holds complex numbers.", "Save its magnitude, then open that.")
    name = path.name.removesuffix(".gz")
    meta = {"name": path.name if path.is_dir() else name.rsplit(".", 1)[0], "modality": header.get("0008|0060", ""),
            "header": header}  # fmt: skip
    meta["modality"] = {"CT": "CT", "MR": "MR"}.get(meta["modality"].strip(), "")
    return from_image(image, meta, str(path))


def save(volume: Volume, path: Path) -> None:
    """Write a volume under a temporary name, then put it in place: the file is whole or absent.

    Types that no file format holds are widened (bool to uint8, float16 to float32). The provenance in
    `meta["provenance"]` is written into the header. Raises BadInput for a format that cannot be written, DiskFull.
    """
    import SimpleITK as sitk

    suffix = next((s for s in _SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise BadInput(f"{path} cannot be written: its ending names no format.", "Use .nii.gz, .nii, .nrrd or .mha.")
    if not path.parent.is_dir():
        raise BadInput(f"{path} cannot be written: its folder does not exist.", "Make the folder first.")
    if suffix in _FLAT and volume.shape[2] != 1:
        raise BadInput(f"{path} cannot be written: {suffix} holds one slice, the volume has {volume.shape[2]}.")
    image = to_image(volume, flat=suffix in _FLAT)
    handle, temporary = tempfile.mkstemp(prefix=".medae-", suffix=suffix, dir=path.parent)
    os.close(handle)
    try:
        with _itk_silence():
            sitk.WriteImage(image, temporary, suffix in (".nrrd", ".mha"))
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except (RuntimeError, OSError) as error:
        if isinstance(error, OSError) and error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise BadInput(f"{path} cannot be written: {error.strerror}.") from None
        free = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize if hasattr(os, "statvfs") else 0
        if isinstance(error, OSError) or free < volume.array.nbytes:
            raise DiskFull(f"{path} could not be written: the disk is full.") from None
        raise BadInput(f"{path} cannot be written: {_reason(error)}.") from None
    finally:
        Path(temporary).unlink(missing_ok=True)


def from_image(image: sitk.Image, meta: dict[str, Any], source: str) -> Volume:
    """A Volume from a SimpleITK image of 2, 3 or 4 dimensions. Raises BadInput when it is empty or has no valid place."""
    import SimpleITK as sitk

    dimensions, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if dimensions not in (2, 3, 4) or (dimensions == 4 and components > 1):
        raise BadInput(f"{source} has {dimensions} dimensions and {components} values per voxel, which MedAE cannot use.")
    array = sitk.GetArrayFromImage(image)
    if dimensions == 4:
        array = array.transpose(0, 3, 2, 1)
        meta |= {"frames": True, "frame_spacing": image.GetSpacing()[3]}
    elif components > 1:
        array = array.T if dimensions == 3 else array.transpose(2, 1, 0)[..., None]
    else:
        array = array.T[None] if dimensions == 3 else array.T[None, ..., None]
    space = min(dimensions, 3)
    affine = np.eye(4)
    direction = np.array(image.GetDirection()).reshape(dimensions, dimensions)[:space, :space]
    affine[:space, :space] = direction * np.array(image.GetSpacing())[:space]
    affine[:space, 3] = np.array(image.GetOrigin())[:space]
    return Volume(array, LPS_TO_RAS @ affine, meta)


def to_image(volume: Volume, flat: bool = False) -> sitk.Image:
    """A SimpleITK image with the volume's voxels, place and header; of 2 dimensions when `flat`, 4 when it has frames."""
    import SimpleITK as sitk

    array = volume.array
    array = array.astype({"b": np.uint8, "f": np.float32}[array.dtype.kind]) if array.dtype in (bool, np.float16) else array
    frames = bool(volume.meta.get("frames")) and not flat
    if frames:
        image = sitk.GetImageFromArray(np.ascontiguousarray(array.transpose(0, 3, 2, 1)), isVector=False)
    elif volume.channels == 1:
        image = sitk.GetImageFromArray(np.ascontiguousarray((array[0, ..., 0] if flat else array[0]).T))
    else:
        channels_last = array[..., 0].transpose(2, 1, 0) if flat else array.T
        image = sitk.GetImageFromArray(np.ascontiguousarray(channels_last), isVector=True)
    dimensions = image.GetDimension()
    lps, spacing = LPS_TO_RAS @ volume.affine, np.array(volume.spacing)
    space = min(dimensions, 3)
    direction = np.eye(dimensions)
    direction[:space, :space] = (lps[:3, :3] / spacing)[:space, :space]
    extra = [float(volume.meta.get("frame_spacing", 1.0)) or 1.0] if frames else []
    if not flat:
        image.SetDirection(direction.ravel().tolist())
        image.SetOrigin([*lps[:space, 3].tolist(), *([0.0] * len(extra))])
    image.SetSpacing([*spacing[:space].tolist(), *extra])
    _set_header(image, volume)
    return image


def _set_header(image: sitk.Image, volume: Volume) -> None:
    """Carry the source's header over, and the provenance: whole where the format has room, a line in NIfTI."""
    for key, value in dict(volume.meta.get("header", {})).items():
        if "|" not in key and not key.startswith(("ITK_", "qto", "srow", "pixdim", "dim", "scl_", "NRRD_")):
            image.SetMetaData(key, str(value))
    provenance = volume.meta.get("provenance")
    if provenance:
        image.SetMetaData(PROVENANCE_KEY, json.dumps(dict(provenance), sort_keys=True))
        model = f"{provenance.get('model', '')} {str(provenance.get('model_sha256', ''))[:12]}"
        image.SetMetaData("ITK_FileNotes", f"MedAE {model}"[:79])


def _reader(sitk: Any, path: Path, series: str | None) -> tuple[Any, dict[str, str]]:
    """A SimpleITK reader for the file, or for a series of the DICOM folder, and what the series says of itself."""
    if path.is_dir():
        files = find_series(path, series)
        reader = sitk.ImageSeriesReader()
        reader.SetFileNames(files)
        return reader, series_header(files[0])
    if series is not None:
        raise BadInput(f"{path} is a file, so no series can be chosen from it.", "Name the folder of the DICOM files.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty.")
    return reader, {}


def _check_size(path: Path, size: tuple[int, ...], components: int) -> None:
    """Refuse what would not fit in memory, from the header alone, before anything is allocated."""
    from .engine.memory import free_memory

    if min(size) < 1:
        raise BadInput(f"{path} is empty: its size is {' x '.join(map(str, size))}.")
    voxels = float(np.prod(np.array(size, dtype=np.float64))) * components
    free = free_memory("cpu")
    if voxels > free * _FRACTION_OF_MEMORY:
        raise OutOfMemory(f"{path} says it holds {voxels:.3g} values, more than the free memory of {free / 2**30:.1f} GiB.",
                          "Check the file, or open it on a computer with more memory.")  # fmt: skip


def _reason(error: BaseException) -> str:
    """ITK's last words, without the C++ source lines around them."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    return text.split("ITK ERROR: ")[-1].split("): ", 1)[-1].rstrip(".")[:200] or "it is damaged or of an unknown format"


class _itk_silence:
    """Keep ITK's C++ warnings off the terminal: what matters arrives as an exception."""

    def __enter__(self) -> None:
        import SimpleITK as sitk

        self.before = sitk.ProcessObject.GetGlobalWarningDisplay()
        sitk.ProcessObject.SetGlobalWarningDisplay(False)

    def __exit__(self, *_: object) -> None:
        import SimpleITK as sitk

        sitk.ProcessObject.SetGlobalWarningDisplay(self.before)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
