"""Trust figures of any method's result in the benchmark: those that MedAE shows, and those that need the truth."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from benchmarks.denoise_cases import Case, Image, Scan


def trust_figures(case: Case, scan: Scan, image: Image, again: Callable[[Image], Image]) -> dict[str, float]:
    """`again` denoises another noisy volume in the same way."""
    removed, noise = scan.noisy - image, scan.noisy - case.clean
    return {
        "removed_lag1": neighbours_alike(removed, case.mask),
        "noise_lag1": neighbours_alike(noise, case.mask),
    }


def neighbours_alike(image: Image, mask: Image) -> float:
    """The correlation of neighbours in the plane (lag 1), mean of both axes, within the mask."""
    found = []
    for axis in (0, 1):
        size = image.shape[axis]
        first, second = (np.take(image, range(start, size - 1 + start), axis) for start in (0, 1))
        both = np.take(mask, range(size - 1), axis) & np.take(mask, range(1, size), axis)
        a, b = first[both], second[both]
        spread = float(a.std() * b.std())
        found.append(float(np.mean((a - a.mean()) * (b - b.mean()))) / spread if spread > 0 else 0.0)
    return float(np.mean(found))
