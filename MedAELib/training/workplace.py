"""The folder that a training keeps its things in until it has ended: MedAE's own, used by one training at a time."""

from __future__ import annotations

import json
import os
import re
import sys
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from MedAELib.errors import BadInput, unwritable

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

CACHE, PLAN, LAST, HISTORY = "cache", "plan.json", "last.pt", "history.json"
_LOCK = "training.lock"
_KEPT = re.compile(r"\d{5,}\.npy")  # a volume in the cache
_HALF_WRITTEN = re.compile(r"\.medae-[0-9a-f]{16}(\.pt)?")  # what a process that was killed left of `whole_file`


class Workplace:
    """A work folder. Who has taken it holds a lock, which the system lets go whenever the process ends, also killed."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._lock: BinaryIO | None = None

    @property
    def resumable(self) -> bool:
        """Whether a training can go on from what is kept there."""
        return (self.folder / LAST).is_file() and (self.folder / PLAN).is_file()

    def take(self, learned_from: Path | None, resume: bool) -> None:
        """Make the folder, or take what an earlier training left, for this training alone.

        Raises BadInput, and changes nothing, when there is nothing to resume or something that has to be resumed, when
        another training has it, when it is not MedAE's, or when it and the folder of volumes lie in each other; and
        DiskFull.
        """
        if resume and not (self.resumable and _is_ours(self.folder)):
            raise BadInput(f"There is no training to resume in {self.folder}.", "Start it without --resume.")
        try:
            if not resume:
                self._check_place(learned_from)
            self.folder.mkdir(parents=True, exist_ok=True)
            self._lock = _locked(self.folder / _LOCK)
        except OSError as error:
            raise unwritable(self.folder, error) from error
        if self._lock is None:
            raise BadInput(f"A training is at work in {self.folder}.", "Wait for its end, or name another model.")
        if self.resumable and not resume:
            self.release()
            raise BadInput(
                f"{self.folder} holds an interrupted training.", "Go on with it by --resume, or remove that folder."
            )

    def _check_place(self, learned_from: Path | None) -> None:
        """Refuse a folder in which something of the user's could be lost."""
        if self.folder.exists() and not self.folder.is_dir():
            raise BadInput(f"{self.folder} is in the way: it is a file.", "Move it away, or name another model.")
        if learned_from is not None and _lie_in_each_other(self.folder, learned_from):
            raise BadInput(
                f"The training would keep its things in {self.folder}, but that and the volumes in {learned_from} lie "
                "in each other.",
                "Name a model outside the folder of volumes.",
            )
        if self.folder.exists() and any(self.folder.iterdir()) and not _is_ours(self.folder):
            raise BadInput(
                f"The training would keep its things in {self.folder}, but that holds something else.",
                "Move it away, or name another model.",
            )

    def remove(self) -> None:
        """Delete what a training keeps, and the folder where nothing else is in it, and let it go."""
        if self._lock is None:
            return
        for path in self._own():
            with suppress(OSError):
                path.unlink()
        with suppress(OSError):
            (self.folder / CACHE).rmdir()
        self.release()
        with suppress(OSError):
            self.folder.rmdir()

    def _own(self) -> list[Path]:
        """The files of a training, by their names."""
        cache = self.folder / CACHE
        found = [path for path in _inside(self.folder) if path.name in (PLAN, LAST, HISTORY)]
        found += [path for path in _inside(self.folder) if _HALF_WRITTEN.fullmatch(path.name)]
        return found + [path for path in _inside(cache) if _KEPT.fullmatch(path.name) and not cache.is_symlink()]

    def release(self) -> None:
        """Let another training have the folder."""
        lock, self._lock = self._lock, None
        if lock is None:
            return
        if sys.platform == "win32":  # deletes no open file
            lock.close()
        with suppress(OSError):
            (self.folder / _LOCK).unlink()
        lock.close()


def _inside(folder: Path) -> list[Path]:
    """What is in a folder; nothing where there is none."""
    try:
        return list(folder.iterdir())
    except OSError:
        return []


def _is_ours(folder: Path) -> bool:
    """Whether a training of MedAE made the folder."""
    if (folder / _LOCK).is_file():
        return True
    try:
        plan = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(plan, dict) and {"network", "steps", "folder"} <= plan.keys()


def _lie_in_each_other(work: Path, volumes: Path) -> bool:
    """Whether one of the folders is the other, or anywhere in it, whatever links lead there."""
    work, volumes = work.resolve(), volumes.resolve()
    return any(_same(volumes, one) for one in (work, *work.parents)) or any(_same(work, one) for one in volumes.parents)


def _same(one: Path, other: Path) -> bool:
    try:
        return one.samefile(other)
    except OSError:  # one of them is not there
        return one == other


def _locked(path: Path) -> BinaryIO | None:
    """The file, made where it is not there, with a lock on it; None where another process has that. Raises OSError."""
    while True:
        file = path.open("ab")
        if not _lock(file):
            file.close()
            return None
        if sys.platform == "win32":
            return file
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(file.fileno()), path.stat()):
                return file
        file.close()  # its last holder has just deleted it


def _lock(file: BinaryIO) -> bool:
    """Whether the lock could be had; also where the file system knows no locks."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return sys.platform != "win32"
    return True
