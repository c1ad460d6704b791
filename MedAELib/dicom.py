"""DICOM folders: which series there are, which one to read, and what it says of itself. No names of persons."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from .errors import BadInput

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


def find_series(folder: Path, wanted: str | None = None) -> tuple[str, ...]:
    """The files of one series in their order along the patient: the named one, else the one with the most files.

    `wanted` is a series UID or (part of) its description. Raises BadInput, naming what there is.
    """
    import SimpleITK as sitk

    found = {}
    for directory, _, _ in os.walk(folder):
        for uid in sitk.ImageSeriesReader.GetGDCMSeriesIDs(directory):
            found[uid] = sitk.ImageSeriesReader.GetGDCMSeriesFileNames(directory, uid)
    if not found:
        raise BadInput(f"{folder} holds no DICOM series.", "Name an image file, or a folder of DICOM files.")
    if wanted is None:
        return max(found.values(), key=len)
    described = {uid: series_header(files[0]).get("0008|103e", "").strip() for uid, files in found.items()}
    matches = [u for u in found if wanted == u.split(" ")[0]] or [
        u for u in found if wanted.lower() in described[u].lower()
    ]
    if len(matches) != 1:
        known = "; ".join(f"{described[uid] or 'no description'} ({len(files)} files)" for uid, files in found.items())
        raise BadInput(f"{folder} holds {len(matches)} series that match {wanted!r}; it has: {known}.")
    return found[matches[0]]


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
