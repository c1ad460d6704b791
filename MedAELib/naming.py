"""What the name of a scan tells: which of some kinds it is (such as T1 or FLAIR), and what its files have in common."""

from __future__ import annotations

import re
from collections.abc import Sequence

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
IMAGES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")  # of one slice each
_WEIGHTED = re.compile(r"[ _-]?w(?:i|eighted)?(?![A-Za-z0-9])", re.IGNORECASE)  # as in T1w, T1W, T1wi and T1-weighted
_JOINED_ON = re.compile(r"(?:[23]D)?(?:[A-Z][A-Z0-9]*)?", re.IGNORECASE)  # to a kind, as in T1post and FLAIR3D


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
    """A path without the text of its kind, whether "w" or "weighted" follows, and its ending: alike for a subject."""
    folder, slash, file = path.rpartition("/")
    before, after = _around(file, kinds)
    return folder + slash + before + after


def people_told(path: str, kinds: Sequence[str]) -> tuple[str, str]:
    """What in a path may tell whom it shows: what is before its kind; and all but the whole word that tells its kind.

    Folders count without their kinds. A text without letters and digits is empty, as is all where no kind is told.
    """
    folder, slash, file = path.rpartition("/")
    before, after = _around(file, kinds)
    if before + after == without_ending(file):
        return "", ""
    place = "/".join("".join(_around(part, kinds)) for part in folder.split("/")) + slash
    joined_on = _JOINED_ON.match(after)
    whole = before + after[joined_on.end() if joined_on else 0 :]
    first, second = (place + text if re.search("[A-Za-z0-9]", place + text) else "" for text in (before, whole))
    return first, second


def without_ending(file: str) -> str:
    """The name of an image file without its ending."""
    return file[: len(file) - len(ending(file))]


def ending(file: str) -> str:
    """The ending of an image file, as it is written; nothing of a folder."""
    return next((file[-len(ending) :] for ending in (*ENDINGS, *IMAGES) if file.lower().endswith(ending)), "")


def is_text(path: str) -> bool:
    """Whether a path is text: one with other bytes in it ends the process in SimpleITK."""
    return not any(0xD800 <= ord(letter) <= 0xDFFF for letter in path)


def _around(name: str, kinds: Sequence[str]) -> tuple[str, str]:
    """What is before and after the last kind that a name tells and its "weighted"; all and nothing without one."""
    name = without_ending(name)
    places = _places(name, kinds)
    if not places:
        return name, ""
    last = max(places)
    after = name[last + len(places[last]) :]
    weighted = _WEIGHTED.match(after)
    return name[:last], after[weighted.end() :] if weighted else after


def _places(name: str, kinds: Sequence[str]) -> dict[int, str]:
    """Where a name tells which kind: the longest that begins at a letter."""
    found: dict[int, str] = {}
    for text in sorted(kinds, key=len):
        for match in re.finditer(f"(?<![A-Za-z0-9])(?i:{re.escape(text)})|{re.escape(text)}", name):
            found[match.start()] = text
    return found
