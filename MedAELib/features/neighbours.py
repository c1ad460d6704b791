"""Similar cases: a table of features that is kept in a file, and the nearest rows of it."""

from __future__ import annotations

import csv
import io
import re
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..atomic import whole_file, write_text
from ..errors import BadInput, unwritable

KNOWN = ("case", "item", "r", "a", "s", "cells", "file", "model", "settings")  # the columns before the features
TABLES = (".csv", ".npz")
DISTANCES = ("standardised", "cosine")
# What the numbers of a row mean: 2 since the intensities of a slice or segment are those of its own voxels alone.
VERSIONS = {"volume": 1, "slice": 2, "segment": 2}
# The end of the settings: which modalities a model fused; slice 2 and segment 2 are two rows; version 1 is not told.
_END = re.compile(r"(?:, of (?P<of>[^,]*))?(?:, per (?P<per>slice|segment))?(?:, version (?P<version>\d+))?$")
_ROWS, _SPARE = 64, 32  # rows compared at once; nearest by a rough distance that are measured besides those wanted
_LEFT, _PATIENCE = 120.0, 300.0  # seconds: until a lock counts as left by a run that was killed; that a run waits


@dataclass(frozen=True, eq=False)
class Table:
    """Rows of features: `known` holds the texts of the columns `KNOWN`, row by row, `values` `[rows, features]`."""

    names: tuple[str, ...]
    known: tuple[tuple[str, ...], ...]
    values: npt.NDArray[np.float64]

    @staticmethod
    def of(rows: Sequence[Mapping[str, object]], names: Sequence[str]) -> Table:
        """From the rows of a report, as `tasks.run_features` makes them."""
        known = tuple(tuple(str(row[column]) for column in KNOWN) for row in rows)
        values = np.array([row["values"] for row in rows], np.float64).reshape(len(rows), len(names))
        return Table(tuple(names), known, values)

    def joined(self, more: Table, path: Path) -> Table:
        """With the rows of another table; those of the same case, item, model and settings are replaced, and of a
        case that is there anew all rows of the same kind that another version made.

        Raises BadInput when the two have other features, or a case of one name but of another file.
        """
        check_comparable(self, more, path)
        _check_cases(self, more, path)
        new = {(row[0], row[1], *row[7:]) for row in more.known} | {_as_before(row) for row in more.known}
        anew = {(row[0], Meaning.of(row).kind, bool(Meaning.of(row).modalities)) for row in more.known}
        stay = [
            n for n, row in enumerate(self.known)
            if not {(row[0], row[1], *row[7:]), row[:5] + row[7:]} & new
            and not _is_replaced(row[0], Meaning.of(row), anew)
        ]  # fmt: skip
        known = tuple(self.known[n] for n in stay) + more.known
        return Table(self.names, known, np.concatenate([self.values[stay], more.values]))

    def text(self) -> str:
        """As comma-separated values with a line of names; numbers in as few digits as give them back."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow([*KNOWN, *self.names])
        table.writerows([*row, *map(repr, values)] for row, values in zip(self.known, self.values.tolist()))
        return text.getvalue()


def check_comparable(index: Table, more: Table, path: Path) -> None:
    """Refuse two tables of which one's numbers mean something else than the other's."""
    models = {row[7] for row in index.known} | {row[7] for row in more.known}
    settings = {_END.sub("", row[8], count=1) for row in (*index.known, *more.known)}
    if index.names != more.names and len(models) == 1:
        raise BadInput(f"{path} holds other features, of another version of MedAE.", "Begin a new index.")
    if len(models) > 1:
        raise BadInput(f"{path} holds features of another model.", "Name another index, or the model that made it.")
    if len(settings) > 1:
        raise BadInput(f"{path} was made with other settings ({' and '.join(sorted(settings))}).", "Use the same.")


def _is_replaced(case: str, meaning: Meaning, anew: Set[tuple[str, str, bool]]) -> bool:
    """Whether rows that are `anew`, of a case, a kind, and said modalities or none, replace one that means something
    else, as another version of MedAE made it."""
    said = (case, meaning.kind, True) in anew
    return (said and not meaning.modalities) or (not meaning.current and (said or (case, meaning.kind, False) in anew))


def _as_before(row: tuple[str, ...]) -> tuple[str, ...]:
    """What names a row in files that do not say whether it is of a slice or a segment: there its middle tells it."""
    return (*row[:5], row[7], _END.sub("", row[8], count=1))


def settings_end(per: str, modalities: Sequence[str] = ()) -> str:
    """How the settings of rows that are made now end, in words; `modalities` that a model fused."""
    fused = " + ".join(name.replace(",", " ") for name in modalities)
    version = f", version {VERSIONS[per]}" if VERSIONS[per] > 1 else ""
    return (f", of {fused}" if fused else "") + (f", per {per}" if per != "volume" else "") + version


@dataclass(frozen=True)
class Meaning:
    """What a row is of: "volume", "slice" or "segment" (empty where it does not say which), its version, and the
    modalities that a model fused."""

    kind: str
    version: int
    modalities: str

    @staticmethod
    def of(row: tuple[str, ...]) -> Meaning:
        """That of a row, of which the columns `KNOWN` are given."""
        end = _END.search(row[8])
        assert end is not None  # it matches an empty end
        kind = end["per"] or ("volume" if row[1] == "volume" else "")
        return Meaning(kind, int(end["version"] or 1), end["of"] or "")

    @property
    def current(self) -> bool:
        """Whether the numbers mean what those of rows that are made now mean."""
        return VERSIONS.get(self.kind) == self.version


def _check_cases(index: Table, more: Table, path: Path) -> None:
    """Refuse a case whose name another file's case has: one would silently take the other's place."""
    files = {row[0]: row[6] for row in index.known if row[6]}
    for row in more.known:
        there = files.get(row[0], row[6])
        together = Meaning.of(row).modalities and Path(there).parent == Path(row[6]).parent  # files of one case
        if row[6] and there != row[6] and not together:
            raise BadInput(
                f"{path} already holds a case {row[0]} of another file, {there}.",
                "Give one of the files another name: cases are told apart by their names.",
            )


def read_table(path: Path) -> Table:
    """The table in a .csv or .npz file. Raises BadInput when it is none of ours, or holds what is not finite."""
    try:
        if path.suffix.lower() == ".npz":
            with np.load(path, allow_pickle=False) as file:
                names, known, values = file["names"].tolist(), file["known"].tolist(), file["values"]
        else:
            with path.open(newline="", encoding="utf-8") as text:
                lines = list(csv.reader(text))
            if tuple(lines[0][: len(KNOWN)]) != KNOWN:
                raise ValueError("other columns")
            names, known = lines[0][len(KNOWN) :], [line[: len(KNOWN)] for line in lines[1:]]
            values = np.array([line[len(KNOWN) :] for line in lines[1:]], np.float64)
        values = np.asarray(values, np.float64).reshape(len(known), len(names))
        table = Table(tuple(map(str, names)), tuple(tuple(map(str, row)) for row in known), values)
        if any(len(row) != len(KNOWN) for row in table.known) or not np.isfinite(values).all():
            raise ValueError("other columns")
    except (
        OSError, ValueError, KeyError, IndexError, TypeError, csv.Error, EOFError, zipfile.BadZipFile, zlib.error,
        NotImplementedError,
    ):  # fmt: skip
        raise BadInput(f"{path} is no table of features.", "Name a file that `features` has written.") from None
    return table


def write_table(path: Path, table: Table) -> None:
    """Write the table as .npz or else as .csv, wholly or not at all."""
    if path.suffix.lower() != ".npz":
        write_text(path, table.text())
        return
    with whole_file(path, ".npz") as temporary:
        known = np.array(table.known, dtype=str).reshape(-1, len(KNOWN))
        np.savez_compressed(temporary, names=np.array(table.names), known=known, values=table.values)


@contextmanager
def joining(path: Path, table: Table) -> Iterator[Table]:
    """The table in the file, as it is at this moment, with the rows of another; where all goes well it is written.

    Until then no other run reads it for that. Raises BadInput as `Table.joined`, or where another run does not end.
    """
    with _alone(path):
        joined = read_table(path).joined(table, path) if path.exists() else table
        yield joined
        write_table(path, joined)


def add_rows(path: Path, table: Table) -> None:
    """Add rows to the table in the file, or begin it. Raises as `joining`."""
    with joining(path, table):
        pass  # nothing else has to succeed first


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Let one run at a time change the file: a hidden file beside it stands for that."""
    lock, end = path.parent / f".{path.name}.medae-lock", time.monotonic() + _PATIENCE
    while not _taken(lock, path):
        if time.monotonic() > end:
            raise BadInput(f"{path} is being changed by another run.", f"Wait for it; if there is none, delete {lock}.")
        time.sleep(0.05)
    try:
        yield
    finally:
        with suppress(OSError):
            lock.unlink()


