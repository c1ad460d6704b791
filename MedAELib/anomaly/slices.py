"""A brain slice by slice along one of the scan's own axes, seen so coarsely that noise and fine detail do not count."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from ..volume import Volume
from .grid import Floats
from .masks import Mask
from .prepare import MEDIAN, Prepared

_FEWEST = 9  # slices: of fewer none can be compared with those around
_CELL = 8.0  # mm in plane
_MUCH = 0.3  # of the slice that holds most of the brain: with less, a slice shows its end
_FAR = 2  # slices on each side that a slice is compared with


@dataclass(frozen=True, eq=False)
class Slices:
    """The slices across an axis (0..2) of the first channel: the mean of each cell `[n, a, b]` of 8 mm in plane, in
    medians of the brain, and whether the brain is in its middle."""

    axis: int
    cells: Floats
    brain: Mask

    @cached_property
    def enough(self) -> Mask:
        """Which slices hold enough of the brain to be compared, `[n]`."""
        areas = self.brain.sum(axis=(1, 2))
        return np.asarray(areas >= max(_MUCH * areas.max(), 1))


def slices_of(volume: Volume, prepared: Prepared) -> Iterator[Slices]:
    """The slices along each axis that has enough of them; `prepared` is the same scan on its grid."""
    middle = MEDIAN * prepared.scale
    for axis in range(3):
        shape = tuple(size for other, size in enumerate(volume.shape) if other != axis)
        if volume.shape[axis] < _FEWEST:
            continue
        spacing = [size for other, size in enumerate(volume.spacing) if other != axis]
        steps = [max(1, round(_CELL / size)) for size in spacing]
        counts = [max(1, size // step) for size, step in zip(shape, steps, strict=True)]
        places = [
            np.minimum(step * np.arange(count) + step // 2, size - 1)
            for size, step, count in zip(shape, steps, counts, strict=True)
        ]
        stack = np.moveaxis(volume.array[0], axis, 0)
        yield Slices(
            axis,
            _means(stack, steps, counts) / np.float32(middle),
            _brain_at(volume, prepared, axis, places),
        )


def beyond(values: npt.NDArray[Any]) -> Floats:
    """How many times as large each value is as the largest of the two before and the two behind it; 0 where these are
    not all known."""
    found = np.zeros(len(values), np.float32)
    for k in range(_FAR, len(values) - _FAR):
        largest = float(np.max(np.r_[values[k - _FAR : k], values[k + 1 : k + 1 + _FAR]]))
        if np.isfinite(largest) and np.isfinite(values[k]) and largest > 0:
            found[k] = values[k] / largest
    return found


def _means(stack: npt.NDArray[Any], steps: list[int], counts: list[int]) -> Floats:
    """Means of whole cells `[n, a, b]`; what is not finite counts as 0, and what is below 0, too."""
    (high, wide), (a, b) = steps, counts
    found = np.empty((len(stack), a, b), np.float32)
    for k, plane in enumerate(stack):
        values = np.nan_to_num(np.asarray(plane[: a * high, : b * wide], np.float32), nan=0, posinf=0, neginf=0)
        found[k] = np.maximum(values, 0).reshape(a, high, b, wide).mean(axis=(1, 3))
    return found


def _brain_at(volume: Volume, prepared: Prepared, axis: int, places: list[npt.NDArray[np.intp]]) -> Mask:
    """Whether the brain is at these places of each slice, `[n, a, b]`."""
    along = [np.arange(volume.shape[axis]), *places]
    order = [axis, *(other for other in range(3) if other != axis)]
    there = (np.linalg.inv(prepared.grid.affine) @ volume.affine)[:3]
    index = there[:, 3].reshape(3, 1, 1, 1) + np.zeros((3, *map(len, along)))
    for number, positions in zip(order, along, strict=True):
        shape = [1, 1, 1]
        shape[order.index(number)] = len(positions)
        index += there[:, number].reshape(3, 1, 1, 1) * positions.reshape(shape)
    nearest = np.rint(index).astype(int)
    limits = np.array(prepared.mask.shape).reshape(3, 1, 1, 1)
    inside = ((nearest >= 0) & (nearest < limits)).all(axis=0)
    i, j, k = np.clip(nearest, 0, limits - 1)
    return np.asarray(prepared.mask[i, j, k] & inside)
