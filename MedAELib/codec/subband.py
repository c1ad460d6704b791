"""What is known of a wavelet coefficient before it is decoded: its neighbours, its band's relatives, the low band.

The coefficients of a band are decoded in four passes, by parities of the index. All numbers are whole and exact.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from .context import CLIP
from .lattice import half_octaves
from .wavelet import Axes, Doubles, Level, Shape

PASSES = (  # of a band: the parities of the index of their coefficients along its three axes
    ((0, 0, 0), (1, 1, 1)),
    ((1, 0, 0), (0, 1, 1)),
    ((0, 1, 0), (1, 0, 1)),
    ((0, 0, 1), (1, 1, 0)),
)
CASES = 3 * len(PASSES)  # by how many axes a band is high-pass along, and by pass: each has its own network
_MOST_LOW = 2**18  # quarters of a step: bends along three axes stay below 2^24
MOST_SUMMED = 127  # nor those that are summed in 16 bits
FACES = ((1, 0, 0), (0, 1, 0), (0, 0, 1))
EDGES = ((1, 1, 0), (1, -1, 0), (1, 0, 1), (1, 0, -1), (0, 1, 1), (0, 1, -1))
_SIBLINGS = 3
_LOW = 8  # inputs from the low band
SUBBAND_INPUTS = len(FACES + EDGES) + 3 + 1 + 2 * _SIBLINGS + 1 + 2 + _LOW + 7

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

    @property
    def inside(self) -> Shape:
        """The shape [i, j, k]."""
        return self.level.band(self.high)

    def along(self, numbers: Sequence[int]) -> Shape:
        """Numbers along the axes in the band's order as those along i, j, k."""
        i, j, k = (int(numbers[place]) for place in np.argsort(self.order))
        return i, j, k


def log_of(values: npt.NDArray[Any]) -> Bytes:
    """8 log2(1 + value), roughly, of values from 0; at most 127. By the bits of a float: whole numbers alone."""
    size = values.astype(np.float32)
    size += np.float32(1)
    bits = size.view(np.int32)
    bits >>= 20
    bits -= 127 << 3
    return np.minimum(bits, CLIP, out=bits).astype(np.int8)


def signed_log(values: npt.NDArray[Any]) -> Bytes:
    """The logarithm of a magnitude with the sign of the value."""
    size = log_of(np.abs(values))
    return np.where(values < 0, -size, size)


def magnitude(values: Coefficients) -> Whole:
    """Absolute values up to 127."""
    return np.minimum(np.abs(values), MOST_SUMMED).astype(np.int16)


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
        self._logs: dict[tuple[int, str], Bytes] = {}

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
                if (axis, kind) not in self._logs:
                    self._logs[axis, kind] = log_of(np.abs(self.difference(axis, kind)))
                found.append(self._logs[axis, kind])
                np.maximum(largest, found[-1], out=largest)
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


TWICE = np.minimum(2 * log_of(np.arange(256)).astype(np.int16), CLIP).astype(np.int8)  # ends there


def twice_log(values: npt.NDArray[Any]) -> Bytes:
    """Twice the logarithm of values from 0, at most 127: as an input of the network."""
    return TWICE.take(values, mode="clip")


class Siblings:
    """The bands of a level that are decoded so far, as another band sees them; each is made once for each size."""

    def __init__(self) -> None:
        self.bands: dict[Axes, Coefficients] = {}
        self._kept: dict[tuple[Axes, Shape], tuple[Whole, Whole, Bytes, Bytes]] = {}

    def seen(self, high: Axes, shape: Shape) -> tuple[Whole, Whole, Bytes, Bytes]:
        """Magnitudes of a band, their sums over one place each way, and both as inputs [i, j, k]."""
        if (high, shape) not in self._kept:
            values = np.ascontiguousarray(fitted(magnitude(self.bands[high]), shape))
            around = box(values, (1, 1, 1))
            self._kept[high, shape] = values, around, twice_log(values), twice_log(around)
        return self._kept[high, shape]


class Relatives:
    """The decoded bands beside a band and its parent: inputs for all its coefficients; all arrays [i, j, k]."""

    def __init__(self, band: Band, siblings: Siblings, parent: Coefficients | None, halved: Axes) -> None:
        """`siblings` are those decoded before; `parent` that of the next coarser level, which halves `halved`."""
        near = sorted(siblings.bands, key=lambda high: len(set(high) ^ set(band.high)))  # stable: the earlier first
        shape = band.inside
        total = np.zeros(shape, np.int16)
        self.maps: list[Bytes | None] = []  # None: nothing but zeros
        self.strong = np.zeros(shape, np.int16)  # four times what counts most, as a unit
        for place, high in enumerate(near):
            values, around, *made = siblings.seen(high, shape)
            total += around
            if place < _SIBLINGS:
                self.maps += made
                self._count(values, around)
        self.maps += [None] * (2 * _SIBLINGS - len(self.maps))
        self.maps.append(twice_log(total) if near else None)
        if parent is None:
            self.maps += [None, None]
        else:
            size = magnitude(parent)
            above, around = (np.ascontiguousarray(repeated(m, halved, shape)) for m in (size, box(size, (1, 1, 1))))
            self.maps += [twice_log(above), twice_log(around)]
            self._count(above, around)
            total += around
        self.quiet = total == 0

    def _count(self, here: Whole, around: Whole) -> None:
        self.strong += around
        self.strong += here * np.int16(4)


def repeated(values: npt.NDArray[Kind], halved: Axes, shape: Shape) -> npt.NDArray[Kind]:
    """Values of half the size along some axes, as those of the whole size."""
    for axis in halved:
        values = np.repeat(values, 2, axis=axis)
    return fitted(values, shape)


def case_of(band: Band, number: int) -> int:
    """Which network a pass of a band has."""
    return (len(band.high) - 1) * len(PASSES) + number


def passes(shape: Shape) -> Iterator[tuple[int, list[Shape]]]:
    """The passes of a band that are not empty, with their parities."""
    for number, parities in enumerate(PASSES):
        some = [parity for parity in parities if all(p < n for p, n in zip(parity, shape, strict=True))]
        if some:
            yield number, some
