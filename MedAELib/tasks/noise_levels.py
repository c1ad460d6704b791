"""How strong the noise of a scan is, and how much of it is left in a result."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from ..modality import guess_modality
from ..noise import Units, units_of
from ..quality import middle_frame, noise_level
from ..volume import Volume
from .evidence import Evidence, Floats, gather, inverse

_LARGEST = 1_000_000  # voxels that are looked at: enough for hundreds of blocks
_EDGES = (12, 8, 6)  # voxels of a block: the larger, the more of what is left lies within
_LEAST_FLAT, _FEWEST_FLAT = 0.25, 24  # of a block, and voxels: a plane takes four
_BLOCKS, _FEWEST = 200, 4
# Of one tissue: the smoothed scan differs by no more than this much noise from its median; smoothed by so many voxels.
_ALIKE, _SMOOTH = 1.0, 1.5
_QUIETER = 0.5  # of the blocks, by the scan: anatomy only adds to their noise


def noise_levels(
    volume: Volume, denoised: Volume, units: Units | None = None, zero: float = 0.0
) -> tuple[float, float]:
    """The noise of the middle frame before and after, in its units; 0 before where nothing varies.

    Before is `noise_unit`, which was nearer to the truth on generated scans than the median of the map and than
    `noise_level`. After is that times `noise_left`. `units` are those of the volume, where one may be known; `zero` is
    the intensity of no signal.
    """
    frame = middle_frame(volume.array)
    source, result = volume.array[frame], denoised.array[frame]
    quiet = noise_level(source)
    if quiet == 0:
        return 0.0, noise_level(result)
    before = (units or units_of(volume.array))(frame, guess_modality(volume) != "MR")
    left = noise_left(gather(volume, denoised, before, zero, _LARGEST))
    return before, before * (noise_level(result) / quiet if math.isnan(left) else left)


def noise_left(evidence: Evidence) -> float:
    """The deviation of what is left of the noise in flat tissue, as a share of the scan's; not a number without any.

    The deviation from a plane in blocks that are wide, as a denoiser leaves mostly what changes slowly. What changes
    even more slowly than a block shows is taken to be as much as blocks show and those of half the edge do not: nothing
    where nothing was removed. Measured alike on scan and result, in the half of the blocks where the scan is quieter.
    """
    smooth = gaussian_filter(evidence.before * inverse(evidence.noise), _SMOOTH, mode="nearest")
    for edge in _EDGES:
        wide, narrow = _left(evidence, smooth, edge), _left(evidence, smooth, edge // 2)
        if not math.isnan(wide) and not math.isnan(narrow):
            return math.sqrt(max(2 * wide - narrow, wide))
    return math.nan


def _left(evidence: Evidence, smooth: Floats, edge: int) -> float:
    """The variance in blocks of one flat tissue of the result, over the scan's; not a number with too few of them.

    `smooth` is the scan in units of the noise, smoothed: its brightness parts one tissue from another.
    """
    sides = [min(edge, size) for size in evidence.before.shape]
    steps = tuple(slice(None, None, max(1, side // 2)) for side in sides)
    before, after, flat, level = (
        np.lib.stride_tricks.sliding_window_view(voxels, sides)[steps]
        for voxels in (evidence.before, evidence.after, evidence.flat, smooth)
    )
    fewest = max(_FEWEST_FLAT, _LEAST_FLAT * math.prod(sides))
    places = np.argwhere(flat.sum((3, 4, 5)) >= fewest)
    axes = [axis.ravel() - axis.mean() for axis, side in zip(np.indices(sides), sides, strict=True) if side > 1]
    trend = np.stack([np.ones(math.prod(sides)), *axes], axis=1)
    found = []
    for place in map(tuple, places[:: max(1, math.ceil(len(places) / _BLOCKS))]):
        alike = flat[place] & (np.abs(level[place] - np.median(level[place][flat[place]])) < _ALIKE)
        if alike.sum() >= fewest:
            found.append(_variances(trend[alike.ravel()], before[place][alike], after[place][alike]))
    if len(found) < _FEWEST:
        return math.nan
    blocks = np.array(found)
    quieter = blocks[blocks[:, 0] <= np.quantile(blocks[:, 0], _QUIETER)].mean(0)
    return float(quieter[1] / quieter[0]) if quieter[0] > 0 else math.nan


def _variances(trend: npt.NDArray[np.float64], *voxels: npt.NDArray[np.float32]) -> list[float]:
    """The variance of voxels [n] each around a linear trend [n, m]."""
    basis, _ = np.linalg.qr(trend)
    rows = [row.astype(np.float64) - row.mean(dtype=np.float64) for row in voxels]
    return [float(np.square(row - basis @ (basis.T @ row)).sum()) / (len(row) - basis.shape[1]) for row in rows]
