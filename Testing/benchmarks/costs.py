"""What a call costs: seconds on the clock and of processors, and the memory at its peak."""

from __future__ import annotations

import ctypes
import gc
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

_PEAK, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")


@dataclass
class Cost:
    """What a call took: seconds on the clock, seconds of processors, and bytes of memory at the peak beyond before."""

    seconds: float = 0.0
    cpu_seconds: float = 0.0
    memory: int = 0

    def __add__(self, other: Cost) -> Cost:
        """Of one call after the other."""
        seconds, processors = self.seconds + other.seconds, self.cpu_seconds + other.cpu_seconds
        return Cost(seconds, processors, max(self.memory, other.memory))

    def per_million(self, voxels: int) -> dict[str, float]:
        """Per million voxels; memory in megabytes."""
        return {
            "seconds_per_million": self.seconds / voxels * 1e6,
            "cpu_seconds_per_million": self.cpu_seconds / voxels * 1e6,
            "megabytes_per_million": self.memory / voxels,
        }


@contextmanager
def measured() -> Iterator[Cost]:
    """What the block costs, all threads of this process counted; filled in when the block ends."""
    cost = Cost()
    gc.collect()
    _give_back()
    with _peak_memory() as peak:
        clock, processors = time.perf_counter(), time.process_time()
        yield cost
        cost.seconds, cost.cpu_seconds = time.perf_counter() - clock, time.process_time() - processors
    cost.memory = max(0, peak[1] - peak[0])


def _give_back() -> None:
    """Let the C library return freed memory to the system, or reusing it would look free of charge."""
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):
        pass  # another C library: the figure is a little too low


@contextmanager
def _peak_memory() -> Iterator[list[int]]:
    """The resident set in bytes: [before, largest]. Linux keeps the largest itself; elsewhere a thread looks."""
    try:
        _RESET.write_text("5")
        found = [_resident("VmRSS"), 0]
    except OSError:
        with _sampled_memory() as found:
            yield found
        return
    yield found
    found[1] = _resident("VmHWM")


def _resident(name: str) -> int:
    line = next(line for line in _PEAK.read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


@contextmanager
def _sampled_memory(every: float = 0.005) -> Iterator[list[int]]:
    import psutil

    process, done = psutil.Process(), threading.Event()
    found = [process.memory_info().rss] * 2

    def look() -> None:
        while not done.wait(every):
            found[1] = max(found[1], process.memory_info().rss)

    watcher = threading.Thread(target=look, daemon=True)
    watcher.start()
    try:
        yield found
    finally:
        done.set()
        watcher.join()
