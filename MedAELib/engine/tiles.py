"""Exact tiles: a volume cut into cores, each with the surroundings that its result depends on."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

Box = tuple[slice, ...]


@dataclass(frozen=True)
class Tile:
    """`core` are the voxels that a tile answers for, `source` those that it must see: the core with its halo.

    The source starts at multiples of the network's stride and ends at one or at the volume's border, so that a network
    sees its grid, and the border, exactly as it would in the whole volume.
    """

    core: Box
    source: Box

    @property
    def inner(self) -> Box:
        """The core's place within the source."""
        return tuple(slice(c.start - s.start, c.stop - s.start) for c, s in zip(self.core, self.source, strict=True))


def surround(core: Box, shape: Sequence[int], halo: Sequence[int], stride: Sequence[int]) -> Tile:
    """The tile of a core: halo added, aligned outwards to the stride, clipped at the volume's border."""
    source = []
    for box, size, margin, step in zip(core, shape, halo, stride, strict=True):
        start = max(box.start - margin, 0) // step * step
        stop = min(math.ceil((box.stop + margin) / step) * step, size)
        source.append(slice(start, stop))
    return Tile(core, tuple(source))


def cores(shape: Sequence[int], edges: Sequence[int]) -> Iterator[Box]:
    """Boxes with these edges (voxels) that cover the volume once."""
    ranges = [range(0, size, edge) for size, edge in zip(shape, edges, strict=True)]
    for starts in itertools.product(*ranges):
        yield tuple(slice(a, min(a + e, size)) for a, e, size in zip(starts, edges, shape, strict=True))


def work(shape: Sequence[int], edges: Sequence[int], halo: Sequence[int]) -> int:
    """Voxels that tiles with these edges compute altogether, halos included."""
    axes = zip(shape, edges, halo, strict=True)
    return math.prod(sum(min(a + e + h, n) - max(a - h, 0) for a in range(0, n, e)) for n, e, h in axes)


def plan(shape: Sequence[int], halo: Sequence[int], stride: Sequence[int], largest: float) -> tuple[int, ...]:
    """Edges of the cores, such that no source exceeds `largest` voxels and little is computed twice.

    Starts from the whole volume and cuts, each time along the axis where a further cut costs the fewest extra voxels.
    An axis is not cut below the stride, so a tiny `largest` gives the smallest tiles there are.
    """
    counts = [1] * len(shape)
    while _largest_source(shape, halo, counts, stride) > largest:
        costs = {}
        for axis, size in enumerate(shape):
            if _edge(size, counts[axis], stride[axis]) > stride[axis]:
                costs[axis] = (size + 2 * halo[axis] * counts[axis]) / (size + 2 * halo[axis] * (counts[axis] - 1))
        if not costs:
            break
        axis = min(costs, key=lambda a: (costs[a], -shape[a]))
        edge = _edge(shape[axis], counts[axis], stride[axis])
        while _edge(shape[axis], counts[axis], stride[axis]) == edge:
            counts[axis] += 1
    return tuple(_edge(size, count, step) for size, count, step in zip(shape, counts, stride, strict=True))


def halve(core: Box, stride: Sequence[int]) -> list[Box]:
    """The two halves of a core along its longest axis that can be cut on the stride; the core alone if none can."""
    lengths = [box.stop - box.start for box in core]
    axis = max(range(len(core)), key=lambda a: (lengths[a] > stride[a], lengths[a]))
    box, step = core[axis], stride[axis]
    middle = (box.start + (box.stop - box.start + 1) // 2) // step * step
    if not box.start < middle < box.stop:
        return [core]
    return [core[:axis] + (part,) + core[axis + 1 :] for part in (slice(box.start, middle), slice(middle, box.stop))]


def _edge(size: int, count: int, step: int) -> int:
    return math.ceil(math.ceil(size / count) / step) * step


def _largest_source(shape: Sequence[int], halo: Sequence[int], counts: Sequence[int], stride: Sequence[int]) -> int:
    """Voxels of the largest source, with the halo rounded up to the stride as `surround` does."""
    edges = (_edge(size, n, step) for size, n, step in zip(shape, counts, stride, strict=True))
    halos = (math.ceil(h / step) * step for h, step in zip(halo, stride, strict=True))
    return math.prod(min(e + 2 * h, size) for e, h, size in zip(edges, halos, shape, strict=True))
