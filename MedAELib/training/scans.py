"""What scans a folder holds: files of volumes and DICOM series at any depth, or else pictures."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from MedAELib.dicom_folder import FoundSeries, may_be_dicom, series_among
from MedAELib.errors import BadInput
from MedAELib.naming import ENDINGS, IMAGES
from MedAELib.training.below import files_below
from MedAELib.training.label_maps import check_scan
from MedAELib.volume import Volume

Note = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class Scan:
    """A scan of a folder by its name there: a file, or a DICOM series, called as its folder.

    Where a folder has several series each is called by its description too; `beside` is then the folder.
    """

    name: str
    path: Path
    series: FoundSeries | None = None
    beside: str = ""

    @property
    def short(self) -> str:
        """The last part of its name."""
        return self.name.rpartition("/")[2]

    @property
    def places(self) -> list[str]:
        """The names that tell whom it shows: its own, or of a series all folders that hold some of it."""
        if self.series is None:
            return [self.name]
        below = sorted({folder for folder in self.series.folders if folder != "."})
        return below or ([] if self.patient else ["."])

    @property
    def patient(self) -> str:
        """The patient's number in DICOM, for comparing in memory only; empty where there is none."""
        return self.series.first.patient if self.series else ""


def scans_in(folder: Path, note: Note) -> list[Scan]:
    """The scans below a folder by name, without hidden ones; pictures only where there is nothing else, as pictures
    beside volumes are no scans. Series of DICOM that are no scans, and links to nothing, are noted."""
    files = files_below(folder, lambda name: note(f"{name} is left out: it is a link to what is not there."))
    found = [Scan(name, path) for name, path in files if name.lower().endswith(ENDINGS)]
    series = _dicom(folder, files, {scan.name for scan in found}, note)
    pictures = [Scan(name, path) for name, path in files if name.lower().endswith(IMAGES)]
    return sorted([*found, *series] or pictures, key=lambda scan: scan.name)


def holds_scans(folder: Path) -> bool:
    """Whether there is anything below the folder that may be a scan."""
    return any(name.lower().endswith((*ENDINGS, *IMAGES)) or may_be_dicom(path) for name, path in files_below(folder))


def told_formats() -> str:
    """What a folder of scans may hold, in words."""
    return f"{', '.join(ENDINGS)} and DICOM files, or else images ({', '.join(IMAGES)})"


def load_scan(scan: Scan) -> Volume:
    """The volume of a scan. Raises BadInput, also for a colour image, and LabelMap."""
    picture = scan.path.name.lower().endswith(IMAGES)
    volume = scan.series.load(scan.path) if scan.series else Volume.load(scan.path)
    if picture and volume.channels > 1:
        raise BadInput("it is a colour image; save it with grey values.")
    check_scan(volume, scan.name, picture)
    return volume


def _dicom(folder: Path, files: Sequence[tuple[str, Path]], taken: set[str], note: Note) -> list[Scan]:
    """The DICOM series among the files as scans; series that are none are noted.

    Of a folder of which nothing can be read one file stands for all: it tells why when it is loaded. It is called as
    the folder, unless there are series below it.
    """
    others = [one for one in files if not one[0].lower().endswith((*ENDINGS, *IMAGES))]
    series, silent = series_among((name, path) for name, path in others if may_be_dicom(path))
    by_place: dict[str, list[FoundSeries]] = {}
    left_out: dict[str, list[FoundSeries]] = {}
    for one in series:
        (left_out if one.no_scan() else by_place).setdefault(one.place, []).append(one)
    scans = []
    for place in sorted(by_place):
        scans += _named(place, by_place[place], folder / place, taken)
    for place in sorted(left_out):
        for scan in _named(place, left_out[place], folder / place, taken, alone=place not in by_place):
            note(f"{scan.name} is left out: {scan.series.no_scan() if scan.series else ''}")
    return scans + [Scan(_called(name, series), folder / name) for name in silent]


def _named(place: str, series: list[FoundSeries], path: Path, taken: set[str], alone: bool = True) -> list[Scan]:
    """The series of a folder as scans, called by the folder, or where it has several by what they are too."""
    if len(series) == 1 and alone:
        taken.add(place)
        return [Scan(place, path, series[0])]
    told = [_described(one) for one in series]
    scans, before = [], "" if place == "." else f"{place}/"
    for one in sorted(series, key=_order):
        text = _described(one)
        name, number = before + text, 0
        while name in taken or (not number and told.count(text) > 1):
            number += 1
            name = f"{before}{text} {number}"
        taken.add(name)
        scans.append(Scan(name, path, one, beside="" if place == "." else place))
    return scans


def _called(file: str, series: Sequence[FoundSeries]) -> str:
    """What a file is called that stands for its folder: as the folder, or as itself where series lie below that."""
    place = PurePosixPath(file).parent
    holds = any(place in (below, *below.parents) for one in series for below in map(PurePosixPath, one.folders))
    return file if holds else str(place)


def _order(series: FoundSeries) -> tuple[float, str, str]:
    """Where a series comes among those of its folder: by the scanner's number, where it has one."""
    number = series.first.series_number
    return number if math.isfinite(number) else math.inf, series.first.series, min(series.slices).as_posix()


def _described(series: FoundSeries) -> str:
    """What the scanner calls a series, as a part of a path; "series" where it says nothing."""
    return re.sub(r"[^\w.+-]+", " ", series.first.described).strip(" .") or "series"
