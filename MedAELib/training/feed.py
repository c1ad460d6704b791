"""Batches that are ready when a step asks for them: made by a thread, or by several processes beside a fast card."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

from torch import Tensor
from torch.utils.data import DataLoader, Dataset

_Batch = tuple[Tensor, ...]
_AHEAD = 4  # batches of each process


@contextmanager
def prefetched(
    batch: Callable[[int], _Batch], first: int, end: int, processes: int = 0, pinned: bool = False
) -> Iterator[Iterator[_Batch]]:
    """The batches of the steps from the first to the end, in order; the next ones are made while one is used.

    By a thread, or with ``processes`` by that many copies of this process (not on Windows), as a batch depends on its
    step alone. ``pinned``: in memory that a card copies from fastest.
    """
    if processes:
        yield _by_processes(batch, first, end, processes, pinned)
        return
    with ThreadPoolExecutor(1) as thread:
        yield _by_thread(thread, batch, first, end)


def _by_thread(thread: ThreadPoolExecutor, batch: Callable[[int], _Batch], first: int, end: int) -> Iterator[_Batch]:
    waiting: Future[_Batch] | None = thread.submit(batch, first) if first < end else None
    for step in range(first, end):
        assert waiting is not None
        made = waiting.result()
        waiting = thread.submit(batch, step + 1) if step + 1 < end else None
        yield made


class _Steps(Dataset[_Batch]):
    """What batch each step asks for."""

    def __init__(self, batch: Callable[[int], _Batch]) -> None:
        self.batch = batch

    def __getitem__(self, step: int) -> _Batch:
        return self.batch(step)


def _by_processes(
    batch: Callable[[int], _Batch], first: int, end: int, processes: int, pinned: bool
) -> Iterator[_Batch]:
    loader = DataLoader(
        _Steps(batch), batch_size=None, sampler=range(first, end), num_workers=processes, prefetch_factor=_AHEAD,
        pin_memory=pinned, multiprocessing_context="fork",
    )  # fmt: skip
    for parts in loader:
        yield tuple(parts)
