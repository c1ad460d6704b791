"""Whether the map of a scan can be believed: a brain was found, with the contrast and quality of the training scans."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, zoom

from .prepare import MEDIAN, Prepared
from .scores import Scores

_BINS = np.linspace(0, 2 * MEDIAN, 41)
_COARSE = 10  # cells along each axis of the brain's box
_TURNS = {"upside down": (2,), "back to front": (1,), "upside down and back to front": (1, 2)}
ALLOWED = 1.5  # times as far from the training scans as the farthest normal one


def measures(prepared: Prepared, scores: Scores) -> dict[str, Any]:
    """What the gate looks at: the histogram of the tissue, the bulk of the log-odds, and the brain's proportions."""
    values = prepared.voxels[prepared.mask]
    odds = scores.maps["unlike"][prepared.mask]
    return {
        "histogram": [float(f"{share:.4g}") for share in _histogram(values)],
        "bulk": [float(f"{value:.4g}") for value in np.quantile(odds, [0.5, 0.9])],
        "coarse": [round(float(value), 3) for value in _coarse(prepared).ravel()],
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
        "coarse": [round(float(v), 3) for v in np.mean([normal["coarse"] for normal in normals], axis=0)],
    }


def _histogram(values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
    return np.histogram(np.clip(values, 0, 2 * MEDIAN), _BINS)[0] / max(values.size, 1)


def _coarse(prepared: Prepared) -> npt.NDArray[np.float64]:
    """The box around the mask in 10 x 10 x 10 cells: what is left of the anatomy tells up from down."""
    places = np.argwhere(prepared.mask)
    box = tuple(slice(a, b + 1) for a, b in zip(places.min(axis=0), places.max(axis=0), strict=True))
    part = prepared.voxels[box].astype(np.float64)
    part = gaussian_filter(part, [size / _COARSE / 2.5 for size in part.shape])
    return np.asarray(zoom(part, [_COARSE / size for size in part.shape], order=1))


def turned(found: npt.NDArray[np.float64], normal: npt.NDArray[np.float64]) -> str:
    """How the coarse anatomy [i, j, k] must be turned over to be most like the normal one; empty when it need not be.

    Left and right cannot be told apart.
    """
    alike = {name: np.corrcoef(np.flip(found, axes).ravel(), normal.ravel())[0, 1] for name, axes in _TURNS.items()}
    best = max(alike, key=lambda name: float(alike[name]))
    return best if alike[best] > np.corrcoef(found.ravel(), normal.ravel())[0, 1] else ""


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
    if distance > ALLOWED:
        warnings.append(
            f"The contrast of the tissue is {distance:.1f} times as far from the training scans as the farthest normal "
            f"scan: another sequence, strong contrast agent, or a mask that holds more than the brain."
        )
    found = measures(prepared, scores)
    shape = (_COARSE,) * 3
    over = turned(np.reshape(found["coarse"], shape), np.reshape(np.array(gate["coarse"], dtype=float), shape))
    if over:
        warnings.append(f"The head seems to lie {over}: check the orientation that the file gives.")
    if found["bulk"][1] > float(gate["bulk"][1]) + 2.0:
        warnings.append(
            "Most of the scan is unlike the training scans: turned over, very noisy, or another kind of scan."
        )
    return warnings
