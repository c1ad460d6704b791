"""All series among files that may be DICOM: what each is, where it lies, and whether it can be a scan."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .dicom import image_head
from .dicom_slices import Slice, read_slice, stacked
from .errors import BadInput
from .files import load_series
from .quiet import quiet
from .volume import Volume

ENDINGS = (".dcm", ".dicom", ".ima")
_MARK_AT, _MARK = 128, b"DICM"
_LIST = "DICOMDIR"  # names the files of a disc, and is no image
# Images in their form, but drawn or calculated upon others.
_NO_SCANS = {"SEG": "segments", "RTDOSE": "a dose", "RTIMAGE": "an image of a treatment", "SR": "a report"}


@dataclass(frozen=True, eq=False)
class FoundSeries:
    """A series of one patient: its slices, by the folder that each lies in, and the slices that are damaged.

    Folders are paths relative to where was looked, "." for that place itself. `place` is the deepest folder that more
    than half of the files lie in or below.
    """

    slices: Mapping[Path, Slice]
    folders: Sequence[str]
    damaged: Sequence[Path] = field(default=())

    @property
    def first(self) -> Slice:
        """Any of its slices."""
        return next(iter(self.slices.values()))

    @property
    def place(self) -> str:
        """The folder that it belongs to."""
        held: dict[PurePosixPath, int] = {}
        for folder in map(PurePosixPath, self.folders):
            for above in (folder, *folder.parents):
                held[above] = held.get(above, 0) + 1
        most = [folder for folder, count in held.items() if 2 * count > len(self.folders)]
        return str(max(most, key=lambda folder: len(folder.parts)))

    def no_scan(self) -> str:
        """Why it cannot be a scan, as far as its headers tell; empty where it can."""
        if all(one.localizer for one in self.slices.values()):
            return "it is a localizer, which only shows where other scans lie."
        if self.first.modality in _NO_SCANS:
            return f"it holds {_NO_SCANS[self.first.modality]}, no scan."
        if self.first.components > 1:
            return "it is a colour image; save it with grey values."
        return ""

    def load(self, folder: Path) -> Volume:
        """The volume, called as the folder that it belongs to. Raises BadInput, OutOfMemory."""
        if self.damaged:
            raise BadInput(
                f"{self.damaged[0]} is damaged or truncated.", "Copy it again, or take it out of the folder."
            )
        return load_series(stacked(list(self.slices.values()), folder), folder, folder.resolve().name or "scan")


def may_be_dicom(path: Path) -> bool:
    """Whether a file's ending tells DICOM, or tells nothing and the file begins as DICOM does."""
    if path.name.lower().endswith(ENDINGS):
        return True
    tells = path.suffix[1:] and not path.suffix[1:].isdigit()  # a UID as a name ends with a number
    if tells or path.name.upper() == _LIST:
        return False
    try:
        with path.open("rb") as opened:
            return opened.read(_MARK_AT + len(_MARK))[_MARK_AT:] == _MARK
    except OSError:
        return False


def series_among(files: Iterable[tuple[str, Path]]) -> tuple[list[FoundSeries], list[str]]:
    """Every series of images among files that may be DICOM, each given with its name relative to a folder.

    A series that lies in several folders is one; the same number given to two patients are two. The second are names of
    damaged images and .dcm files that belong to none, one for each folder of which nothing can be read.
    """
    found: dict[tuple[str, ...], dict[str, tuple[Path, Slice]]] = {}
    unread: list[tuple[str, Path]] = []
    with quiet():
        for name, path in files:
            try:
                one = read_slice(str(path))
            except BadInput:
                unread.append((name, path))
                continue
            key = (one.series, one.study, one.patient) if one.series else (_folder(name),)
            found.setdefault(key, {})[name] = path, one
    damaged, silent = _damaged(unread, [key[0] for key in found])
    series = [
        FoundSeries(dict(members.values()), [*map(_folder, members)], [path for uid, path in damaged if uid == key[0]])
        for key, members in found.items()
    ]
    read = {folder for one in series for folder in one.folders}
    return series, sorted(name for folder, name in silent.items() if folder not in read)


def _damaged(unread: Sequence[tuple[str, Path]], uids: Sequence[str]) -> tuple[list[tuple[str, Path]], dict[str, str]]:
    """Files that seem to be slices of these series, each with the series' UID; the first other one of each folder."""
    damaged, silent = [], dict[str, str]()
    for name, path in unread:
        head = image_head(path)
        known = [(uid, path) for uid in uids if head and uid.encode(errors="ignore") in head]
        damaged += known
        if not known and (head or path.name.lower().endswith(ENDINGS)):
            silent.setdefault(_folder(name), name)
    return damaged, silent


def _folder(name: str) -> str:
    """The folder of a relative path, "." where it has none."""
    return str(PurePosixPath(name).parent)
