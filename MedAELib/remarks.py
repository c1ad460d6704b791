"""What a user should hear of a finished run besides its result, as sentences; panel and command line say the same."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def remarks(report: Mapping[str, Any]) -> list[str]:
    """Whether the model has learned from the volume, the warnings, and what was left out and why, from a report."""
    return [
        *([_adapted(report)] if "adapted" in report else []),
        *report.get("warnings", ()),
        *(f"No {part}: {reason}" for part, reason in report.get("left_out", {}).items()),
    ]


def _adapted(report: Mapping[str, Any]) -> str:
    if report["adapted"]:
        return "The model learned from this volume, did better on a part that was held out, and was used so."
    if report.get("adapt_steps") == 0:
        return "The time was too short to learn anything from this volume; the model was used unchanged."
    return "Learning from this volume made the model no better on a part that was held out; it was used unchanged."
