"""The order in which a volume is coded: a coarse lattice first, then stages that each halve the spacing along one axis.

A stage has four passes, by the parity of the index along the other two axes. All voxels of a pass are coded at once,
from voxels of the coarser lattice and of earlier passes alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BASE_VOXELS = 64  # a lattice of so few voxels is not divided further
PAD = 3
_FLAT_FROM = 3  # half octaves: the third axis 2.8 times as coarse as the halved one
PASSES = ((0, 0), (0, 1), (1, 0), (1, 1))  # parities along the second and third axis of a stage
Floats = npt.NDArray[np.float32]
Offset = tuple[int, int, int]


@dataclass(frozen=True)
class Stage:
    """One halving: `shape` is the lattice after it, `axis` the one that is halved, `steps` its voxels in voxels of
    the volume along the three axes; `others` are the two other axes, the more finely spaced first."""

    shape: tuple[int, int, int]
    axis: int
    others: tuple[int, int]
    steps: tuple[int, int, int]
    ratios: tuple[int, int]  # log2 of the others' spacing over the halved axis', in halves, within -4..8

    @property
    def flat(self) -> bool:
        """Whether the third axis is so coarsely spaced that wider neighbourhoods in the plane tell more."""
        return self.ratios[1] >= _FLAT_FROM

    def coarser(self) -> tuple[int, int, int]:
        """The shape of the lattice before the stage."""
        a, b, c = (-(-n // 2) if d == self.axis else n for d, n in enumerate(self.shape))
        return a, b, c


def plan(shape: tuple[int, int, int], axes: Sequence[int], spacing: tuple[int, int, int]) -> list[Stage]:
    """The stages for a volume, coarsest first; `axes` as of `halvings`, `spacing` in micrometres."""
    stages, steps, current = [], [1, 1, 1], list(shape)
    for axis in axes:
        if np.prod(current) <= BASE_VOXELS or current[axis] == 1:
            break
        extent = [spacing[d] * steps[d] for d in range(3)]
        first, second = sorted((d for d in range(3) if d != axis), key=lambda d: (extent[d], d))
        ratios = tuple(half_octaves(extent[d], extent[axis]) for d in (first, second))
        i, j, k = current
        stages.append(Stage((i, j, k), axis, (first, second), (steps[0], steps[1], steps[2]), (ratios[0], ratios[1])))
        current[axis] = -(-current[axis] // 2)
        steps[axis] *= 2
    return stages[::-1]


def halvings(shape: tuple[int, int, int], spacing: tuple[int, int, int]) -> list[int]:
    """Which axis each stage halves, finest first: always the one with the finest spacing that still has two voxels."""
    axes, current, extent = [], list(shape), list(spacing)
    while np.prod(current) > BASE_VOXELS:
        axis = min((d for d in range(3) if current[d] > 1), key=lambda d: (extent[d], -d))
        axes.append(axis)
        current[axis] = -(-current[axis] // 2)
        extent[axis] *= 2
    return axes


def half_octaves(over: int, under: int) -> int:
    """2 * log2(over / under), rounded down, within -4..8; integers alone, so that every reader finds the same."""
    for level in range(8, -4, -1):
        if over**2 >= under**2 * 2**level if level >= 0 else over**2 * 2**-level >= under**2:
            return level
    return -4


def _offsets(flat: bool, parity: tuple[int, int]) -> tuple[Offset, ...]:
    """The 28 known neighbours of a pass's voxel, along the halved axis and the two others: nearest first."""

    def known(a: int, b: int, c: int) -> bool:
        return a % 2 == 1 or ((parity[0] + b) % 2, (parity[1] + c) % 2) < parity

    def distance(o: Offset) -> tuple[int, bool, Offset]:
        return o[0] ** 2 + o[1] ** 2 + (12 if flat else 1) * o[2] ** 2, o[0] * o[1] * o[2] < 0, o

    reach = range(-PAD, PAD + 1)
    near = sorted(((a, b, c) for a in reach for b in reach for c in reach if known(a, b, c)), key=distance)
    if flat:
        return tuple(near[:NEIGHBOURS])
    # the two beyond the nearest along the axis tell more than the last of the oblique ones
    along = [(-3, 0, 0), (3, 0, 0)]
    return (*[o for o in near if o not in along][: NEIGHBOURS - 2], *along)


NEIGHBOURS = 28
CASES = tuple((flat, parity) for flat in (False, True) for parity in PASSES)  # each has its own network
OFFSETS = {case: _offsets(*case) for case in CASES}


class Lattice:
    """The known voxels of one stage with a mirrored margin; axes in the stage's order (halved, other, other).

    Mirroring keeps the parity of an index, so what a pass looks up in the margin is known whenever it is inside.
    """

    def __init__(self, stage: Stage, coarse: Floats) -> None:
        self.flat = stage.flat
        self.order = (stage.axis, *stage.others)
        self.size = tuple(stage.shape[d] for d in self.order)
        self.padded = np.zeros([n + 2 * PAD for n in self.size], np.float32)
        self._mirror = [_mirrored(n) for n in self.size]
        self.inside[::2] = coarse.transpose(self.order)
        self.fill_margin()

    @property
    def inside(self) -> Floats:
        """The lattice without its margin."""
        return self.padded[PAD:-PAD, PAD:-PAD, PAD:-PAD]

    def fill_margin(self) -> None:
        """Let the margin mirror the inside again."""
        for axis, mirror in enumerate(self._mirror):
            view = np.moveaxis(self.padded, axis, 0)
            for index in (0, 1, 2, -3, -2, -1):
                view[index] = view[mirror[index]]

    def voxels(self) -> Floats:
        """The lattice in the volume's own order of axes."""
        return self.inside.transpose(np.argsort(self.order))

    def pass_shape(self, parity: tuple[int, int]) -> tuple[int, int, int]:
        """How many voxels a pass has along the three axes of the stage."""
        a, b, c = self.size
        return a // 2, (b + 1 - parity[0]) // 2, (c + 1 - parity[1]) // 2

    def view(self, parity: tuple[int, int], offset: Offset, rows: slice) -> Floats:
        """The voxels at an offset from those of a pass, for some of its rows; a view to read or to write."""
        starts = [PAD + s + o for s, o in zip((1, *parity), offset, strict=True)]
        cut = [slice(s, s + 2 * n - 1, 2) for s, n in zip(starts, self.pass_shape(parity), strict=True)]
        return self.padded[tuple(cut)][rows]

    def set(self, parity: tuple[int, int], values: npt.NDArray[np.int64]) -> None:
        """Enter the values of a whole pass [n]; the margin follows."""
        self.view(parity, (0, 0, 0), slice(None))[...] = values.reshape(self.pass_shape(parity))
        self.fill_margin()

    def blocks(self, parity: tuple[int, int], voxels: int = 32768) -> Iterator[slice]:
        """Rows of a pass in blocks of about so many voxels, that fit a processor's cache."""
        rows, b, c = self.pass_shape(parity)
        step = max(1, voxels // max(b * c, 1))
        for first in range(0, rows if b * c else 0, step):
            yield slice(first, min(first + step, rows))


def _mirrored(size: int) -> npt.NDArray[np.int64]:
    """For each index of a padded axis, the padded index inside that it mirrors."""
    period = max(2 * (size - 1), 1)
    index = np.abs(np.arange(-PAD, size + PAD)) % period
    return PAD + np.minimum(index, period - index) if size > 1 else np.full(size + 2 * PAD, PAD)
