"""The order of a wave front: voxels in rows and slices, those of many rows and slices at once.

A voxel's neighbours lie before it in its row, in earlier rows and in earlier slices. Row y runs `ROW_LAG` voxels behind
row y - 1, slice z `SLICE_LAG` behind slice z - 1: all voxels of a step are decoded together, from earlier steps alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

REACH = 4  # of a neighbourhood within the slice
ROW_LAG = REACH + 1
SLICE_LAG = ROW_LAG + 2
_BEFORE = 2  # slices
_WORTH_PARALLEL = 16  # voxels of a step, on average; fewer take too long to decode

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
Offset = tuple[int, int, int]  # slices, rows, voxels


def _plane() -> tuple[Offset, ...]:
    """The 30 neighbours in the slice, nearest first: a half disc of radius 4.2."""
    reach = range(-REACH, REACH + 1)
    known = [(y, x) for y in range(-REACH, 1) for x in reach if (y, x) < (0, 0) and y * y + x * x <= REACH**2 + 2]
    return tuple((0, y, x) for y, x in sorted(known, key=lambda o: (o[0] ** 2 + o[1] ** 2, -o[0], o[1])))


PLANE = _plane()
BEFORE: tuple[Offset, ...] = (
    *sorted(((-1, y, x) for y in (-1, 0, 1) for x in (-1, 0, 1)), key=lambda o: (abs(o[1]) + abs(o[2]), o)),
    (-2, 0, 0),
)
OFFSETS = PLANE + BEFORE


@dataclass(frozen=True)
class Front:
    """The steps of a chunk: `axes` are slices, rows and voxels of a row; `shape` the chunk's size along them."""

    axes: tuple[int, int, int]
    shape: tuple[int, int, int]

    @staticmethod
    def of(shape: tuple[int, int, int], spacing: tuple[int, int, int]) -> Front:
        """Slices lie across the coarsest spacing, the last axis of several; rows run along the longer axis left."""
        across = max(range(3), key=lambda d: (spacing[d], d))
        rows, along = sorted((d for d in range(3) if d != across), key=lambda d: (shape[d], d))
        axes = across, rows, along
        return Front(axes, (shape[across], shape[rows], shape[along]))

    @property
    def steps(self) -> int:
        """How many steps there are; some may be empty."""
        z, y, x = self.shape
        return x + ROW_LAG * (y - 1) + SLICE_LAG * (z - 1)

    @property
    def parallel(self) -> bool:
        """Whether a step has enough voxels for this order to be decoded in reasonable time."""
        return int(np.prod(self.shape)) >= _WORTH_PARALLEL * self.steps

    @cached_property
    def order(self) -> Indices:
        """The voxels, as indices into the chunk in slices, rows and voxels, step by step."""
        z, y, x = (np.arange(n, dtype=np.int32) for n in self.shape)
        step = (SLICE_LAG * z[:, None, None] + ROW_LAG * y[:, None] + x).reshape(-1)
        small = step.astype(np.uint16) if self.steps <= 1 << 16 else step
        return np.argsort(small, kind="stable")

    @cached_property
    def counts(self) -> Indices:
        """How many voxels each step has."""
        z, y, x = (np.arange(n) for n in self.shape)
        ahead = np.bincount((SLICE_LAG * z[:, None] + ROW_LAG * y).reshape(-1), minlength=self.steps + 1)
        rows = np.cumsum(ahead)
        rows[len(x) :] -= np.cumsum(ahead)[: -len(x)]
        return rows[: self.steps]


class Field:
    """Numbers of the known voxels with a margin around each slice, all in one line, so that a neighbour is a shift.

    What lies beyond the margin's side: left of a row, the first voxel of the row above; right of it, its last voxel;
    above a slice, the first row of the slice before; below it, its last row. Before the first slice all is `start`.
    """

    def __init__(self, front: Front, start: float) -> None:
        self._front = front
        z, y, x = front.shape
        self.room = np.full((z + _BEFORE, y + REACH + 1, x + 2 * REACH), np.float32(start))
        self.line = self.room.reshape(-1)

    @property
    def inside(self) -> Floats:
        """The voxels [z, y, x] without the margin; a view."""
        return self.room[_BEFORE:, REACH:-1, REACH:-REACH]

    def shift(self, offset: Offset) -> int:
        """How far away in the line a neighbour is."""
        _, rows, along = self.room.shape
        return (offset[0] * rows + offset[1]) * along + offset[2]

    def places(self, voxels: Indices) -> Indices:
        """Where in the line voxels are, by their indices into the chunk."""
        _, y, x = self._front.shape
        _, rows, along = self.room.shape
        row, within = np.divmod(voxels, x)
        slab, row = np.divmod(row, y)
        return ((slab + _BEFORE) * rows + row + REACH) * along + within + REACH

    def fill(self, values: Floats) -> None:
        """Enter all voxels [z, y, x] at once."""
        room = self.room[_BEFORE:]
        room[:, REACH:-1, REACH:-REACH] = values
        room[:, -1, REACH:-REACH] = values[:, -1]
        room[1:, :REACH, REACH:-REACH] = values[:-1, :1]
        room[:, REACH + 1 :, :REACH] = values[:, :, :1]
        room[1:, : REACH + 1, :REACH] = values[:-1, :1, :1]
        room[:, REACH:-1, -REACH:] = values[:, :, -1:]
        room[:, -1, -REACH:] = values[:, -1, -1:]
        room[1:, :REACH, -REACH:] = values[:-1, :1, -1:]

    def enter(self, voxels: Indices, places: Indices, values: Floats) -> None:
        """Enter the voxels of a step; the margin follows."""
        z, y, x = self._front.shape
        _, rows, along = self.room.shape
        line = self.line
        line[places] = values
        row, within = np.divmod(voxels, x)
        slab, row = np.divmod(row, y)
        last = row == y - 1
        if last.any():
            line[places[last] + along] = values[last]
        first = (row == 0) & (slab < z - 1)
        if first.any():
            above = places[first] + (rows - REACH) * along
            for up in range(REACH):
                line[above + up * along] = values[first]
        self._enter_sides(within, row, slab, places, values)

    def _enter_sides(self, within: Indices, row: Indices, slab: Indices, places: Indices, values: Floats) -> None:
        """The margins left and right of rows."""
        z, y, x = self._front.shape
        along = self.room.shape[2]
        ends = np.flatnonzero(within == x - 1)
        for place, value, r, s in zip(places[ends], values[ends], row[ends], slab[ends], strict=True):
            self.line[place + 1 : place + 1 + REACH] = value
            if r == y - 1:
                self.line[place + along + 1 : place + along + 1 + REACH] = value
            if r == 0 and s < z - 1:
                self.room[_BEFORE + s + 1, :REACH, -REACH:] = value
        begins = np.flatnonzero(within == 0)
        for place, value, r, s in zip(places[begins], values[begins], row[begins], slab[begins], strict=True):
            self.line[place + along - REACH : place + along] = value
            if r == 0 and s < z - 1:
                self.room[_BEFORE + s + 1, : REACH + 1, :REACH] = value
