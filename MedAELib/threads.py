"""Work shared among as many threads as torch computes with: numpy, zlib and hashlib let them run side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def threads() -> int:
    """How many threads torch computes with; one in a process without torch, such as Slicer's."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else 1


def side_by_side(work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """What `work` makes of each item, in their order. Raises what `work` raises."""
    count = min(threads(), len(items))
    if count < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, items))
