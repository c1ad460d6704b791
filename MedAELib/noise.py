"""How strong the noise of a scan is: one number for a whole volume, the unit in which the denoisers see it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

_EDGE = 6  # voxels of a block along each axis
_BLOCKS = 16_000
_FEWEST = 40  # blocks
_QUIETEST = 0.02  # of the blocks of tissue stand for the noise
_QUIETEST_Z = -2.0537  # where that share ends in a normal distribution
_SECOND_FREEDOM = 2.58  # of the four second differences in a line of six voxels, measured: neighbours are correlated
_RAYLEIGH = (1.6, 2.3)  # mean over deviation of untouched air in a magnitude image; 1.913 without end
_CORRELATED_FREEDOM = 60  # of a block's detail where noise is correlated in plane, about
_ACROSS_FREEDOM = 25  # of a block's differences from slice to slice, where noise is correlated in plane, about
LEAST = 1e-3  # of the range of intensities: weaker noise is not looked for


def noise_unit(array: npt.NDArray[Any], correlated: bool) -> float:
    """The standard deviation of the noise in the quiet part of the tissue of `[i, j, k]`, in the array's own units.

    Details of small blocks on a regular grid, so the figure is reproducible. Anatomy only adds to them, so the quietest
    blocks of tissue stand for the noise, corrected for what that choice alone gives in pure noise. White noise (MRI) is
    in every band alike, and anatomy is least in second differences along all axes at once (Immerkaer 1996); at least
    half of what all Haar bands say is taken, for scans that were filled up with zeros. Untouched air of a magnitude
    image says it without any anatomy (Rayleigh's law). Noise that is correlated in the plane (CT) is measured in all
    bands, or from slice to slice where it is hardly correlated and anatomy goes on. Never below a thousandth of the
    range; too high where nothing is flat.
    """
    mean, power, finest, everything, across = _details(array)
    span = float(np.percentile(mean, 99.9) - np.percentile(mean, 0.1)) if mean.size else 0.0
    least = LEAST * span if span > 0 else 1.0
    tissue = mean > otsu_threshold(mean)
    tissue = tissue if tissue.sum() >= _FEWEST else np.ones_like(tissue)
    alive = tissue & (everything > (1e-6 * span) ** 2)  # masked and cut-off regions hold no noise
    if not alive.any():
        return least
    freedom = math.prod(_SECOND_FREEDOM for size in array.shape if size > 1)
    total = quietest(everything[alive], _CORRELATED_FREEDOM)
    if correlated:
        between = quietest(across[alive], _ACROSS_FREEDOM) if array.shape[2] > 2 else total
        return max(min(total, between), least)
    found = max(quietest(finest[alive], freedom), 0.5 * total)
    air = _air(mean[~tissue], power[~tissue])
    # Air that the scanner or somebody else has darkened tells nothing.
    return max(air if 0.1 * found < air < found else found, least)


def otsu_threshold(values: npt.NDArray[Any]) -> float:
    """The value that parts a sample into two classes with the largest variance between them (Otsu 1979)."""
    ordered = np.sort(np.asarray(values, dtype=np.float64).ravel())
    if ordered.size < 2:
        return -math.inf
    sums, low = np.cumsum(ordered), np.arange(1, ordered.size)
    high = ordered.size - low
    between = low * high * ((sums[-1] - sums[:-1]) / high - sums[:-1] / low) ** 2
    return float(ordered[int(np.argmax(between))])


def _details(array: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], ...]:
    """For every block: mean, mean square; mean squares of second differences, all Haar details, those across slices."""
    block = tuple(min(_EDGE, size) // 2 * 2 if size > 1 else 1 for size in array.shape)
    blocks = grid_blocks(array, block)
    bands = [blocks]
    for axis in range(1, 4):
        if blocks.shape[axis] > 1:
            even, odd = ([band.take(range(start, band.shape[axis], 2), axis) for band in bands] for start in (0, 1))
            sums = [(e + o) * math.sqrt(0.5) for e, o in zip(even, odd, strict=True)]
            bands = sums + [(e - o) * math.sqrt(0.5) for e, o in zip(even, odd, strict=True)]
    energies = [np.square(band).mean(axis=(1, 2, 3)) for band in bands[1:]] or [np.zeros(len(blocks))]
    mean, power = blocks.mean(axis=(1, 2, 3)), np.square(blocks).mean(axis=(1, 2, 3))
    second, across = (np.square(_second_differences(blocks, axes)).mean(axis=(1, 2, 3)) for axes in ((1, 2, 3), (3,)))
    return mean, power, second, np.mean(energies, axis=0), across


def grid_blocks(array: npt.NDArray[Any], block: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """About 16,000 blocks `[n, *block]` of `[i, j, k]` on a regular grid; those that are not finite are left out."""
    windows = np.lib.stride_tricks.sliding_window_view(array, block)
    each = max(2, round(_BLOCKS ** (1 / max(1, sum(size > 1 for size in array.shape)))))
    places = [
        np.unique(np.linspace(0, n - b, min(each, n - b + 1)).astype(int))
        for n, b in zip(array.shape, block, strict=True)
    ]
    blocks = windows[np.ix_(*places)].reshape(-1, *block).astype(np.float64)
    return blocks[np.isfinite(blocks).all(axis=(1, 2, 3))]


def _second_differences(blocks: npt.NDArray[np.float64], axes: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """Of blocks [b, i, j, k] along axes that are long enough, else first ones; white noise keeps its deviation."""
    for axis in axes:
        size = blocks.shape[axis]
        if size > 2:
            left, middle, right = (blocks.take(range(start, size - 2 + start), axis) for start in range(3))
            blocks = (left - 2 * middle + right) / math.sqrt(6)
        elif size == 2:
            blocks = np.diff(blocks, axis=axis) / math.sqrt(2)
    return blocks


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
