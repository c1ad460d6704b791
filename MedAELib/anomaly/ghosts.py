"""Ghosts of a head in the air beside it: a copy by half of the field of view, or what motion smears along an axis."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import distance_transform_edt

from ..noise import otsu_threshold
from ..volume import Volume
from .grid import Floats
from .masks import Mask

_CELL = 6.0  # mm
_CLEAR = 12.0  # mm from the head: nearer, what is bright belongs to its edge
_LEAST = 20.0  # ml of air that tell something
_FILLED = 0.5  # of the air in line with the head holds more than zeros
_HOT = 99.5  # percentile of the cells: a few beyond are no tissue
# Correlation, and strength: of right heads, varied in nine ways, at most .42, and with a copy of a tenth .79 and more.
_COPY, _FAINTEST = 0.55, 0.02
# Of the head's brightness, in the mean and in the median: right heads have up to .034 and .015. What is brighter than a
# fifth is no ghost but tissue.
_SMEARED, _MOSTLY, _TISSUE = 0.05, 0.035, 0.2


def ghosts_of(volume: Volume) -> tuple[list[int], list[int]]:
    """The axes along which the air shows the head by half of the field of view, and those along which it is brighter
    in line with the head than elsewhere, as motion or flow makes it.

    Both empty where there is too little air, or it was set to 0.
    """
    mean, square, spacing = _cells(volume)
    head = mean > otsu_threshold(np.minimum(mean, np.percentile(mean, _HOT))) / 2
    if not head.any():
        return [], []
    air, least = distance_transform_edt(~head, sampling=spacing) > _CLEAR, _LEAST * 1000 / math.prod(spacing)
    level = float(np.median(mean[head]))
    copied = [axis for axis in range(3) if _copied(mean, head, air, axis, least)]
    return copied, [axis for axis in range(3) if _smeared(square / level**2, head, air, axis, least)]


def _cells(volume: Volume) -> tuple[Floats, Floats, list[float]]:
    """The mean and the mean square of the first channel in cells of 6 mm `[i, j, k]`, and their edges in mm; what is
    not finite or below 0 counts as 0."""
    steps = [max(1, round(_CELL / size)) for size in volume.spacing]
    high, wide, deep = (min(step, size) for step, size in zip(steps, volume.shape, strict=True))
    a, b, c = (size // step for size, step in zip(volume.shape, (high, wide, deep), strict=True))
    mean, square = np.empty((2, a, b, c), np.float32)
    for k in range(c):
        slab = np.asarray(volume.array[0, : a * high, : b * wide, k * deep : (k + 1) * deep], np.float32)
        slab = np.maximum(np.nan_to_num(slab, nan=0, posinf=0, neginf=0), 0).reshape(a, high, b, wide, deep)
        mean[..., k], square[..., k] = slab.mean(axis=(1, 3, 4)), np.square(slab).mean(axis=(1, 3, 4))
    return mean, square, [size * step for size, step in zip(volume.spacing, (high, wide, deep), strict=True)]


def _copied(mean: Floats, head: Mask, air: Mask, axis: int, least: float) -> bool:
    """Whether the air where the head lies half of the field of view away is bright where the head is, in proportion."""
    size = mean.shape[axis]
    shifts = {size // 2, (size + 1) // 2}
    away = np.mean([np.roll(np.where(head, mean, 0), shift, axis) for shift in shifts], axis=0)
    there = air & np.roll(head, size // 2, axis)
    if there.sum() < least:
        return False
    ghost, source = mean[there], away[there]
    if not (ghost.std() > 0 and source.std() > 0):
        return False
    alike = float(np.corrcoef(ghost, source)[0, 1])
    return alike > _COPY and alike * float(ghost.std() / source.std()) > _FAINTEST


def _smeared(square: Floats, head: Mask, air: Mask, axis: int, least: float) -> bool:
    """Whether the air in line with the head along an axis is brighter than elsewhere, in mean and median.

    By squares, to which noise adds the same everywhere; `square` is in that of the head. Air that was set to 0 tells
    nothing, unless all elsewhere was.
    """
    line = np.broadcast_to(head.any(axis=axis, keepdims=True), head.shape)
    inside, outside = square[air & line], square[air & ~line]
    lit = outside[outside > 0]
    if min(inside.size, outside.size) < least or (inside > 0).mean() < _FILLED:
        return False
    outside = lit if lit.size >= least else outside
    mean, median = inside.mean() - outside.mean(), np.median(inside) - np.median(outside)
    return bool(_SMEARED**2 < mean < _TISSUE**2 and median > _MOSTLY**2)
