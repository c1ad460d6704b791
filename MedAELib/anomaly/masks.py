"""Where the head and the brain are: light masks from intensities and shape alone, for T1, T2 and FLAIR heads."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import (
    binary_fill_holes,
    distance_transform_edt,
    gaussian_filter,
    label,
)

from ..noise import otsu_threshold
from .grid import Floats

Mask = npt.NDArray[np.bool_]

_DEEP = 25.0  # mm inside the head there is brain, whatever the contrast
_BRAIN = (0.45, 1.6)  # of the median deep in the head: skull and air are darker, fat and marrow brighter
_BRIDGES = (4.0, 6.0, 8.0, 10.0, 12.0)  # mm: what connects brain and scalp is thinner than twice one of these
_MARGIN = 2.0  # mm of cerebrospinal fluid around
_FOLD = 8.0  # mm: sulci narrower than twice this belong to the brain
_PLAUSIBLE = (500.0, 1900.0)  # ml of a whole brain


def head_mask(voxels: Floats) -> Mask:
    """What is not air `[i, j, k]`, in one piece and without holes; everything, where nothing stands out."""
    soft = gaussian_filter(voxels, 1.0)
    inside = _largest(soft > 0.5 * otsu_threshold(soft[::2, ::2, ::2]))
    for axis in range(3):  # slice by slice: sinuses are open to the air somewhere
        inside = np.moveaxis(np.stack([binary_fill_holes(piece) for piece in np.moveaxis(inside, axis, 0)]), 0, axis)
    return inside if inside.any() else np.ones(voxels.shape, bool)


def deep_median(voxels: Floats, head: Mask, spacing: float) -> float:
    """The median intensity deep inside the head: white and grey matter, also of a brain without its skull."""
    depth = distance_transform_edt(np.pad(head, 1))[1:-1, 1:-1, 1:-1] * spacing
    deep = depth > min(_DEEP, 0.6 * float(depth.max()))
    values = voxels[deep]
    tissue = values[values > otsu_threshold(voxels[head]) * 0.5]
    return float(np.median(tissue if tissue.size else values))


def brain_mask(voxels: Floats, spacing: float) -> tuple[Mask, bool]:
    """The brain `[i, j, k]`, and whether one was found; the head where none was.

    Tissue of the brightness of what lies deep in the head is freed of bridges to the scalp by an erosion, the largest
    piece is taken, grown back and closed; thicker bridges are tried until what is left has the size of a brain.
    """
    head = head_mask(voxels)
    middle = deep_median(voxels, head, spacing)
    soft = gaussian_filter(voxels, 0.6)
    tissue = head & (soft > _BRAIN[0] * middle) & (soft < _BRAIN[1] * middle)
    inside = distance_transform_edt(np.pad(tissue, 1))[1:-1, 1:-1, 1:-1] * spacing
    for bridge in _BRIDGES:
        core = _largest(inside > bridge)
        around = distance_transform_edt(~core) * spacing
        brain = (tissue & (around <= bridge + spacing)) | (around <= _MARGIN)
        brain = binary_fill_holes(_closed(brain, _FOLD, spacing)) & head
        if _PLAUSIBLE[0] <= float(brain.sum()) * spacing**3 / 1000 <= _PLAUSIBLE[1]:
            return np.asarray(brain), True
    return head, False


def _closed(mask: Mask, radius: float, spacing: float) -> Mask:
    """Gaps narrower than twice the radius are filled: by distances, which cost the same for any radius."""
    wide = round(radius / spacing) + 1
    grown = distance_transform_edt(~np.pad(mask, wide)) * spacing <= radius
    shrunk = distance_transform_edt(grown) * spacing > radius
    return np.asarray(shrunk[wide:-wide, wide:-wide, wide:-wide]) | mask


def _largest(mask: Mask) -> Mask:
    """The largest connected piece; empty where the mask is."""
    pieces, count = label(mask)
    if count == 0:
        return mask
    return np.asarray(pieces == 1 + int(np.argmax(np.bincount(pieces.ravel())[1:])))
