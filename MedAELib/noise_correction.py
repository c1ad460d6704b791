"""What the noise estimate is multiplied by: a small network, learned on scans with known noise, kept as numbers."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .atomic import whole_file

FILE = Path(__file__).with_name("noise_correction.json")
BOUNDS = 4.0  # standard deviations: statistics further off count as this far
LEAST, MOST = 0.4, 2.0  # what a correction can be

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Weights:
    """A network with one hidden layer: middle, spread [m] of statistics, hidden [h, m], threshold, out [h], offset."""

    middle: Floats
    spread: Floats
    hidden: Floats
    threshold: Floats
    out: Floats
    offset: float

    def log(self, statistics: Floats) -> float:
        """The logarithm of the true over the plainly estimated noise that statistics [m] speak for."""
        seen = np.clip((statistics - self.middle) / self.spread, -BOUNDS, BOUNDS)
        return float(np.tanh(self.hidden @ seen + self.threshold) @ self.out) + self.offset


def correction(statistics: Floats, correlated: bool) -> float:
    """What the plain estimate of white (MR) or correlated (CT) noise is to be multiplied by, 0.4 to 2."""
    weights = _bundled().get("CT" if correlated else "MR")
    return min(max(math.exp(weights.log(statistics)), LEAST), MOST) if weights else 1.0


@cache
def _bundled() -> dict[str, Weights]:
    return read(FILE)


def read(path: Path) -> dict[str, Weights]:
    """The weights of each modality; nothing where there is no file."""
    if not path.is_file():
        return {}
    kept: dict[str, dict[str, Any]] = json.loads(path.read_text())
    return {name: Weights(**{key: _numbers(value) for key, value in part.items()}) for name, part in kept.items()}


def write(path: Path, weights: Mapping[str, Weights]) -> None:
    """Write the weights of each modality with four digits, wholly or not at all."""
    kept = {
        name: {field.name: _digits(getattr(part, field.name)) for field in fields(part)}
        for name, part in weights.items()
    }
    lines = json.dumps(kept).replace("], ", "],\n").replace("}, ", "},\n")
    with whole_file(path) as temporary:
        temporary.write_text(lines + "\n")


def _numbers(value: Any) -> Any:
    return float(value) if isinstance(value, float) else np.array(value, np.float64)


def _digits(value: Any) -> Any:
    return [_digits(part) for part in value] if isinstance(value, np.ndarray) else float(f"{value:.4g}")
