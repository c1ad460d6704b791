"""What is known of a wavelet coefficient before it is decoded: its neighbours, its band's relatives, the low band.

The coefficients of a band are decoded in four passes, by parities of the index. All numbers are whole and exact.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .context import CLIP, UNIT_LOG
from .lattice import half_octaves
from .wavelet import Axes, Doubles, Level, Shape

PAD = 2
PASSES = (  # of a band: the parities of the index of their coefficients along its three axes
    ((0, 0, 0), (1, 1, 1)),
    ((1, 0, 0), (0, 1, 1)),
    ((0, 1, 0), (1, 0, 1)),
    ((0, 0, 1), (1, 1, 0)),
)
CASES = 3 * len(PASSES)  # by how many axes a band is high-pass along, and by pass: each has its own network
_MOST = 255  # magnitudes of neighbours are not told apart beyond
_MOST_LOW = 2**18  # quarters of a step: bends along three axes stay below 2^24
_MOST_SUMMED = 127  # nor those that are summed in 16 bits
_FACES = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
_EDGES = ((1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1))
_SIBLINGS = 3
_LOW = 8  # inputs from the low band
SUBBAND_INPUTS = len(_FACES + _EDGES) + 3 + 1 + 2 * _SIBLINGS + 1 + 2 + _LOW + 7
QUIET_UNITS = 16

Whole = npt.NDArray[np.int16]
Bytes = npt.NDArray[np.int8]
Floats = npt.NDArray[np.float32]
Coefficients = npt.NDArray[np.int32]
Kind = TypeVar("Kind", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Band:
    """A band of a level: along which axes it is high-pass, how many levels follow, the order of its axes (high-pass
    ones first, then by spacing), and what its coefficients share, as inputs of the network."""

    level: Level
    high: Axes
    order: Axes
    shape: Shape  # in this order
    shared: tuple[int, ...]

    @staticmethod
    def of(level: Level, high: Axes, spacing: Shape, remaining: int, rate: int) -> Band:
        """`rate`: 8 * log2 of the volume's range over the step."""
        extent = [along * step for along, step in zip(spacing, level.steps, strict=True)]
        first, second, third = sorted(range(3), key=lambda d: (d not in high, d not in level.axes, extent[d], d))
        inside = level.band(high)
        ratios = [16 * half_octaves(extent[d], extent[first]) for d in (second, third)]
        shared = (min(16 * remaining, CLIP), *ratios, 32 * (len(level.axes) - 1), min(max(rate, 0), CLIP))
        order = (first, second, third)
        return Band(level, high, order, (inside[first], inside[second], inside[third]), shared)

    def ordered(self, values: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
        """Values [i, j, k] in the band's order of axes."""
        return values.transpose(self.order)

    def back(self, values: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
        """Values in the band's order of axes as [i, j, k]."""
        return values.transpose(np.argsort(self.order))


def log_of(values: npt.NDArray[Any]) -> Bytes:
    """8 log2(1 + value), roughly, of values from 0; at most 127. By the bits of a float: whole numbers alone."""
    bits = (values.astype(np.float32) + np.float32(1)).view(np.int32)
    return np.minimum((bits >> 20) - (127 << 3), CLIP).astype(np.int8)


def signed_log(values: npt.NDArray[Any]) -> Bytes:
    """The logarithm of a magnitude with the sign of the value."""
    size = log_of(np.abs(values))
    return np.where(values < 0, -size, size)


def magnitude(values: Coefficients) -> Whole:
    """Absolute values up to 127."""
    return np.minimum(np.abs(values), _MOST_SUMMED).astype(np.int16)


def box(values: Whole, reach: tuple[int, int, int]) -> Whole:
    """Sums over all places at most `reach` away along each axis; outside there is nothing."""
    total = values
    for axis, far in enumerate(reach):
        moved = np.moveaxis(total, axis, 0)
        summed = moved.copy()
        for step in range(1, min(far, len(moved) - 1) + 1):
            summed[step:] += moved[:-step]
            summed[:-step] += moved[step:]
        total = np.moveaxis(summed, 0, axis)
    return total


class LowBand:
    """What the decoded low band of a level tells of the bands beside it: slopes and bends, in quarters of a step."""

    def __init__(self, low: Doubles, step: int) -> None:
        self.low = np.rint(np.clip(low * (4 / step), -_MOST_LOW, _MOST_LOW)).astype(np.float32)
        self._kept: dict[tuple[int, str], Floats] = {}

    def difference(self, axis: int, kind: str) -> Floats:
        """ "slope" and "bend" about a coefficient's place; "ahead" and "beyond" about half a voxel further."""
        key = axis, kind
        if key not in self._kept:
            self._kept[key] = _difference(self.low, axis, kind)
        return self._kept[key]

    def told(self, band: Band) -> list[Bytes]:
        """The inputs [i, j, k] of a band, of the low band's shape, in the order of coding; the last one is coarse."""
        found, largest = [], np.zeros(self.low.shape, np.int8)
        for axis in band.order:
            for kind in ("ahead", "beyond") if axis in band.high else ("slope", "bend"):
                found.append(log_of(np.abs(self.difference(axis, kind))))
                largest = np.maximum(largest, found[-1])
        mixed = self.difference(band.high[0], "beyond")
        for axis in band.high[1:]:
            mixed = _difference(mixed, axis, "beyond")
        return [*found, signed_log(mixed), largest & ~7]


def _difference(values: Floats, axis: int, kind: str) -> Floats:
    padded = np.moveaxis(np.pad(values, [(1, 2) if d == axis else (0, 0) for d in range(3)], mode="edge"), axis, 0)
    before, here, after, further = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    made = {
        "ahead": lambda: after - here,
        "beyond": lambda: further - after - here + before,
        "slope": lambda: after - before,
        "bend": lambda: after - 2 * here + before,
    }[kind]()
    return np.moveaxis(made, 0, axis)


def fitted(values: npt.NDArray[Kind], shape: Shape) -> npt.NDArray[Kind]:
    """Cut or repeated at its ends to a shape that differs by one at most."""
    cut = values[tuple(slice(n) for n in shape)]
    room = [(0, n - m) for n, m in zip(shape, cut.shape, strict=True)]
    return np.pad(cut, room, mode="edge") if any(more for _, more in room) else cut


class Relatives:
    """The decoded bands beside a band and its parent, as inputs for all its coefficients."""

    def __init__(
        self, band: Band, siblings: dict[Axes, Coefficients], parent: Coefficients | None, halved: Axes
    ) -> None:
        """`siblings` are those decoded before; `parent` that of the next coarser level, which halves `halved`."""
        near = sorted(siblings, key=lambda high: len(set(high) ^ set(band.high)))  # stable: the earlier first
        inside = band.level.band(band.high)
        total = np.zeros(band.shape, np.int16)
        self.maps: list[Whole] = []
        self.strong = np.zeros(band.shape, np.int16)  # four times what counts most, as a unit
        for place in range(max(len(near), _SIBLINGS)):
            if place < len(near):
                values = band.ordered(fitted(magnitude(siblings[near[place]]), inside))
                around = box(values, (1, 1, 1))
                total = total + around
            if place < _SIBLINGS and place < len(near):
                self.maps += [values, around]
                self.strong = self.strong + 4 * values + around
            elif place < _SIBLINGS:
                self.maps += [np.zeros(band.shape, np.int16)] * 2
        self.maps.append(total)
        above = np.zeros(band.shape, np.int16)
        surround = above
        if parent is not None:
            size = magnitude(parent)
            above, surround = (band.ordered(repeated(some, halved, inside)) for some in (size, box(size, (1, 1, 1))))
        self.maps += [above, surround]
        self.strong = self.strong + 4 * above + surround
        self.quiet = (total + surround) == 0


def repeated(values: npt.NDArray[Kind], halved: Axes, shape: Shape) -> npt.NDArray[Kind]:
    """Values of half the size along some axes, as those of the whole size."""
    for axis in halved:
        values = np.repeat(values, 2, axis=axis)
    return fitted(values, shape)


class Known:
    """The coefficients of a band that are known so far, with a margin of zeros; axes in the band's order."""

    def __init__(self, shape: Shape) -> None:
        self.shape = shape
        self.padded = np.zeros([n + 2 * PAD for n in shape], np.int32)
        self.near = np.zeros(shape, np.int16)

    def view(self, parity: Shape, offset: tuple[int, int, int] = (0, 0, 0)) -> Coefficients:
        """The coefficients at an offset from those of one parity; a view to read or to write."""
        a, b, c = (
            slice(PAD + p + o, PAD + p + o + max(2 * ((n - p + 1) // 2) - 1, 0), 2)
            for p, o, n in zip(parity, offset, self.shape, strict=True)
        )
        return self.padded[a, b, c]

    @property
    def inside(self) -> Coefficients:
        """The band without its margin; what is not known yet is zero."""
        return self.padded[PAD:-PAD, PAD:-PAD, PAD:-PAD]

    def look(self) -> None:
        """Sum up what is near each place, before a pass."""
        self.near = box(magnitude(self.inside), (2, 2, 1))


def cut(values: npt.NDArray[Kind], parity: Shape) -> npt.NDArray[Kind]:
    """The values at the coefficients of one parity."""
    return values[parity[0] :: 2, parity[1] :: 2, parity[2] :: 2]


@dataclass(frozen=True, eq=False)
class Seen:
    """Of the coefficients of one parity [n]: inputs [inputs, m] of all that differ, the unit of each of these [m], and
    which of them each coefficient has [n]."""

    made: Floats
    unit: npt.NDArray[np.int64]
    which: npt.NDArray[np.int64]

    @property
    def busy(self) -> npt.NDArray[np.bool_]:
        """Which coefficients have something else than zeros around them [n]."""
        return self.which < self.made.shape[1] - QUIET_UNITS

    def quiet_blocks(self) -> npt.NDArray[np.int64]:
        """All others, by kind and then as they lie: so they are cut into blocks."""
        quiet = np.flatnonzero(~self.busy)
        return quiet[np.argsort(self.which[quiet], kind="stable")]


def seen(band: Band, known: Known, relatives: Relatives, low: list[Bytes], parity: Shape) -> Seen:
    """What is known of all coefficients of one parity; those with nothing but zeros around share few kinds of input."""
    near = cut(known.near, parity)
    coarse = cut(low[-1], parity).reshape(-1)
    quiet = ((near == 0) & cut(relatives.quiet, parity)).reshape(-1)
    busy = np.flatnonzero(~quiet)
    made = np.zeros((SUBBAND_INPUTS, len(busy) + QUIET_UNITS), np.float32)
    sums = [_pair(known, parity, offset) for offset in (*_FACES, *_EDGES)]
    place, strength = 0, cut(relatives.strong, parity).reshape(-1)[busy].astype(np.int32)
    strength = strength + near.reshape(-1)[busy]
    for number, (size, _) in enumerate(sums):
        flat = size.reshape(-1)[busy]
        made[place, : len(busy)] = log_of(flat) * np.float32(2)
        strength += (4 if number < len(_FACES) else 2) * flat
        place += 1
    for _, signed in sums[: len(_FACES)]:
        made[place, : len(busy)] = signed_log(signed.reshape(-1)[busy]) * np.float32(2)
        place += 1
    for around in (near, *(cut(whole, parity) for whole in relatives.maps)):
        made[place, : len(busy)] = log_of(around.reshape(-1)[busy]) * np.float32(2)
        place += 1
    for some in low:
        made[place, : len(busy)] = cut(some, parity).reshape(-1)[busy]
        place += 1
    made[place - 1, len(busy) :] = 8 * np.arange(QUIET_UNITS)
    for shared in band.shared:
        made[place] = shared
        place += 1
    unit = np.zeros(len(busy) + QUIET_UNITS, np.int64)
    spread = (strength + 2).astype(np.float32)
    unit[: len(busy)] = np.minimum((spread.view(np.int32) >> 21) - (127 << 2), 95)
    unit[len(busy) :] = 4
    made[place] = (UNIT_LOG[unit] >> 1) - 64
    made[place + 1, len(busy) :] = 64
    np.clip(made, -CLIP, CLIP, out=made)
    which = np.empty(len(quiet), np.int64)
    which[busy] = np.arange(len(busy))
    which[quiet] = len(busy) + (coarse[quiet] >> 3).astype(np.int64)
    return Seen(made, unit, which)


def _pair(known: Known, parity: Shape, offset: tuple[int, int, int]) -> tuple[Coefficients, Coefficients]:
    """Magnitudes and values of two neighbours on opposite sides, summed."""
    a, b, c = offset
    one, other = known.view(parity, offset), known.view(parity, (-a, -b, -c))
    size = np.minimum(np.abs(one), _MOST) + np.minimum(np.abs(other), _MOST)
    return size, one + other


def case_of(band: Band, number: int) -> int:
    """Which network a pass of a band has."""
    return (len(band.high) - 1) * len(PASSES) + number


def passes(shape: Shape) -> Iterator[tuple[int, list[Shape]]]:
    """The passes of a band that are not empty, with their parities."""
    for number, parities in enumerate(PASSES):
        some = [parity for parity in parities if all(p < n for p, n in zip(parity, shape, strict=True))]
        if some:
            yield number, some
