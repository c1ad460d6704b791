"""A trust figure: what was measured on a result, how it is judged, and one sentence about it for a radiologist."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

GOOD, LOOK, POOR = "good", "look", "poor"


@dataclass(frozen=True)
class Figure:
    """One line of the trust table.

    `value` is None where nothing could be measured; `explanation` then says why. `verdict` is "good", "look" (at the
    images, before trusting them), "poor", or "" where there is nothing to judge.
    """

    name: str
    value: float | None
    unit: str
    verdict: str
    explanation: str

    def row(self) -> dict[str, Any]:
        """Plain JSON values."""
        return asdict(self)


def measured(name: str, value: float, unit: str, verdict: str, explanation: str) -> Figure:
    """A figure from a measured value, four digits of it; absent when the value is not a finite number."""
    if not math.isfinite(value):
        return absent(name, "it came out as no number")
    return Figure(name, float(f"{value:.4g}"), unit, verdict, explanation)


def absent(name: str, reason: str) -> Figure:
    """A figure that could not be measured; `reason` continues the words "Not measured: "."""
    return Figure(name, None, "", "", f"Not measured: {reason}.")


def judged(amount: float, good: float, poor: float) -> str:
    """The verdict on an amount that should be small (good < poor) or large (good > poor)."""
    sign = 1 if good < poor else -1
    return GOOD if sign * amount <= sign * good else POOR if sign * amount > sign * poor else LOOK
