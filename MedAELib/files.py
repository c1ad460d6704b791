"""Volumes from files and to files: what SimpleITK reads and is seen to be whole, DICOM folders too, geometry kept."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .atomic import whole_file
from .completeness import check_whole, is_written
from .dicom import find_series, series_header, without_persons
from .dicom_slices import Series
from .errors import BadInput, DiskFull, OutOfMemory, unwritable
from .naming import is_text
from .nifti import check_complete, is_nifti, not_finite, unambiguous
from .quiet import quiet
from .volume import Volume

if TYPE_CHECKING:
    import SimpleITK as sitk

# ITK counts towards the patient's left and back (LPS); Slicer and MedAE count towards the right and front (RAS).
LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])
PROVENANCE_KEY = "MedAE"
_SUFFIXES = (".nii.gz", ".nii", ".nrrd", ".mha", ".png", ".tif", ".tiff")
# What the flat formats hold: types and values per voxel.
_FLAT_TYPES = {".png": ("uint8", "uint16"), ".tif": ("uint8", "int8", "uint16", "int16", "float32")}
_FLAT_TYPES[".tiff"] = _FLAT_TYPES[".tif"]
_FLAT_CHANNELS = (1, 3, 4)
_FRACTION_OF_MEMORY = 0.9
_LARGEST_HEADER = 1 << 14  # bytes, roughly


def load(path: Path, series: str | None = None) -> Volume:
    """Read a volume from an image file, or the largest (or the named) series of a DICOM folder.

    The voxel type of the file is kept; a rescale that the file asks for is applied (so CT comes in Hounsfield units).
    A flat image becomes a volume of one slice; the frames of a 4D file become channels. Raises BadInput with one plain
    sentence when the file is missing, unreadable, truncated, empty, or larger than the memory.
    """
    try:
        exists = path.exists()
    except (OSError, ValueError):  # a name that no file system takes
        exists = False
    if not exists:
        raise BadInput(f"{path} does not exist.", "Check the path.")
    if not is_text(str(path)):
        raise BadInput(f"{path} cannot be read: its name holds bytes that are no letters.", "Rename it.")
    if path.is_dir():
        image, header = _read_series(path, series)
    elif series is not None:
        raise BadInput(f"{path} is a file, so no series can be chosen from it.", "Name the folder of the DICOM files.")
    else:
        image, header = _read_file(path)
    return _from_read(image, header, name_of(path), str(path))


def _from_read(image: sitk.Image, header: dict[str, str], name: str, source: str) -> Volume:
    """What was read as a volume. Raises BadInput."""
    modality = header.get("0008|0060", "").strip()
    meta = {"name": name, "modality": modality if modality in ("CT", "MR") else "", "header": header}
    return from_image(image, meta, source)


def name_of(path: Path) -> str:
    """What a volume from there is called: as its file without the ending, or as its folder."""
    return path.name if path.is_dir() else path.name.removesuffix(".gz").rsplit(".", 1)[0]


def save(volume: Volume, path: Path) -> None:
    """Write a volume under a temporary name, then put it in place: the file is whole or absent.

    Types that no file format holds are widened (bool to uint8, float16 to float32). The provenance in
    `meta["provenance"]` is written into the header. Raises BadInput for a format that cannot hold it, DiskFull.
    """
    save_all({path: volume})


def save_all(volumes: Mapping[Path, Volume], texts: Mapping[Path, str] | None = None) -> None:
    """Write several volumes, and texts beside them: all of them are put in place, or none. Raises as `save`."""
    for path, volume in volumes.items():
        check_holds(path, volume.array.shape, volume.array.dtype.name)
    path = Path()
    try:
        with ExitStack() as files:
            for path, volume in volumes.items():
                suffix = check_writable(path)
                _write(volume, files.enter_context(whole_file(path, suffix)), suffix, path)
            for path, text in (texts or {}).items():
                files.enter_context(whole_file(path)).write_text(text, encoding="utf-8")
    except OSError as error:
        raise unwritable(path, error) from None


def _write(volume: Volume, temporary: Path, suffix: str, path: Path) -> None:
    """Write a volume that is meant for `path` to a temporary file, to its last byte."""
    import SimpleITK as sitk

    try:
        with quiet():
            image = to_image(volume, flat=suffix in _FLAT_TYPES)
            sitk.WriteImage(image, str(temporary), suffix in (".nrrd", ".mha"))
    except RuntimeError:
        if _room(path.parent) < volume.array.nbytes + _LARGEST_HEADER:  # ITK does not say why it could not write
            raise DiskFull(f"{path} cannot be written: the disk is full.") from None
        raise BadInput(
            f"{path} cannot be written: its format does not take this volume.", "Use .nii.gz, .nrrd or .mha."
        ) from None
    nbytes = image.GetNumberOfPixels() * image.GetNumberOfComponentsPerPixel() * image.GetSizeOfPixelComponent()
    if not is_written(temporary, suffix, nbytes):  # ITK's writers do not always tell that the disk is full
        raise DiskFull(f"{path} cannot be written: the disk is full.")


def _room(folder: Path) -> float:
    """Bytes that a file there may have: what the disk has free, or the limit that this process has for a file."""
    free = shutil.disk_usage(folder).free
    try:
        import resource
    except ImportError:  # Windows knows no such limit
        return free
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    return free if limit == resource.RLIM_INFINITY else min(free, limit)


def check_holds(path: Path, shape: Sequence[int], dtype: str) -> None:
    """Raise BadInput when the path's format cannot hold voxels `[c, i, j, k]` of that shape and type."""
    suffix = check_writable(path)
    types = _FLAT_TYPES.get(suffix)
    if types is None:
        return
    channels, slices = shape[0], shape[3]
    if slices != 1:
        raise BadInput(
            f"{path} cannot be written: {suffix} holds one slice, the volume has {slices}.",
            "Use .nii.gz, .nrrd or .mha.",
        )
    if {"bool": "uint8", "float16": "float32"}.get(dtype, dtype) not in types or channels not in _FLAT_CHANNELS:
        raise BadInput(
            f"{path} cannot be written: {suffix} does not hold {dtype} values, {channels} per voxel.",
            "Use .nii.gz, .nrrd or .mha.",
        )


