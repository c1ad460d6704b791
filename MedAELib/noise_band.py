"""Which frequencies of a scan hold its noise: all of them, unless it was interpolated to more voxels."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import numpy.typing as npt

from .noise import otsu_threshold

Array = npt.NDArray[Any]
Doubles = npt.NDArray[np.float64]
Band = tuple[float, float, float]

WHOLE: Band = (1.0, 1.0, 1.0)
_EDGE, _LONG = 16, 32  # voxels of a block across the axis that is looked at, and along one of three of these and more
_BLOCKS = 200
_TISSUE, _FEWEST, _QUIET = 0.6, 12, 0.25  # of a block; blocks; of those, the share with the least
_LOW, _HIGH = 0.12, 0.26  # cycles per voxel: there noise is after any usual interpolation, and anatomy is weak
# Relative to that band: white noise keeps 0.3 and more up to the highest frequencies; after zero filling 0.002 is left.
_NOTHING, _EDGE_OF_BAND = 0.02, 0.15
# From there to there within this share of the frequency: zero filling 0.05 to 0.15, cubic interpolation 0.14 to 0.18,
# linear 0.22 and more, noise or anatomy that was blurred 0.2 and more, anatomy without noise 0.33 and more.
_SHARP = 0.175


def noise_band(array: Array) -> Band:
    """The share of the frequencies of each axis of an MRI `[i, j, k]` that hold noise, from 0 on; 1 where all do.

    Scanners fill their measurement up with zeros, and whoever resamples a scan to more voxels interpolates it: beyond
    the frequencies of the grid that was measured nothing is left. That is told from power spectra of blocks of tissue
    along each axis, at frequencies along the other two where there is little anatomy: beyond a sharp edge there is a
    fiftieth of the power before it, and less. What falls slowly is anatomy, or was blurred or interpolated linearly,
    and is not told from a scan as it was measured. Axes of fewer than 16 voxels are not looked at.
    """
    array = array if np.isfinite(array).all() else np.nan_to_num(array, nan=0.0, posinf=0.0, neginf=0.0)
    threshold = otsu_threshold(array.reshape(-1)[:: max(1, array.size // 100_000)].astype(np.float64))
    i, j, k = (_share(array, axis, threshold) for axis in range(3))
    return i, j, k


def _share(array: Array, axis: int, threshold: float) -> float:
    """The share of the frequencies along one axis that hold noise."""
    edges = [min(_EDGE, size) for size in array.shape]
    if edges[axis] < _EDGE:
        return 1.0
    if array.shape[axis] >= 1.5 * _LONG:
        edges[axis] = _LONG
    power = _spectrum(_blocks(array, edges, threshold), axis)
    if power is None or power[-2:].mean() >= _NOTHING:
        return 1.0
    edge, end = _crossing(power, _EDGE_OF_BAND), _crossing(power, _NOTHING)
    return min(1.0, 2 * edge / edges[axis]) if end - edge < _SHARP * edge else 1.0


def _crossing(power: Doubles, level: float) -> float:
    """Where a spectrum falls below a level for good, in steps of frequency."""
    last = int(np.flatnonzero(power >= level)[-1])
    if last + 1 == len(power):
        return float(last)
    before, behind = np.log(np.maximum(power[last : last + 2], 1e-12))
    return float(last + (before - np.log(level)) / (before - behind))


def _blocks(array: Array, edges: list[int], threshold: float) -> Doubles:
    """Blocks `[n, i, j, k]` that are mostly brighter than the threshold, without their means."""
    starts = [
        np.unique(np.linspace(0, size - edge, min(8, max(1, 2 * (size // edge) - 1))).astype(int))
        for size, edge in zip(array.shape, edges, strict=True)
    ]
    found, shares = [], []
    for place in itertools.product(*starts):
        block = array[tuple(slice(start, start + edge) for start, edge in zip(place, edges, strict=True))]
        found.append(block)
        shares.append(np.count_nonzero(block[::2, ::2, ::2] > threshold) / block[::2, ::2, ::2].size)
    order = np.argsort(shares, kind="stable")[::-1]
    count = max(min(_FEWEST, len(order)), int(np.count_nonzero(np.array(shares) > _TISSUE)))
    chosen = order[:count][:: max(1, count // _BLOCKS)]
    blocks = np.stack([found[index] for index in chosen]).astype(np.float64)
    return np.asarray(blocks - blocks.mean(axis=(1, 2, 3), keepdims=True))


def _spectrum(blocks: Doubles, axis: int) -> Doubles | None:
    """Mean power along an axis in the quietest blocks by frequency, relative to that from `_LOW` to `_HIGH`; None where
    there is none."""
    edges = blocks.shape[1:]
    for other, edge in enumerate(edges):
        if edge > 1:
            window = np.hanning(edge + 2)[1:-1]
            blocks = blocks * window.reshape([-1 if number == other + 1 else 1 for number in range(4)])
    waves: npt.NDArray[Any] = blocks
    for other in sorted(range(3), key=lambda number: number == axis):  # the axis itself last
        waves = np.fft.fft(waves, axis=other + 1)
        if other != axis:
            waves = waves.compress(_middle(edges[other]), other + 1)
    others = tuple(number + 1 for number in range(3) if number != axis)
    power = np.square(np.abs(waves)).mean(others)
    usual = power[:, _middle(edges[axis])].mean(1)
    power, usual = power[usual > 0], usual[usual > 0]
    if not len(usual):
        return None
    quiet = np.argsort(usual)[: max(4, int(_QUIET * len(usual)))]
    return np.asarray((power[quiet] / usual[quiet, None]).mean(0)[: edges[axis] // 2 + 1])


def _middle(edge: int) -> npt.NDArray[np.bool_]:
    """Which frequencies of so many voxels lie between `_LOW` and `_HIGH`; in short blocks all but 0, of one voxel 0."""
    frequencies = np.abs(np.fft.fftfreq(edge))
    middle = (frequencies >= _LOW) & (frequencies <= _HIGH)
    return middle if middle.any() else np.asarray(frequencies > 0 if edge > 1 else frequencies == 0)
