"""Where a scan has one value all around: masked air and padding, which hold no noise and stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine.tiles import Box

_EDGE = 3  # voxels: so many along every axis of the same value are no noise

Mask = npt.NDArray[np.bool_]


def constant(voxels: npt.NDArray[Any], core: Box) -> Mask | None:
    """Which voxels of a box of `[i, j, k]` lie in a block of 3 x 3 x 3 voxels of one value; None where none does.

    Blocks reach beyond the box, so it does not matter how a volume is cut. Along an axis of two voxels or one they are
    as thin.
    """
    around = [
        slice(max(0, side.start - _EDGE + 1), min(size, side.stop + _EDGE - 1))
        for side, size in zip(core, voxels.shape, strict=True)
    ]
    values, edges = voxels[tuple(around)], [min(_EDGE, size) for size in voxels.shape]
    found = np.ones_like(values, np.bool_)
    for axis, edge in enumerate(edges):
        found, values = _all_alike(found, values, axis, edge)
        if not found.any():  # at once, in an ordinary scan
            return None
    for axis, edge in enumerate(edges):
        found = _spread(found, axis, edge)
    starts = [side.start - outer.start for side, outer in zip(core, around, strict=True)]
    return found[tuple(slice(n, n + side.stop - side.start) for n, side in zip(starts, core, strict=True))]


def _all_alike(found: Mask, values: npt.NDArray[Any], axis: int, edge: int) -> tuple[Mask, npt.NDArray[Any]]:
    """Where so many along an axis are found and of one value, by the first of them; and the values there."""
    count = found.shape[axis] - edge + 1
    parts = [_part(found, axis, start, count) for start in range(edge)]
    told = [_part(values, axis, start, count) for start in range(edge)]
    made = parts[0].copy()
    for start in range(1, edge):
        made &= parts[start] & (told[start] == told[0])
    return made, told[0]


def _spread(found: Mask, axis: int, edge: int) -> Mask:
    """All voxels along an axis of what was found by its first."""
    shape = list(found.shape)
    shape[axis] += edge - 1
    made = np.zeros(shape, np.bool_)
    for start in range(edge):
        _part(made, axis, start, found.shape[axis])[...] |= found
    return made


def _part(array: npt.NDArray[Any], axis: int, start: int, count: int) -> npt.NDArray[Any]:
    return array[(slice(None),) * axis + (slice(start, start + count),)]