def check_writable(path: Path) -> str:
    """The path's format by its ending, such as ".nii.gz". Raises BadInput when no volume could be written there."""
    suffix = next((s for s in _SUFFIXES if path.name.lower().endswith(s)), None)
    if suffix is None:
        raise BadInput(f"{path} cannot be written: its ending names no format.", "Use .nii.gz, .nii, .nrrd or .mha.")
    if not path.parent.is_dir():
        raise BadInput(f"{path} cannot be written: its folder does not exist.", "Make the folder first.")
    return suffix


def from_image(image: sitk.Image, meta: dict[str, Any], source: str) -> Volume:
    """A Volume from a SimpleITK image of 2, 3 or 4 dimensions. Raises BadInput when it is empty or out of place."""
    import SimpleITK as sitk

    dimensions, components = image.GetDimension(), image.GetNumberOfComponentsPerPixel()
    if dimensions not in (2, 3, 4) or (dimensions == 4 and components > 1):
        raise BadInput(
            f"{source} has {dimensions} dimensions and {components} values per voxel, which MedAE cannot use."
        )
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
    """A SimpleITK image with the volume's voxels, place and header; 2D when `flat`, 4D when it has frames."""
    import SimpleITK as sitk

    array = volume.array
    array = (
        array.astype({"b": np.uint8, "f": np.float32}[array.dtype.kind]) if array.dtype in (bool, np.float16) else array
    )
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


def _read_series(folder: Path, wanted: str | None) -> tuple[sitk.Image, dict[str, str]]:
    """One series of a DICOM folder, and what it says of itself."""
    with quiet():
        return _read_stack(find_series(folder, wanted), folder)


def load_series(series: Series, folder: Path, name: str) -> Volume:
    """The volume of a series whose files are known, in a folder. Raises BadInput, OutOfMemory."""
    with quiet():
        image, header = _read_stack(series, folder)
    return _from_read(image, header, name, str(folder))


