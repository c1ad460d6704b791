"""The map that is shown first: one score or two together, as won on anomalies drawn into tuning scans."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..errors import BadModel
from .grid import Floats

COMBINED = "combined"
RULES = ("sum", "max")
_WIDEST = 8.0  # cells of the grid


@dataclass(frozen=True)
class Shown:
    """How the first map is made: the z of `parts`, added up or the largest of them, of answers smoothed so.

    `smoothing` is the Gaussian over the network's answers in cells of the grid (0: none), `mirrored` whether the
    network is asked about the mirror image, too.
    """

    parts: tuple[str, ...] = ("unlike",)
    rule: str = "sum"
    smoothing: float = 0.0
    mirrored: bool = False

    @property
    def name(self) -> str:
        """The name of the map: that of its only part, or "combined"."""
        return self.parts[0] if len(self.parts) == 1 else COMBINED

    def together(self, maps: Mapping[str, Floats]) -> Floats:
        """One score from the maps of z of the parts, by name."""
        parts = [maps[name] for name in self.parts]
        return np.asarray(np.sum(parts, axis=0) if self.rule == "sum" else np.max(parts, axis=0), np.float32)

    def in_words(self) -> str:
        """What it is, for a card or a note."""
        if len(self.parts) == 1:
            return f"the map {self.parts[0]}"
        joined = f"{', '.join(self.parts[:-1])} and {self.parts[-1]}"
        return f"the sum of the z of {joined}" if self.rule == "sum" else f"the largest z of {joined}"

    def to_json(self) -> dict[str, Any]:
        """Plain values for a model folder."""
        return {**asdict(self), "parts": list(self.parts)}


def shown_of(known: Mapping[str, Any]) -> Shown:
    """As the calibration of a model folder gives it; the log-odds alone where it gives none.

    Raises BadModel when it is malformed.
    """
    found = known.get("shown")
    if found is None:
        return Shown()
    maps = known.get("maps")
    names = list(maps) if isinstance(maps, dict) else []
    if isinstance(found, dict) and set(found) == {"parts", "rule", "smoothing", "mirrored"}:
        parts, rule, width, mirrored = (found[name] for name in ("parts", "rule", "smoothing", "mirrored"))
        fits = isinstance(parts, list) and parts and all(isinstance(part, str) and part in names for part in parts)
        is_width = type(width) in (int, float) and math.isfinite(width) and 0 <= width <= _WIDEST
        if fits and is_width and rule in RULES and type(mirrored) is bool:
            made = Shown(tuple(parts), rule, float(width), mirrored)
            if made.name in names:
                return made
    raise BadModel("The model does not say which map to show.", "Get the model again.")
