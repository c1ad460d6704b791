"""Chunks that are decoded in threads have their entropy coders step together: as many numpy calls as for one alone.

A coder of few lanes spends its time in calls on tiny arrays, one after the other, whatever the number of processors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from threading import Condition

import numpy as np
import numpy.typing as npt

Integers = npt.NDArray[np.int64]
_ROWS = 512  # between two looks at who has come and who is done

# one row of symbols after the other: states, slots and entries [rows, lanes], the words for lanes
Steps = Callable[[Integers, Integers, Integers, Callable[[Integers], Integers]], None]


@dataclass(eq=False)
class Batch:
    """What a thread wants decoded: the states of its lanes [lanes], which move on, the slots of its symbols and room
    for their entries [rows, lanes], what gives so many more words, and how many rows are done."""

    state: Integers
    slots: Integers
    entries: Integers
    words: Callable[[int], Integers]
    rows: int = 0

    @property
    def left(self) -> int:
        """How many rows are not done."""
        return len(self.slots) - self.rows


class Together:
    """Where threads meet that decode by the same tables: one of them takes the steps of all that are there."""

    def __init__(self, steps: Steps) -> None:
        self._steps = steps
        self._changed = Condition()
        self._there: list[Batch] = []
        self._led = False

    def decode(self, batch: Batch) -> None:
        """Decode a batch to its end, alone or with those of other threads."""
        with self._changed:
            self._there.append(batch)
            while self._led and batch.left:
                self._changed.wait()
            if not batch.left:
                return
            self._led = True
        try:
            while batch.left:
                with self._changed:
                    group = [some for some in self._there if some.left]
                self._advance(group)
                with self._changed:
                    self._there = [some for some in self._there if some.left]
                    self._changed.notify_all()
        finally:
            with self._changed:
                self._there = [some for some in self._there if some is not batch]
                self._led = False
                self._changed.notify_all()

    def _advance(self, group: Sequence[Batch]) -> None:
        """Some rows of all batches, until one of them ends at the latest; its states and rows then tell so."""
        rows = min(_ROWS, *(batch.left for batch in group))
        parts = [slice(batch.rows, batch.rows + rows) for batch in group]
        state = np.concatenate([batch.state for batch in group])
        slots = np.concatenate([batch.slots[part] for batch, part in zip(group, parts, strict=True)], axis=1)
        entries = np.empty_like(slots)
        ends = np.cumsum([len(batch.state) for batch in group])
        self._steps(state, slots, entries, partial(_words, group, ends[:-1]))
        for batch, part, last in zip(group, parts, ends, strict=True):
            lanes = slice(last - len(batch.state), last)
            batch.entries[part], batch.state[...] = entries[:, lanes], state[lanes]
            batch.rows += rows


def _words(group: Sequence[Batch], starts: Integers, lanes: Integers) -> Integers:
    """The words for lanes that ask, ascending, each from those of its own batch."""
    if len(group) == 1:
        return group[0].words(lanes.size)
    edges = [0, *lanes.searchsorted(starts).tolist(), lanes.size]
    asked = [(batch, edges[n + 1] - edges[n]) for n, batch in enumerate(group)]
    found = [batch.words(count) for batch, count in asked if count]
    return found[0] if len(found) == 1 else np.concatenate(found)
