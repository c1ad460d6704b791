"""Slices that do not fit between their neighbours: darker or brighter, full of stripes, or with others lost between."""

from __future__ import annotations

import warnings

import numpy as np

from .grid import Floats
from .slices import Slices, beyond

_DARK = 0.3  # of the brain's median: fluid and what noise has filled tell nothing of a slice's brightness
_FEW = 20  # cells that two slices must share
_STEP = 0.25
_ROUGHER = 1.6
_JUMP, _ALONE = 0.9, 1.3


def steps(slices: Slices) -> list[int]:
    """The slices at which brightness leaps: it differs otherwise from the slice before than slices around it do.

    By the median of the logarithm over the brain, so that neither anatomy nor a coil's slow change counts.
    """
    change = _changes(slices)
    leap = np.abs(change[1:-1] - (change[:-2] + change[2:]) / 2)
    return [int(k) + 2 for k in np.flatnonzero(leap > _STEP)]


def stripes(slices: Slices) -> list[int]:
    """The slices with far more fine detail in the brain than all four around: stripes of a spike, or noise."""
    with warnings.catch_warnings(action="ignore", category=RuntimeWarning):  # slices without brain
        mean = np.where(slices.brain, slices.detail, 0).sum((1, 2)) / slices.brain.sum((1, 2))
    return np.flatnonzero(beyond(np.where(slices.enough, mean, np.nan)) > _ROUGHER).tolist()


def jumps(slices: Slices) -> list[int]:
    """The slices before which others were lost: they differ from the one before far more than others do, and nearly as
    much as from the one before that.

    Where slices follow each other, the next but one differs more than the next; across a gap one more hardly counts.
    """
    near, wide = (_differences(slices, step) for step in (1, 2))
    found = beyond(near)
    around = np.full(len(near), np.nan)
    around[1:-1] = (wide[:-1][: len(near) - 2] + wide[1:][: len(near) - 2]) / 2
    with np.errstate(invalid="ignore", divide="ignore"):
        return [int(k) + 1 for k in np.flatnonzero((found > _ALONE) & (near / around > _JUMP))]


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
    """The mean over the brain of how much the logarithm differs from the slice so many before, `[n - step]`, beside
    what differs everywhere; NaN at the ends of the brain."""
    seen = np.log(slices.cells + np.float32(_DARK))
    found = np.full(len(seen) - step, np.nan, np.float32)
    for k in np.flatnonzero(slices.enough[:-step] & slices.enough[step:]):
        either = slices.brain[k] | slices.brain[k + step]
        differs = seen[k + step][either] - seen[k][either]
        if differs.size >= _FEW:
            found[k] = np.abs(differs - np.median(differs)).mean()
    return found
