"""How good an image is: PSNR, SSIM and the noise level, and the statistics of volumes too big to look at whole."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle import NOISE_KINDS, Window
from .noise import grid_blocks, noise_unit, otsu_threshold, quietest

_SAMPLE = 2_000_000
_BLOCK = (5, 5, 3)
_FEWEST_BLOCKS = 20


def sample(array: npt.NDArray[Any], largest: int = _SAMPLE) -> npt.NDArray[Any]:
    """About `largest` finite voxels at most, on a regular grid of `[..., i, j, k]`: the same ones every time."""
    step = max(1, math.ceil((array.size / largest) ** (1 / 3)))
    picked = array[..., ::step, ::step, ::step] if step > 1 and min(array.shape[-3:]) > step else array
    if picked.size > 4 * largest:
        picked = picked.reshape(-1)[:: math.ceil(picked.size / largest)]
    return picked[np.isfinite(picked)] if array.dtype.kind == "f" else picked


def ends(array: npt.NDArray[Any], least: float = -math.inf, largest: float = math.inf) -> tuple[float, float]:
    """The smallest and the largest finite value of `[..., k]` within these bounds; not numbers where there is none."""
    if not array.size:
        return math.nan, math.nan
    low, high = float(array.min()), float(array.max())
    if least <= low <= high <= largest and math.isfinite(low) and math.isfinite(high):
        return low, high
    found: list[float] = []  # rare; slice by slice, so memory stays free
    for k in range(array.shape[-1]):
        voxels = array[..., k]
        inside = voxels[np.isfinite(voxels) & (voxels >= least) & (voxels <= largest)]
        if inside.size:
            found += [float(inside.min()), float(inside.max())]
    return (min(found), max(found)) if found else (math.nan, math.nan)


def all_finite(array: npt.NDArray[Any]) -> bool:
    """Whether an array holds finite values alone; its ends tell, so memory stays free."""
    return array.dtype.kind != "f" or (math.isfinite(array.min()) and math.isfinite(array.max()))


def varying_frames(array: npt.NDArray[Any]) -> list[int]:
    """Which channels of `[c, i, j, k]` hold different values: what is empty tells nothing. All where none does."""
    count = array.shape[0]
    return [n for n in range(count) if count > 1 and _varies(array[n])] or list(range(count))


def middle_frame(array: npt.NDArray[Any]) -> int:
    """The channel of `[c, i, j, k]` that stands for all: of those that vary the one nearest the middle."""
    return min(varying_frames(array), key=lambda frame: abs(frame - array.shape[0] // 2))


def _varies(frame: npt.NDArray[Any]) -> bool:
    """Whether a frame holds different values; a few voxels mostly tell."""
    samples = (sample(frame, most) for most in (10_000, _SAMPLE))
    return any(found.size and found.min() < found.max() for found in samples)


def limits(
    window: Window, array: npt.NDArray[Any], unit: Callable[[bool], float] | None = None
) -> tuple[float, float]:
    """The intensities that a window maps to 0 and 1 in this array `[..., i, j, k]`; they always differ.

    `unit` tells the array's `noise_unit` where that may be known already.
    """
    if window.kind == "fixed":
        return window.low, window.high
    if window.kind in NOISE_KINDS:
        unit = unit or partial(noise_unit, array)
        return window.low, window.low + window.high * unit(window.kind == "correlated noise")
    values = sample(array)
    high = float(np.percentile(values, window.high)) if values.size else window.low
    return window.low, high if high > window.low else window.low + max(1.0, abs(window.low))


def noise_level(array: npt.NDArray[Any]) -> float:
    """Standard deviation of the noise in flat tissue of `[i, j, k]`, in the array's own units; 0 where nothing varies.

    The standard deviation within many small blocks of tissue (Otsu 1979 parts it from air), each freed of its linear
    trend. Anatomy only adds to it, so the quietest fiftieth of the blocks stands for the noise, corrected for what that
    choice alone would give in pure noise. Blocks lie on a fixed grid, so the figure is reproducible. Where no tissue is
    flat within 5 x 5 x 3 voxels the figure is too high.
    """
    block = (min(_BLOCK[0], array.shape[0]), min(_BLOCK[1], array.shape[1]), min(_BLOCK[2], array.shape[2]))
    rows = grid_blocks(array, block).reshape(-1, math.prod(block))
    axes = [axis.ravel() - axis.mean() for axis, n in zip(np.indices(block), block, strict=True) if n > 1]
    trend, _ = np.linalg.qr(np.stack([np.ones(math.prod(block)), *axes], axis=1))
    freedom = trend.shape[0] - trend.shape[1]
    if freedom < 4 or not len(rows):
        return 0.0
    mean = rows.mean(axis=1)
    tissue = rows[mean > otsu_threshold(mean)]
    rows = tissue if len(tissue) >= _FEWEST_BLOCKS else rows
    residual = rows - (rows @ trend) @ trend.T
    power = (residual**2).sum(axis=1) / freedom
    power = power[power > (1e-12 * np.abs(rows).max()) ** 2]
    return quietest(power, freedom) if power.size else 0.0


def psnr(
    reference: npt.NDArray[Any], image: npt.NDArray[Any], data_range: float, mask: npt.NDArray[np.bool_] | None = None
) -> float:
    """Peak signal-to-noise ratio in dB for signals that span `data_range`, inside the mask where one is given."""
    difference = np.asarray(image, dtype=np.float64) - np.asarray(reference, dtype=np.float64)
    error = float(np.mean((difference if mask is None else difference[mask]) ** 2))
    return math.inf if error == 0 else 10 * math.log10(data_range**2 / error)


def ssim(
    reference: npt.NDArray[Any], image: npt.NDArray[Any], data_range: float, mask: npt.NDArray[np.bool_] | None = None
) -> float:
    """Mean structural similarity with a Gaussian window of 1.5 voxels (Wang et al. 2004), inside the mask if given."""
    from scipy.ndimage import gaussian_filter

    x, y = np.asarray(reference, dtype=np.float64), np.asarray(image, dtype=np.float64)

    def smooth(a: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        return np.asarray(gaussian_filter(a, 1.5, truncate=3.5))

    mean_x, mean_y = smooth(x), smooth(y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    var_x, var_y, both = smooth(x * x) - mean_x**2, smooth(y * y) - mean_y**2, smooth(x * y) - mean_x * mean_y
    similarity = (2 * mean_x * mean_y + c1) * (2 * both + c2) / ((mean_x**2 + mean_y**2 + c1) * (var_x + var_y + c2))
    return float(similarity.mean() if mask is None else similarity[mask].mean())
