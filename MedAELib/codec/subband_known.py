"""The coefficients of a band that are known while it is decoded, and what they and its relatives tell of the others."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .context import CLIP, UNIT_LOG, UNITS
from .subband import (
    EDGES,
    FACES,
    MOST_SUMMED,
    SUBBAND_INPUTS,
    TWICE,
    Band,
    Bytes,
    Coefficients,
    Floats,
    Kind,
    Relatives,
    Whole,
)
from .wavelet import Shape

PAD = 2
QUIET_UNITS = 16
_MOST = 255  # magnitudes of neighbours are not told apart beyond
_REACH = (2, 2, 1)  # of what is near, in the band's order of axes

_SUMMED = len(FACES + EDGES) + len(FACES) + 1  # inputs from the band itself, the first ones
_UNIT = SUBBAND_INPUTS - 2  # the place of the unit among the inputs; the last one tells quiet coefficients
_SHARED = _UNIT - 5  # of the first one that all coefficients of a band share
_QUIET_UNIT, _QUIET = 4, 64

Indices = npt.NDArray[np.int64]
Line = TypeVar("Line", Whole, Coefficients)

_INPUT = TWICE.astype(np.float32)
_SIGNED_INPUT = np.concatenate([-_INPUT[:0:-1], _INPUT])  # of -255 .. 255
_UNIT_INPUT = np.clip((UNIT_LOG >> 1) - 64, -CLIP, CLIP).astype(np.float32)


class Known:
    """The coefficients of a band that are known so far [i, j, k], with a margin of zeros all around.

    The margin makes a neighbour a shift in one long line, so sums over neighbours run through memory once.
    """

    def __init__(self, band: Band) -> None:
        self.band = band
        self.padded = np.zeros([n + 2 * PAD for n in band.inside], np.int32)
        _, rows, along = self.padded.shape
        self._strides = rows * along, along, 1
        self.sums: list[tuple[Whole, int]] = []  # magnitudes at both sides, and the shift of their line
        self.signed: list[tuple[Coefficients, int]] = []
        self.near: Whole | None = None  # with the margin; None: nothing is known yet

    def shift(self, offset: tuple[int, int, int]) -> int:
        """How far away in the line a neighbour is; offsets in the band's order of axes."""
        return sum(far * stride for far, stride in zip(self.band.along(offset), self._strides, strict=True))

    def parity(self, parity: Shape) -> Coefficients:
        """The coefficients of one parity, in the band's order of axes; a view to write."""
        return self.band.ordered(cut(self.inside, self.band.along(parity)))

    @property
    def inside(self) -> Coefficients:
        """The band without its margin; what is not known yet is zero."""
        return self.padded[PAD:-PAD, PAD:-PAD, PAD:-PAD]

    def look(self) -> None:
        """Sum up what is near each place, before a pass."""
        line = self.padded.reshape(-1)
        size = np.abs(line)
        sizes = np.minimum(size, _MOST, out=size).astype(np.int16)
        self.sums = [_both_sides(sizes, abs(self.shift(offset))) for offset in (*FACES, *EDGES)]
        self.signed = [_both_sides(line, abs(self.shift(offset))) for offset in FACES]
        summed, before = np.minimum(sizes, MOST_SUMMED, out=sizes), 0
        for place, reach in enumerate(_REACH):
            offset = tuple(int(place == d) for d in range(3))
            stride = self.shift((offset[0], offset[1], offset[2]))
            summed, before = _window(summed, stride, reach), before + reach * stride
        near = np.zeros(self.padded.size, np.int16)
        near[before : before + len(summed)] = summed
        self.near = near


def _both_sides(line: Line, shift: int) -> tuple[Line, int]:
    """The sums of the numbers before and behind each place; the place of a sum is so much less."""
    return line[2 * shift :] + line[: -2 * shift], shift


def _window(line: Whole, stride: int, reach: int) -> Whole:
    """Sums of 2 * reach + 1 numbers, a stride apart."""
    pairs = line[stride:] + line[:-stride]
    if reach == 1:
        return pairs[:-stride] + line[2 * stride :]
    pairs = pairs[2 * stride :] + pairs[: -2 * stride]
    return pairs[:-stride] + line[4 * stride :]


def cut(values: npt.NDArray[Kind], parity: Shape) -> npt.NDArray[Kind]:
    """The values at the coefficients of one parity."""
    return values[parity[0] :: 2, parity[1] :: 2, parity[2] :: 2]


@dataclass(frozen=True, eq=False)
class Seen:
    """Of the coefficients of one parity [n]: those inputs of the m with something around them that are `varying` among
    them, and a last one that is always 1 [varying + 1, m]; the inputs `others` [inputs] that these m share, 0 where
    they vary; the inputs [inputs, 16] of all kinds of quiet ones, `still`; the unit of each of these [m + 16]; which
    coefficients are busy [m], and which quiet, with their kinds.
    """

    made: Floats
    varying: tuple[int, ...]
    others: Floats
    still: Floats
    unit: Indices
    busy: Indices
    quiet: Indices
    kinds: npt.NDArray[np.uint8]

    def inputs(self, which: Indices) -> Floats:
        """All inputs [inputs, n] of some of the m + 16."""
        busy = np.repeat(self.others[:, None], len(self.busy), axis=1)
        busy[list(self.varying)] = self.made[:-1]
        return np.concatenate([busy, self.still], axis=1)[:, which]

    @cached_property
    def which(self) -> Indices:
        """Which of the inputs each coefficient has [n]."""
        found = np.empty(len(self.busy) + len(self.quiet), np.int64)
        found[self.busy] = np.arange(len(self.busy))
        found[self.quiet] = self.kinds.astype(np.int64) + len(self.busy)
        return found

    @cached_property
    def order(self) -> Indices:
        """The quiet ones by kind and then as they lie: so they are cut into blocks."""
        return np.argsort(self.kinds, kind="stable")


