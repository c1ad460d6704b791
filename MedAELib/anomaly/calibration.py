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
    wider as a whole, does not set off alarms everywhere; what stands out within the scan does.
    """

    knots: tuple[float, ...]

    @staticmethod
    def of(normals: Sequence[tuple[Floats, Mask]]) -> Calibration:
        """From maps of scores of normal scans and their masks: the mean of each scan's own quantiles."""
        found = [np.quantile(_in_bulk(score, mask)[mask], [1 - rate for rate in RATES]) for score, mask in normals]
        return Calibration(tuple(float(f"{value:.5g}") for value in np.mean(found, axis=0)))

    @staticmethod
    def from_json(values: Any) -> Calibration:
        """As a model folder gives it. Raises BadModel unless it is a rising list of a number for each rate."""
        numbers = isinstance(values, list) and all(type(v) in (int, float) and math.isfinite(v) for v in values)
        if not numbers or len(values) != len(RATES) or any(b < a for a, b in pairwise(values)):
            raise BadModel("The model's calibration is not a rising list of numbers.", "Get the model again.")
        return Calibration(tuple(float(value) for value in values))

    def z(self, score: Floats, mask: Mask) -> Floats:
        """The map of z `[i, j, k]`, float32, 0 outside the mask; straight lines between the knots and beyond them."""
        levels = np.array([z_of(rate) for rate in RATES])
        knots = np.array(self.knots) + 1e-6 * np.arange(len(RATES))  # equal knots, of scores that are often the same
        units = _in_bulk(score, mask)
        found = np.interp(units, knots, levels)
        slope = (levels[-1] - levels[-4]) / (knots[-1] - knots[-4])
        beyond = units > knots[-1]
        found[beyond] = levels[-1] + slope * (units[beyond] - knots[-1])
        below = units < knots[0]
        found[below] = (units[below] - knots[0]) * (levels[3] - levels[0]) / max(knots[3] - knots[0], 1e-6)
        return np.where(mask, np.clip(found, -_HIGHEST, _HIGHEST), 0).astype(np.float32)


def calibrations(known: Mapping[str, Any]) -> dict[str, Calibration]:
    """The calibration of each map, as a model folder gives it. Raises BadModel when there is none."""
    found = known.get("maps")
    if not isinstance(found, dict) or not found:
        raise BadModel("The model was not calibrated on normal scans.", "Choose another model.")
    return {str(name): Calibration.from_json(values) for name, values in found.items()}


def own_z(score: Floats, mask: Mask) -> Floats:
    """z by the scan alone: from the median, in robust standard deviations of what lies above it.

    For baselines on a kind of scan of which no normals are known: the rate of false alarms is then only nominal.
    """
    values = score[mask]
    middle = float(np.median(values))
    spread = float(np.quantile(values, 0.8413)) - middle
    found = (score - middle) / max(spread, 1e-6)
    return np.where(mask, np.clip(found, -_HIGHEST, _HIGHEST), 0).astype(np.float32)


def _in_bulk(score: Floats, mask: Mask) -> Floats:
    """Scores in units of their bulk within the mask: 0 is the median, 1 the 90th percentile."""
    middle, high = np.quantile(score[mask], [0.5, _BULK])
    return np.asarray((score - middle) / max(float(high - middle), 1e-9), np.float32)
