"""A volume gone through in pieces that the processor's cache holds, several side by side."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..threads import side_by_side
from .tiles import Box, cores

_PIECE = 1 << 18  # voxels


def in_pieces(shape: Sequence[int], work: Callable[[Box], None]) -> None:
    """Call `work` for boxes that cover a volume of this shape `[i, j, k]` once, on any thread and in any order.

    j is cut first: whether i or k lies closest in memory, even if it is i in one array and k in another, what a box
    touches is then whole lines of the cache. Raises what `work` raises.
    """
    i, j, k = shape
    rows = max(1, min(j, _PIECE // max(1, i * k)))
    part = max(1, min(max(i, k), _PIECE // (rows * max(1, min(i, k)))))
    side_by_side(work, list(cores(shape, (part, rows, k) if i >= k else (i, rows, part))))
