"""The pieces of one scan that an adaptation uses: some to learn from, others, held out, to judge it by."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..engine.tiles import Box

SLAB = 16  # voxels at least along the longest axis: the part that is held out
_CORE, _AROUND = 32, 8  # voxels of a judged piece along an edge, and beside it, so that it is seen as in a whole scan
_EDGE = 4  # voxels at the border of a piece to learn from, that lack their surroundings and do not count


@dataclass(frozen=True)
class Tile:
    """A held-out piece [1, 1, i, j, k] with its surroundings, and the box of it that is judged."""

    voxels: Tensor
    core: Box


class Pieces:
    """A slab across the longest axis of a scan `[i, j, k]` is judged by, the rest is learned from.

    `limits` are the intensities that the network sees as 0 and 1; `patch` is the edge of a piece to learn from.
    """

    def __init__(
        self, source: npt.NDArray[Any], limits: tuple[float, float], stride: int, device: torch.device, patch: int
    ) -> None:
        self._source, self._limits, self._stride, self._device = source, limits, stride, device
        self._axis = int(np.argmax(source.shape))
        length = source.shape[self._axis]
        self._slab = range(length // 2, length // 2 + max(SLAB, length // 4))
        self._shape = [min(patch, size) // stride * stride for size in source.shape]
        longest = max(self._slab.start, length - self._slab.stop)
        self._shape[self._axis] = min(patch, longest) // stride * stride
        self._random = np.random.default_rng(0)

    def draw(self, count: int) -> Tensor:
        """Pieces [count, 1, i, j, k] to learn from, with the most tissue of three tries each."""
        return torch.cat([self._draw() for _ in range(count)])

    def inside(self) -> Tensor:
        """1 where a piece to learn from counts, 0 at its border: [i, j, k]."""
        made = torch.zeros(self._shape, device=self._device)
        made[tuple(slice(_EDGE, -_EDGE) if size >= 4 * _EDGE else slice(None) for size in self._shape)] = 1
        return made

    def held_out(self, most: int) -> list[Tile]:
        """The pieces of the slab, none of which overlaps another: those with the most tissue, at most so many."""
        axes: list[list[slice]] = []
        for axis, size in enumerate(self._source.shape):
            begin, end = (self._slab.start, self._slab.stop) if axis == self._axis else (0, size)
            axes.append([slice(start, min(start + _CORE, end)) for start in range(begin, end, _CORE)])
        bright = sorted(itertools.product(*axes), key=lambda box: -float(self._seen(box).mean()))
        return [self._tile(box) for box in bright[:most]]

    def _draw(self) -> Tensor:
        tries = [self._seen(self._box()) for _ in range(3)]
        return max(tries, key=lambda piece: float(piece.mean()))

    def _box(self) -> Box:
        """A place at random, clear of the slab."""
        pairs = zip(self._source.shape, self._shape, strict=True)
        corner = [int(self._random.integers(size - n + 1)) for size, n in pairs]
        length = self._shape[self._axis]
        starts = [*range(self._slab.start - length + 1)]
        starts += range(self._slab.stop, self._source.shape[self._axis] - length + 1)
        corner[self._axis] = int(self._random.choice(starts))
        return tuple(slice(start, start + n) for start, n in zip(corner, self._shape, strict=True))

    def _tile(self, core: Sequence[slice]) -> Tile:
        """A judged box with its surroundings, cut to the network's cells."""
        around, inside = [], []
        for box, size in zip(core, self._source.shape, strict=True):
            start = max(0, box.start - _AROUND) // self._stride * self._stride
            stop = min(size, box.stop + _AROUND)
            stop -= (stop - start) % self._stride
            around.append(slice(start, stop))
            inside.append(slice(box.start - start, min(box.stop, stop) - start))
        return Tile(self._seen(tuple(around)), tuple(inside))

    def _seen(self, box: Sequence[slice]) -> Tensor:
        """A box of the scan as the network sees it, [1, 1, i, j, k]."""
        low, high = self._limits
        piece = (np.asarray(self._source[tuple(box)], np.float32) - low) / (high - low)
        return torch.from_numpy(np.nan_to_num(piece, nan=0, posinf=0, neginf=0))[None, None].to(self._device)
