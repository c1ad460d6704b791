"""Voxels as whole numbers with a loss: for a wanted quality or size, or within a bound of every voxel."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from .context import LARGEST
from .values import Mapped, from_whole, largest_error, shifted, span_of, to_table, to_whole

LEVELS = LARGEST // 2  # of floats
_MERGED = 24  # with coarser steps a closed loop makes smaller files than values that are taken together
_SAMPLE = 50_000  # voxels that tell whether a volume is on a grid
_SPANS = 1e-100, 1e100  # of floats whose squared errors are numbers, however small the errors are
_OTHERWISE = "Leave the quality and the ratio out, or name a largest error."

Array = npt.NDArray[Any]


def lossy_unit(array: Array) -> tuple[float, float]:
    """The lowest value of a volume and the grey values that a whole number stands for: 1 for integers, but for those
    that spread over 2^16 and more.

    Raises BadInput when values are not finite, or spread so far, or so little, that their squares are no numbers.
    """
    low, high, span = array.min(), array.max(), span_of(array)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BadInput("A volume with values that are not finite can only be compressed losslessly.", _OTHERWISE)
    if span != 0 and not _SPANS[0] <= span <= _SPANS[1]:
        raise BadInput(f"A volume whose values spread over {span:.3g} can only be compressed losslessly.", _OTHERWISE)
    if array.dtype.kind == "f":
        return float(low), span / (LEVELS - 1) or 1.0
    return float(low), 1.0 if span < LARGEST else float(math.ceil(span / (LEVELS - 1)))


def lossy_whole(voxels: Array, start: float, unit: float) -> Mapped:
    """Voxels as whole numbers of units above the start."""
    if voxels.dtype.kind == "f":
        whole = np.rint((voxels.astype(np.float64) - start) / unit).astype(np.int64)
        return Mapped(whole, {"kind": "grid", "start": start, "step": unit, "divisor": 1.0})
    low, step = int(voxels.min()), int(unit)
    above = shifted(voxels, low)
    if step > 1:  # to the nearest of the values that its type holds
        rounded = above // np.uint64(step) + (above % np.uint64(step) > step // 2)
        above = np.minimum(rounded, np.uint64((np.iinfo(voxels.dtype).max - low) // step))
    return Mapped(above.astype(np.int64), {"kind": "even", "start": low, "step": step})


def bounded(voxels: Array, bound: float) -> tuple[Mapped, int]:
    """Whole numbers of a chunk and the quantisation step, with which no voxel will be off by more than the bound."""
    exact = to_whole(voxels)
    if exact.how["kind"] == "even":
        return exact, 2 * min(math.floor(Fraction(bound) / int(exact.how["step"])), LARGEST - 1) + 1
    if exact.how["kind"] == "grid":
        step = _coarse_step(exact, bound, voxels.dtype)
        if step > _MERGED:
            return exact, step
    if voxels.dtype.kind in "iub":
        near = _joined(voxels, bound)
    elif exact.how["kind"] == "grid":
        near = _merged(exact, bound, voxels.dtype) or _rounded(voxels, bound)
    else:
        near = _rounded(voxels, bound) if np.isfinite(voxels).all() else _rounded_beside(voxels, bound)
    if near is None or (exact.how["kind"] == "table" and len(np.unique(near.whole)) == exact.how["size"]):
        return exact, 1  # the bound is too small to take values together
    return near, 1


def unit_decibels(array: Array) -> float:
    """The PSNR of errors of one step of a volume's own grid (1 for integers; a sample tells that of floats); infinite
    where it has none."""
    span, unit = span_of(array), 1.0
    if array.dtype.kind == "f":
        how = to_whole(array.reshape(-1)[:: max(array.size // _SAMPLE, 1)]).how
        unit = float(how["step"]) / float(how["divisor"]) if how["kind"] == "grid" else 0.0
    return 20 * math.log10(span / unit) if span > 0 and unit > 0 else math.inf


def _joined(voxels: Array, bound: float) -> Mapped | None:
    """Integers that spread over more than 2^16 steps, some neighbours as one; none becomes larger than the largest
    or smaller than the smallest, so that all stay in their type. None where the bound is too small for that."""
    low, high = int(voxels.min()), int(voxels.max())
    span = high - low
    reach = min(math.floor(bound), 1 << 62)
    width = 2 * reach + 1
    last = max(-(-(span - 2 * reach) // width), 0)
    if last >= LARGEST:
        return None
    start = min(reach, span - last * width)  # of the first value above the lowest voxel
    above, wide = shifted(voxels, low), np.uint64(width)
    carried = above % wide + np.uint64(reach - start) >= wide  # the sum itself could be too large for its type
    whole = (above // wide + carried).astype(np.int64)
    return Mapped(whole, {"kind": "even", "start": low + start, "step": width})


def _coarse_step(exact: Mapped, bound: float, dtype: np.dtype[Any]) -> int:
    """The largest odd step with which floats on a grid keep the bound when they are coded in a closed loop."""
    values = from_whole(np.arange(int(exact.whole.max()) + 1), exact.how, b"", dtype)
    reach = min(math.floor(Fraction(bound) / _spacing(exact)), len(values) - 1) if exact.how["step"] else 0
    while reach > 0 and largest_error(values[reach:], values[:-reach]) > bound:
        reach -= 1
    return 2 * reach + 1


def _spacing(exact: Mapped) -> Fraction:
    """How far apart the values of a grid are."""
    return Fraction(float(exact.how["step"])) / Fraction(float(exact.how["divisor"]))


def _merged(exact: Mapped, bound: float, dtype: np.dtype[Any]) -> Mapped | None:
    """Floats on a grid, as many neighbours as one as the bound allows, which lies in their middle; None where the
    rounding of the type leaves too little of the bound."""
    start, step, divisor = (float(exact.how[name]) for name in ("start", "step", "divisor"))
    largest = int(exact.whole.max())
    most = math.floor(2 * Fraction(bound) / _spacing(exact)) + 1 if step else 1
    values = np.arange(largest + 1)
    for count in {min(most, largest + 1): None, min(most - 1, largest + 1): None}:
        if count <= 1:
            return exact
        middle = start + (count - 1) / 2 * step / divisor
        how = {"kind": "grid", "start": middle, "step": count * step, "divisor": divisor}
        before = from_whole(values, exact.how, b"", dtype)
        if largest_error(before, from_whole(values // count, how, b"", dtype)) <= bound:
            return Mapped(exact.whole // count, how)
    return None


def _rounded_beside(voxels: Array, bound: float) -> Mapped | None:
    """Floats of which some are not finite: these keep their bits, the others are rounded; a table of what occurs."""
    finite = np.isfinite(voxels)
    near = _rounded(voxels[finite], bound) if finite.any() else None
    if near is None:
        return None
    after = voxels.copy()
    after[finite] = from_whole(near.whole, near.how, b"", voxels.dtype)
    return to_table(after)


def _rounded(voxels: Array, bound: float) -> Mapped | None:
    """Floats rounded to a grid of steps of twice the bound, a little less for the rounding of the type itself."""
    start, stop = float(voxels.min()), float(voxels.max())
    step = 2 * bound * 0.999
    if (stop - start) / step >= LARGEST - 2:
        return None
    whole = np.rint((voxels.astype(np.float64) - start) / step).astype(np.int64)
    how = {"kind": "grid", "start": start, "step": step, "divisor": 1.0}
    return Mapped(whole, how) if largest_error(voxels, from_whole(whole, how, b"", voxels.dtype)) <= bound else None
