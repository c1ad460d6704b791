"""Anatomy that was folded over: where the field of view ends it goes on at the other end."""

from __future__ import annotations

import numpy as np

from ..volume import Volume
from .levels import levels_of

_FEWEST = 16  # slices
_SHOWS = 0.05  # of the first and of the last slice must be tissue
_ALIKE = 0.75  # correlation of the two
# Of what they lack in correlation, beside neighbours, and beside slices a little way in: of right scans, cut on both
# sides, 1.4 times and more of the one or .7 and more of the other; of folded ones 1.3 and .6 mostly at most.
_AS_NEIGHBOURS, _INWARD = 1.35, 0.65
_MIRRORED = 0.15  # times what neighbours lack: what is more alike than that is not the same anatomy but mirrors it
_WAY = 6.0  # mm inwards


def folded_axes(volume: Volume) -> list[int]:
    """The axes along which the first slice follows the last one as neighbours follow each other, both with tissue.

    Not along left to right: the sides of a head that is cut on both mirror each other.
    """
    _, clear = levels_of(volume)
    sideways = int(np.argmax(np.abs(volume.affine[0, :3]) / np.linalg.norm(volume.affine[:3, :3], axis=0)))
    return [axis for axis in range(3) if axis != sideways and _goes_on(volume, axis, clear)]


def _goes_on(volume: Volume, axis: int, clear: float) -> bool:
    stack, way = np.moveaxis(volume.array[0], axis, 0), max(2, round(_WAY / volume.spacing[axis]))
    if len(stack) < max(_FEWEST, 4 * way):
        return False
    if any(np.count_nonzero(stack[end] > clear) < _SHOWS * stack[end].size for end in (0, -1)):
        return False
    lacking = 1 - _correlation(stack[0], stack[-1])
    beside = 1 - min(_correlation(stack[0], stack[1]), _correlation(stack[-1], stack[-2]))
    pairs = ((way, -1 - way), (0, -1 - 2 * way), (2 * way, -1))
    inward = 1 - max(_correlation(stack[a], stack[b]) for a, b in pairs)
    return _MIRRORED * beside < lacking < min(1 - _ALIKE, _AS_NEIGHBOURS * beside, _INWARD * inward)


def _correlation(one: np.ndarray, two: np.ndarray) -> float:
    """Of two slices; 0 where one of them tells nothing."""
    a, b = (np.nan_to_num(np.asarray(plane, np.float32).ravel(), nan=0, posinf=0, neginf=0) for plane in (one, two))
    return float(np.corrcoef(a, b)[0, 1]) if a.std() > 0 and b.std() > 0 else 0.0
