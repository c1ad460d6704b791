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
_LATER = {"besides", "handicap", "agreement"}  # what folders of earlier versions do not tell
_WIDEST = 8.0  # cells of the grid
_HIGHEST = 5.0  # z, of a handicap


@dataclass(frozen=True)
class Shown:
    """How the first map is made: the z of `parts`, added up or the largest of them, of answers smoothed so.

    `besides` are maps that tell what the parts do not: their z, less the `handicap`, counts where it is larger than
    that of the parts; the larger it is, the less their false alarms cover fainter findings of the parts.
    `smoothing` is the Gaussian over the network's answers in cells of the grid (0: none), `mirrored` whether the
    network is asked about the mirror image, too. `agreement` is a Gaussian over what is made of several maps, in cells
    (0: none): a place counts for more where its surroundings agree.
    """

    parts: tuple[str, ...] = ("unlike",)
    rule: str = "sum"
    smoothing: float = 0.0
    mirrored: bool = False
    besides: tuple[str, ...] = ()
    handicap: float = 1.0
    agreement: float = 0.0

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
        return np.asarray(
            np.maximum.reduce([score, *(maps[name] - np.float32(self.handicap) for name in self.besides)])
        )

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
        less = f", less {self.handicap:g}," if self.handicap else ""
        told += f", or that of {_and(self.besides)}{less} where it is larger" if self.besides else ""
        return f"{told}, as a mean over {self.agreement:g} cells" if self.agreement else told

    def to_json(self) -> dict[str, Any]:
        """Plain values for a model folder."""
        more: dict[str, Any] = {"besides": list(self.besides), "handicap": self.handicap} if self.besides else {}
        more |= {"agreement": self.agreement} if self.agreement else {}
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
    if isinstance(found, dict) and set(found) - _LATER == {"parts", "rule", "smoothing", "mirrored"}:
        parts, rule, width, mirrored = (found[name] for name in ("parts", "rule", "smoothing", "mirrored"))
        besides, handicap, agreement = found.get("besides", []), found.get("handicap", 1.0), found.get("agreement", 0.0)
        lists = isinstance(parts, list) and isinstance(besides, list) and parts
        fits = lists and all(isinstance(part, str) and part in names for part in (*parts, *besides))
        numbers = _within(width, _WIDEST) and _within(handicap, _HIGHEST) and _within(agreement, _WIDEST)
        if fits and numbers and rule in RULES and type(mirrored) is bool:
            made = Shown(tuple(parts), rule, float(width), mirrored, tuple(besides), float(handicap), float(agreement))
            if made.needed <= set(names):
                return made
    raise BadModel("The model does not say which map to show.", "Get the model again.")


def _within(value: Any, highest: float) -> bool:
    return type(value) in (int, float) and math.isfinite(value) and 0 <= value <= highest


def _and(names: Sequence[str]) -> str:
    return " and ".join([*([", ".join(names[:-1])] if len(names) > 1 else []), names[-1]])
