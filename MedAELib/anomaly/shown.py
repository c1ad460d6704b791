"""The map that is shown first: one score or several together, as won on anomalies drawn into tuning scans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..errors import BadModel
from .grid import Floats

COMBINED = "combined"
TOGETHER = "together"  # the parts without what stands beside them: its calibration alone is needed
RULES = ("sum", "max")
_WIDEST = 8.0  # cells of the grid
_HANDICAP = 1.0  # z


@dataclass(frozen=True)
class Shown:
    """How the first map is made: the z of `parts`, added up or the largest of them, of answers smoothed so.

    `besides` are maps that tell what the parts do not: their z, less 1, counts where it is larger than that of the
    parts. Without this handicap, chosen on a tuning scan, their false alarms would cover fainter findings of the parts.
    `smoothing` is the Gaussian over the network's answers in cells of the grid (0: none), `mirrored` whether the
    network is asked about the mirror image, too.
    """

    parts: tuple[str, ...] = ("unlike",)
    rule: str = "sum"
    smoothing: float = 0.0
    mirrored: bool = False
    besides: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The name of the map: that of its only part, or "combined"."""
        return self.parts[0] if len(self.parts) == 1 and not self.besides else COMBINED

    def together(self, maps: Mapping[str, Floats]) -> Floats:
        """One score from the maps of z of the parts, by name."""
        parts = [maps[name] for name in self.parts]
        return np.asarray(np.sum(parts, axis=0) if self.rule == "sum" else np.max(parts, axis=0), np.float32)

    def with_besides(self, score: Floats, maps: Mapping[str, Floats]) -> Floats:
        """The z of the parts together, or that of what stands beside them where it is plainer; `maps` are z by name."""
        return np.asarray(np.maximum.reduce([score, *(maps[name] - np.float32(_HANDICAP) for name in self.besides)]))

    @property
    def needed(self) -> set[str]:
        """The names of the calibrations that it needs."""
        together = {TOGETHER} if self.besides and len(self.parts) > 1 else set()
        return {self.name, *self.parts, *self.besides, *together}

    def in_words(self) -> str:
        """What it is, for a card or a note."""
        if len(self.parts) == 1:
            told = f"the {'z of' if self.besides else 'map'} {self.parts[0]}"
        else:
            told = f"the {'sum of the' if self.rule == 'sum' else 'largest'} z of {_and(self.parts)}"
        return f"{told}, or that of {_and(self.besides)}, less 1, where it is larger" if self.besides else told

    def to_json(self) -> dict[str, Any]:
        """Plain values for a model folder."""
        more = {"besides": list(self.besides)} if self.besides else {}
        return {
            "parts": list(self.parts),
            "rule": self.rule,
            "smoothing": self.smoothing,
            "mirrored": self.mirrored,
            **more,
        }


def shown_of(known: Mapping[str, Any]) -> Shown:
    """As the calibration of a model folder gives it; the log-odds alone where it gives none.

    Raises BadModel when it is malformed.
    """
    found = known.get("shown")
    if found is None:
        return Shown()
    maps = known.get("maps")
    names = list(maps) if isinstance(maps, dict) else []
    if isinstance(found, dict) and set(found) - {"besides"} == {"parts", "rule", "smoothing", "mirrored"}:
        parts, rule, width, mirrored = (found[name] for name in ("parts", "rule", "smoothing", "mirrored"))
        besides = found.get("besides", [])
        lists = isinstance(parts, list) and isinstance(besides, list) and parts
        fits = lists and all(isinstance(part, str) and part in names for part in (*parts, *besides))
        is_width = type(width) in (int, float) and math.isfinite(width) and 0 <= width <= _WIDEST
        if fits and is_width and rule in RULES and type(mirrored) is bool:
            made = Shown(tuple(parts), rule, float(width), mirrored, tuple(besides))
            if made.needed <= set(names):
                return made
    raise BadModel("The model does not say which map to show.", "Get the model again.")


def _and(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), names[-1]])
