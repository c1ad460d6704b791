"""Batches that are ready when a step asks for them: made by threads, or by several processes beside a fast card."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

_Batch = tuple[Tensor, ...]
_AHEAD = 4  # batches of each process
_THREADS = 8  # beside a graphics card


def threads_beside(device: torch.device) -> int:
    """How many threads make the batches of a training on this device.

    One cannot keep up with a CUDA card; on a processor more than one would slow the steps down.
    """
    return min(_THREADS, max(1, (os.cpu_count() or 1) - 1)) if device.type == "cuda" else 1


@contextmanager
def prefetched(
    batch: Callable[[int], _Batch], first: int, end: int, processes: int = 0, threads: int = 1, pinned: bool = False
) -> Iterator[Iterator[_Batch]]:
    """The batches of the steps from the first to the end, in order; the next ones are made while one is used.

    By ``threads``, or with ``processes`` by that many copies of this process (not on Windows), as a batch depends on
    its step alone. ``pinned``: in memory that a card copies from fastest.
    """
    if processes:
        with closing(_by_processes(batch, first, end, processes, pinned)) as batches:  # ends the processes
            yield batches
        return
    with ThreadPoolExecutor(threads) as pool:
        yield _by_threads(pool, batch, range(first, end), threads, pinned)


def _by_threads(
    pool: ThreadPoolExecutor, batch: Callable[[int], _Batch], steps: Sequence[int], ahead: int, pinned: bool
) -> Iterator[_Batch]:
    def made(step: int) -> _Batch:
        parts = batch(step)
        return tuple(part.pin_memory() for part in parts) if pinned else parts

    waiting: deque[Future[_Batch]] = deque(pool.submit(made, step) for step in steps[:ahead])
    for step in steps:
        ready = waiting.popleft().result()
        if step + ahead in steps:
            waiting.append(pool.submit(made, step + ahead))
        yield ready


class _Steps(Dataset[_Batch]):
    """What batch each step asks for."""

    def __init__(self, batch: Callable[[int], _Batch]) -> None:
        self.batch = batch

    def __getitem__(self, step: int) -> _Batch:
        return self.batch(step)


def _by_processes(
    batch: Callable[[int], _Batch], first: int, end: int, processes: int, pinned: bool
) -> Generator[_Batch]:
    loader = DataLoader(
        _Steps(batch), batch_size=None, sampler=range(first, end), num_workers=processes, prefetch_factor=_AHEAD,
        pin_memory=pinned, multiprocessing_context="fork",
    )  # fmt: skip
    for parts in loader:
        yield tuple(parts)
