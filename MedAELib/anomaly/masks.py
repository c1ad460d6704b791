"""Where the head, the brain or the body is: light masks from intensities and shape alone, for MRI heads and for CT."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, pairwise

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
# Of the median deep in the head: skull and air are darker, fat and marrow brighter. Thick slices and fine ones with
# contrast agent make a thin skull brighter, so darker tissue is left out where no brain comes free of it.
_DARKEST, _BRIGHTEST = (0.45, 0.55, 0.65), 1.6
_BRIDGES = (4.0, 6.0, 8.0, 10.0, 12.0)  # mm: what connects brain and scalp is thinner than twice one of these
_MARGIN = 2.0  # mm of cerebrospinal fluid around
_FOLD = 8.0  # mm: sulci narrower than twice this belong to the brain
_STANDS = 0.06  # of a brain is lost at the next bridge where it hangs on nothing any more; with the scalp a half
_ROUND = 0.88  # of an ellipsoid with its moments: brains are .9 and more, a heart or a belly .83 at most
_RIM = 2.0  # mm: darker tissue at the surface of the brain belongs to it
_PLAUSIBLE = (500.0, 1900.0)  # ml of a whole brain
# mm: no brain is longer, with the cord that hangs on it. Of 14 right scans it is at most 194, of these cut and turned,
# with what is left of the head, 208; of a chest around a heart it is 257 (in a smaller field of view less).
_LONGEST = 230.0
_BARE = 0.75  # of the head, of all that is not air: where the brain is as much of it, its skull was taken off before
_BODY = -300.0  # HU: lighter is air or lung
_TABLE = 6.0  # mm: the shells of a table are thinner than twice this


def head_mask(voxels: Floats) -> Mask:
    """What is not air `[i, j, k]`, in one piece and without holes; everything, where nothing stands out."""
    inside = _largest(_not_air(voxels))
    for axis in range(3):  # slice by slice: sinuses are open to the air somewhere
        inside = _filled(inside, axis)
    return inside if inside.any() else np.ones(voxels.shape, bool)


def _not_air(voxels: Floats) -> Mask:
    """What is clearly brighter than air, in any number of pieces."""
    soft = gaussian_filter(voxels, 1.0)
    return np.asarray(soft > 0.5 * otsu_threshold(soft[::2, ::2, ::2]))


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
    piece is taken, grown back and closed; thicker bridges are tried until what is left has the size of a brain and its
    shape, and hardly shrinks any more, then without darker tissue. Where only the size is right, that is taken.
    Where there is little besides, the skull is gone already, and the brain is all that is not air.
    """
    head = head_mask(voxels)
    middle, soft, first = deep_median(voxels, head, spacing), gaussian_filter(voxels, 0.6), None
    all_tissue = head & (soft > _DARKEST[0] * middle) & (soft < _BRIGHTEST * middle)
    for darkest in _DARKEST:
        tissue = all_tissue & (soft > darkest * middle)
        for brain, next_one in pairwise(chain(_freed(tissue, head, spacing), [None])):
            if brain is None or not _plausible(brain, spacing):
                continue
            if first is None and darkest == _DARKEST[0]:
                first = brain
                # Of a brain without its skull everything is looked at: what is dark at its surface is no fluid around.
                if brain.sum() > _BARE * max(int(head.sum()), int(_not_air(voxels).sum())):
                    return _whole(_closed(head, _FOLD / 2, spacing)), True
            if next_one is not None and next_one.sum() >= (1 - _STANDS) * brain.sum() and _roundness(brain) >= _ROUND:
                rim = all_tissue & (distance_transform_edt(~brain) * spacing <= _RIM)
                return brain if darkest == _DARKEST[0] else _whole(_closed(brain | rim, _FOLD, spacing)) & head, True
    return (head, False) if first is None else (first, True)


def _freed(tissue: Mask, head: Mask, spacing: float) -> Iterator[Mask]:
    """The largest piece of the tissue, grown back and closed, for each bridge that is cut, the thinnest first."""
    inside = distance_transform_edt(np.pad(tissue, 1))[1:-1, 1:-1, 1:-1] * spacing
    for bridge in _BRIDGES:
        core = _largest(inside > bridge)
        if not core.any() or core.sum() * spacing**3 > 1000 * _PLAUSIBLE[1] or _length(core) * spacing > _LONGEST:
            yield np.zeros_like(core)  # what grows back is no smaller
            continue
        around = distance_transform_edt(~core) * spacing
        brain = (tissue & (around <= bridge + spacing)) | (around <= _MARGIN)
        yield _whole(_closed(brain, _FOLD, spacing)) & head


def _plausible(mask: Mask, spacing: float) -> bool:
    """Whether a mask has the size of a whole brain."""
    size = float(mask.sum()) * spacing**3 / 1000
    return _PLAUSIBLE[0] <= size <= _PLAUSIBLE[1] and _length(mask) * spacing <= _LONGEST


def _roundness(mask: Mask) -> float:
    """The volume of a mask over that of the ellipsoid with its moments: 1 of an ellipsoid, less of all else."""
    moments = np.atleast_2d(np.cov(np.argwhere(mask).T)) + np.eye(3) / 12  # of the voxels themselves
    return float(mask.sum() / (4 / 3 * np.pi * np.sqrt(np.linalg.det(5 * moments))))


def _length(mask: Mask) -> float:
    """How long a mask is in its longest direction, in voxels; however it lies, within a tenth."""
    neighbours = np.argwhere(np.ones((3, 3, 3), bool))[14:] - 1
    ways = neighbours / np.linalg.norm(neighbours, axis=1)[:, None]
    return float(np.ptp(np.argwhere(mask) @ ways.T, axis=0).max())


def box_around(mask: Mask, margin: int = 0, step: int = 1) -> tuple[slice, ...]:
    """The box that holds the mask `[i, j, k]` and so many voxels around it, as far as there are; it begins at a
    multiple of `step`. Everything, where the mask is empty."""
    places = np.argwhere(mask)
    if not places.size:
        return tuple(slice(0, size) for size in mask.shape)
    low = np.maximum(places.min(axis=0) - margin, 0) // step * step
    high = np.minimum(places.max(axis=0) + 1 + margin, mask.shape)
    return tuple(slice(int(a), int(b)) for a, b in zip(low, high, strict=True))


def body_mask(hounsfield: Floats, spacing: float) -> Mask:
    """The body in a CT `[i, j, k]`, in one piece, lungs and airways included; everything, where there is only air.

    What is thin (tables, tubes, clothes) is taken away by an erosion, of which the largest piece is grown back.
    """
    tissue = gaussian_filter(hounsfield, 0.6) > _BODY
    core = _largest(distance_transform_edt(np.pad(tissue, 1))[1:-1, 1:-1, 1:-1] * spacing > _TABLE)
    if not core.any():
        return np.ones(hounsfield.shape, bool)
    body = tissue & (distance_transform_edt(~core) * spacing <= _TABLE + spacing)
    return _filled(body, 2)  # airways are open to the air somewhere, but not in every slice


def _filled(mask: Mask, axis: int) -> Mask:
    """Without holes in the slices across an axis."""
    return np.moveaxis(np.stack([binary_fill_holes(piece) for piece in np.moveaxis(mask, axis, 0)]), 0, axis)


def _whole(mask: Mask) -> Mask:
    """Without holes: what is not the mask and reaches no border is filled. As `binary_fill_holes`, but faster in 3D."""
    outside, _ = label(~np.pad(mask, 1))
    return np.asarray(outside != outside[0, 0, 0])[1:-1, 1:-1, 1:-1]


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
