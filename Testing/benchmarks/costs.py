"""What a call costs: seconds on the clock and of processors, and the memory at its peak; programs that it runs too."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

_PEAK, _RESET = Path("/proc/self/status"), Path("/proc/self/clear_refs")
_programs: list[int] = []  # bytes of memory at the peak of each other program that was run
Made = TypeVar("Made")


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
    """What the block costs, all threads of this process and the programs of `of_program` counted; filled in when the
    block ends. Of memory the most of any of them counts."""
    cost, before = Cost(), len(_programs)
    gc.collect()
    _give_back()
    with _peak_memory() as peak:
        clock, processors = time.perf_counter(), _processor_seconds()
        yield cost
        cost.seconds, cost.cpu_seconds = time.perf_counter() - clock, _processor_seconds() - processors
    cost.memory = max(0, peak[1] - peak[0], *_programs[before:])


def here(work: Callable[..., Made], *arguments: object) -> Made:
    """What `work` makes in this process."""
    return work(*arguments)


def apart(work: Callable[..., Made], *arguments: object) -> Made:
    """What `work` makes in a process of its own, whose memory nothing else has used before."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def of_program(command: Sequence[str], data: bytes = b"") -> bytes:
    """What another program writes, given some bytes. Raises CalledProcessError."""
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    peak, done = [0], threading.Event()
    watcher = threading.Thread(target=_watch, args=(process.pid, peak, done), daemon=True)
    watcher.start()
    written, told = process.communicate(data)
    done.set()
    watcher.join()
    _programs.append(peak[0])
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command, written, told)
    return written


def _watch(process: int, peak: list[int], done: threading.Event, every: float = 0.01) -> None:
    """The largest memory of another program while it runs; where the system tells none, 0."""
    status = Path(f"/proc/{process}/status")
    while not done.wait(every):
        try:
            peak[0] = max(peak[0], _resident("VmHWM", status))
        except (OSError, StopIteration):
            return


def _processor_seconds() -> float:
    """Of this process and of those that it waited for."""
    return time.process_time() + sum(os.times()[2:4])


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


def _resident(name: str, status: Path = _PEAK) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith(name))
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
