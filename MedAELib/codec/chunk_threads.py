"""The threads that code the chunks of a volume side by side, and those that help where there are few chunks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..engine.memory import free_system_memory
from ..threads import Helpers

MOST_THREADS = 8
_BYTES, _WAVE_BYTES = 125, 140  # of memory for each voxel of a chunk, roughly, while it is encoded
_WIDER = {4: 20, 8: 45}  # bytes more for voxels of so many bytes
_WHOLE_BYTES, _WHOLE_TIMES = 16, 4  # for each voxel of the volume, or times what it has: what its chunks decode to
_HEARTBEAT = 0.2  # seconds

Progress = Callable[[str, int, int], None]
Done = TypeVar("Done")


def processors() -> int:
    """How many this process may use; a container or a queue may allow fewer than there are."""
    allowed = getattr(os, "sched_getaffinity", None)
    return len(allowed(0)) if allowed is not None else os.cpu_count() or 1


def side_by_side(memory: int, each: int) -> int:
    """How many chunks are coded at once: one for each processor, eight at most, as far as memory allows; at least one.

    `memory` are the bytes that may be taken, `each` those that a chunk takes. Nothing that is coded depends on it.
    """
    return min(max(1, memory // each), processors(), MOST_THREADS)


def encoders(array: npt.NDArray[Any], slabs: Sequence[tuple[int, int, int]], waves: bool) -> int:
    """How many chunks of a volume [c, i, j, k] are encoded side by side: channel, and slices from .. to, of each."""
    largest, kind = array[0, :, :, 0].size * thickest(slabs), array.dtype
    whole = max(_WHOLE_BYTES, _WHOLE_TIMES * kind.itemsize) * array.size
    each = (_WAVE_BYTES if waves else _BYTES) + wider(kind)
    return min(side_by_side(free_system_memory() - whole, each * largest), len(slabs))


def thickest(slabs: Sequence[tuple[int, int, int]]) -> int:
    """The slices of the thickest slab."""
    return max(stop - start for _, start, stop in slabs)


def wider(dtype: np.dtype[Any]) -> int:
    """How many bytes more a voxel of a chunk takes, coded or decoded, than one of at most 16 bits."""
    return _WIDER.get(dtype.itemsize, 0)


@contextmanager
def helpers_for(chunks: int) -> Iterator[Helpers]:
    """What lets the decoding of so many chunks at once be stopped, and threads that help where processors are left."""
    count = min(processors(), MOST_THREADS)
    if chunks >= count:
        yield Helpers()
        return
    with ThreadPoolExecutor(count) as pool:
        yield Helpers(pool, count)


def beside(work: Callable[[Helpers], Done], stage: str, progress: Progress | None) -> Done:
    """What `work` makes in a thread of its own, with the helpers of a single chunk. `progress` is asked several times a
    second; when it raises, the work ends where it next looks."""
    told = None if progress is None else lambda stage, done, total: progress(stage, 0, 1)
    with helpers_for(1) as helpers, ThreadPoolExecutor(1) as pool:
        return in_turn(pool, [pool.submit(work, helpers)], stage, told, helpers.stop)[0]


def in_turn(
    pool: Executor, work: Sequence[Future[Done]], stage: str, progress: Progress | None,
    stop: Callable[[], None] = lambda: None,
) -> list[Done]:  # fmt: skip
    """The results, in order. `progress` is asked several times a second; after a fault or a cancel nothing begins, and
    `stop` is called so that what has begun may end."""
    results = []
    try:
        for number, awaited in enumerate(work):
            while progress is not None and not wait([awaited], _HEARTBEAT).done:
                progress(stage, number, len(work))
            results.append(awaited.result())
            if progress is not None:
                progress(stage, number + 1, len(work))
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        stop()
        raise
    return results
