"""How detail is shared between bands and blocks of a scan: what tells noise from anatomy that is flat nowhere."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from .threads import side_by_side, threads

Floats = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]
Kind = tuple[str, tuple[int, ...]]  # a kind of detail, and the axes along which it is taken

_PARTS = tuple(axes for count in (1, 2, 3) for axes in itertools.combinations(range(3), count))
_SHARES = (0.005, 0.02, 0.05, 0.1, 0.25, 0.5)  # of the blocks of tissue: quantiles of their energies
_SMOOTHEST = (0.05, 0.15)  # of the blocks of tissue, by one kind of detail: how much of another kind is in those
_BRIGHTEST = 40.0  # times the plain estimate: brighter tissue says nothing more of the noise
_SHARE = 500  # blocks at least that a thread measures
_LEAST, _MOST = 1e-4, 1e4  # of the plain estimate, squared: energies beyond tell nothing more


def second_differences(blocks: Floats) -> dict[Kind, Floats]:
    """Mean squares [n] of second differences of blocks [i, j, k, n] along one, two and three axes.

    White noise has its variance in every one. Along an axis of two voxels they are first differences; one of a single
    voxel is left out.
    """
    return _in_shares(_second_differences, blocks)


def mixed_differences(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Second differences of a volume of at least three voxels along all three axes at once, [i - 2, j - 2, k - 2].

    White noise keeps its variance, and anatomy is least in them (Immerkaer, CVIU 1996).
    """
    for axis in range(3):
        voxels = _second(voxels, axis)
    return voxels


def _in_shares(measure: Callable[[Floats], dict[Kind, Floats]], blocks: Floats) -> dict[Kind, Floats]:
    """What is measured in each of the blocks [i, j, k, n], many at a time, side by side."""
    count = max(1, min(threads(), blocks.shape[-1] // _SHARE))
    shares = side_by_side(measure, np.array_split(blocks, count, -1))
    return {kind: np.concatenate([found[kind] for found in shares]) for kind in shares[0]}


def _second_differences(blocks: Floats) -> dict[Kind, Floats]:
    made: dict[tuple[int, ...], Floats] = {(): blocks}
    found = {}
    for axes in _PARTS:
        made[axes] = _second(made[axes[:-1]], axes[-1])
        found["second", axes] = _power(made[axes])
    return found


def haar_details(blocks: Floats) -> Floats:
    """The mean square [n] of all Haar details of blocks [i, j, k, n] with mean 0; 0 for single voxels."""
    axes = [axis for axis in range(3) if blocks.shape[axis] > 1]
    if not axes:
        return np.zeros(blocks.shape[-1])
    sums = _sums(blocks, axes)
    # What is not in the sums of neighbours is in the details (Parseval).
    cells = 2 ** len(axes)
    return np.maximum(cells * _power(blocks) - _power(sums), 0) / (cells - 1)


def _coarser(blocks: Floats) -> dict[Kind, Floats]:
    """Mean squares [n] of first differences along each axis, and of second ones of sums of 2 x 2 x 2 voxels."""
    sums, found = _sums(blocks, range(3)), dict[Kind, Floats]()
    for axis in range(3):
        even, odd = _thinned(blocks, axis)
        found["first", (axis,)] = _power(even - odd) / 2
        found["coarse", (axis,)] = _power(_second(sums, axis))
    return found


def _sums(blocks: Floats, axes: Iterable[int]) -> Floats:
    for axis in axes:
        even, odd = _thinned(blocks, axis)
        blocks = (even + odd) * math.sqrt(0.5)
    return blocks


def _second(values: Floats, axis: int) -> Floats:
    size = values.shape[axis]
    if size == 1:
        return values
    if size == 2:
        return np.diff(values, axis=axis) * math.sqrt(0.5)
    left, middle, right = (values[(slice(None),) * axis + (slice(n, size - 2 + n),)] for n in range(3))
    return (left + right - 2 * middle) * math.sqrt(1 / 6)


def _thinned(values: Floats, axis: int) -> tuple[Floats, Floats]:
    even, odd = (values[(slice(None),) * axis + (slice(n, None, 2),)] for n in range(2))
    return even, odd


def _power(values: Floats) -> Floats:
    return np.einsum("ijkn,ijkn->n", values, values).astype(np.float64) / math.prod(values.shape[:3])


def statistics(blocks: Floats, seconds: dict[Kind, Floats], tissue: Mask, plain: float, correlated: bool) -> Floats:
    """Logarithms of quantiles and means of energies of blocks [i, j, k, n], relative to the plain estimate of noise.

    `seconds` are their second differences; `tissue` says which blocks count as tissue. The axes are put in order of
    their detail, except the third of a CT, across its slices. Edges are even and at least 6 voxels.
    """
    found = seconds | _in_shares(_coarser, blocks)
    scaled = {kind: np.clip(energy / plain**2, _LEAST, _MOST) for kind, energy in found.items()}
    inside = {kind: energy[tissue] for kind, energy in scaled.items()}
    order = _ordered(inside, correlated)
    kinds: list[Kind] = [("second", axes) for axes in _PARTS]
    kinds += [(name, (axis,)) for name in ("first", "coarse") for axis in range(3)]
    turned = [(name, tuple(sorted(order[axis] for axis in axes))) for name, axes in kinds]
    rows = [np.log(np.quantile(inside[kind], _SHARES)) / 2 for kind in turned]
    rows.append(_where_smooth(inside, turned))
    outside = scaled["second", (0, 1, 2)][~tissue]
    rows.append(np.log(np.quantile(outside, (0.02, 0.1, 0.5))) / 2 if len(outside) else np.zeros(3))
    return np.concatenate([*rows, np.array([tissue.mean(), np.log(len(tissue)) / 10])])


def intensities(mean: Floats, tissue: Mask, air: float, plain: float) -> Floats:
    """How bright blocks are in a magnitude image, and what its air says, as logarithms relative to the plain estimate.

    `mean` [n] and `tissue` [n] are those of the blocks, `air` the noise that air speaks for, 0 where there is none.
    """
    dark = mean[~tissue] if not tissue.all() else np.zeros(1)
    levels = np.concatenate([np.quantile(mean[tissue], (0.1, 0.5, 0.9)), np.quantile(dark, (0.1, 0.5))]) / plain
    said = [1.0, float(np.log(np.clip(air / plain, 0.3, 3)))] if air > 0 else [0.0, 0.0]
    return np.concatenate([np.log(np.clip(levels, 0, _BRIGHTEST) + 0.3), said])


def _ordered(inside: dict[Kind, Floats], correlated: bool) -> list[int]:
    """The axes from little to much detail; the third axis of a CT, across its slices, stays the third."""
    detail = [float(np.quantile(inside["second", (axis,)], 0.05)) for axis in range(3)]
    free = range(2 if correlated else 3)
    return sorted(free, key=lambda axis: detail[axis]) + ([2] if correlated else [])


def _where_smooth(inside: dict[Kind, Floats], turned: list[Kind]) -> Floats:
    """How much fine detail there is in the blocks with least coarse detail, and in those with least first differences.

    Choosing by one band and measuring in another gives no low figure by chance.
    """
    rows: list[float] = []
    for name in ("coarse", "first"):
        rough = np.add.reduce([inside[name, (axis,)] for axis in range(3)])
        for share in _SMOOTHEST:
            smooth = rough <= np.quantile(rough, share)
            rows += [np.log(float(inside[kind][smooth].mean())) / 2 for kind in turned[: len(_PARTS)]]
    return np.array(rows)
