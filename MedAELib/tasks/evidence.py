"""What the trust figures look at: a part of the scan with much tissue, before and after, and where it is flat."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, gaussian_gradient_magnitude, uniform_filter

from ..modality import guess_modality
from ..noise import noise_unit, otsu_threshold
from ..quality import middle_frame, noise_level, sample
from ..volume import Volume

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]

LARGEST = 3_000_000  # voxels: enough for every figure, and seconds on any computer
_LEAST_CT_TISSUE = -500.0  # HU: lung and air are darker
_LEAST_MR_TISSUE = 0.05  # of the window, and three times the noise: what is darker is air, or drowns in noise
# Of the noise, per voxel. Where the scan changes by less than a fifth, noise rules within five voxels; where little
# tissue does, the flattest tenth serves, up to a half.
_FLAT, _FLATTEST, _FLAT_ENOUGH = 0.2, 0.1, 0.5
_SMOOTH = 1.5  # voxels: the gradient of white noise is then a third of the limit, so noise hides no flat tissue
_TREND = 9  # voxels along an edge: what changes more slowly is anatomy


@dataclass(frozen=True)
class Evidence:
    """A box of the middle frame (of those that vary), float32 [i, j, k]: before, after, noise (its deviation), tissue
    and flat.

    `before` and `after` are 0 where either was not finite, and there is no tissue there. `span` is the width of the
    display window in the scan's units; `complete` tells whether all voxels are finite, `even` whether the flat tissue
    is so flat that the scan shows its noise there and nothing else.
    """

    before: Floats
    after: Floats
    noise: Floats
    tissue: Mask
    flat: Mask
    box: tuple[slice, slice, slice]
    modality: str
    span: float
    complete: bool
    even: bool

    @property
    def removed(self) -> Floats:
        """What was taken away."""
        return self.before - self.after

    @property
    def magnitude(self) -> bool:
        """Whether the noise is Rician, as in MRI."""
        return self.modality == "MR"

    @property
    def typical_noise(self) -> float:
        """The median noise in tissue, or everywhere where there is none."""
        return float(np.median(self.noise[self.tissue] if self.tissue.any() else self.noise))


def gather(
    volume: Volume, denoised: Volume, noise: Volume | float | None, zero: float = 0.0, largest: int = LARGEST
) -> Evidence:
    """The evidence from a scan, its result and its noise: the map, or one level for all voxels (None: estimated).

    Intensities count from `zero` on, that of no signal. At most about `largest` voxels are looked at.
    """
    frame = middle_frame(volume.array)
    source, modality = volume.array[frame], guess_modality(volume)
    box = densest_box(source, fitting(source.shape, largest))
    before, after = source[box].astype(np.float32), denoised.array[frame][box].astype(np.float32)
    if zero:
        before, after = before - np.float32(zero), after - np.float32(zero)
    finite = np.isfinite(before) & np.isfinite(after)
    before, after = np.where(finite, before, np.float32(0)), np.where(finite, after, np.float32(0))
    if noise is None:
        noise = noise_unit(before, modality != "MR") if noise_level(before) > 0 else 0.0
    if isinstance(noise, Volume):
        deviation = np.nan_to_num(noise.array[0][box].astype(np.float32), nan=0, posinf=0)
    else:
        deviation = np.full(before.shape, noise, np.float32)
    low, high = np.percentile(sample(before), [0.1, 99.9]) if before.size else (0.0, 0.0)
    span = 1000.0 if modality == "CT" else float(high - min(low, 0.0))
    tissue = _tissue(before, modality, deviation, span) & finite
    flat, even = _flat(before, deviation, tissue)
    complete = bool(finite.all())
    return Evidence(before, after, deviation, tissue, flat, box, modality, span, complete, even)


def fitting(shape: tuple[int, ...], largest: float) -> tuple[int, ...]:
    """The size of a box of the same proportions with at most about `largest` voxels; thin axes stay whole."""
    size = list(shape)
    for _ in range(3):
        free = [axis for axis in range(len(shape)) if size[axis] > 32]
        excess = largest / math.prod(size)
        if excess >= 1 or not free:
            break
        for axis in free:
            size[axis] = max(32, int(size[axis] * excess ** (1 / len(free))))
    return tuple(size)


def densest_box(voxels: npt.NDArray[Any], size: tuple[int, ...]) -> tuple[slice, slice, slice]:
    """Where a box of this size holds the most tissue (what is brighter than Otsu's threshold), on a coarse grid."""
    steps = [max(1, n // 48) for n in voxels.shape]
    coarse = voxels[tuple(slice(None, None, step) for step in steps)].astype(np.float32)
    coarse = np.nan_to_num(coarse, nan=0, posinf=0, neginf=0)
    bright = (coarse > otsu_threshold(coarse)).astype(np.float32)
    windows = [max(1, round(n / step)) for n, step in zip(size, steps, strict=True)]
    sums = uniform_filter(bright, windows, mode="constant")
    middle = np.unravel_index(int(np.argmax(sums)), sums.shape)
    starts = [
        min(max(int(m) * step - n // 2, 0), whole - n)
        for m, step, n, whole in zip(middle, steps, size, voxels.shape, strict=True)
    ]
    i, j, k = (slice(start, start + n) for start, n in zip(starts, size, strict=True))
    return i, j, k


def detrended(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Voxels less their mean within nine voxels: noise stays, anatomy that changes slowly goes."""
    return voxels - np.asarray(uniform_filter(voxels, _TREND, mode="nearest"))


def _tissue(before: Floats, modality: str, noise: Floats, span: float) -> Mask:
    """Where there is tissue: brighter than lung in CT; brighter than the noise in MRI; else by Otsu's threshold."""
    smooth = gaussian_filter(before, 1.0, mode="nearest")
    if modality == "CT":
        return np.asarray(smooth > _LEAST_CT_TISSUE)
    if modality == "MR":
        return np.asarray(smooth > np.maximum(3 * noise, _LEAST_MR_TISSUE * span))
    return np.asarray(smooth > otsu_threshold(sample(smooth, 500_000)))


def _flat(before: Floats, noise: Floats, tissue: Mask) -> tuple[Mask, bool]:
    """Where tissue changes slowly in comparison with its noise, judged by the scan itself and not by the result.

    And whether that is so slowly that noise rules.
    """
    inside = (uniform_filter(tissue.astype(np.float32), 5, mode="nearest") > 0.999) & (noise > 0)
    if not inside.any():
        return inside, False
    steepness = gaussian_gradient_magnitude(before, _SMOOTH, mode="nearest") * inverse(noise)
    steepness = uniform_filter(np.minimum(steepness, 10), 3, mode="nearest")
    flattest = float(np.quantile(sample(steepness[inside][None, None]), _FLATTEST))
    return np.asarray(inside & (steepness < np.clip(flattest, _FLAT, _FLAT_ENOUGH))), flattest <= _FLAT


def inverse(noise: Floats) -> Floats:
    """One over the noise; 0 where there is none."""
    return np.asarray(np.where(noise > 0, 1 / np.maximum(noise, np.float32(1e-30)), 0), np.float32)
