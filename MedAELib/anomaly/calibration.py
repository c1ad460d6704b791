"""From scores to z: how rare a score is among normal tissue, so that a threshold is a rate of false alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np

from ..errors import BadInput, BadModel
from .grid import Floats
from .masks import Mask

# How much of normal tissue lies above each knot.
RATES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.003, 0.002, 0.001, 0.0005)
_BULK = 0.9  # quantile: with the median it says how the scores of a scan lie; lesions are rarer than the rest
_TAIL = 0.02  # of the tissue: what this share of it exceeds says how long the tail of a scan's scores is
_STRETCH = (0.3, 1.5)  # so much shorter or longer than that of normal scans it may be: lesions make it longer, too
_HIGHEST = 12.0  # z


def z_of(rate: float) -> float:
    """The z that a share `rate` of a normal distribution exceeds. Raises BadInput for a rate that makes no sense."""
    if not 1e-6 <= rate <= 0.5:
        raise BadInput(f"The false-alarm rate {rate:g} is not possible.", "Choose one from 0.000001 to 0.5.")
    return NormalDist().inv_cdf(1 - rate)


@dataclass(frozen=True)
class Calibration:
    """How the scores of normal tissue are spread: the value, in units of the scan's bulk, above which each rate lies.

    The unit is the scan's own: 0 is its median, 1 its 90th percentile. So another scanner, whose scores are higher or
    wider as a whole, does not set off alarms everywhere; what stands out within the scan does. How far scores reach
    beyond 1 differs from scanner to scanner, too: it is measured at the scan's own 98th percentile. With `bulk`, a
    median and a 90th percentile of all normal scans together, the unit is the same for every scan: what is unlike them
    as a whole stands out, too.
    """

    knots: tuple[float, ...]
    bulk: tuple[float, float] | None = None

    @staticmethod
    def of(normals: Sequence[tuple[Floats, Mask]], own_bulk: bool = True) -> Calibration:
        """From maps of scores of normal scans and their masks: the mean of each scan's own quantiles, or without
        `own_bulk` the quantiles of all together."""
        if not own_bulk:
            pooled = np.concatenate([score[mask] for score, mask in normals])
            middle, high = (float(f"{value:.6g}") for value in np.quantile(pooled, [0.5, _BULK]))
            normals = [(pooled, np.ones(pooled.shape, bool))]
        bulk = None if own_bulk else (middle, high)
        found = [
            np.quantile(_in_bulk(score, mask, bulk)[mask], [1 - rate for rate in RATES]) for score, mask in normals
        ]
        return Calibration(tuple(float(f"{value:.5g}") for value in np.mean(found, axis=0)), bulk)

    def to_json(self) -> Any:
        """Plain values for a model folder."""
        return list(self.knots) if self.bulk is None else {"knots": list(self.knots), "bulk": list(self.bulk)}

    @staticmethod
    def from_json(values: Any) -> Calibration:
        """As a model folder gives it. Raises BadModel unless it is a rising list of a number for each rate."""
        bulk = None
        if isinstance(values, dict):
            values, bulk = values.get("knots"), values.get("bulk")
            if not _rising(bulk, 2):
                raise BadModel("The model's calibration has no unit.", "Get the model again.")
        if not _rising(values, len(RATES)):
            raise BadModel("The model's calibration is not a rising list of numbers.", "Get the model again.")
        return Calibration(tuple(float(value) for value in values), (float(bulk[0]), float(bulk[1])) if bulk else None)

    def z(self, score: Floats, mask: Mask) -> Floats:
        """The map of z `[i, j, k]`, float32, 0 outside the mask; straight lines between the knots and beyond them."""
        levels = np.array([z_of(rate) for rate in RATES])
        knots = np.array(self.knots) + 1e-6 * np.arange(len(RATES))  # equal knots, of scores that are often the same
        units = _in_bulk(score, mask, self.bulk)
        if self.bulk is None:
            stretch = np.float32(self._stretch(units[mask]))
            units = np.where(units > 1, 1 + (units - 1) / stretch, units)
        found = np.interp(units, knots, levels)
        slope = (levels[-1] - levels[-4]) / (knots[-1] - knots[-4])
        beyond = units > knots[-1]
        found[beyond] = levels[-1] + slope * (units[beyond] - knots[-1])
        below = units < knots[0]
        found[below] = (units[below] - knots[0]) * (levels[3] - levels[0]) / max(knots[3] - knots[0], 1e-6)
        return np.where(mask, np.clip(found, -_HIGHEST, _HIGHEST), 0).astype(np.float32)

    def _stretch(self, units: Floats) -> float:
        """How many times as far as in normal scans the highest scores of a scan reach beyond its 90th percentile.

        Measured where more voxels lie than lesions mostly have; the rates beyond are those of normal scans, so that
        what is rare in this scan alone stands out. It is kept within limits: a large lesion must not hide itself.
        """
        usual, own = self.knots[RATES.index(_TAIL)] - 1, float(np.quantile(units, 1 - _TAIL)) - 1
        return float(np.clip(own / max(usual, 1e-6), *_STRETCH))


def calibrations(known: Mapping[str, Any]) -> dict[str, Calibration]:
    """The calibration of each map, as a model folder gives it. Raises BadModel when there is none."""
    found = known.get("maps")
    if not isinstance(found, dict) or not found:
        raise BadModel("The model was not calibrated on normal scans.", "Choose another model.")
    return {str(name): Calibration.from_json(values) for name, values in found.items()}


def pixel_of(known: Mapping[str, Any]) -> float:
    """The edge in millimetres of the pixels that a model of images works on. Raises BadModel where it tells none."""
    found = known.get("pixel")
    if not isinstance(found, (int, float)) or not 1e-4 <= float(found) <= 1e3:
        raise BadModel("The model does not say how large its pixels are.", "Get the model again.")
    return float(found)


def own_z(score: Floats, mask: Mask) -> Floats:
    """z by the scan alone: from the median, in robust standard deviations of what lies above it.

    For baselines on a kind of scan of which no normals are known: the rate of false alarms is then only nominal.
    """
    values = score[mask]
    middle = float(np.median(values))
    spread = float(np.quantile(values, 0.8413)) - middle
    found = (score - middle) / max(spread, 1e-6)
    return np.where(mask, np.clip(found, -_HIGHEST, _HIGHEST), 0).astype(np.float32)


def _rising(values: Any, size: int) -> bool:
    """Whether this is a list of so many finite numbers, none smaller than the one before."""
    numbers = isinstance(values, list) and all(type(v) in (int, float) and math.isfinite(v) for v in values)
    return numbers and len(values) == size and not any(b < a for a, b in pairwise(values))


def _in_bulk(score: Floats, mask: Mask, bulk: tuple[float, float] | None) -> Floats:
    """Scores in units of their bulk within the mask, or of the one given: 0 is the median, 1 the 90th percentile."""
    middle, high = bulk or np.quantile(score[mask], [0.5, _BULK])
    return np.asarray((score - middle) / max(float(high - middle), 1e-9), np.float32)
