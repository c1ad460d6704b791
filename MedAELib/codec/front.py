"""The order of a wave front: voxels in rows and slices, those of many rows and slices at once.

A voxel's neighbours lie before it in its row, in earlier rows and in earlier slices. Row y runs `ROW_LAG` voxels behind
row y - 1, slice z `SLICE_LAG` behind slice z - 1: all voxels of a step are decoded together, from earlier steps alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

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

    def step_of(self, voxels: Indices) -> Indices:
        """The step of each voxel, by its index into the chunk."""
        row, within = np.divmod(voxels, self.shape[2])
        slab, row = np.divmod(row, self.shape[1])
        found: Indices = SLICE_LAG * slab + ROW_LAG * row + within
        return found

    @cached_property
    def margin(self) -> Margin:
        """The margin of its fields."""
        return Margin(self)

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

    def __init__(self, front: Front, start: float, kind: type[np.generic] = np.float32) -> None:
        self._front = front
        z, y, x = front.shape
        self.room = np.full((z + _BEFORE, y + REACH + 1, x + 2 * REACH), start, kind)
        self.line = self.room.reshape(-1)

    @property
    def inside(self) -> npt.NDArray[Any]:
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

    def fill(self, values: npt.NDArray[Any]) -> None:
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
        if len(voxels):
            self.line[places] = values
            cells, shown = self._front.margin.of(voxels[0])
            self.line[cells] = self.line.take(shown)


class Around:
    """What lies around voxels in a field: its line as seen from each of some offsets, all of which lie before."""

    def __init__(self, field: Field, offsets: Sequence[Offset]) -> None:
        shifts = [field.shift(offset) for offset in offsets]
        self._before = -min(shifts)
        self._lines = [field.line[self._before + shift :] for shift in shifts]

    def of(self, places: Indices, made: Floats) -> Floats:
        """The numbers [offsets, n] around places in the line, in `made`; each row is quickest taken by itself."""
        places = places - self._before
        for row, line in zip(made, self._lines, strict=True):
            line.take(places, out=row, mode="clip")  # which needs no copy, unlike one that looks out for faults
        return made


class Margin:
    """The margin of a front's fields in the order in which it becomes known: cells, and the places that they show."""

    def __init__(self, front: Front) -> None:
        sources = Field(front, -1, np.int32)
        sources.fill(np.arange(np.prod(front.shape), dtype=np.int32).reshape(front.shape))
        sources.inside[...] = -1
        cells = np.flatnonzero(sources.line >= 0)
        voxels = sources.line[cells].astype(np.int64)
        self._front, steps = front, front.step_of(voxels)
        order = np.argsort(steps, kind="stable")
        self._cells, self._shown = cells[order], sources.places(voxels[order])
        self._ends = np.cumsum(np.bincount(steps, minlength=front.steps)).tolist()

    def of(self, voxel: int | np.int64) -> tuple[Indices, Indices]:
        """The cells that show voxels of the same step as this one, and the places of those."""
        step = int(self._front.step_of(np.asarray(voxel)))
        some = slice(self._ends[step - 1] if step else 0, self._ends[step])
        return self._cells[some], self._shown[some]
