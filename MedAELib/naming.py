"""What the name of a scan tells: which of some kinds it is (such as T1 or FLAIR), and what its files have in common."""

from __future__ import annotations

import re
from collections.abc import Sequence

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
IMAGES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")  # of one slice each


def told_kinds(name: str, kinds: Sequence[str]) -> list[str]:
    """The kinds of scan that a name tells, each as often as it stands there, from first to last.

    A text counts where it begins a word, or anywhere as it is written: "T1" is in brain_t1.nii and brainT1.nii, but not
    in patient12.nii. Where several begin at one letter the longest counts: "T1c" is no "T1".
    """
    places = _places(name, kinds)
    return [places[place] for place in sorted(places)]


def told_kind(name: str, kinds: Sequence[str]) -> str:
    """The kind of scan that a name tells: the last one of several; empty where it tells none."""
    return (told_kinds(name, kinds) or [""])[-1]


def without_kind(path: str, kinds: Sequence[str]) -> str:
    """A path without the text of its kind and its ending: the same for all files of a subject."""
    folder, slash, file = path.rpartition("/")
    file = file[: len(file) - len(ending(file))]
    places = _places(file, kinds)
    if places:
        last = max(places)
        file = file[:last] + file[last + len(places[last]) :]
    return folder + slash + file


def ending(file: str) -> str:
    """The ending of an image file, as it is written; nothing of a folder."""
    return next((file[-len(ending) :] for ending in (*ENDINGS, *IMAGES) if file.lower().endswith(ending)), "")


def _places(name: str, kinds: Sequence[str]) -> dict[int, str]:
    """Where a name tells which kind: the longest that begins at a letter."""
    found: dict[int, str] = {}
    for text in sorted(kinds, key=len):
        for match in re.finditer(f"(?<![A-Za-z0-9])(?i:{re.escape(text)})|{re.escape(text)}", name):
            found[match.start()] = text
    return found
