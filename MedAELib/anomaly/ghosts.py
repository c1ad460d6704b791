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
# Mm from the head, along the axis at most: there ghosts of motion are strongest.
_NEAR = (10.0, 30.0)
# Of the head's brightness, by which the air is brighter in the median than noise makes it: right heads have up to .029
# along the axis along which they were measured most slowly. What is brighter than a fifth is no ghost but tissue.
_SMEARED, _TISSUE = 0.034, 0.2
_BEYOND_NOISE = 1.35  # times the square of the noise: in strong noise less is chance
_FITS, _OUTLIER = 3, 4.0  # times the air is looked at for its noise; of the median deviation, above which it is none


def ghosts_of(volume: Volume) -> tuple[list[int], list[int]]:
    """The axes along which the air shows the head by half of the field of view, and those along which it is brighter
    in line with the head than noise makes it, as motion or flow does.

    Both empty where there is too little air, or it was set to 0.
    """
    mean, square, spacing = _cells(volume)
    head = mean > otsu_threshold(np.minimum(mean, np.percentile(mean, _HOT))) / 2
    if not head.any():
        return [], []
    air, least = distance_transform_edt(~head, sampling=spacing) > _CLEAR, _LEAST * 1000 / math.prod(spacing)
    level = float(np.median(mean[head]))
    copied = [axis for axis in range(3) if _copied(mean, head, air, axis, least)]
    return copied, [axis for axis in range(3) if _smeared(square / level**2, head, air, axis, spacing)]


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


def _smeared(square: Floats, head: Mask, air: Mask, axis: int, spacing: list[float]) -> bool:
    """Whether the air close to the head along an axis is brighter than the air that is not in line with it tells.

    By squares, to which noise adds; `square` is in that of the head. What is exactly 0 is no air that was measured.
    """
    measured, least = square > 0, _LEAST * 1000 / math.prod(spacing)
    close = distance_transform_edt(~head, sampling=spacing) > _NEAR[0]
    close &= _along(head, axis, spacing[axis]) <= _NEAR[1]
    beside = air & measured & ~head.any(axis=axis, keepdims=True)
    seen = close & measured
    if beside.sum() < least or seen.sum() < max(least, _FILLED * close.sum()):
        return False
    usual = _noise(square, beside)[seen]
    excess = float(np.median(square[seen] - usual))
    return _SMEARED**2 < excess < _TISSUE**2 and float(np.median(square[seen] / usual)) > _BEYOND_NOISE


def _along(head: Mask, axis: int, edge: float) -> Floats:
    """How far each cell is from the head along an axis, in mm; infinite where the head is not in line."""
    stack = np.moveaxis(head, axis, 0)
    number = np.arange(len(stack), dtype=np.float32).reshape(-1, 1, 1)
    before = np.maximum.accumulate(np.where(stack, number, -np.inf), axis=0)
    behind = np.minimum.accumulate(np.where(stack, number, np.inf)[::-1], axis=0)[::-1]
    return np.asarray(np.moveaxis(np.minimum(number - before, behind - number), 0, axis) * edge)


def _noise(square: Floats, known: Mask) -> Floats:
    """How bright noise makes the air everywhere, by where that is known: a coil sees it brighter in some places.

    The exponential of a polynomial of second degree along each axis, nowhere darker than where it is known.
    """
    axes = np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32) for size in square.shape], indexing="ij")
    terms = np.stack([np.ones_like(square), *axes, *(axis**2 for axis in axes)], axis=-1)
    rows, values = terms[known], np.log(square[known])
    fits = np.ones(values.shape, bool)
    for _ in range(_FITS):
        found = np.linalg.lstsq(rows[fits], values[fits], rcond=None)[0]
        rest = values - rows @ found
        fits = rest < _OUTLIER * np.median(np.abs(rest)) + np.finfo(np.float32).eps
    return np.asarray(np.exp(np.maximum(terms @ found, (rows @ found).min())))
