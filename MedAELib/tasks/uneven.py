"""How much stronger the noise of an MRI is in one place than in its quiet part, as parallel imaging leaves it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ..noise_statistics import mixed_differences

Floats = npt.NDArray[np.float32]

_EDGE = 14  # voxels of a block
_MOST = 12  # blocks along an axis
_THINNEST = 6  # voxels
# Root mean square of second differences over what their median tells: 1 for noise (0.97 to 1.03 was measured), more for
# anatomy, which is strong in few places (1.1 and more wherever it made tissue half as restless again).
LIKE_NOISE = 1.06
NORMAL = 0.6745  # the median magnitude of a normal variable
_BRIGHT = 3.0  # times its noise: below, a magnitude varies less than its noise
UNEVEN = 1.5  # times the noise of the quiet part: up to there the models learned to see it
_FEWEST, _SHARE = 8, 0.04  # blocks with so much noise, and of all blocks
_AIR = 0.6  # of noise is told by a magnitude without signal (0.655, by Rayleigh's law): no block tells less
_LARGEST = 8.0


def noise_field(array: npt.NDArray[Any], unit: float, zero: float = 0.0) -> Floats | None:
    """By how many times the noise of an MRI `[i, j, k]` exceeds `unit`, its strength in the quiet part: `[i, j, k]`, at
    least 1 and smooth; None where it nowhere exceeds it by half, or where that cannot be told from fine anatomy.

    Measured in blocks of bright tissue by second differences along all axes at once, where anatomy is least (Immerkaer
    1996), by their median, where they are spread as noise is. `zero` is the intensity of no signal.
    """
    if min(array.shape) < _THINNEST or not unit > 0:
        return None
    starts = [_starts(size) for size in array.shape]
    told, most = np.full((2, *(len(axis) for axis in starts)), np.nan)
    for place in np.ndindex(*told.shape):
        first = [axis[index] for axis, index in zip(starts, place, strict=True)]
        block = array[tuple(slice(at, at + _EDGE) for at in first)].astype(np.float32)
        told[place], most[place] = (level / unit for level in _levels(block - np.float32(zero)))
    known = np.isfinite(told)
    if (told[known] >= UNEVEN).sum() < max(_FEWEST, _SHARE * told.size):
        return None
    ratios = np.exp(_smooth(np.log(np.where(known, told, 1)), known))
    return _spread(np.clip(np.fmin(ratios, most), 1, _LARGEST), starts, array.shape)


def _starts(size: int) -> npt.NDArray[np.int64]:
    """Where blocks begin along an axis: side by side, or evenly spaced where there would be many."""
    count = min(_MOST, max(1, size // _EDGE))
    return np.unique(np.linspace(0, max(0, size - _EDGE), count).astype(np.int64))


def _levels(block: Floats) -> tuple[float, float]:
    """The deviation of the noise in a block `[i, j, k]`, not a number where that does not look like noise; and the most
    that it may be: anatomy only adds to it."""
    second = mixed_differences(block)
    level = float(np.median(np.abs(second))) / NORMAL
    bright = float(block.mean()) > _BRIGHT * level
    alike = math.sqrt(float(np.square(second).mean())) < LIKE_NOISE * level
    return level if level > 0 and bright and alike else math.nan, 1.05 * level / (1 if bright else _AIR)


def _smooth(values: npt.NDArray[np.float64], told: npt.NDArray[np.bool_]) -> npt.NDArray[np.float64]:
    """The mean around each block, of those that tell anything; of wider surroundings where near ones do not."""
    made, missing = np.zeros_like(values), np.ones(values.shape, bool)
    for width in (0.7, 1.5, 3.0, 100.0):
        weight = gaussian_filter(told.astype(float), width, mode="constant")
        here = missing & (weight > 0.05 if width < 100 else missing)
        mean = gaussian_filter(np.where(told, values, 0), width, mode="constant") / np.maximum(weight, 1e-12)
        made[here], missing = mean[here], missing & ~here
    return made


def _spread(values: npt.NDArray[np.float64], starts: list[npt.NDArray[np.int64]], shape: tuple[int, ...]) -> Floats:
    """Values of blocks at all voxels `[i, j, k]`: linear between the middles of blocks, beyond the last as there."""
    made = values.astype(np.float32)
    for axis, (first, size) in enumerate(zip(starts, shape, strict=True)):
        middles = first + (min(_EDGE, size) - 1) / 2
        made = linear_along(made, axis, np.interp(np.arange(size), middles, np.arange(len(middles))))
    return made


def linear_along(field: Floats, axis: int, at: npt.NDArray[np.float64]) -> Floats:
    """A field `[i, j, k]` at places along an axis, each from 0 to its last voxel: linear between voxels."""
    at = at.astype(np.float32)
    low = np.minimum(at.astype(np.int64), field.shape[axis] - 1)
    high = np.minimum(low + 1, field.shape[axis] - 1)
    share = (at - low).astype(np.float32).reshape([-1 if other == axis else 1 for other in range(3)])
    return np.asarray(field.take(low, axis) * (1 - share) + field.take(high, axis) * share)
