"""Work shared among threads: numpy, zlib and hashlib let them run side by side."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError, Executor, ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event
from typing import TypeVar

Item = TypeVar("Item")
Made = TypeVar("Made")


def threads() -> int:
    """How many threads torch computes with; one in a process without torch, such as Slicer's."""
    torch = sys.modules.get("torch")
    return int(torch.get_num_threads()) if torch else 1


def side_by_side(work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
    """What `work` makes of each item, in their order, by as many threads as torch computes with. Raises what `work`
    raises."""
    count = min(threads(), len(items))
    if count < 2:
        return [work(item) for item in items]
    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(work, items))


@dataclass(frozen=True)
class Helpers:
    """Threads of a pool that take pieces of the work of others, who wait for them; no pool: those work alone.

    Such a piece must not ask for helpers itself: it would wait for a thread that waits for it.
    """

    pool: Executor | None = None
    count: int = 1
    stopped: Event = field(default_factory=Event)

    def stop(self) -> None:
        """Let the work end where it next looks."""
        self.stopped.set()
        if self.pool is not None:
            self.pool.shutdown(wait=False, cancel_futures=True)

    def look(self) -> None:
        """Raise CancelledError where the work is to end."""
        if self.stopped.is_set():
            raise CancelledError

    def each(self, work: Callable[[Item], Made], items: Sequence[Item]) -> list[Made]:
        """What `work` makes of each item, in their order. Raises what `work` raises; then what has not begun never
        does. Looks whether to end."""
        self.look()
        if self.pool is None or len(items) < 2:
            return [work(item) for item in items]
        return list(self.pool.map(work, items))

    def pieces(self, size: int, least: int, most: int) -> list[slice]:
        """Cuts of 0 .. size - 1 into one piece for each helper, of `least` (and multiples of it) to `most` at once."""
        step = min(max(-(-size // (self.count * least)), 1) * least, most)
        return [slice(first, min(first + step, size)) for first in range(0, size, step)]


ALONE = Helpers()
