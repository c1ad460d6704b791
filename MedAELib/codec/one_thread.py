"""One thread for the linear algebra of an encoder: its products are small, and chunks are coded side by side anyway.

Threads that share such a product wait for each other without sleep. Where another program has their processor, that
takes many times as long as the product itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from threading import Lock

import numpy as np

_PLACES = ("../numpy.libs", ".dylibs")  # of OpenBLAS, from numpy's own folder
_NAMES = ("scipy_openblas_{}_num_threads64_", "scipy_openblas_{}_num_threads", "openblas_{}_num_threads64_")
_lock = Lock()
_inside, _before = 0, 1


@contextmanager
def numpy_alone() -> Iterator[None]:
    """Let numpy's products take one thread, in the whole process; what it had is restored by the last to leave. Where
    numpy came with another library than OpenBLAS, nothing changes."""
    global _inside, _before
    get, choose = _openblas()
    with _lock:
        if not _inside:
            _before = get()
            choose(1)
        _inside += 1
    try:
        yield
    finally:
        with _lock:
            _inside -= 1
            if not _inside:
                choose(_before)


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
    """How many threads numpy's products take; None where that cannot be told."""
    return _openblas()[0]() or None


@cache
def _openblas() -> tuple[Callable[[], int], Callable[[int], object]]:
    """What tells and sets the threads of the library that numpy brought along; where it is none, what does nothing."""
    folder = Path(np.__file__).parent
    for path in sorted(path for place in _PLACES for path in (folder / place).glob("*openblas*")):
        try:
            library = ctypes.CDLL(str(path.resolve()))
        except OSError:
            continue
        for name in _NAMES:
            if hasattr(library, name.format("set")) and hasattr(library, name.format("get")):
                return getattr(library, name.format("get")), getattr(library, name.format("set"))
    return (lambda: 0), (lambda count: None)
