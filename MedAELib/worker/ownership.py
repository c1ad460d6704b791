"""Which Slicer a run folder belongs to, so that a living one's runs are left alone and a dead one's can be taken over.

A folder holds owner-0.json, owner-1.json, ...; the last one counts. Each is created exclusively, so that of two
Slicers that start at once only one takes a run over.
"""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

from . import process

_OWNER = re.compile(r"owner-(\d{1,6})\.json")
_SECONDS_TO_WRITE = 10
_SECONDS_ELSEWHERE = 7 * 24 * 3600


def take(run: Path, number: int = 0) -> bool:
    """Make this process the owner of that number; False when another process was faster."""
    host, pid, identity = process.own_identity()
    try:
        with (run / f"owner-{number}.json").open("x", encoding="utf-8") as file:
            json.dump({"host": host, "pid": pid, "identity": identity}, file)
    except FileExistsError:
        return False
    return True


def last_number(run: Path) -> int:
    """The number of the owner that counts; -1 when there is none."""
    matches = (_OWNER.fullmatch(path.name) for path in run.iterdir())
    return max((int(match[1]) for match in matches if match), default=-1)


def state(run: Path) -> str:
    """ "ours", "living" (another process that lives, or may live), "dead", or "gone": somebody has just deleted it."""
    try:
        number = last_number(run)
    except OSError:
        return "gone"
    if number < 0:
        return "dead"
    path = run / f"owner-{number}.json"
    try:
        owner = json.loads(path.read_bytes()[:10_000])
        host, pid, identity = str(owner["host"]), int(owner["pid"]), str(owner["identity"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError, OverflowError):
        return "living" if age(path) < _SECONDS_TO_WRITE else "dead"
    own = process.own_identity()
    if (host, pid, identity) == own:
        return "ours"
    if host != own[0]:
        return "living" if age(path) < _SECONDS_ELSEWHERE else "dead"  # a network folder: we cannot see that process
    return "living" if 0 < pid < 1 << 31 and process.identity(pid) == identity else "dead"


def age(path: Path) -> float:
    """Seconds since a file was last written, a link itself; without end where there is none."""
    try:
        return time.time() - path.lstat().st_mtime
    except OSError:
        return float("inf")
