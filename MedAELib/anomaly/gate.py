"""Whether the map of a scan can be believed: a brain was found, with the contrast and quality of the training scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from .prepare import MEDIAN, Prepared
from .scores import Scores

_BINS = np.linspace(0, 2 * MEDIAN, 41)
_ALLOWED = 1.5  # times as far from the training scans as the farthest normal one


def measures(prepared: Prepared, scores: Scores) -> dict[str, Any]:
    """What the gate looks at: the histogram of the tissue, the bulk of the log-odds, and the brain's proportions."""
    values = prepared.voxels[prepared.mask]
    odds = scores.maps["unlike"][prepared.mask]
    return {
        "histogram": [float(f"{share:.4g}") for share in _histogram(values)],
        "bulk": [float(f"{value:.4g}") for value in np.quantile(odds, [0.5, 0.9])],
    }


def population(normals: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The gate of a model: the mean histogram of normal scans, how far they are from it, and their log-odds."""
    histograms = np.array([normal["histogram"] for normal in normals])
    mean = histograms.mean(axis=0)
    bulk = np.array([normal["bulk"] for normal in normals])
    return {
        "histogram": [float(f"{share:.4g}") for share in mean],
        "distance": float(f"{max(wasserstein(h, mean) for h in histograms):.4g}"),
        "bulk": [float(f"{value:.4g}") for value in bulk.max(axis=0)],
    }


def _histogram(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.histogram(np.clip(values, 0, 2 * MEDIAN), _BINS)[0] / max(values.size, 1)


def distance_from(values: npt.NDArray[Any], figures: Mapping[str, Any]) -> float:
    """How far a scan's tissue is from the training scans, in units of the farthest normal one; infinite if unknown."""
    gate = figures.get("gate")
    if not isinstance(gate, dict):
        return float("inf")
    distance = wasserstein(_histogram(values), np.array(gate["histogram"], dtype=float))
    return distance / max(float(gate["distance"]), 1e-6)


def wasserstein(one: npt.NDArray[np.float64], other: npt.NDArray[np.float64]) -> float:
    """How far intensities must be moved to make one histogram the other, in units of the tissue's median."""
    return float(np.abs(np.cumsum(one) - np.cumsum(other)).sum() * (_BINS[1] - _BINS[0]) / MEDIAN)


def doubts(prepared: Prepared, scores: Scores, figures: Mapping[str, Any] | None) -> list[str]:
    """Plain sentences on why the map may not be believed; empty when nothing speaks against it."""
    if figures is None:
        return ["No model was used: the map shows brightness, and its false-alarm rate is not calibrated on normals."]
    warnings = []
    if not prepared.brain:
        warnings.append("No brain was found in the scan: another part of the body, a wrong orientation or few slices.")
    gate = figures.get("gate")
    if not isinstance(gate, dict):
        return warnings
    distance = distance_from(prepared.voxels[prepared.mask], figures)
    if distance > _ALLOWED:
        warnings.append(
            f"The contrast of the tissue is {distance:.1f} times as far from the training scans as the farthest normal "
            f"scan: another sequence, strong contrast agent, or a mask that holds more than the brain."
        )
    found = measures(prepared, scores)
    if found["bulk"][1] > float(gate["bulk"][1]) + 2.0:
        warnings.append(
            "Most of the scan is unlike the training scans: turned over, very noisy, or another kind of scan."
        )
    return warnings
