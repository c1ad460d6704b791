"""How little fine detail each place has: what is blurred, filled in or stretched shows without any training."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d, gaussian_filter

from .grid import Floats
from .masks import box_around
from .prepare import Prepared

SMOOTH = "smooth"
_SECOND = (1.0, -2.0, 1.0)  # differences: with those along another axis they leave edges and slopes out, but not noise
_AROUND = 1.6  # cells, of the Gaussian over the logarithm
_WIDE, _SHARE = 6.0, 0.5  # cells, and how much of what is usual around a place is taken off
_LEAST = 0.03  # of the scan's usual detail: what has less has none
_MARGIN = 4  # cells around the mask


def smoothness(scan: Prepared) -> Floats:
    """How far the fine detail of a place `[i, j, k]` is below the scan's median, in logarithms, less half of the mean
    around it, as whole regions have less of it than others; 0 outside the mask.

    Detail is the size of the mixed second differences, by which noise is told from anatomy (Immerkaer, CVIU 1996). Its
    logarithm is averaged, so that the edge of a blurred place does not hide it. Places of exactly no brightness, as a
    brain without its skull has them, do not count.
    """
    box = box_around(scan.mask, _MARGIN)
    voxels, found = scan.voxels[box], np.zeros_like(scan.voxels)
    seen = scan.mask[box] & (voxels > 0)
    if not seen.any():
        return found
    along = [correlate1d(voxels, _SECOND, axis, mode="nearest") for axis in range(2)]
    mixed = ((along[0], 1), (along[0], 2), (along[1], 2))
    detail = sum(np.abs(correlate1d(part, _SECOND, axis, mode="nearest")) for part, axis in mixed)
    usual = max(float(np.median(detail[seen])), 1e-6)
    missing = np.where(seen, -np.log(detail / usual + _LEAST), 0)
    near, around = (
        gaussian_filter(missing, width) / np.maximum(gaussian_filter(seen.astype(np.float32), width), 1e-3)
        for width in (_AROUND, _WIDE)
    )
    found[box] = np.where(scan.mask[box], near - _SHARE * around, 0)
    return found
