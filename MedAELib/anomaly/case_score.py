"""How unlike normal a scan is as a whole, and how many normal scans are less so."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ..errors import BadModel
from .grid import Floats
from .masks import Mask

_SHARE = 0.005  # of the tissue: some 6 ml of a brain
ENOUGH = 20  # normal scans for a percentile that says something


def case_score(z: Floats, mask: Mask) -> float:
    """The mean z of the two-hundredth of the tissue that is least normal: what is focal counts, wherever it is."""
    values = z[mask]
    count = max(1, round(_SHARE * values.size))
    return round(float(np.partition(values, values.size - count)[values.size - count :].mean()), 3)


def case_scores_of(known: Mapping[str, Any]) -> list[float]:
    """The scores of the normal scans that a model was calibrated on; empty where it does not tell them.

    Raises BadModel unless they are finite numbers.
    """
    found = known.get("cases", [])
    if not isinstance(found, list) or not all(type(v) in (int, float) and math.isfinite(v) for v in found):
        raise BadModel("The model's scores of normal scans are not numbers.", "Get the model again.")
    return [float(value) for value in found]


def percentile(score: float, normals: Sequence[float]) -> float | None:
    """The percentage of normal scans with a lower score (half of those with the same); None where none are known."""
    if not normals:
        return None
    lower = sum(value < score for value in normals) + 0.5 * sum(value == score for value in normals)
    return round(100 * lower / len(normals), 1)


def sentence(score: float, normals: Sequence[float]) -> str:
    """What the score says, in one sentence; empty where no normal scans are known."""
    if not normals:
        return ""
    lower = sum(value < score for value in normals)
    if len(normals) < ENOUGH:
        scans = "1 normal scan" if len(normals) == 1 else f"{len(normals)} normal scans"
        return f"As a whole (score {score:.2f}) it is less usual than {lower} of {scans}."
    share = percentile(score, normals)
    return f"As a whole (score {score:.2f}) it is at percentile {share:.0f} of {len(normals)} normal scans."
