"""Which part of the body a scan shows: its coarse anatomy beside that of every normal scan."""

from __future__ import annotations

import math
from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadModel

ANATOMIES = "anatomies"
_STORED = np.dtype("<f2")
_MOST = 50  # scans: more tell little more
_MARGIN = 0.05  # of correlation, below what normal scans have among themselves
_PARTS = {"coarse", "cells", "lowest"}


@dataclass(frozen=True, eq=False)
class Anatomies:
    """The coarse anatomy of normal scans `[n, cells]`, and the lowest correlation of one with the most similar other.

    Scans of one kind need not be alike, as some end at the chin and some at the chest: one that is alike is enough.
    """

    coarse: npt.NDArray[np.float32]
    lowest: float

    @staticmethod
    def of(coarse: Sequence[npt.NDArray[Any]]) -> Anatomies | None:
        """From the coarse anatomies of normal scans, lists of as many cells; None of fewer than three."""
        kept = np.stack(coarse)[:_MOST].astype(_STORED).astype(np.float32) if len(coarse) > 2 else None
        if kept is None or not (kept.std(axis=1) > 0).all():
            return None
        alike = np.atleast_2d(np.corrcoef(kept))
        np.fill_diagonal(alike, -1)
        return Anatomies(kept, float(f"{alike.max(axis=1).min():.4g}"))

    def knows(self, coarse: npt.NDArray[Any]) -> bool:
        """Whether a scan of this coarse anatomy is about as like one of the normal scans as they are among them."""
        if coarse.size != self.coarse.shape[1] or not coarse.std() > 0:
            return False
        alike = max(float(np.corrcoef(coarse.ravel(), normal)[0, 1]) for normal in self.coarse)
        return alike >= self.lowest - _MARGIN

    def to_json(self) -> dict[str, Any]:
        """For a model folder: half-precision numbers, scan by scan, as a base64 text."""
        text = b64encode(self.coarse.astype(_STORED).tobytes()).decode()
        return {"coarse": text, "cells": self.coarse.shape[1], "lowest": self.lowest}


def anatomies_of(known: Mapping[str, Any]) -> Anatomies | None:
    """As the calibration of a model folder gives it; None where it gives none. Raises BadModel when malformed."""
    found = known.get(ANATOMIES)
    if found is None:
        return None
    if isinstance(found, dict) and set(found) == _PARTS:
        cells, lowest = found["cells"], found["lowest"]
        whole = type(cells) is int and cells > 0
        if whole and type(lowest) in (int, float) and math.isfinite(lowest):
            coarse = _numbers(found["coarse"])
            if coarse is not None and coarse.size and coarse.size % cells == 0:
                return Anatomies(coarse.reshape(-1, cells), float(lowest))
    raise BadModel("The model does not say which part of the body it knows.", "Get the model again.")


def _numbers(text: Any) -> npt.NDArray[np.float32] | None:
    """The numbers of a text; None unless they are finite."""
    try:
        numbers = np.frombuffer(b64decode(text, validate=True), _STORED).astype(np.float32)
    except (TypeError, ValueError):
        return None
    return numbers if np.isfinite(numbers).all() else None