def _taken(lock: Path, path: Path) -> bool:
    """Make the file that stands for a run; False while that of another is there."""
    try:
        lock.open("xb").close()
        return True
    except FileExistsError:
        with suppress(OSError):
            if time.time() - lock.stat().st_mtime > _LEFT:
                lock.unlink()
        return False
    except OSError as error:
        raise unwritable(path, error) from None


def nearest(index: Table, values: npt.NDArray[np.float64], count: int, distance: str) -> list[tuple[int, float]]:
    """`nearest_of_each` of one row `[features]`."""
    return nearest_of_each(index, values[None], count, distance)[0]


def nearest_of_each(
    index: Table, values: npt.NDArray[np.float64], count: int, distance: str,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> list[list[tuple[int, float]]]:  # fmt: skip
    """For each row of `values` `[rows, features]` the rows of the index nearest to it, nearest first, with distances.

    "standardised": Euclidean, each feature in units of its deviation over the index, divided by the square root of
    their count (features that do not vary there are left out; with fewer than three rows none is scaled). "cosine": 1
    minus the cosine of the angle. Raises BadInput for another distance;
    `progress` may raise Cancelled.
    """
    if distance not in DISTANCES:
        raise BadInput(f"The distance {distance!r} is not known.", f"Known: {', '.join(DISTANCES)}.")
    known, varied = index.values, 1
    if distance == "cosine":
        known, values = _of_length_one(known), _of_length_one(values)
    else:
        spread = known.std(axis=0) if len(known) > 2 else np.ones(known.shape[1])
        varies = spread > 1e-9 * np.abs(known).max(axis=0, initial=0)
        middle = known[:, varies].mean(axis=0) if len(known) else 0.0
        known, values = ((rows[:, varies] - middle) / spread[varies] for rows in (known, values))
        varied = max(int(varies.sum()), 1)
    lengths, found = np.square(known).sum(axis=1), []
    for first in range(0, len(values), _ROWS):
        progress(first, len(values))
        rows = values[first : first + _ROWS]
        rough = lengths - 2 * rows @ known.T  # how near, but for what is the same for all, and for rounding
        for row, far in zip(rows, rough, strict=True):
            some = _least(far, count + _SPARE)
            exact = np.square(known[some] - row).sum(axis=1)
            exact = exact / 2 if distance == "cosine" else np.sqrt(exact / varied)
            order = np.argsort(exact, kind="stable")[:count]
            found.append([(int(some[n]), float(f"{exact[n]:.6g}")) for n in order])
    progress(len(values), len(values))
    return found


def _of_length_one(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Rows `[n, features]` divided by their lengths: half the square of their distance is 1 minus the cosine."""
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-30))


def _least(far: npt.NDArray[np.float64], count: int) -> npt.NDArray[np.int64]:
    """Where the least of so many numbers are, in the order they lie in."""
    return np.arange(len(far)) if count >= len(far) else np.sort(np.argpartition(far, count)[:count])
