"""From scores to z: how rare a score is among normal tissue, so that a threshold is a rate of false alarms."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput, BadModel
from .grid import Floats
from .masks import Mask
from .names import POPULATION, RAREST

Knots = npt.NDArray[np.float64]

# How much of normal tissue lies above each knot.
RATES = (0.5, 0.3, 0.2, 0.1, 0.05, 0.03, 0.02, 0.01, 0.005, 0.003, 0.002, 0.001, RAREST)
_BULK = 0.9  # quantile: with the median it says how the scores of a scan lie; lesions are rarer than the rest
_TAIL = 0.02  # of the tissue: what this share of it exceeds says how long the tail of a scan's scores is
_STRETCH = (0.3, 1.5)  # so much shorter or longer than that of normal scans it may be: lesions make it longer, too
_HIGHEST = 12.0  # z
_STEEPEST = 4.0  # times the mean rise of z beyond the bulk: where scores nearly end, the last knots lie too close
_NOTHING = 1e-3  # of the root mean square: a bulk that is narrower is none
_BELOW = 1e-4  # z, less than that of scores that end, so that rounding puts none of them above a threshold


def z_of(rate: float) -> float:
    """The z that a share `rate` of a normal distribution exceeds. Raises BadInput for a rate that makes no sense."""
    if not 1e-6 <= rate <= 0.5:
        raise BadInput(f"The false-alarm rate {rate:g} is not possible.", "Choose one from 0.000001 to 0.5.")
    return NormalDist().inv_cdf(1 - rate)


_LEVELS = np.array([z_of(rate) for rate in RATES])


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
            middle, high = np.quantile(pooled, [0.5, _BULK])
            ends = middle, high if high > middle else middle + _unit(0.0, pooled, middle)
            middle, high = (float(f"{value:.6g}") for value in ends)
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

    def z(self, score: Floats, mask: Mask, quiet: Mask | None = None) -> Floats:
        """The map of z `[i, j, k]`, float32, 0 outside the mask; straight lines between the knots and beyond them.

        The scan's own unit is measured within `quiet`, a part of the mask; in all of it where there is none. Where the
        last knots are equal, scores end there, and z ends at the rate at which they do in normal tissue.
        """
        spaced = np.array(self.knots) + 1e-6 * np.arange(len(RATES))
        knots, levels = self._line(spaced)
        usual = mask if quiet is None else quiet
        units = _in_bulk(score, usual, self.bulk)
        if self.bulk is None:
            stretch = np.float32(self._stretch(units[usual]))
            units = np.where(units > 1, 1 + (units - 1) / stretch, units)
        found = np.interp(units, knots, levels)
        beyond, below = units > knots[-1], units < knots[0]
        if self.knots[-1] > self.knots[-2]:
            found[beyond] = levels[-1] + _slope(spaced) * (units[beyond] - knots[-1])
        elif len(knots) == 1:  # normal tissue has no other score
            found[beyond] = _LEVELS[-1]
        width = spaced[3] - spaced[0] if self.knots[3] > self.knots[0] else 1.0
        found[below] = (units[below] - knots[0]) * (_LEVELS[3] - _LEVELS[0]) / max(width, 1e-6)
        return np.where(mask, np.clip(found, -_HIGHEST, _HIGHEST), 0).astype(np.float32)

    def _line(self, spaced: Knots) -> tuple[Knots, Knots]:
        """Knots and their levels of z; of equal knots the first alone, as so much of normal tissue reaches it."""
        first = np.append(True, np.diff(self.knots) > 0)
        knots, levels = spaced[first], _LEVELS[first]
        if len(knots) > 1 and not first[-1]:
            levels[-1] -= _BELOW
        return knots, levels

    def _stretch(self, units: Floats) -> float:
        """How many times as far as in normal scans the highest scores of a scan reach beyond its 90th percentile.

        Measured where more voxels lie than lesions mostly have; the rates beyond are those of normal scans, so that
        what is rare in this scan alone stands out. It is kept within limits: a large lesion must not hide itself.
        """
        usual, own = self.knots[RATES.index(_TAIL)] - 1, float(np.quantile(units, 1 - _TAIL)) - 1
        return float(np.clip(own / max(usual, 1e-6), *_STRETCH)) if usual > 0 else 1.0


def calibrations(known: Mapping[str, Any]) -> dict[str, Calibration]:
    """The calibration of each map, as a model folder gives it. Raises BadModel when there is none."""
    found = known.get("maps")
    if not isinstance(found, dict) or not found:
        raise BadModel("The model was not calibrated on normal scans.", "Choose another model.")
    return {str(name): Calibration.from_json(values) for name, values in found.items()}


def in_one_unit(known: Mapping[str, Any]) -> Mapping[str, Any]:
    """What a model folder knows of normal scans, with maps and case scores in one unit for all scans instead of each
    scan's own. Raises BadModel where the folder does not hold these."""
    found = known.get(POPULATION)
    if not isinstance(found, dict):
        raise BadModel(
            "The model does not hold the scores of normal scans in one unit, which the calibration population needs.",
            "Choose the calibration scan, or calibrate the model again on normal scans of your own.",
        )
    return {**known, **found}


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
    spread = _unit(float(np.quantile(values, 0.8413)) - middle, values, middle)
    found = (score - middle) / max(spread, 1e-6)
    return np.where(mask, np.clip(found, -_HIGHEST, _HIGHEST), 0).astype(np.float32)


def _rising(values: Any, size: int) -> bool:
    """Whether this is a list of so many finite numbers, none smaller than the one before."""
    numbers = isinstance(values, list) and all(type(v) in (int, float) and math.isfinite(v) for v in values)
    return numbers and len(values) == size and not any(b < a for a, b in pairwise(values))


def _in_bulk(score: Floats, mask: Mask, bulk: tuple[float, float] | None) -> Floats:
    """Scores in units of their bulk within the mask, or of the one given: 0 is the median, 1 the 90th percentile."""
    if bulk:
        return np.asarray((score - bulk[0]) / max(bulk[1] - bulk[0], 1e-9), np.float32)
    middle, high = np.quantile(score[mask], [0.5, _BULK])
    unit = _unit(float(high - middle), score[mask], middle)
    return np.asarray((score - middle) / max(unit, 1e-9), np.float32)


def _unit(width: float, values: Floats, middle: float) -> float:
    """The width of the bulk, or how far scores lie above their median as a root mean square, where next to none of the
    bulk does, as of a map that is 0 in most of the tissue; 1 where none does."""
    above = float(np.sqrt(np.mean(np.square(np.maximum(values - middle, 0), dtype=np.float64))))
    return width if width > _NOTHING * above else above or 1.0


def _slope(knots: Knots) -> float:
    """How z rises with the score beyond the last knot: as between the last four, but no steeper than is plausible."""
    mean = (_LEVELS[-1] - _LEVELS[3]) / (knots[-1] - knots[3])
    return float(min((_LEVELS[-1] - _LEVELS[-4]) / (knots[-1] - knots[-4]), _STEEPEST * mean))
