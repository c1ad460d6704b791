"""Slices of a scan that hold what other slices hold, voxel by voxel: copied, where others were lost."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..volume import Volume

_MANY = 1 / 3  # of the slices: a scan that repeats more was made larger without interpolation, or is no scan
_EVEN = 1  # slices by which distances may differ that are the same but for rounding
_VARIED = 0.2  # of the largest deviation in a slice: with less a slice shows little besides air


def repeated_slices(volume: Volume, axis: int) -> list[int]:
    """The slices across an axis that hold the very voxels of one before them.

    None where much repeats, or at even distances, as where a scan was made larger without interpolation, or only air.
    """
    stack = np.moveaxis(volume.array[0], axis, 0)
    sums, deviations = _told(stack)
    candidates = deviations > _VARIED * deviations.max()
    before: dict[float, list[int]] = {}
    found = []
    for k in np.flatnonzero(candidates).tolist():
        alike = before.setdefault(float(sums[k]), [])
        if any(np.array_equal(stack[k], stack[other]) for other in alike):
            found.append(k)
        alike.append(k)
    return [] if len(found) > _MANY * candidates.sum() or _evenly(found) else found


def _evenly(slices: list[int]) -> bool:
    """Whether there are several, as far from each other as the rest, and not side by side."""
    distances = np.diff(slices)
    return len(distances) > 1 and bool(distances.min() > 1 and np.ptp(distances) <= _EVEN)


def _told(stack: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """A number that is the same of equal slices, and the deviation in each slice; 0 of what is not finite."""
    planes = [np.nan_to_num(np.asarray(plane[::2, ::2], np.float64), nan=0, posinf=0, neginf=0) for plane in stack]
    return np.array([plane.sum() for plane in planes]), np.array([plane.std() for plane in planes])
