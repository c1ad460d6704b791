"""DICOM slices for the tests, written as scanners do."""

from pathlib import Path

import numpy as np
import SimpleITK as sitk

UID = "1.2.826.0.1.7"


def write(path: Path, number: int, position, value: int | None = None, size=(6, 4), **tags: str) -> None:
    """One slice whose voxels are all `value`, by default its number; a path without an ending gets none."""
    image = sitk.GetImageFromArray(np.full(size[::-1], number if value is None else value, "int16"))
    image.SetSpacing((0.5, 0.5))
    told = {
        "0008|0060": "CT",
        "0020|000e": UID,
        "0020|000d": "1.2.826.0.2",
        "0008|0018": f"{UID}.{number}",
        "0020|0032": "\\".join(f"{x:.10g}" for x in position),
        "0020|0037": "1\\0\\0\\0\\1\\0",
        "0020|0013": str(number),
    }
    for tag, text in (told | {name[1:5] + "|" + name[6:]: text for name, text in tags.items()}).items():
        image.SetMetaData(tag, text)
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = sitk.ImageFileWriter()
    writer.SetImageIO("GDCMImageIO")
    writer.KeepOriginalImageUIDOn()
    writer.SetFileName(str(path))
    writer.Execute(image)


def write_stack(folder: Path, heights, ending: str = ".dcm", first: int = 0, **tags: str) -> None:
    """A stack of slices at these heights in mm, numbered from `first`."""
    for number, z in enumerate(heights, first):
        write(folder / f"{number:03d}{ending}", number, (0, 0, z), **tags)
