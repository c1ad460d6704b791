"""How good an image is: PSNR, SSIM and the noise level, and the statistics of volumes too big to look at whole."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle import Window

_SAMPLE = 2_000_000
_BLOCK = (7, 7, 3)
_BLOCKS = 4000


def sample(array: npt.NDArray[Any], largest: int = _SAMPLE) -> npt.NDArray[Any]:
    """About `largest` finite voxels at most, on a regular grid of `[..., i, j, k]`: the same ones every time."""
    step = max(1, math.ceil((array.size / largest) ** (1 / 3)))
    picked = array[..., ::step, ::step, ::step] if step > 1 and min(array.shape[-3:]) > step else array
    if picked.size > 4 * largest:
        picked = picked.reshape(-1)[:: math.ceil(picked.size / largest)]
    return picked[np.isfinite(picked)] if array.dtype.kind == "f" else picked


def limits(window: Window, array: npt.NDArray[Any]) -> tuple[float, float]:
    """The intensities that a window maps to 0 and 1 in this array `[..., i, j, k]`; they always differ."""
    if window.kind == "fixed":
        return window.low, window.high
    values = sample(array)
    high = float(np.percentile(values, window.high)) if values.size else window.low
    return window.low, high if high > window.low else window.low + max(1.0, abs(window.low))


def foreground_threshold(values: npt.NDArray[Any]) -> float:
    """The intensity between air and tissue: 15 % of the way from the darkest to the brightest thousandth."""
    low, high = np.percentile(values, [0.1, 99.9])
    return float(low + 0.15 * (high - low))


def noise_level(array: npt.NDArray[Any]) -> float:
    """Standard deviation of the noise in flat tissue of `[i, j, k]`, in the array's own units; 0 where nothing varies.

    The standard deviation in many small blocks of tissue, each freed of its linear trend; anatomy only adds to it, so
    the quietest sixth of the blocks stands for the noise. Correlated noise counts in full, as far as it varies within
    7 x 7 x 3 voxels. Blocks are taken on a fixed grid, so the figure is reproducible.
    """
    block = tuple(min(b, n) for b, n in zip(_BLOCK, array.shape, strict=True))
    values = sample(array)
    if math.prod(block) < 8 or not values.size:
        return 0.0
    blocks = _blocks(array, block)
    design = np.stack([np.ones(math.prod(block)), *(axis.ravel() - axis.mean() for axis in np.indices(block))], axis=1)
    design = design[:, [True, *(n > 1 for n in block)]]
    detrend, _ = np.linalg.qr(design)
    blocks = blocks[np.isfinite(blocks).all(axis=1)]
    tissue = blocks[blocks.mean(axis=1) > foreground_threshold(values)]
    blocks = tissue if len(tissue) >= 20 else blocks
    residual = blocks - (blocks @ detrend) @ detrend.T
    spread = np.sqrt((residual**2).sum(axis=1) / (design.shape[0] - design.shape[1]))
    spread = spread[spread > 0]
    return float(np.percentile(spread, 16)) * 1.05 if spread.size else 0.0


def _blocks(array: npt.NDArray[Any], block: tuple[int, ...]) -> npt.NDArray[np.float64]:
    """At most about `_BLOCKS` x 4 blocks on a regular grid, one per row."""
    per_axis = max(2, round((4 * _BLOCKS) ** (1 / 3)))
    starts = [
        np.unique(np.linspace(0, n - b, min(per_axis, n // b or 1)).astype(int))
        for n, b in zip(array.shape, block, strict=True)
    ]
    rows = [
        array[i : i + block[0], j : j + block[1], k : k + block[2]].ravel()
        for i in starts[0]
        for j in starts[1]
        for k in starts[2]
    ]
    return np.array(rows, dtype=np.float64)


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
