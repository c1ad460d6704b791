"""The slices of a DICOM series: one stack, or several (frames), checked to be evenly spaced and at right angles.

ITK's series reader takes whatever files it is given for one orthogonal, evenly spaced stack; this looks first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BadInput
from .naming import is_text

_UNEVEN = 0.01  # of the distance between slices
_ROUNDED = 0.011  # mm, but no more than a tenth of the distance: positions are decimal texts, often of two places
_SAME_PLACE = 1e-3  # mm
_PARALLEL = 1e-3  # of direction cosines
_SIDEWAYS = 0.5  # pixels, over the whole stack
_RESAMPLE = "Load it in 3D Slicer with 'acquisition geometry regularization', then save it as NRRD."
# What tells the stacks of a series apart; the first that tells all apart is taken: time point, trigger time, echo,
# b-value, acquisition.
_FRAME_TAGS = ("0020|0100", "0018|1060", "0018|0086", "0018|9087", "0020|0012")


@dataclass(frozen=True)
class Series:
    """The files of each frame in their order along the patient (one frame for a plain series).

    `size` is that of a file's image, `components` the values per pixel, `pixel` the type that holds the values of all.
    """

    frames: tuple[tuple[str, ...], ...]
    size: tuple[int, ...]
    components: int
    pixel: np.dtype[Any]  # of one component

    @property
    def nbytes(self) -> float:
        """Bytes of all voxels in memory."""
        return float(np.prod(self.size, dtype=float)) * self.components * self.pixel.itemsize * self.count

    @property
    def count(self) -> int:
        """Number of files."""
        return sum(map(len, self.frames))


@dataclass(frozen=True, eq=False)
class Slice:
    """What a file says of where it lies; `position` [3] in LPS millimetres is None where it does not say.

    `patient` is for comparing in memory only: it is never shown or written.
    """

    file: str
    size: tuple[int, ...]
    components: int
    pixel: np.dtype[Any]
    spacing: tuple[float, float]
    axes: npt.NDArray[np.float64]  # [3, 2]: along a row, along a column
    position: npt.NDArray[np.float64] | None
    uid: str
    number: float
    frame: tuple[str, ...]
    localizer: bool
    series: str  # its UID
    study: str  # its UID
    described: str  # the series, in the words of the scanner
    series_number: float
    modality: str
    patient: str = field(repr=False)

    @property
    def name(self) -> str:
        return Path(self.file).name


def sorted_series(files: Sequence[str], folder: Path) -> Series:
    """The series of these files, sorted along its normal, repeated positions as frames.

    Raises BadInput when the slices differ in size or direction, lie unevenly, are shifted sideways (gantry tilt), or
    repeat at some positions only. A single file, of one or many frames, is left to ITK.
    """
    return stacked([read_slice(file) for file in files], folder)


def stacked(slices: Sequence[Slice], folder: Path) -> Series:
    """`sorted_series` of slices that are read already."""
    slices = _without_copies(slices)
    if any(not one.localizer for one in slices):
        slices = [one for one in slices if not one.localizer]
    first = slices[0]
    pixel = np.result_type(*(one.pixel for one in slices))
    if len(slices) == 1:
        return Series(((first.file,),), first.size, first.components, pixel)
    what = f"The DICOM series in {folder}"
    _check_alike(slices, what)
    frames = _frames(slices, what)
    for frame in frames:
        _check_even(frame, what)
    return Series(tuple(tuple(one.file for one in frame) for frame in frames), first.size, first.components, pixel)


def read_slice(file: str) -> Slice:
    """The place of one file, from its header alone. Raises BadInput."""
    import SimpleITK as sitk

    if not is_text(file):
        raise BadInput(f"{file} cannot be read: its name holds bytes that are no letters.", "Rename it.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(file)
    try:
        reader.ReadImageInformation()
    except RuntimeError:
        raise BadInput(f"{file} cannot be read as DICOM.", "Copy it again, or take it out of the folder.") from None

    def told(tag: str) -> str:
        return str(reader.GetMetaData(tag)).strip("\0 ") if reader.HasMetaDataKey(tag) else ""

    dimensions = reader.GetDimension()
    axes = np.array(reader.GetDirection()).reshape(dimensions, dimensions)[:, :2]
    x, y = reader.GetSpacing()[:2]
    return Slice(
        file=file, size=tuple(reader.GetSize()), components=reader.GetNumberOfComponents(), spacing=(x, y), axes=axes,
        pixel=_type(reader.GetPixelID()),
        position=_place(told("0020|0032")), uid=told("0008|0018"), number=_number(told("0020|0013")),
        frame=tuple(told(tag) for tag in _FRAME_TAGS), localizer="LOCALIZER" in told("0008|0008").upper(),
        series=told("0020|000e"), study=told("0020|000d"), described=told("0008|103e"),
        series_number=_number(told("0020|0011")), modality=told("0008|0060").upper(), patient=told("0010|0020"),
    )  # fmt: skip


def _type(pixel: int) -> np.dtype[Any]:
    """The type of a component, from SimpleITK's number of a pixel type."""
    import SimpleITK as sitk

    return np.dtype(sitk.GetArrayViewFromImage(sitk.Image([1, 1], pixel)).dtype)


