"""Stripes over slices: single points of their Fourier transform that are far above those around, as of spikes."""

from __future__ import annotations

import numpy as np
from scipy.fft import rfft2
from scipy.ndimage import maximum_filter, uniform_filter

from ..volume import Volume
from .grid import Floats
from .levels import levels_of

_FEWEST = 24  # voxels along each edge of a slice
_SHOWS = 0.05  # of a slice must be tissue: what lies over air alone is little
# Logarithms, above the mean around and above the highest there: right scans have up to 2 and .8, and where voxels were
# copied 6 and 0; stripes of a fiftieth of the tissue 2.3 and 1, of a twentieth 2.7 and 1.3 and more.
_ABOVE, _ALONE = 2.3, 1.0
_FAINTEST = 0.004  # of the tissue: the size of a wave that counts
_CENTRE = 0.06  # of the sampling frequency: nearer to the centre anatomy has points of its own
_LINES = 2  # points beside the axes: edges of a field of view and of slices lie there
_OUTER, _INNER = 9, 5  # points along the edges of what is around a point
_AROUND = np.pad(np.zeros((_INNER, _INNER), bool), (_OUTER - _INNER) // 2, constant_values=True)


def spiked(volume: Volume) -> tuple[int, list[int]]:
    """The axis across which most slices of the first channel show stripes, and the numbers of these slices; none of a
    right scan.

    A point of the Fourier transform away from its centre is compared with the mean logarithm of those around it, so
    that neither noise nor anatomy counts, which change slowly from point to point.
    """
    tissue, clear = levels_of(volume)
    if not tissue > 0:
        return 0, []
    found = [_striped(np.moveaxis(volume.array[0], axis, 0), tissue, clear) for axis in range(3)]
    axis = max(range(3), key=lambda number: len(found[number]) / volume.shape[number])
    return axis, found[axis]


def _striped(stack: Floats, tissue: float, clear: float) -> list[int]:
    if min(stack.shape[1:]) < _FEWEST:
        return []
    counts = _countable(stack.shape[1], stack.shape[2])
    found = []
    for k, plane in enumerate(stack):
        values = np.nan_to_num(np.asarray(plane, np.float32), nan=0, posinf=0, neginf=0)
        if np.count_nonzero(values > clear) < _SHOWS * values.size:
            continue
        waves = np.abs(rfft2(values)) * np.float32(2 / (values.size * tissue))
        sizes = np.log(np.maximum(waves, 1e-9))
        around = [uniform_filter(sizes, size, mode=("wrap", "reflect")) * size**2 for size in (_OUTER, _INNER)]
        above = sizes - (around[0] - around[1]) / (_OUTER**2 - _INNER**2)
        spikes = counts & (waves > _FAINTEST) & (above > _ABOVE)
        if spikes.any() and (spikes & (sizes - maximum_filter(sizes, footprint=_AROUND, mode="wrap") > _ALONE)).any():
            found.append(k)
    return found


def _countable(high: int, wide: int) -> np.ndarray:
    """Which points of the Fourier transform of a slice lie away from its centre and its axes."""
    row = np.minimum(np.arange(high), high - np.arange(high))[:, None]
    column = np.arange(wide // 2 + 1)[None]
    return (row > _LINES) & (column > _LINES) & (np.hypot(row / high, column / wide) > _CENTRE)
