"""Regions of a map above its threshold, as labels and as rows of a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import center_of_mass, label

from .grid import Floats, Grid
from .prepare import Prepared

_MIDDLE = 5.0  # mm to each side of the middle of the head


@dataclass(frozen=True)
class Region:
    """One connected place above the threshold; millimetres are RAS, `rate` is how rare the peak is in normal tissue."""

    number: int
    volume_ml: float
    peak_z: float
    mean_z: float
    rate: float
    right_mm: float
    front_mm: float
    head_mm: float
    side: str
    brightness: str

    def row(self) -> dict[str, Any]:
        """Plain values, in the order of the columns."""
        return asdict(self)


def find_regions(
    z: Floats, threshold: float, prepared: Prepared, least_ml: float, typical: Floats | None
) -> tuple[npt.NDArray[np.int16], list[Region]]:
    """Labels 1, 2, ... `[i, j, k]` on the grid and their table, the largest peak first.

    Voxels that touch, also at a corner, belong together; regions smaller than `least_ml` millilitres are left out.
    """
    grid = prepared.grid
    pieces, count = label(z > threshold, np.ones((3, 3, 3), int))
    cell = float(np.prod(np.diag(grid.affine)[:3])) / 1000
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)[1:] * cell
    kept = [n + 1 for n in range(count) if sizes[n] >= least_ml]
    kept = sorted(kept, key=lambda n: -float(z[pieces == n].max()))[: np.iinfo(np.int16).max]
    labels = np.zeros(z.shape, np.int16)
    normal = np.median(prepared.voxels[prepared.mask]) if typical is None else typical
    difference = prepared.voxels - normal
    middle = _place(center_of_mass(prepared.mask), grid)[0]
    regions = []
    for number, piece in enumerate(kept, 1):
        inside = pieces == piece
        labels[inside] = number
        right, front, head = _place(center_of_mass(inside), grid)
        peak = float(z[inside].max())
        regions.append(
            Region(
                number, round(float(sizes[piece - 1]), 3), round(peak, 2), round(float(z[inside].mean()), 2),
                float(f"{1 - NormalDist().cdf(min(peak, 8.0)):.2g}"), round(right, 1), round(front, 1), round(head, 1),
                _side(right - middle), "brighter" if difference[inside].mean() > 0 else "darker",
            )
        )  # fmt: skip
    return labels, regions


def _place(index: tuple[float, ...], grid: Grid) -> tuple[float, float, float]:
    right, front, head = grid.affine[:3, :3] @ np.array(index) + grid.affine[:3, 3]
    return float(right), float(front), float(head)


def _side(offset: float) -> str:
    return "middle" if abs(offset) <= _MIDDLE else ("right" if offset > 0 else "left")
