"""The files below a folder, links followed: each real file once, under the name that it has without links."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path


def files_below(folder: Path, broken: Callable[[str], None] = lambda name: None) -> list[tuple[str, Path]]:
    """Every file below a folder, hidden ones left out, as its relative name and its path, in the order of the names.

    A link to a folder is followed unless it leads back to one that it lies in. A file that can be reached in several
    ways has the name of the way with the fewest links, and of these the first in order. The names of links that lead to
    nothing go to `broken`.
    """
    walk = _Walk(folder)
    while walk.places:
        walk.one_link_farther()
    for name in sorted(walk.broken):
        broken(name)
    return sorted((name, folder / name) for name in walk.found.values())


class _Walk:
    """How far the files are known: `found` has the name of each by where it really is, `places` what comes next."""

    def __init__(self, folder: Path) -> None:
        self.root = folder.resolve()
        self.found: dict[Path, str] = {}
        self.places = [("", self.root)]  # folders, each with the name that those in it begin with
        self.broken: list[str] = []  # links
        self._seen: set[Path] = set()
        self._files: list[tuple[str, Path]] = []
        self._folders: list[tuple[str, Path]] = []

    def one_link_farther(self) -> None:
        """Look into all places and what is below them without a link, then at the links to files."""
        self._files, self._folders = [], []
        while self.places:
            name, place = self.places.pop()
            if place not in self._seen:
                self._seen.add(place)
                self._look_into(place, name)
        for name, file in sorted(self._files):
            self.found.setdefault(file, name)
        self.places = sorted(self._folders, reverse=True)  # the first is taken from the end

    def _look_into(self, place: Path, name: str) -> None:
        """Sort what a folder holds into files, folders, links to files and links to folders."""
        try:
            entries = list(os.scandir(place))
        except OSError:  # not ours to read
            return
        for entry in entries:
            below, path = name + entry.name, place / entry.name
            if entry.name.startswith("."):
                continue
            if entry.is_symlink():
                self._keep_link(below, path)
            elif entry.is_dir(follow_symlinks=False):
                self.places.append((below + "/", path))
            elif entry.is_file(follow_symlinks=False):
                self.found.setdefault(path, below)

    def _keep_link(self, name: str, link: Path) -> None:
        """Keep where a link leads, or that it is broken; nothing of one to a folder above."""
        try:
            target = link.resolve(strict=True)
        except (OSError, RuntimeError):  # a link to nothing, or to itself
            self.broken.append(name)
            return
        if target.is_file():
            self._files.append((name, target))
        elif target.is_dir() and not link.parent.is_relative_to(target) and not self.root.is_relative_to(target):
            self._folders.append((name + "/", target))
