"""The mean and the spread of normal scans at every place: the oldest normative map, as a baseline beside the model's.

Places are told by the box around the mask, as if it were an affine registration: shares of its edges. What is finer
than a cell, a twenty-fourth of an edge, is averaged away.
"""

from __future__ import annotations

from base64 import b64decode, b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from ..errors import BadModel
from .grid import Floats
from .masks import Mask
from .prepare import Prepared

AVERAGE = "average"
_CELLS = 24  # along each edge of the box
_FINEST = 0.02  # of the window's width: the least spread, as a few scans may agree by chance
_SOFT = 1.0  # voxels
_PARTS, _STORED = ("mean", "spread"), np.dtype("<f2")


@dataclass(frozen=True, eq=False)
class Average:
    """Mean and standard deviation of windowed brightness, `[24, 24, 24]` each, float32."""

    mean: Floats
    spread: Floats

    @staticmethod
    def of(normals: Sequence[Prepared]) -> Average:
        """From normal scans, at least one. The spread of a place is that of its surroundings, too."""
        cells = np.stack([_in_cells(scan) for scan in normals])
        spread = np.sqrt(gaussian_filter(cells.var(axis=0), 1.0))
        return Average(cells.mean(axis=0).astype(np.float32), np.maximum(spread, _FINEST).astype(np.float32))

    def score(self, scan: Prepared) -> Floats:
        """How many standard deviations a voxel of the smoothed scan is from the mean at its place `[i, j, k]`; 0
        outside the mask."""
        low, high = _box(scan.mask)
        places = np.argwhere(scan.mask)
        cells = ((places - low + 0.5) / (high - low) * _CELLS - 0.5).T
        mean, spread = (map_coordinates(part, cells, order=1, mode="nearest") for part in (self.mean, self.spread))
        found = np.zeros_like(scan.voxels)
        found[scan.mask] = np.abs(gaussian_filter(scan.voxels, _SOFT)[scan.mask] - mean) / spread
        return found

    def to_json(self) -> dict[str, str]:
        """For a model folder: half-precision numbers in the order of the array, as base64 texts."""
        return {name: b64encode(getattr(self, name).astype(_STORED).tobytes()).decode() for name in _PARTS}


def average_of(known: Mapping[str, Any]) -> Average | None:
    """As the calibration of a model folder gives it; None where it gives none. Raises BadModel when malformed."""
    found = known.get(AVERAGE)
    if found is None:
        return None
    if isinstance(found, dict):
        mean, spread = (_cells(found.get(name)) for name in _PARTS)
        if mean is not None and spread is not None and float(spread.min()) > 0:
            return Average(mean, spread)
    raise BadModel("The model does not say what the average normal scan looks like.", "Get the model again.")


def _cells(text: Any) -> Floats | None:
    """The numbers of a text `[24, 24, 24]`; None unless it holds a finite one for each cell."""
    try:
        numbers = np.frombuffer(b64decode(text, validate=True), _STORED).astype(np.float32)
    except (TypeError, ValueError):
        return None
    return numbers.reshape((_CELLS,) * 3) if numbers.size == _CELLS**3 and np.isfinite(numbers).all() else None


def _in_cells(scan: Prepared) -> npt.NDArray[np.float64]:
    """The smoothed scan at the middles of the cells `[24, 24, 24]`."""
    low, high = _box(scan.mask)
    edges = [a + (np.arange(_CELLS) + 0.5) / _CELLS * (b - a) - 0.5 for a, b in zip(low, high, strict=True)]
    widths = (high - low) / _CELLS / 2.5
    soft = gaussian_filter(scan.voxels.astype(np.float64), widths)
    return np.asarray(map_coordinates(soft, np.meshgrid(*edges, indexing="ij"), order=1, mode="nearest"))


def _box(mask: Mask) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The first voxel of the box around the mask, and the first one after it."""
    places = np.argwhere(mask)
    return places.min(axis=0), places.max(axis=0) + 1