class Looker:
    """What is known of the coefficients of a band, parity by parity."""

    def __init__(self, band: Band, known: Known, relatives: Relatives, low: list[Bytes]) -> None:
        """`low`: what the low band tells, of its own shape [i, j, k]."""
        self._band, self._known, self._relatives, self._low = band, known, relatives, low

    def seen(self, parity: Shape) -> Seen:
        """Those of one parity; coefficients with nothing but zeros around share few kinds of input."""
        band, known = self._band, self._known
        along = band.along(parity)
        quiet = self._relatives.quiet
        if known.near is not None:
            near = known.near.reshape(known.padded.shape)[PAD:-PAD, PAD:-PAD, PAD:-PAD]
            quiet = quiet & (near == 0)
        flags = np.ascontiguousarray(band.ordered(cut(quiet, along))).reshape(-1)
        still, busy = np.flatnonzero(flags), np.flatnonzero(~flags)
        varying = self._varying()
        made = np.empty((len(varying) + 1, len(busy)), np.float32)
        rows = iter(made)
        here = self._places(along, band.inside).take(busy)
        strength = self._from_known(rows, self._places(along, known.padded.shape, PAD).take(busy))
        strength += self._relatives.strong.reshape(-1).take(here)
        for around in self._relatives.maps:
            if around is not None:
                next(rows)[...] = around.reshape(-1).take(here)
        coarse = self._from_low(rows, along, busy)
        strength += 2
        unit = np.full(len(busy) + QUIET_UNITS, _QUIET_UNIT, np.int64)
        unit[: len(busy)] = np.minimum((strength.astype(np.float32).view(np.int32) >> 21) - (127 << 2), UNITS - 1)
        _UNIT_INPUT.take(unit[: len(busy)], out=next(rows), mode="clip")
        next(rows)[...] = 1
        kinds = (coarse.take(still) >> 3).astype(np.uint8)
        return Seen(made, varying, self._others, self._still, unit, busy, still, kinds)

    def _varying(self) -> tuple[int, ...]:
        """Which inputs differ from coefficient to coefficient in this pass."""
        relatives = [_SUMMED + place for place, around in enumerate(self._relatives.maps) if around is not None]
        low = range(_SUMMED + len(self._relatives.maps), _SHARED)
        return (*(range(_SUMMED) if self._known.near is not None else ()), *relatives, *low, _UNIT)

    @cached_property
    def _others(self) -> Floats:
        """What the inputs are [inputs] that all coefficients with something around them share."""
        found = np.zeros(SUBBAND_INPUTS, np.float32)
        found[_SHARED:_UNIT] = np.clip(self._band.shared, -CLIP, CLIP)
        return found

    @cached_property
    def _still(self) -> Floats:
        """The inputs [inputs, 16] of each kind of quiet coefficients."""
        found = np.repeat(self._others[:, None], QUIET_UNITS, axis=1)
        found[_SHARED - 1] = 8 * np.arange(QUIET_UNITS)
        found[_UNIT], found[_UNIT + 1] = _UNIT_INPUT[_QUIET_UNIT], _QUIET
        return found

    def _places(self, along: Shape, shape: tuple[int, ...], margin: int = 0) -> Indices:
        """Where the coefficients of a parity [n] lie in an array of some shape [i, j, k]."""
        strides, inside = (shape[1] * shape[2], shape[2], 1), self._band.inside
        lines = [(np.arange(along[d], inside[d], 2) + margin) * strides[d] for d in self._band.order]
        return (lines[0][:, None, None] + lines[1][:, None] + lines[2]).reshape(-1)

    def _from_known(self, rows: Iterator[Floats], places: Indices) -> npt.NDArray[np.int32]:
        """The inputs from the band itself, and what it gives to the unit."""
        known = self._known
        if known.near is None:
            return np.zeros(len(places), np.int32)
        far = max(shift for _, shift in known.sums)
        near = known.near.take(places)
        places -= far
        faces, edges = np.zeros((2, len(places)), np.int16)
        for number, (line, shift) in enumerate(known.sums):
            size = line[far - shift :].take(places)
            _INPUT.take(size, out=next(rows), mode="clip")
            total = faces if number < len(FACES) else edges
            total += size
        for values, shift in known.signed:
            value = values[far - shift :].take(places)
            value += _MOST
            _SIGNED_INPUT.take(value, out=next(rows), mode="clip")
        _INPUT.take(near, out=next(rows), mode="clip")
        faces *= np.int16(4)
        edges *= np.int16(2)
        strength = faces.astype(np.int32)
        strength += edges
        strength += near
        return strength

    def _from_low(self, rows: Iterator[Floats], along: Shape, busy: Indices) -> Bytes:
        """The inputs from the low band; the last of them for all coefficients [n]."""
        inside: tuple[Any, ...] = tuple(slice(n) for n in self._band.inside)
        places = self._places(along, self._low[0].shape).take(busy)
        for some in self._low:
            next(rows)[...] = some.reshape(-1).take(places)
        return self._band.ordered(cut(self._low[-1][inside], along)).reshape(-1)
