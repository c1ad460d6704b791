"""The scan's own intensities beside a code: how bright and how uneven each cell is, in a unit that scans share."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..bundle import Window
from ..modality import guess_modality
from ..quality import limits
from ..volume import Volume
from .code import Code, Floats, Seen

_HOUNSFIELD = 1000.0
RANKS = (5, 25, 50, 75, 95)  # per cent


def unit_of(volume: Volume) -> float:
    """The intensity that counts as 1: of CT 1000 HU, of anything else the scan's 99.9th percentile, as MRI has none."""
    if guess_modality(volume) == "CT":
        return _HOUNSFIELD
    return limits(Window("percentile", 0.0, 99.9), volume.array[0])[1]


def brightness(code: Code, seen: Seen, unit: float) -> Code:
    """Over the cells of a code, the mean of the scan's intensities `[n]` in the unit, then their deviation `[n]`.

    A denoising network sees the noise as unit, and hides how bright things are; this says it. Of several modalities
    each is in its own window, and `n` is their number.
    """
    voxels = seen.voxels
    if len(voxels) == 1:
        voxels = (voxels * np.float32(seen.scale) + np.float32(seen.low)) / np.float32(unit)
    means = np.stack([cell_means(channel, code, seen) for channel in voxels])
    squares = np.stack([cell_means(channel * channel, code, seen) for channel in voxels])
    deviations = np.sqrt(np.maximum(squares - means * means, 0))
    return replace(code, cells=np.concatenate([means, deviations]))


def quantiles(cells: Floats, weights: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """The quantiles `RANKS` of each channel of cells `[c, i, j, k]` by their weights: `[c, ranks]`."""
    there = weights > 0
    found = []
    for channel in cells:
        order = np.argsort(channel[there], kind="stable")
        values, share = channel[there][order].astype(np.float64), weights[there][order]
        places = (np.cumsum(share) - share / 2) / share.sum()
        found.append(np.interp(np.array(RANKS) / 100, places, values))
    return np.array(found)


def cell_means(voxels: Floats, code: Code, seen: Seen) -> Floats:
    """Means of voxels `[i, j, k]` over the cells of a code, of which those at the rim may reach beyond the volume.

    A cell lies around the voxel that its affine names. Where that leaves half a voxel at either end, as for an even
    count around the middle of a voxel, that is the mean of the two neighbouring places.
    """
    middle = (np.linalg.inv(seen.affine) @ code.affine)[:3, 3]
    starts = np.rint(2 * (middle - (np.array(code.cell) - 1) / 2)) / 2  # of the first cell, in voxels, to the half
    for axis, start in enumerate(starts):
        count = code.cells.shape[axis + 1]
        places = sorted({int(np.floor(start)), int(np.ceil(start))})
        parts = [_stretch(voxels, axis, place, count * code.cell[axis]) for place in places]
        voxels = parts[0] if len(parts) == 1 else (parts[0] + parts[1]) / np.float32(2)
    i, j, k = code.cells.shape[1:]
    cell = code.cell
    return np.asarray(voxels.reshape(i, cell[0], j, cell[1], k, cell[2]).mean(axis=(1, 3, 5)), np.float32)


def _stretch(voxels: Floats, axis: int, start: int, count: int) -> Floats:
    """So many voxels from a start on along an axis; beyond the volume lies what is at its rim."""
    size = voxels.shape[axis]
    if start == 0 and count == size:
        return voxels
    return np.take(voxels, np.clip(np.arange(start, start + count), 0, size - 1), axis)
