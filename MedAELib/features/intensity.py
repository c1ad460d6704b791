"""The scan's own intensities beside a code: how bright and how uneven each cell is, in a unit that scans share."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np
import numpy.typing as npt

from ..bundle import Window
from ..modality import guess_modality
from ..quality import limits
from ..volume import Volume
from .code import Code, Floats, Seen

_HOUNSFIELD = 1000.0
RANKS = (5, 25, 50, 75, 95)  # per cent
BLOCK = 4  # cells along an edge of the largest blocks whose means are compared
_AT_ONCE = 2**20  # voxels that are put into cells together
_TIE = 1e-3  # of a cell: as near to the border of two, a voxel counts for both


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
    voxels = _in_unit(seen.voxels, seen, unit)
    means = np.stack([cell_means(channel, code, seen) for channel in voxels])
    squares = np.stack([cell_means(channel * channel, code, seen) for channel in voxels])
    deviations = np.sqrt(np.maximum(squares - means * means, 0))
    return replace(code, cells=np.concatenate([means, deviations]))


def _in_unit(voxels: Floats, seen: Seen, unit: float) -> Floats:
    """Windowed voxels `[n, ...]` in the unit; those of several modalities stay as they are."""
    if len(voxels) > 1:
        return voxels
    return np.asarray((voxels * np.float32(seen.scale) + np.float32(seen.low)) / np.float32(unit))


def brightness_of_slice(code: Code, seen: Seen, unit: float, k: int) -> tuple[Code, npt.NDArray[np.float64]]:
    """`brightness_of_voxels` of slice k, over the cells of one layer that is as thick as it, `[i, j, 1]`."""
    to_voxel = np.linalg.inv(seen.affine) @ code.affine
    to_voxel[2, 2:] = (1, k)
    layer = replace(code, cells=code.cells[..., :1], affine=seen.affine @ to_voxel, cell=(*code.cell[:2], 1))
    i, j = np.indices(seen.voxels.shape[1:3]).reshape(2, -1)
    return brightness_of_voxels(layer, seen, unit, np.stack([i, j, np.full_like(i, k)], 1))


def brightness_of_voxels(
    code: Code, seen: Seen, unit: float, places: npt.NDArray[np.int64]
) -> tuple[Code, npt.NDArray[np.float64]]:
    """`brightness` over cells, of the voxels at `places` `[n, 3]` alone, and how many of them lie in each cell.

    What comes back is the box of whole blocks of cells that holds them. Voxels beyond the last cell count for it.
    """
    to_cell = np.linalg.inv(code.affine) @ seen.affine
    last = np.array(code.cells.shape[1:]) - 1

    def cells_of(some: npt.NDArray[np.int64], nudge: tuple[float, ...]) -> npt.NDArray[np.int64]:
        return np.clip(np.rint(some @ to_cell[:3, :3].T + to_cell[:3, 3] + nudge), 0, last).astype(np.int64)

    ends = np.stack([cells_of(end(axis=0), (0.0,) * 3) for end in (places.min, places.max)])
    low = np.maximum(ends[0] - 1, 0) // BLOCK * BLOCK
    shape = tuple(int(n) for n in np.minimum(ends[1] + 1, last) + 1 - low)
    sums = np.zeros((1 + 2 * len(seen.voxels), int(np.prod(shape))))  # of 1, of the intensities, of their squares
    between = [_midway(int(places[:, n].max()), to_cell[n, n], to_cell[n, 3]) for n in range(3)]
    nudges = list(product(*[(-_TIE, _TIE) if some else (0.0,) for some in between]))
    for first in range(0, len(places), _AT_ONCE):
        some = places[first : first + _AT_ONCE]
        values = _in_unit(seen.voxels[(slice(None), *some.T)], seen, unit).astype(np.float64)
        told = [np.ones((1, len(some))), values, values**2]
        for nudge in nudges:
            cells = np.ravel_multi_index(tuple((cells_of(some, nudge) - low).T), shape)
            for total, one in zip(sums, np.concatenate(told), strict=True):
                total += np.bincount(cells, one, total.size)
    counts, (means, squares) = sums[0], np.split(sums[1:] / np.maximum(sums[0], 1e-30), 2)
    deviations = np.sqrt(np.maximum(squares - means**2, 0))
    found = np.concatenate([means, deviations]).reshape(-1, *shape).astype(np.float32)
    return replace(code, cells=found), (counts / len(nudges)).reshape(shape)


def _midway(last: int, step: float, offset: float) -> bool:
    """Whether a voxel up to the last one lies midway between two cells along an axis."""
    at = np.arange(last + 1) * step + offset
    return bool((np.abs(at - np.floor(at) - 0.5) < _TIE / 2).any())


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
