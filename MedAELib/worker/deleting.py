"""Deletes run folders a few files at a time, so that whoever waits for nothing else goes on.

In Slicer a thread would not get on with it: the idle main thread keeps Python's lock. Whoever has a timer calls `step`.
"""

from __future__ import annotations

import atexit
import os
import time
from collections.abc import Iterator
from pathlib import Path

_STEP_SECONDS = 0.005  # of deleting; a file is never split, and one of 200 MB takes about a twentieth of a second
_ATTEMPTS = 40  # steps in a row in which nothing went: a worker that is being stopped may hold or still write files


class Deleting:
    """Folders that are being deleted. What cannot be deleted, as somebody uses it, is left where it is in the end."""

    def __init__(self) -> None:
        self._folders: list[Path] = []
        self._attempts = 0

    @property
    def done(self) -> bool:
        """Whether nothing is left to do."""
        return not self._folders

    def add(self, folder: Path) -> None:
        """Delete this folder too, with all that is in it; at the latest when Python ends."""
        if self.done:
            atexit.register(self.finish)
        self._folders.append(folder)

    def step(self, seconds: float = _STEP_SECONDS) -> bool:
        """Delete at least one file or folder, and more while there is time; True when nothing is left to do."""
        end = time.perf_counter() + seconds
        while self._folders:
            gone = False
            for _ in _deleted(self._folders[0]):
                gone = True
                if time.perf_counter() >= end:
                    break
            self._attempts = 0 if gone else self._attempts + 1
            if not self._folders[0].exists() or self._attempts > _ATTEMPTS:
                self._folders.pop(0)
                self._attempts = 0
            if self.done:
                atexit.unregister(self.finish)
            if time.perf_counter() >= end or not gone:
                break
        return self.done

    def finish(self) -> None:
        """Delete all that is left, without attempts to wait for anybody."""
        while self._folders:
            for _ in _deleted(self._folders[0]):
                pass
            self._folders.pop(0)
        atexit.unregister(self.finish)


def _deleted(folder: Path) -> Iterator[Path]:
    """Delete a folder bottom up, giving each file and folder that is gone."""
    for parent, folders, files in os.walk(folder, topdown=False):
        for path in (Path(parent) / name for name in (*files, *folders)):
            if _gone(path):
                yield path
    if _gone(folder):
        yield folder


def _gone(path: Path) -> bool:
    """Delete a file, a link or an empty folder; False when it cannot be deleted now."""
    try:
        (path.rmdir if path.is_dir() and not path.is_symlink() else path.unlink)()
    except OSError:
        return False
    return True
