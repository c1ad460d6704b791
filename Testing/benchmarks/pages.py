"""Pages of figures, made from the tables that a benchmark has kept."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any


def make_page(report: Callable[[list[dict[str, Any]]], str], tables: Sequence[Path], page: Path | None) -> None:
    """Print the report on kept tables, and write it where a page is named."""
    text = report([json.loads(path.read_text()) for path in tables])
    if page:
        page.write_text(text, encoding="utf-8")
    print(text)