def _place(text: str) -> npt.NDArray[np.float64] | None:
    """Three decimal texts; None when they are none."""
    numbers = [_number(part) for part in text.split("\\")]
    return np.array(numbers) if len(numbers) == 3 and np.isfinite(numbers).all() else None


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def _without_copies(slices: Sequence[Slice]) -> list[Slice]:
    """Each image once: the same one (by its UID) may lie in several sub-folders."""
    return list({one.uid or one.file: one for one in slices}.values())


def _check_alike(slices: Sequence[Slice], what: str) -> None:
    """Raise BadInput unless all are single slices of one size, spacing and direction that say where they lie."""
    first = slices[0]
    if any(len(one.size) > 2 and one.size[2] > 1 for one in slices):
        raise BadInput(f"{what} has {len(slices)} files, some of many frames.", "Name one of the files.")
    nowhere = next((one for one in slices if one.position is None), None)
    if nowhere is not None:
        raise BadInput(f"{what} does not say where its slices lie ({nowhere.name}).", "Name a single file of it.")
    for one in slices:
        if (one.size, one.components) != (first.size, first.components):
            raise BadInput(
                f"{what} mixes slices of different sizes: {_size(first)} in {first.name}, {_size(one)} in {one.name}.",
                "Put them into folders of their own, or choose another series with --series.",
            )
        if not np.allclose(one.axes, first.axes, rtol=0, atol=_PARALLEL):
            raise BadInput(
                f"{what} mixes slices of different directions, as a localizer does ({first.name}, {one.name}).",
                "Choose another series with --series, or name a single file of this one.",
            )
        if not np.allclose(one.spacing, first.spacing, rtol=1e-3, atol=0):
            raise BadInput(f"{what} mixes slices of different pixel sizes ({first.name}, {one.name}).", _RESAMPLE)


def _size(one: Slice) -> str:
    return " x ".join(map(str, one.size[:2]))


def _frames(slices: list[Slice], what: str) -> list[list[Slice]]:
    """The slices as stacks in order along the normal: a single one, or as many as there are slices at each position.

    Raises BadInput when positions repeat unequally, when nothing tells the stacks apart, or when some are shifted.
    """
    along = _along(slices)
    order = np.argsort(along, kind="stable")
    breaks = np.flatnonzero(np.diff(along[order]) > _SAME_PLACE) + 1
    places = [[slices[number] for number in part] for part in np.split(order, breaks)]
    most, least = max(places, key=len), min(places, key=len)
    if len(most) > len(least):
        raise BadInput(
            f"{what} has {len(most)} slices where {most[0].name} lies but {len(least)} where {least[0].name} lies.",
            "Put each scan into a folder of its own, without slices that are twice there.",
        )
    _check_sideways(slices, what)
    if len(most) == 1:
        return [[one for (one,) in places]]
    stacks = list(zip(*(_in_order(place, places, what) for place in places)))
    return [list(stack) for stack in stacks]


def _in_order(place: list[Slice], places: list[list[Slice]], what: str) -> list[Slice]:
    """The slices of one position, first frame first: by a tag that tells frames apart everywhere, else by number."""
    for tag in range(len(_FRAME_TAGS)):
        told = {frozenset(one.frame[tag] for one in other) for other in places}
        if len(told) == 1 and len(next(iter(told))) == len(place):
            return sorted(place, key=lambda one: (_number(one.frame[tag]), one.frame[tag]))
    if len({one.number for one in place if np.isfinite(one.number)}) < len(place):
        raise BadInput(
            f"{what} has {len(place)} slices at each position and nothing tells which belong together "
            f"({place[0].name}, {place[1].name}).",
            "Put each scan into a folder of its own.",
        )
    return sorted(place, key=lambda one: one.number)


def _along(slices: Sequence[Slice]) -> npt.NDArray[np.float64]:
    """Where the slices lie along their normal, in mm."""
    normal = np.cross(slices[0].axes[:, 0], slices[0].axes[:, 1])
    return np.array([one.position for one in slices], dtype=np.float64) @ normal


def _check_sideways(slices: Sequence[Slice], what: str) -> None:
    """Raise BadInput when slices are shifted within their plane: the stack is then no box."""
    positions = np.array([one.position for one in slices], dtype=np.float64)
    shifts = np.linalg.norm((positions - positions[0]) @ slices[0].axes, axis=1)
    farthest = int(shifts.argmax())
    if shifts[farthest] > _SIDEWAYS * min(slices[0].spacing):
        raise BadInput(
            f"{what} is not at right angles (a tilted gantry, perhaps): {slices[farthest].name} is shifted sideways by "
            f"{shifts[farthest]:.3g} mm against {slices[0].name}.",
            _RESAMPLE,
        )


def _check_even(stack: Sequence[Slice], what: str) -> None:
    """Raise BadInput when the distance between neighbours changes: slices are missing, or were made unevenly."""
    if len(stack) < 3:
        return
    gaps = np.diff(_along(stack))
    usual = float(np.median(gaps))
    worst = int(np.abs(gaps - usual).argmax())
    if abs(gaps[worst] - usual) > max(_UNEVEN * usual, min(_ROUNDED, 0.1 * usual)):
        raise BadInput(
            f"{what} is not evenly spaced, so slices may be missing: {gaps[worst]:.4g} mm between {stack[worst].name} "
            f"and {stack[worst + 1].name}, {usual:.4g} mm elsewhere.",
            f"Copy the series again if it is not whole. {_RESAMPLE}",
        )
