"""How well a map of scores finds what is known to be there: average precision, best Dice, Dice at a threshold."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def average_precision(scores: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> float:
    """The area under precision over recall, as the mean precision at each true voxel; equal scores count as one.

    Returns not-a-number where nothing is true.
    """
    precision, recall = _curve(scores, truth)
    return float(np.sum(np.diff(np.concatenate([[0.0], recall])) * precision))


def best_dice(scores: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> float:
    """The largest Dice that any threshold gives."""
    precision, recall = _curve(scores, truth)
    with np.errstate(invalid="ignore"):
        return float(np.nanmax(2 * precision * recall / np.maximum(precision + recall, 1e-12)))


def dice(found: npt.NDArray[np.bool_], truth: npt.NDArray[np.bool_]) -> float:
    """Twice the overlap over the sum of both; 1 where both are empty."""
    total = int(found.sum()) + int(truth.sum())
    return 2 * int((found & truth).sum()) / total if total else 1.0


def _curve(scores: npt.NDArray[Any], truth: npt.NDArray[np.bool_]) -> tuple[npt.NDArray[np.float64], ...]:
    """Precision and recall at each distinct score, from the highest down."""
    order = np.argsort(-scores.ravel(), kind="stable")
    ranked, true = scores.ravel()[order], truth.ravel()[order]
    last = np.append(np.flatnonzero(np.diff(ranked)), ranked.size - 1)  # of each run of equal scores
    hits = np.cumsum(true, dtype=np.float64)[last]
    with np.errstate(invalid="ignore"):
        return hits / (last + 1.0), hits / float(true.sum())
