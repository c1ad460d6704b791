"""Pages of figures, made from the tables that a benchmark has kept."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def options_unless_page(
    parser: argparse.ArgumentParser, report: Callable[[list[dict[str, Any]]], str]
) -> argparse.Namespace | None:
    """The command's options; None where ``--report`` asks for no more than the page of kept tables, which is made."""
    parser.add_argument("--report", nargs="+", type=Path)
    parser.add_argument("--write", type=Path)
    chosen = parser.parse_args()
    if not chosen.report:
        return chosen
    text = report([json.loads(path.read_text()) for path in chosen.report])
    if chosen.write:
        chosen.write.write_text(text, encoding="utf-8")
    print(text)
    return None
