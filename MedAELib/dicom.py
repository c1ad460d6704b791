"""DICOM folders: which series there are, which one to read, and what it says of itself. No names of persons."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from .dicom_slices import Series, sorted_series
from .errors import BadInput
from .quiet import quiet

# Tags that later work needs and that name no person.
KEPT_TAGS = {
    "0008|0060": "modality",
    "0008|103e": "series description",
    "0020|000e": "series UID",
    "0020|000d": "study UID",
    "0020|0052": "frame of reference UID",
    "0018|1210": "convolution kernel",
    "0018|0060": "kVp",
    "0018|0050": "slice thickness",
    "0018|0087": "field strength",
    "0018|1030": "protocol name",
}
# Element 0002,0002, the kind of object: CT, MR or PET images, of one or many frames.
_IMAGE = re.compile(rb"\x02\0\x02\0UI..1\.2\.840\.10008\.5\.1\.4\.1\.1\.(2|4|128|130)(\.[0-9])?(?![0-9.])", re.DOTALL)
_TAG = re.compile(r"[0-9a-f]{4}\|[0-9a-f]{4}", re.IGNORECASE)


def find_series(folder: Path, wanted: str | None = None) -> Series:
    """One series, its files in their order along the patient: the named one, else the one with the most files.

    `wanted` is a series UID or (part of) its description. The files of a series may lie in several sub-folders. Raises
    BadInput, naming what there is, or what is wrong with the series.
    """
    found = _all_series(folder)
    if not found:
        raise BadInput(f"{folder} holds no DICOM series.", "Name an image file, or a folder of DICOM files.")
    if wanted is None:
        uid = max(found, key=lambda uid: len(found[uid]))
        return _whole_series(uid, found, folder)
    described = {uid: series_header(files[0]).get("0008|103e", "") for uid, files in found.items()}
    matches = [u for u in found if wanted == u.split(" ")[0]] or [
        u for u in found if wanted.lower() in described[u].lower()
    ]
    if len(matches) != 1:
        known = "; ".join(f"{described[uid] or 'no description'} ({len(files)} files)" for uid, files in found.items())
        count = len(matches) or "no"
        raise BadInput(f"{folder} holds {count} series that match {wanted!r}; it has: {known}.", "Name one of these.")
    return _whole_series(matches[0], found, folder)


def count_series(folder: Path) -> int:
    """How many DICOM series lie in a folder and below it."""
    with quiet():
        return len(_all_series(folder))


def holds_series(folder: Path) -> bool:
    """Whether there is any DICOM image in a folder or below it."""
    with quiet():  # GDCM warns of each folder without any
        return any(_series_in(directory) for directory, _, _ in os.walk(folder))


def series_header(file: str | Sequence[str]) -> dict[str, str]:
    """The kept tags of one DICOM file, by "group|element"."""
    import SimpleITK as sitk

    reader = sitk.ImageFileReader()
    reader.SetFileName(str(file))
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise BadInput(f"{file} cannot be read as DICOM.") from None
    return {tag: reader.GetMetaData(tag).strip() for tag in KEPT_TAGS if reader.HasMetaDataKey(tag)}


def without_persons(header: Mapping[str, str]) -> dict[str, str]:
    """What any file says of itself, of DICOM's tags only the kept ones: the others name persons and places."""
    kept = {key: value for key, value in header.items() if key.lower() in KEPT_TAGS or not _TAG.fullmatch(key)}
    return {key: value.strip() if key in KEPT_TAGS else value for key, value in kept.items()}


def _whole_series(uid: str, found: Mapping[str, Sequence[str]], folder: Path) -> Series:
    """One of the series, sorted. Raises BadInput for a damaged slice of it too, which ITK passes over in silence."""
    known = {os.path.realpath(file) for files in found.values() for file in files}
    for directory, _, names in os.walk(folder):
        for file in (Path(directory) / name for name in names):
            if os.path.realpath(file) not in known and _seems_slice(file, uid.split(" ")[0]):
                raise BadInput(f"{file} is damaged or truncated.", "Copy it again, or take it out of the folder.")
    return sorted_series(found[uid], folder)


def _seems_slice(file: Path, uid: str) -> bool:
    """Whether the beginning of a file is that of a CT, MR or PET image of the series."""
    return uid.encode() in image_head(file)


def image_head(file: Path) -> bytes:
    """The beginning of a CT, MR or PET image, damaged or not; nothing of another file."""
    try:
        with file.open("rb") as opened:
            head = opened.read(1 << 16)
    except OSError:
        return b""
    return head if head[128:132] == b"DICM" and _IMAGE.search(head[132:600]) is not None else b""


def _series_in(directory: str) -> tuple[str, ...]:
    """The UIDs of the series in a folder, not below it. Raises BadInput."""
    import SimpleITK as sitk

    try:
        return sitk.ImageSeriesReader.GetGDCMSeriesIDs(directory)
    except RuntimeError:  # of a dose without its scale, for one
        raise BadInput(
            f"{directory} holds DICOM files that cannot be read.", "Take out what are no images, such as doses."
        ) from None


def _all_series(folder: Path) -> dict[str, list[str]]:
    """The files of every series, over all sub-folders."""
    import SimpleITK as sitk

    found: dict[str, list[str]] = {}
    for directory, below, _ in os.walk(folder):
        below.sort()
        for uid in _series_in(directory):
            found.setdefault(uid, []).extend(sitk.ImageSeriesReader.GetGDCMSeriesFileNames(directory, uid))
    return found
