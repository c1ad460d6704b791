"""Whether a scan holds noise and nothing else: brightness at one place tells nothing of the brightness beside it."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import uniform_filter

from ..volume import Volume

_APART, _VOXELS = 8.0, 3  # mm, and at least so many voxels: noise, also when interpolated, differs so far away
_AROUND = 11  # places along each edge, whose mean is divided out: a coil sees noise brighter in some places
_FEWEST = 4000  # places: fewer tell nothing
# Correlation: right scans have .4 and more, heads in noise of .3 of their tissue .08 and more, noise alone .02 at most.
_LEAST = 0.04


def only_noise(volume: Volume) -> bool:
    """Whether the first channel shows no anatomy that stands out of its noise. False where it is too small to tell."""
    steps = [max(_VOXELS, round(_APART / size)) for size in volume.spacing]
    if sum(size > 2 * step for size, step in zip(volume.shape, steps, strict=True)) < 2:
        return False
    one, two, three = steps
    places = np.asarray(volume.array[0][::one, ::two, ::three], np.float32)
    places = np.nan_to_num(places, nan=0, posinf=0, neginf=0)
    if places.size < _FEWEST or not places.std() > 0:
        return False
    spread = uniform_filter(np.abs(places), _AROUND, mode="reflect")
    even = np.divide(places, spread, out=np.zeros_like(places), where=spread > 0)
    return all(_alike(even, axis) < _LEAST for axis in range(3) if even.shape[axis] > 2)


def _alike(values: np.ndarray, axis: int) -> float:
    """How much a place tells of the next one along an axis: their correlation."""
    stack = np.moveaxis(values, axis, 0)
    before, behind = stack[:-1].ravel(), stack[1:].ravel()
    return float(np.corrcoef(before, behind)[0, 1]) if before.std() > 0 and behind.std() > 0 else 1.0