def _read_stack(series: Series, folder: Path) -> tuple[sitk.Image, dict[str, str]]:
    """The image of a series, and what its first file says of itself. Raises BadInput, OutOfMemory."""
    import SimpleITK as sitk

    header = series_header(series.frames[0][0])
    _check_size(folder, (*series.size, series.count), series.nbytes)
    try:
        if series.count == 1:
            return sitk.ReadImage(series.frames[0][0]), header
        pixel = _pixel_type(series)
        frames = [sitk.ReadImage(files, pixel) for files in series.frames]
        return frames[0] if len(frames) == 1 else sitk.JoinSeries(frames), header
    except (RuntimeError, MemoryError) as error:
        raise BadInput(f"The DICOM series in {folder} cannot be read: {_reason(error)}.") from None


def _pixel_type(series: Series) -> int:
    """The SimpleITK pixel type that holds all slices: each may have a rescale of its own, ITK asks the first only."""
    import SimpleITK as sitk

    if series.components > 1:
        return int(sitk.sitkUnknown)
    return int(sitk.GetImageFromArray(np.zeros((1, 1), series.pixel)).GetPixelID())


def _read_file(path: Path) -> tuple[sitk.Image, dict[str, str]]:
    """One image file and its header."""
    import SimpleITK as sitk

    if path.stat().st_size == 0:
        raise BadInput(f"{path} is empty.", "Copy it again from its source.")
    if is_nifti(path):
        check_complete(path)
    with unambiguous(path) as alone, quiet():
        reader = sitk.ImageFileReader()
        reader.SetFileName(str(alone))
        try:
            reader.ReadImageInformation()
            size, pixel = reader.GetSize(), reader.GetPixelID()
            voxel_bytes = sitk.GetArrayViewFromImage(sitk.Image([1] * len(size), pixel)).itemsize
            nbytes = float(np.prod(size, dtype=float)) * reader.GetNumberOfComponents() * voxel_bytes
            check_whole(path, reader.GetImageIOFromFileName(str(alone)), nbytes)
            _check_size(path, size, nbytes)
            if "complex" in sitk.GetPixelIDValueAsString(pixel):
                raise BadInput(f"{path} holds complex numbers.", "Save its magnitude, then open that.")
            header = {key: reader.GetMetaData(key) for key in reader.GetMetaDataKeys()}
            image = reader.Execute()
            return _with_not_finite(image, path) if is_nifti(path) else image, without_persons(header)
        except (RuntimeError, MemoryError) as error:
            raise BadInput(f"{path} cannot be read: {_reason(error)}.") from None


def _with_not_finite(image: sitk.Image, path: Path) -> sitk.Image:
    """The image of a NIfTI file with the voxels that are not finite, of which ITK makes zeros."""
    import SimpleITK as sitk

    places, values = not_finite(path)
    if not places.size:
        return image
    array, parts = sitk.GetArrayFromImage(image), image.GetNumberOfComponentsPerPixel()
    voxels = array.size // parts  # in the file the components come one after the other
    array.reshape(-1, parts)[places % voxels, places // voxels] = values
    restored = sitk.GetImageFromArray(array, isVector=parts > 1)
    restored.CopyInformation(image)
    return restored


def _check_size(path: Path, size: tuple[int, ...], nbytes: float) -> None:
    """Refuse what would not fit in memory twice (ITK's image and the copy), before anything is allocated."""
    from .engine.memory import free_system_memory

    if min(size) < 1:
        raise BadInput(f"{path} is empty: its size is {' x '.join(map(str, size))}.")
    free = free_system_memory()
    if 2 * nbytes > free * _FRACTION_OF_MEMORY:
        raise OutOfMemory(
            f"{path} needs {2 * nbytes / 2**30:.3g} GiB to be read; {free / 2**30:.1f} GiB of memory are free.",
            "Check the file, or open it on a computer with more memory.",
        )


def _reason(error: BaseException) -> str:
    """Why ITK gave up, in words that help; its own text names C++ source lines and sometimes the wrong cause."""
    text = str(error)
    if "orthonormal" in text or "orthogonal" in text:
        return "its axes are not at right angles (a tilted gantry, perhaps), so resample it first"
    if isinstance(error, MemoryError) or "allocat" in text:
        return "it does not fit in the memory"
    if "determine ImageIO" in text:
        return "its format is not known"
    return "it is damaged, truncated, or not of the format that its name says"
