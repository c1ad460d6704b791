"""Where a volume is cut into chunks: slabs of slices that are halved alike, so that all have the same coarser lattices.

A slab of few slices runs out of them while the others are still halved along them, and then there is no coarser volume.
"""

from __future__ import annotations

import math
from functools import cache

from .front import Front
from .lattice import halvings
from .predictive import PREVIEW_HALVINGS
from .wavelet import SHORTEST

_THINNEST = 16  # slices of a slab, unless they are huge
_LARGEST = 32_000_000  # voxels of a slab
_LEVELS_OUT = 2  # of wavelets, at most, that a volume of up to five halvings less is without
_FEWEST = 4  # times fewer voxels than wanted are too few, even where slabs are then halved alike

Shape = tuple[int, int, int]
Cuts = list[tuple[int, int]]


def cut(shape: Shape, voxels: int, thinnest: int = _THINNEST, least: int = 1) -> Cuts:
    """Slabs of about so many `voxels`, as slices from .. to: a multiple of some slices each, if those are not huge.

    A last one of fewer slices than `least` joins the one before;
    slabs are thinner where that would be too large, or be halved more often.
    """
    plane, slices = shape[0] * shape[1], shape[2]
    count = max(round(plane * slices / voxels), 1)
    thick = math.ceil(slices / count / thinnest) * thinnest
    thick = max(min(thick, _LARGEST // plane), 1)
    thinner = [2**power for power in range(thick.bit_length(), -1, -1) if 2**power < thick]
    for tried in [thick, *thinner]:
        found = _pieces(slices, tried, min(least, tried))
        last = found[-1][1] - found[-1][0]
        alike = least == 1 or len(found) == 1 or _depth(last) == _depth(tried)
        if alike and plane * last <= max(_LARGEST, plane):
            break
    return found


def cut_alike(shape: Shape, spacing: Shape, voxels: int, front_voxels: int) -> Cuts:
    """Slabs as of `cut` that share the order of their preview's and their last halvings, and so their lattices.

    `spacing` in micrometres; slabs of at least `front_voxels` may be coded as wave fronts, which all must be or none.
    """
    plane, slices = shape[0] * shape[1], shape[2]

    @cache
    def order(thick: int) -> tuple[list[int], bool]:
        slab = shape[0], shape[1], thick
        front = plane * thick >= front_voxels and Front.of(slab, spacing).parallel
        return halvings(slab, spacing)[:PREVIEW_HALVINGS], front

    first = cut(shape, voxels, max(_THINNEST, 2 ** order(slices)[0].count(2)))
    thick = first[0][1]
    smaller = [2**power for power in range(thick.bit_length(), -1, -1) if 2**power < thick]
    for tried in [thick, *(some for some in smaller if _FEWEST * some * plane >= voxels)]:
        for least in (1, tried):
            found = _pieces(slices, tried, least)
            fitting = tried % 2 ** order(tried)[0].count(2) == 0 or len(found) == 1
            fitting = fitting and plane * (found[-1][1] - found[-1][0]) <= max(_LARGEST + _LARGEST // 4, plane)
            if fitting and all(order(stop - start) == order(tried) for start, stop in (found[0], found[-1])):
                return found
    return first


def _depth(slices: int) -> int:
    """How often levels of wavelets halve so many slices, of the two levels that five halvings may leave out."""
    depth = 0
    while depth < _LEVELS_OUT and slices >= SHORTEST:
        depth, slices = depth + 1, -(-slices // 2)
    return depth


def _pieces(slices: int, thick: int, least: int) -> Cuts:
    starts = [start for start in range(0, slices, thick) if start == 0 or start + least <= slices]
    return list(zip(starts, [*starts[1:], slices], strict=True))
