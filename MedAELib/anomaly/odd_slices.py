"""Slices of a brain that do not fit between their neighbours: darker or brighter, or with others lost between."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import binary_dilation

from .grid import Floats
from .slices import Slices, beyond

_DARK = 0.3  # of the brain's median: fluid and what noise has filled tell nothing of a slice's brightness
_FEW = 20  # cells that two slices must share
_STEP = 0.25  # of the logarithm: right brains have up to .2, where slices are thick
# Right brains have jumps of which the second figure is at most .82 where the first is above 1.2; where 20 mm are
# missing it is .85 to 1.1.
_ALONE, _LOST = 1.25, 0.865
_PLANE = np.array([[[0, 1, 0], [1, 1, 1], [0, 1, 0]]], bool)
_AROUND = 2  # cells around the brain: where slices are lost the skull jumps, too


def steps(slices: Slices) -> list[int]:
    """The slices at which brightness leaps: it differs otherwise from the slice before than slices around it do.

    By the median of the logarithm over the brain, so that neither anatomy nor a coil's slow change counts.
    """
    change = _changes(slices)
    leap = np.abs(change[1:-1] - (change[:-2] + change[2:]) / 2)
    return [int(k) + 2 for k in np.flatnonzero(leap > _STEP)]


def jumps(slices: Slices) -> list[int]:
    """The slices before which others were lost: they differ from the one before more than others do, and nearly as much
    as from the one before that.

    Where slices follow each other the next but one differs more than the next; across a gap one more hardly counts.
    """
    next_one, next_but_one = (_differences(slices, step) for step in (1, 2))
    if (next_one == 0).any():  # copied, to make more slices of few: the next but one differs no more than the next
        return []
    beside = (next_but_one[:-1] + next_but_one[1:]) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        lost = (beyond(next_one)[1:-1] > _ALONE) & (next_one[1:-1] / beside > _LOST)
    return [int(k) + 2 for k in np.flatnonzero(lost)]


def _changes(slices: Slices) -> Floats:
    """The median over the brain of the logarithm of a slice over the one before, `[n - 1]`; NaN at the ends of the
    brain."""
    found = np.full(len(slices.cells) - 1, np.nan, np.float32)
    tissue = slices.brain & (slices.cells > _DARK)
    for k in np.flatnonzero(slices.enough[:-1] & slices.enough[1:]):
        both = tissue[k] & tissue[k + 1]
        if both.sum() >= _FEW:
            found[k] = np.median(np.log(slices.cells[k + 1][both] / slices.cells[k][both]))
    return found


def _differences(slices: Slices, step: int) -> Floats:
    """The mean in and around the brain of how much the logarithm differs from the slice so many before, `[n - step]`,
    beside what differs everywhere; NaN at the ends of the brain."""
    seen = np.log(slices.cells + np.float32(_DARK))
    around = binary_dilation(slices.brain, _PLANE, iterations=_AROUND)
    found = np.full(len(seen) - step, np.nan, np.float32)
    for k in np.flatnonzero(slices.enough[:-step] & slices.enough[step:]):
        either = around[k] | around[k + step]
        differs = seen[k + step][either] - seen[k][either]
        if differs.size >= _FEW:
            found[k] = np.abs(differs - np.median(differs)).mean()
    return found
