"""What all commands share: progress on a terminal, tables as text, and a look at the paths before any work."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from .atomic import check_folder_takes
from .errors import BadInput, unwritable
from .plain import plain_text
from .remarks import remarks

_WIDTH = 79  # columns that a progress may fill


def table_text(rows: Sequence[Mapping[str, Any]], names: Sequence[str] = ()) -> str:
    """A table as comma-separated values, with a line of names: those of the first row, or the given ones."""
    text = io.StringIO()
    table = csv.DictWriter(text, names or (list(rows[0]) if rows else []), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def named_path(text: str) -> Path:
    """A path on the command line; an empty one, which would mean the current folder, is a variable that is not set."""
    if not text.strip():
        raise argparse.ArgumentTypeError("the path is empty; name a file or a folder")
    return Path(text)


def ending(wanted: str) -> Callable[[str], Path]:
    """The type of a path on the command line that must end so: a table that is called .xlsx would open nowhere."""

    def named(text: str) -> Path:
        path = named_path(text)
        if path.suffix.lower() != wanted:
            raise argparse.ArgumentTypeError(f"{text} does not end in {wanted}")
        return path

    return named


def check_paths(inputs: Sequence[Path], volumes: Sequence[Path | None], texts: Sequence[Path | None]) -> None:
    """Refuse, before any work, an output that would fail or that would destroy an input."""
    outputs = [*volumes, *texts]
    for output in filter(None, outputs):
        if output.is_dir():
            raise BadInput(f"{output} is a folder.", "Name a file.")
        if not output.parent.is_dir():
            raise BadInput(f"{output} cannot be written: its folder does not exist.", "Make the folder first.")
        if any(output.exists() and path.exists() and output.samefile(path) for path in inputs):
            raise BadInput(f"{output} is the input itself.", "Name another file for the result.")
    named = [output.resolve() for output in outputs if output is not None]
    if len(set(named)) < len(named):
        raise BadInput("Two results would be written to the same file.", "Name different files.")
    from .files import check_writable

    for output in filter(None, volumes):
        check_writable(output)
    for output in filter(None, outputs):
        check_folder_takes(output)


@contextmanager
def results_folder(folder: Path | None) -> Iterator[None]:
    """See that the folder for results is there: a missing one is made, and is gone again after a failure or a cancel.

    Raises BadInput where the folder that it lies in is missing. Without a folder this does nothing.
    """
    if folder is None or folder.is_dir():
        yield
        return
    if folder.exists():
        raise BadInput(f"{folder} is not a folder.", "Name a folder.")
    if not folder.parent.is_dir():
        raise BadInput(f"{folder} cannot be made: the folder around it does not exist.", "Make that folder first.")
    try:
        folder.mkdir()
    except OSError as error:
        raise unwritable(folder, error) from None
    try:
        yield
    except BaseException:
        with suppress(OSError):  # results that were finished before stay in it
            folder.rmdir()
        raise


def add_paths(parser: argparse.ArgumentParser, output: str = "the file to write", name: str = "OUT") -> None:
    """A command's IN, one scan, and its OUT, which `output` describes: an image file, or what its `name` says."""
    endings = ": .nii.gz, .nii, .nrrd or .mha" if name == "OUT" else ""
    parser.add_argument("input", metavar="IN", type=Path, help="an image file, or a folder of DICOM files")
    parser.add_argument("output", metavar=name, type=Path, help=output + endings)


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """The options of every command that sends a volume through a network."""
    parser.add_argument("--series", help="UID or description of the DICOM series; default: the largest")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--precision", default="auto", help="auto (default), float32, bfloat16 or float16")
    parser.add_argument(
        "--tile", type=int, default=0, metavar="VOXELS", help="edge of a tile; default: from the free memory"
    )
    parser.add_argument("--report", type=ending(".json"), metavar="FILE.json", help="also write a report")


def run_parameters(options: argparse.Namespace) -> dict[str, Any]:
    """What these options ask of the task."""
    return {name: getattr(options, name) for name in ("model", "device", "precision", "tile")}


def tell_note(sentence: str) -> None:
    """One thing that a user should hear besides a result."""
    print(f"medae: note: {plain_text(sentence)}", file=sys.stderr)


def tell(report: Mapping[str, Any]) -> None:
    """What a user should hear of a run besides its result, a line each."""
    for remark in remarks(report):
        tell_note(remark)


def report_file(report: Mapping[str, Any], options: argparse.Namespace) -> dict[Path, str]:
    """The report as JSON, with the files that were read and written, by its path; nothing where none is wanted."""
    if options.report is None:
        return {}
    files = {"input_file": str(options.input), "output_file": str(options.output)}
    return {options.report: json.dumps({**report, **files}, indent=2, allow_nan=False) + "\n"}


def clear_line() -> None:
    """Take away what a progress has left on the terminal's last line, before something else is told there."""
    if sys.stderr.isatty():
        print("\r" + " " * _WIDTH + "\r", end="", file=sys.stderr, flush=True)


class Terminal:
    """Progress on a terminal's last line, a few times a second; silent where there is no terminal."""

    def __init__(self) -> None:
        self.shown, self.started, self.stage = 0.0, time.monotonic(), ""

    def __call__(self, stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        if stage != self.stage:
            self.stage, self.started = stage, now
        if not sys.stderr.isatty() or (now - self.shown < 0.2 and done < total):
            return
        self.shown = now
        left = (now - self.started) * (total - done) / done if done else 0.0
        told = f"{stage}: {100 * done // max(total, 1)} %, {left:.0f} s left"
        print(f"\r{told[:_WIDTH]:{_WIDTH}}", end="", file=sys.stderr, flush=True)
        if done >= total:
            clear_line()
