"""How fast MedAE's files decode on one, two and all processors, by mode and quality: a part of `compress.py`."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from benchmarks.costs import measured

from MedAELib.codec.reader import decompress
from MedAELib.codec.volumes import Mode, compress
from MedAELib.volume import Volume

REPEATS = 3  # of each, in turn; the quickest counts


def speed(volumes: Sequence[Volume], decibels: Sequence[float], bound: float = 2) -> None:
    """One table: million voxels a second and CPU seconds per million voxels of decoding, for each number of processors.

    All files are made first; then the numbers of processors take turns, so that what else runs slows all alike.
    """
    counts = processor_counts()
    names = [f"{count} processor{'s' if count > 1 else ''}" for count in counts]
    print("| scan | mode | bits per voxel | " + " | ".join(f"{name}: Mvoxel/s, CPU s" for name in names) + " |")
    print("|---" * (3 + len(counts)) + "|")
    modes = [*(Mode("psnr", wanted) for wanted in decibels), Mode("max-error", bound), Mode()]
    for volume in volumes:
        for mode in modes:
            data = compress(volume, mode)
            decompress(data)  # once beforehand: tables and models are made once
            best = dict.fromkeys(counts, (np.inf, np.inf))
            for _ in range(REPEATS):
                for count in counts:
                    best[count] = min(best[count], _decoding(data, count))
            rates = [f"{volume.array.size / wall / 1e6:.2f}, {1e6 * cpu / volume.array.size:.2f}" for wall, cpu in
                     best.values()]  # fmt: skip
            told = f"{mode.kind} {mode.value:g}" if mode.value else mode.kind
            bits = 8 * len(data) / volume.array.size
            print(f"| {volume.name} | {told} | {bits:.3f} | " + " | ".join(rates) + " |", flush=True)


def processor_counts() -> list[int]:
    """One, two and all processors that this process may use; all alone where that cannot be chosen."""
    if not hasattr(os, "sched_setaffinity"):
        return [os.cpu_count() or 1]
    return sorted({1, min(2, len(os.sched_getaffinity(0))), len(os.sched_getaffinity(0))})


def _decoding(data: bytes, processors: int) -> tuple[float, float]:
    """Seconds on the clock and of processors that decoding takes on so many of them."""
    if not hasattr(os, "sched_setaffinity"):
        with measured() as cost:
            decompress(data)
        return cost.seconds, cost.cpu_seconds
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:processors])
    try:
        with measured() as cost:
            decompress(data)
    finally:
        os.sched_setaffinity(0, allowed)
    return cost.seconds, cost.cpu_seconds
