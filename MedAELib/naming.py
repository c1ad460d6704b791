"""What the name of a scan tells: which of some kinds it is (such as T1 or FLAIR), and what its files have in common."""

from __future__ import annotations

import re
from collections.abc import Sequence

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
IMAGES = (".png", ".tif", ".tiff", ".jpg", ".jpeg")  # of one slice each
_WEIGHTED = re.compile(r"[ _-]?w(?:i|eighted)?(?![A-Za-z0-9])", re.IGNORECASE)  # as in T1w, T1W, T1wi and T1-weighted
_BETWEEN = re.compile(r"(?:[ _-]?w(?:i|eighted)?)?[ _.+-]*", re.IGNORECASE)  # T2 and FLAIR, which is a T2 itself
# How a scan was made, not whom it shows: weightings, sequences, planes, contrast agents.
_MADE = (
    "w", "wi", "weighted", "mprage", "mp2rage", "mpr", "tse", "fse", "se", "gre", "ffe", "flash", "fl3d", "spgr",
    "fspgr", "bravo", "space", "spc", "cube", "vista", "tfe", "tirm", "stir", "ir", "ax", "axial", "tra", "transversal",
    "sag", "sagittal", "cor", "coronal", "pre", "post", "gd", "gad", "gado", "c", "ce", "contrast", "fs", "fatsat",
    "2d", "3d", "iso", "raw", "reg", "registered",
)  # fmt: skip


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


def person_told(path: str, kinds: Sequence[str], whole: bool = False) -> str:
    """What in a path tells whom it shows: its words but those that tell a kind, or else how the scan was made.

    Words of letters alone that follow the last word with a digit are no part of it, as in p0_T1_abc, unless the `whole`
    name shall count. Empty where no word is left, or the file tells no kind.
    """
    folder, _, file = path.rpartition("/")
    if not told_kinds(without_ending(file), kinds):
        return ""
    words = _words(without_ending(file), kinds)
    digits = [n for n, word in enumerate(words) if re.search("[0-9]", word)]
    if digits and not whole:
        words = words[: digits[-1] + 1]
    parts = [*("-".join(_words(part, kinds)) for part in folder.split("/")), "-".join(words)]
    return "/".join(filter(None, parts)).lower()


def without_kind_folders(path: str, kinds: Sequence[str]) -> str:
    """A path without the folders at its beginning that tell nothing but a kind, as T1/p0.nii is in."""
    *folders, file = path.split("/")
    while folders and told_kinds(folders[0], kinds) and not _words(folders[0], kinds):
        del folders[0]
    return "/".join([*folders, file])


def _words(text: str, kinds: Sequence[str]) -> list[str]:
    """The words of a text but those that a kind is in, and those that say how a scan was made."""
    words = filter(None, re.split("[^A-Za-z0-9]+", text))
    return [word for word in words if not _places(word, kinds) and word.lower() not in _MADE]


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
    """What is before and after the last kind that a name tells and its "weighted"; all and nothing without one.

    What FLAIR stands right behind belongs to it, as T2 in T2_FLAIR.
    """
    name = without_ending(name)
    places = _places(name, kinds)
    if not places:
        return name, ""
    first = last = max(places)
    after = name[last + len(places[last]) :]
    weighted = _WEIGHTED.match(after)
    for place in sorted(places, reverse=True)[1:] if "flair" in places[last].lower() else ():
        if not _BETWEEN.fullmatch(name[place + len(places[place]) : first]):
            break
        first = place
    return name[:first], after[weighted.end() :] if weighted else after


def _places(name: str, kinds: Sequence[str]) -> dict[int, str]:
    """Where a name tells which kind: the longest that begins at a letter."""
    found: dict[int, str] = {}
    for text in sorted(kinds, key=len):
        for match in re.finditer(f"(?<![A-Za-z0-9])(?i:{re.escape(text)})|{re.escape(text)}", name):
            found[match.start()] = text
    return found
