"""What intensities alone tell of another kind of scan, and how much of it a translation takes.

What a network adds to that depends on the scanner that it learned from; what the intensities tell carries over.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadModel

Floats = npt.NDArray[np.float32]

BINS = 16
DARK = 0.1  # of the window: below, down to air, the curve is heeded less and less
_MOST_POINTS, _DECIMALS = 256, 5  # as a curve is stored


@dataclass(frozen=True, eq=False)
class MeanCurve:
    """The mean target for each source intensity, both in their windows: linear between points [n], flat beyond."""

    points: Floats
    means: Floats

    @staticmethod
    def of(source: Floats, target: Floats, bins: int = BINS) -> MeanCurve:
        """From the voxels of scans of both kinds, one at least, in equally full bins of the source."""
        edges = np.unique(np.quantile(source, np.linspace(0, 1, bins + 1)))
        place = np.clip(np.searchsorted(edges, source, side="right") - 1, 0, max(len(edges) - 2, 0))
        counts = np.bincount(place, minlength=len(edges) - 1)
        full = counts > 0
        points, means = (np.bincount(place, some, len(counts))[full] / counts[full] for some in (source, target))
        points, apart = np.unique(points.round(_DECIMALS), return_index=True)  # they still rise as they are stored
        return MeanCurve(points.astype(np.float32), means[apart].astype(np.float32))

    @staticmethod
    def from_json(told: Any) -> MeanCurve:
        """The curve that `to_json` gave. Raises BadModel."""
        try:
            points, means = (np.array(some, dtype=np.float64) for some in told)
            fits = points.ndim == means.ndim == 1 and 0 < len(points) == len(means) <= _MOST_POINTS
            fits = bool(fits and np.isfinite(points).all() and np.isfinite(means).all() and (np.diff(points) > 0).all())
        except (TypeError, ValueError):
            fits = False
        if not fits:
            raise _odd()
        return MeanCurve(points.astype(np.float32), means.astype(np.float32))

    def to_json(self) -> list[list[float]]:
        """Points and means."""
        return [[round(float(value), _DECIMALS) for value in some] for some in (self.points, self.means)]

    def __call__(self, seen: npt.NDArray[Any]) -> Floats:
        """The mean target of voxels of any shape."""
        return np.interp(seen, self.points, self.means).astype(np.float32)


@dataclass(frozen=True, eq=False)
class Intensities:
    """Curves from the kinds of scan that are there to the one that is made, by the kind's number, and their share."""

    curves: Mapping[int, MeanCurve]
    share: float

    @staticmethod
    def from_json(told: Any, names: Sequence[str], given: Sequence[int], target: int) -> Intensities:
        """What a model's calibration tells of a direction; a share of 0 where it tells nothing. Raises BadModel."""
        if told is None:
            return Intensities({}, 0.0)
        try:
            share, curves = told["share"], told["curves"]
            found = {n: curves[names[n]][names[target]] for n in given if names[target] in curves.get(names[n], {})}
        except (TypeError, KeyError, AttributeError):
            share, found = -1.0, {}
        if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
            raise _odd()
        return Intensities({n: MeanCurve.from_json(curve) for n, curve in found.items()}, float(share))

    def blended(self, made: Floats, seen: Mapping[int, Floats]) -> Floats:
        """What a network made, in the target's window, moved towards the curves' mean; `seen`: the kinds of scan in
        their windows, of the same shape. Air is left to the network."""
        moved = made
        for number, curve in self.curves.items() if self.share else ():
            weight = np.clip(seen[number] / np.float32(DARK), 0, 1) * np.float32(self.share / len(self.curves))
            moved = moved + weight * (curve(seen[number]) - made)
        return moved


def _odd() -> BadModel:
    return BadModel("The model does not say what intensities alone tell.", "Get the model again.")
