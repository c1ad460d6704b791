"""The wavelet transform of the lossy mode: CDF 9/7 by lifting, in whole numbers, level after level of chosen axes.

After I. Daubechies and W. Sweldens, "Factoring wavelet transforms into lifting steps" (1998). Whole numbers are held in
float64, where all sums and products here are exact, so every computer finds the same voxels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt

FRACTION_BITS = 6  # of coefficients: a grey value is 2^6
_LIFT_BITS = 14
_STEPS = (-25987, -868, 14467, 7266)  # of the lifting, in 2^-14
_GAIN = 1.149604398  # of the low-pass branch, by which lifting without scaling falls short of an orthonormal transform
_BRIGHTER = 1.230358  # of the low-pass branch, for a constant
GAIN_BITS = 16
MOST_LEVELS = 8
SHORTEST = 4  # an axis of fewer coefficients is not divided further
JOINS, LATE = 2.1, 1.05  # an axis takes part in a level when its spacing is at most so many times the finest
_ALIKE = 1.2  # spacings that differ by less are of axes that are halved together from the start
_FEWEST = 512  # coefficients of the low band at which no further level follows

Doubles = npt.NDArray[np.float64]
Shape = tuple[int, int, int]
Axes = tuple[int, ...]


@dataclass(frozen=True)
class Level:
    """One level: the `shape` that it divides and the `axes` that it halves; `steps` are the voxels of the volume that
    lie between its own, before it, along the three axes."""

    shape: Shape
    axes: Axes
    steps: Shape

    @property
    def low(self) -> Shape:
        """The shape of the low band."""
        return self.band(())

    def band(self, high: Axes) -> Shape:
        """The shape of the band that is high-pass along some of the axes."""
        i, j, k = (n if d not in self.axes else n // 2 if d in high else -(-n // 2) for d, n in enumerate(self.shape))
        return i, j, k

    def bands(self) -> list[Axes]:
        """All bands but the low one, in the order of coding: by how many axes they are high-pass along."""
        found = [high for count in range(1, 4) for high in combinations(self.axes, count)]
        return [high for high in found if 0 not in self.band(high)]


def levels_of(shape: Shape, axes: Sequence[Axes]) -> list[Level]:
    """The levels, finest first, for the axes that each of them halves."""
    levels, steps = [], [1, 1, 1]
    for halved in axes:
        i, j, k = steps
        levels.append(Level(shape, tuple(halved), (i, j, k)))
        shape = levels[-1].low
        for d in halved:
            steps[d] *= 2
    return levels


def choose_axes(shape: Shape, spacing: Shape, joins: float = JOINS) -> list[Axes]:
    """Which axes each level halves, finest first: those that are spaced about as finely as the finest one.

    A coarser axis joins once its spacing is at most `joins` times that of the axes that are halved.
    """
    current, extent = list(shape), list(spacing)
    joined = {d for d in range(3) if extent[d] <= max(joins, _ALIKE) * min(extent)}
    chosen: list[Axes] = []
    while len(chosen) < MOST_LEVELS and np.prod(current) > _FEWEST:
        long = [d for d in range(3) if current[d] >= SHORTEST]
        if not long:
            break
        finest = min(extent[d] for d in [d for d in long if d in joined] or long)
        joined |= {d for d in long if extent[d] <= joins * finest}
        chosen.append(tuple(d for d in long if d in joined))
        for d in chosen[-1]:
            current[d], extent[d] = -(-current[d] // 2), 2 * extent[d]
    return chosen


def gain(power: int) -> int:
    """The gain of the low-pass branch to a power, times 2^16."""
    return round(_GAIN**power * 2**GAIN_BITS)


def brightness(halvings: int) -> int:
    """What brings a low band back to grey values after so many halvings, times 2^16."""
    return round(_BRIGHTER**-halvings * 2**GAIN_BITS)


def band_step(step: int, before: int, lows: int, highs: int) -> int:
    """The quantisation step of a band in 2^-6 grey values, for a `step` of an orthonormal transform.

    `before` counts the halvings of all finer levels, `lows` and `highs` those of its own level.
    """
    return max((step * gain(highs - lows - before) + (1 << GAIN_BITS >> 1)) >> GAIN_BITS, 1)


def analyse(values: Doubles, axes: Axes) -> dict[Axes, Doubles]:
    """The bands of one level of whole numbers [i, j, k], by the axes that they are high-pass along; () is low."""
    bands: dict[Axes, Doubles] = {(): values}
    for axis in axes:
        for high, band in list(bands.items()):
            bands[high], bands[*high, axis] = _split(band, axis)
    return bands


def synthesise(bands: dict[Axes, Doubles], shape: Shape, axes: Axes) -> Doubles:
    """What `analyse` divided; a missing band is zero."""
    whole = dict(bands)
    for axis in reversed(axes):
        for high in [high for high in whole if axis not in high]:
            whole[high] = _join(whole[high], whole.pop((*high, axis), None), axis, shape[axis])
        whole = {high: band for high, band in whole.items() if axis not in high}
    return whole[()]


def _split(values: Doubles, axis: int) -> tuple[Doubles, Doubles]:
    moved = np.moveaxis(values, axis, 0)
    low, high = moved[0::2].copy(), moved[1::2].copy()
    if len(high):
        for number, weight in enumerate(_STEPS):
            target, other = (high, low) if number % 2 == 0 else (low, high)
            target += _lifted(other, len(target), weight, number % 2 == 0)
    return np.moveaxis(low, 0, axis), np.moveaxis(high, 0, axis)


def _join(low: Doubles, high: Doubles | None, axis: int, size: int) -> Doubles:
    low = np.moveaxis(low, axis, 0).copy()
    high = np.zeros((size // 2, *low.shape[1:])) if high is None else np.moveaxis(high, axis, 0).copy()
    if len(high):
        for number, weight in reversed(list(enumerate(_STEPS))):
            target, other = (high, low) if number % 2 == 0 else (low, high)
            target -= _lifted(other, len(target), weight, number % 2 == 0)
    joined = np.empty((size, *low.shape[1:]))
    joined[0::2], joined[1::2] = low, high
    return np.moveaxis(joined, 0, axis)


def _lifted(other: Doubles, count: int, weight: int, ahead: bool) -> Doubles:
    """The rounded, weighted sum of the two neighbours of each of `count` coefficients in the other half; mirrored."""
    total = np.empty((count, *other.shape[1:]))
    if ahead:  # of an odd voxel: its own place in the even ones and the next
        paired = min(count, len(other) - 1)
        np.add(other[:paired], other[1 : paired + 1], out=total[:paired])
        total[paired:] = 2 * other[-1:]
    else:  # of an even voxel: the place before in the odd ones and its own
        paired = min(count, len(other))
        np.add(other[: paired - 1], other[1:paired], out=total[1:paired])
        total[:1] = 2 * other[:1]
        total[paired:] = 2 * other[-1:]
    total *= weight / 2**_LIFT_BITS
    total += 0.5
    return np.floor(total, out=total)
