"""What a step of `compress.py` costs: CPU seconds and memory, per million voxels."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np

_STATUS, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")  # Linux alone tells a peak since some moment
Result = TypeVar("Result")


@dataclass(frozen=True)
class Cost:
    """CPU seconds of all threads, and by how many megabytes the memory in use rose at its peak (nan: not told)."""

    seconds: float
    megabytes: float

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.seconds + other.seconds, max(self.megabytes, other.megabytes))

    def per_million(self, voxels: int) -> Cost:
        """The same for a million voxels."""
        return Cost(self.seconds * 1e6 / voxels, self.megabytes * 1e6 / voxels)

    @staticmethod
    def mean(costs: Iterable[Cost]) -> Cost:
        """The mean of several."""
        seconds, megabytes = zip(*((cost.seconds, cost.megabytes) for cost in costs), strict=True)
        return Cost(float(np.mean(seconds)), float(np.mean(megabytes)))


def measured(function: Callable[[], Result]) -> tuple[Result, Cost]:
    """What a function returns, and what it took."""
    gc.collect()
    _give_back()
    told = _peak_begins()
    before, started = _megabytes("VmRSS"), time.process_time()
    result = function()
    seconds = time.process_time() - started
    return result, Cost(seconds, _megabytes("VmHWM") - before if told else float("nan"))


def _give_back() -> None:
    """Memory that was freed but kept for reuse would hide what is used anew."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if _STATUS.exists() else None
    if trim is not None:
        trim(0)


def _peak_begins() -> bool:
    try:
        _RESET.write_text("5")
    except OSError:
        return False
    return True


def _megabytes(name: str) -> float:
    try:
        lines = _STATUS.read_text().splitlines()
    except OSError:
        return float("nan")
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith(f"{name}:")), float("nan"))
