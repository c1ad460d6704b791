"""What all commands share: progress on a terminal, tables as text, and a look at the paths before any work."""

from __future__ import annotations

import csv
import io
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .errors import BadInput


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """A table as comma-separated values, with a line of names."""
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]) if rows else [], lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


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
        print(f"\r{stage}: {100 * done // max(total, 1)} %, {left:.0f} s left   ", end="", file=sys.stderr, flush=True)
        if done >= total:
            print("\r" + " " * 60 + "\r", end="", file=sys.stderr, flush=True)
