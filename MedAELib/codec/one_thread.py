"""One thread for the linear algebra of an encoder: its products are small, and chunks are coded side by side anyway.

Threads that share such a product wait for each other without sleep. Where another program has their processor, that
takes many times as long as the product itself.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from threading import Lock
from typing import Any

_lock = Lock()
_inside: list[Any] = []  # the limits, as often as they are wanted


@contextmanager
def numpy_alone() -> Iterator[None]:
    """Let numpy's products take one thread, in the whole process; what it had is restored by the last to leave."""
    with _lock:
        _inside.append(_inside[0] if _inside else _blas().limit(limits=1))
    try:
        yield
    finally:
        with _lock:
            limits = _inside.pop()
            if not _inside:
                limits.restore_original_limits()


@contextmanager
def torch_alone() -> Iterator[None]:
    """Let torch compute with one thread; what it had is restored."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def numpy_threads() -> int | None:
    """How many threads numpy's products may take at most; None where that cannot be told."""
    return max((library["num_threads"] for library in _blas().info()), default=None)


@cache
def _blas() -> Any:
    import numpy  # noqa: F401 - its library is found once it is there
    from threadpoolctl import ThreadpoolController  # not yet in Slicer's process before the packages are installed

    return ThreadpoolController().select(user_api="blas")
