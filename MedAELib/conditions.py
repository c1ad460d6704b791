"""What a conditional network is told of a scan: its spacing, fields of its header, columns of a table."""

from __future__ import annotations

import csv
import math
from collections.abc import Mapping, Sequence
from pathlib import Path

from .errors import BadInput
from .volume import Volume

SPACING = "spacing"
Table = Mapping[str, Mapping[str, float]]  # the name of a volume -> the name of a column -> a number


def condition(volume: Volume, fields: Sequence[str], row: Mapping[str, float] | None = None) -> list[float]:
    """The numbers that the fields stand for; not a number where nothing is known.

    "spacing" stands for three, the logarithms of the millimetres along i, j, k; any other field for the value of this
    name in `row`, else in the volume's header (such as "0018|0060", the peak voltage of a CT).
    """
    numbers: list[float] = []
    header = dict(volume.meta.get("header", {}))
    for field in fields:
        if field == SPACING:
            numbers += [math.log(millimetres) for millimetres in volume.spacing]
        else:
            numbers.append(_number((row or {}).get(field, header.get(field))))
    return numbers


def read_table(path: Path) -> dict[str, dict[str, float]]:
    """A CSV file with a line of names: the first column names volumes (their files), the others hold numbers.

    Raises BadInput when it cannot be read as such.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.reader(file))
    except (OSError, UnicodeDecodeError, csv.Error):
        raise BadInput(f"{path} cannot be read as a table.", "Name a CSV file.") from None
    if len(rows) < 2 or len(rows[0]) < 2:
        raise BadInput(f"{path} is no table with a line of names, a column of files and one of numbers.")
    names = rows[0][1:]
    return {row[0]: dict(zip(names, map(_number, row[1:]), strict=False)) for row in rows[1:] if row}


def _number(value: object) -> float:
    """A finite number, else not a number."""
    try:
        number = float(str(value).strip())
    except ValueError:
        return math.nan
    return number if math.isfinite(number) else math.nan
