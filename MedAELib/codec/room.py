"""Arrays that are used again from step to step: fresh ones would lie outside the processor's cache."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

_COLUMNS = 128  # of a tile, as in `context.py`
_APART = 16  # columns more: rows that lie a power of two apart fall into the same places of a cache


class Room:
    """Arrays by name, made when they are first asked for and then kept; of one thread alone."""

    def __init__(self) -> None:
        self._kept: dict[str, npt.NDArray[Any]] = {}

    def rows(self, name: str, rows: int, columns: int, kind: type[np.generic] = np.float32) -> npt.NDArray[Any]:
        """Rows [rows, columns] that hold what was last written under this name, or zeros where nothing was."""
        kept = self._kept.get(name)
        if kept is None or kept.shape[1] < columns:
            wide = max(columns, 2 * kept.shape[1] if kept is not None else 0)
            kept = np.zeros((rows, -(-wide // _COLUMNS) * _COLUMNS + _APART), kind)
            self._kept[name] = kept
        return kept[:, :columns]
