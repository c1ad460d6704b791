"""Where along each axis a scan's anatomy ends in k-space: beyond, a denoiser leaves nothing but noise."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import dct
from scipy.ndimage import gaussian_filter

Floats = npt.NDArray[np.float32]
Band = tuple[float, float, float]
WHOLE: Band = (1.0, 1.0, 1.0)
_BANDS = 16  # of equal width up to Nyquist's frequency
_LOWEST = 5  # band: nobody interpolates more than about threefold
_SHORTEST = 32  # voxels of an axis that can be judged
_LARGEST = 96  # voxels of the box along each axis that is looked at
_EMPTY, _FULL = 0.2, 0.7  # how much of what one pass left in bands is anatomy
_WHITE = (0.5, 1.5)  # power in the outermost band, where 1 is the noise: less was interpolated, more is anatomy
_TISSUE = 3.0  # in units of the noise: below, the noise of a magnitude image is weaker and not symmetric
_LEAST_TISSUE = 0.05  # of the box
_STEP = 0.1  # in units of the noise: how far the scan is moved to see how the result follows


def anatomy_band(voxels: npt.NDArray[Any], low: float, unit: float, denoised: Callable[[Floats], Floats]) -> Band:
    """The highest frequency along each axis of `[i, j, k]` that holds anatomy, as a share of Nyquist's; 1: all may.

    `unit` is the deviation of the noise, `denoised` gives the result for voxels in units of it above `low`. How much of
    the result in a band of frequencies is anatomy is told without a clean scan, by Stein's lemma: from how the result
    goes with the scan, and how it follows white noise of a tenth of the scan's (Ramani, Blu and Unser, IEEE TIP 2008).
    Where it and all finer ones together hold little, they are taken for empty: the scan was interpolated, or its
    anatomy is smooth on a fine grid. Where the scanner has interpolated the noise too there is nothing to be gained.
    """
    box = _middle(voxels)
    seen = (np.where(np.isfinite(box), box, low).astype(np.float32) - np.float32(low)) / np.float32(unit)
    tissue = (gaussian_filter(seen, 2) > _TISSUE).astype(np.float32)
    if tissue.mean() < _LEAST_TISSUE:
        return WHOLE
    tissue = gaussian_filter(tissue, 2)  # without edges, which would spread what one band holds over all
    power = {axis: _power(tissue, seen, axis) for axis in range(3) if box.shape[axis] >= _SHORTEST}
    axes = [axis for axis, found in power.items() if _WHITE[0] < found[-1] < _WHITE[1]]
    if not axes:
        return WHOLE
    # White noise is as strong in every band, so it is no stronger than the weakest: the unit may be too large.
    noise = min(1.0, *(float(power[axis].min()) for axis in axes))
    probe = np.random.default_rng(0).standard_normal(seen.shape).astype(np.float32)
    result = denoised(seen)
    follows = (denoised(seen + np.float32(_STEP) * probe) - result) / np.float32(_STEP)
    ends = [1.0, 1.0, 1.0]
    for axis in axes:
        anatomy = _together(tissue * result, tissue * seen, axis) - noise * _together(
            tissue * probe, tissue * follows, axis
        )
        ends[axis] = _end(anatomy, _together(tissue * result, tissue * result, axis))
    return ends[0], ends[1], ends[2]


def _middle(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The middle of a volume, at most a box of `_LARGEST`."""
    sizes = [min(size, _LARGEST) for size in voxels.shape]
    starts = [(size - part) // 2 for size, part in zip(voxels.shape, sizes, strict=True)]
    return voxels[tuple(slice(start, start + part) for start, part in zip(starts, sizes, strict=True))]


def _power(tissue: Floats, seen: Floats, axis: int) -> npt.NDArray[np.float64]:
    """The power of the scan in each band along an axis, in tissue: 1 is that of the noise."""
    voxels = np.bincount(np.arange(seen.shape[axis]) * _BANDS // seen.shape[axis], minlength=_BANDS) / seen.shape[axis]
    return _together(tissue * seen, tissue * seen, axis) / (voxels * float(np.square(tissue).sum()))


def _together(first: Floats, second: Floats, axis: int) -> npt.NDArray[np.float64]:
    """The cross power of two images in each band of frequencies along an axis, mirrored at its ends."""
    waves = dct(first, axis=axis, norm="ortho") * dct(second, axis=axis, norm="ortho")
    lines = waves.sum(tuple({0, 1, 2} - {axis}), dtype=np.float64)
    return np.bincount(np.arange(len(lines)) * _BANDS // len(lines), lines, _BANDS).astype(np.float64)


def _end(anatomy: npt.NDArray[np.float64], power: npt.NDArray[np.float64]) -> float:
    """Where anatomy ends, from how much of the power in each band it is; half as fine it must be most of it."""
    finer = np.cumsum(anatomy[::-1])[::-1] / np.maximum(np.cumsum(power[::-1])[::-1], 1e-12)
    empty = np.flatnonzero(finer[_LOWEST:] < _EMPTY) + _LOWEST
    if not empty.size or anatomy[empty[0] // 2] < _FULL * power[empty[0] // 2]:
        return 1.0
    return float(empty[0] + 0.5) / _BANDS
