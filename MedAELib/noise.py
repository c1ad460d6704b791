"""How strong the noise of a scan is: one number for a whole volume, the unit in which the denoisers see it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from .noise_correction import correction
from .noise_statistics import haar_details, intensities, second_differences, statistics

_EDGE = 6  # voxels of a block along each axis
_BLOCKS = 16_000
_FEWEST = 40  # blocks
_QUIETEST = 0.02  # of the blocks of tissue stand for the noise
_QUIETEST_Z = -2.0537  # where that share ends in a normal distribution
# Of the second differences along an edge of a block, measured at the quantile below: neighbours are correlated.
_SECOND_FREEDOM = {1: 1.13, 2: 1.13, 4: 1.64, 6: 2.58}
_RAYLEIGH = (1.6, 2.3)  # mean over deviation of untouched air in a magnitude image; 1.913 without end
_CORRELATED_FREEDOM = 60  # of a block's detail where noise is correlated in plane, about
_ACROSS_FREEDOM = 25  # of a block's differences from slice to slice, where noise is correlated in plane, about
_FINE = 0.4  # scans with white noise have .5 and more, those interpolated to twice as many voxels .35 and less
LEAST = 1e-3  # of the range of intensities: weaker noise is not looked for

Units = Callable[[int, bool], float]


def noise_unit(array: npt.NDArray[Any], correlated: bool, zero: float = 0.0) -> float:
    """The deviation of the noise in the quiet part of the tissue of `[i, j, k]` (a fifth has less), in its own units.

    Details of small blocks on a regular grid, so the figure is reproducible. Anatomy only adds to them, so the quietest
    blocks of tissue stand for the noise, corrected for what that choice alone gives in pure noise. How much anatomy is
    left even in those is told by how detail is shared between bands and blocks: a correction that was learned on scans
    with known noise. Never below a thousandth of the range. `zero` is the intensity of no signal.
    """
    found = look(array, correlated, zero)
    if found.statistics is None:
        return found.plain
    return max(found.plain * correction(found.statistics, correlated), found.least)


def interpolated(array: npt.NDArray[Any], zero: float = 0.0) -> bool:
    """Whether the finest detail of an MRI `[i, j, k]` is so weak that it was resampled, or has no noise.

    What noise there is then lies in coarser detail, as anatomy does.
    """
    return look(array, correlated=False, zero=zero).finest < _FINE


def units_of(array: npt.NDArray[Any], zero: float = 0.0) -> Units:
    """`noise_unit` of the channels of `[c, i, j, k]` by number, found once however often one is asked for."""
    return cache(lambda channel, correlated: noise_unit(array[channel], correlated, zero))


@dataclass(frozen=True)
class Look:
    """What the blocks of a volume tell: the plain estimate of the noise, the least that is told, and the statistics.

    The statistics are relative to the plain estimate, so they do not depend on units; None where the volume is too
    small or too empty for more than the plain estimate. `finest` is the deviation by the finest detail over that by
    all detail, both in the quietest blocks; 1 where that is not looked at.
    """

    plain: float
    least: float
    statistics: npt.NDArray[np.float64] | None = None
    finest: float = 1.0


def look(array: npt.NDArray[Any], correlated: bool, zero: float = 0.0) -> Look:
    """The plain estimate and the statistics of `[i, j, k]`.

    White noise (MRI) is in every band alike, and anatomy is least in second differences along all axes at once
    (Immerkaer 1996); at least half of what all Haar bands say is taken, for scans that were filled up with zeros.
    Untouched air of a magnitude image says it without any anatomy (Rayleigh's law). Noise that is correlated in the
    plane (CT) is measured in all bands, or from slice to slice where it is hardly correlated and anatomy goes on.
    """
    blocks = _blocks(array)
    if zero:
        blocks -= zero
    mean, power = blocks.mean(axis=(0, 1, 2)), np.square(blocks).mean(axis=(0, 1, 2))
    span = float(np.percentile(mean, 99.9) - np.percentile(mean, 0.1)) if mean.size else 0.0
    least = LEAST * span if span > 0 else 1.0
    spread = math.sqrt(max(float(power.mean() - mean.mean() ** 2), 0.0)) if mean.size else 0.0
    tissue = mean > otsu_threshold(mean)
    tissue = tissue if tissue.sum() >= _FEWEST else np.ones_like(tissue)
    blocks -= mean
    everything = haar_details(blocks)
    alive = tissue & (everything > (1e-6 * span) ** 2)  # masked and cut-off regions hold no noise
    if not alive.any():
        return Look(least, least)
    blocks = blocks.astype(np.float32)  # differences of neighbours need no more, and half as much memory is quicker
    seconds = second_differences(blocks)
    total = quietest(everything[alive], _CORRELATED_FREEDOM)
    finest, air = 0.0, 0.0 if correlated else _air(mean[~tissue], power[~tissue])
    if correlated:
        between = quietest(seconds["second", (2,)][alive], _ACROSS_FREEDOM) if array.shape[2] > 2 else total
        plain = min(total, between)
    else:
        freedom = math.prod(_SECOND_FREEDOM[edge] for edge in blocks.shape[:3])
        finest = quietest(seconds["second", (0, 1, 2)][alive], freedom)
        plain = max(finest, 0.5 * total)
        # Air that the scanner or somebody else has darkened tells nothing.
        plain = air if 0.1 * plain < air < plain else plain
    if plain <= least or min(blocks.shape[:3]) < _EDGE or alive.sum() < _FEWEST:
        # So few blocks tell little, but no noise is stronger than all that varies.
        return Look(max(min(plain, spread), least), least)
    told = statistics(blocks, seconds, alive, plain, correlated)
    if not correlated:
        told = np.concatenate([told, intensities(mean, alive, air, plain)])
    return Look(plain, least, told, 1.0 if correlated else finest / total)


def otsu_threshold(values: npt.NDArray[Any]) -> float:
    """The value that parts a sample into two classes with the largest variance between them (Otsu 1979)."""
    ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if ordered.size < 2:
        return -math.inf
    sums, low = np.cumsum(ordered), np.arange(1, ordered.size)
    high = ordered.size - low
    between = low * high * ((sums[-1] - sums[:-1]) / high - sums[:-1] / low) ** 2
    return float(ordered[int(np.argmax(between))])


def _blocks(array: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    """Blocks of even edges, `[i, j, k, n]`: the same work on many blocks is fastest with their number last."""
    block = tuple(min(_EDGE, size) // 2 * 2 if size > 1 else 1 for size in array.shape)
    return np.moveaxis(grid_blocks(array, block), 0, -1).copy()


def grid_blocks(array: npt.NDArray[Any], block: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """About 16,000 blocks `[n, *block]` of `[i, j, k]` on a regular grid; those that are not finite are left out."""
    windows = np.lib.stride_tricks.sliding_window_view(array, block)
    each = max(2, round(_BLOCKS ** (1 / max(1, sum(size > 1 for size in array.shape)))))
    places = [
        np.unique(np.linspace(0, n - b, min(each, n - b + 1)).astype(int))
        for n, b in zip(array.shape, block, strict=True)
    ]
    blocks = windows[np.ix_(*places)].reshape(-1, *block).astype(np.float64)
    return blocks[np.isfinite(blocks).all(axis=(1, 2, 3))] if array.dtype.kind == "f" else blocks


def quietest(energies: npt.NDArray[np.float64], freedom: float) -> float:
    """The deviation that the quietest energies stand for, if each is a mean of `freedom` squares of pure noise."""
    # Wilson and Hilferty (1931): this low quantile of a chi-square variable over its degrees of freedom.
    expected = (1 - 2 / (9 * freedom) + _QUIETEST_Z * math.sqrt(2 / (9 * freedom))) ** 3
    return math.sqrt(float(np.quantile(energies, _QUIETEST)) / max(expected, 1e-3))


def _air(mean: npt.NDArray[np.float64], power: npt.NDArray[np.float64]) -> float:
    """The deviation per channel that blocks of pure Rayleigh noise tell; 0 where there are too few."""
    deviation = np.sqrt(np.maximum(power - mean**2, 0))
    ratio = mean / np.maximum(deviation, 1e-30)
    untouched = (ratio > _RAYLEIGH[0]) & (ratio < _RAYLEIGH[1]) & (mean > 0)
    if untouched.sum() < _FEWEST:
        return 0.0
    return math.sqrt(float(np.median(power[untouched])) / 2)
