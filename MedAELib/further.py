"""Further scans on the command line, for models that fuse several: `--with KIND=FILE`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from .dicom import count_series
from .errors import BadInput
from .volume import Volume

_SERIES = "0020|000e"  # DICOM's name for a series


def further_scans(named: Sequence[str]) -> dict[str, Path]:
    """The files of further scans by their kinds, from texts KIND=FILE. Raises BadInput."""
    found: dict[str, Path] = {}
    for text in named:
        name, equals, path = text.partition("=")
        if not equals or not name or not path or name in found:
            raise BadInput(f"'{text}' is not of the form KIND=FILE, or names a kind twice.", "As in: --with T2=t2.nii")
        found[name] = Path(path)
    return found


def load_further(others: Mapping[str, Path], source: Path, volume: Volume) -> dict[str, Volume]:
    """The further scans, by what a run calls them; of a DICOM folder with several series the one that its kind names.

    `volume` is what was read from `source`. Raises BadInput, also where one scan would be taken as two kinds.
    """
    there, scans = [(source, volume)], {}
    for number, (kind, path) in enumerate(others.items()):
        scan = load_as(path, kind)
        if any(_are_one(path, scan, *other) for other in there):
            raise BadInput(f"{path} is named as {kind} and as another scan.", "Name one scan for each kind.")
        there.append((path, scan))
        scans[f"with_{number}"] = scan
    return scans


def load_as(path: Path, kind: str, series: str | None = None) -> Volume:
    """The scan in a file or folder: of a folder with several series, unless one is named, the one that its kind names.

    Raises BadInput.
    """
    if series is not None or not kind or not path.is_dir() or count_series(path) < 2:
        return Volume.load(path, series)
    try:
        return Volume.load(path, kind)
    except BadInput as error:
        raise BadInput(f"{error}", "Put the series into folders of their own.") from None


def _are_one(path: Path, scan: Volume, other: Path, known: Volume) -> bool:
    """Whether two scans were read from the same file, or are one series of a folder."""
    series, same = (one.meta.get("header", {}).get(_SERIES) for one in (scan, known)), path.resolve() == other.resolve()
    first, second = series
    return same and (first == second or not path.is_dir())
