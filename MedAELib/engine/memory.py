"""How much memory of the computer is free; torch is not needed, so reading a file may ask too."""

from __future__ import annotations

import math
import os
import sys
from pathlib import Path

_CONTROL_GROUP = Path("/sys/fs/cgroup")


def free_system_memory() -> int:
    """Bytes that can be allocated now without swapping, within the limit of a container where there is one."""
    try:
        import psutil

        free = int(psutil.virtual_memory().available)
    except ImportError:
        free = _free_without_psutil()
    limit = _container_limit()
    return min(free, limit) if limit is not None else free


def amount(size: int) -> str:
    """Bytes as a user reads them, in GiB, or in MB where there are few."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 / 10 else f"{math.ceil(size / 1e6)} MB"


def _free_without_psutil() -> int:
    if sys.platform.startswith("linux"):
        with Path("/proc/meminfo").open(encoding="ascii") as file:
            fields = dict(line.split(":", 1) for line in file)
        return int(fields["MemAvailable"].split()[0]) * 1024
    if hasattr(os, "sysconf"):
        # Half of the physical memory: macOS has no simple figure for what is available.
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    return 4 << 30


def _container_limit() -> int | None:
    """What the control group still allows (Linux containers), or None.

    Pages of files that were not used of late count as used, but the kernel gives them up when memory is asked for.
    """
    try:
        largest = (_CONTROL_GROUP / "memory.max").read_text(encoding="ascii").strip()
        used = int((_CONTROL_GROUP / "memory.current").read_text(encoding="ascii"))
        lines = (_CONTROL_GROUP / "memory.stat").read_text(encoding="ascii").splitlines()
        reclaimable = sum(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
        return None if largest == "max" else max(int(largest) - max(used - reclaimable, 0), 0)
    except (OSError, ValueError, IndexError):
        return None
