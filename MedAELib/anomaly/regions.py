"""Regions of a map above its threshold, as labels and as rows of a table."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import center_of_mass, label, maximum, mean

from .calibration import z_of
from .grid import Floats, Grid
from .prepare import Prepared

_MIDDLE = 5.0  # mm to each side of the middle of the head
_MOST = 200  # regions: nobody reads a longer table
# Chosen on anomalies drawn into the tuning scan, and on it as on other scanners: see docs/anomaly.md.
_RARER = 35_000.0  # times than the rate of false alarms: the peak of a region
_RAREST = 1e-9  # share of normal tissue; beyond there is none
_OUTLINE = 0.4  # of its peak: what lies lower around it is its soft edge


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


def peak_for(rate: float) -> float:
    """The z that a region must reach somewhere, by the rate of false alarms: that of a 35 000th of the rate.

    Of a thousand millilitres of normal brain ten lie above the threshold of 1 %, in some ten places; nearly all of them
    peak lower. So rare a z is read off the straight line beyond the last knot of the calibration. Raises BadInput for a
    rate that makes no sense.
    """
    return max(z_of(rate), NormalDist().inv_cdf(1 - max(rate / _RARER, _RAREST)))


def find_regions(
    z: Floats, threshold: float, prepared: Prepared, least_ml: float, typical: Floats | None, peak: float | None = None
) -> tuple[npt.NDArray[np.int16], list[Region]]:
    """Labels 1, 2, ... `[i, j, k]` on the grid and their table, the largest peak first.

    Voxels above the threshold that touch, also at a corner, belong together. With a `peak` one of them must reach this
    z (a threshold with hysteresis), and the region is what is above two fifths of its largest z, as lesions are
    outlined in PET; so for maps that normal scans calibrated. Regions smaller than `least_ml` millilitres are left out,
    and all but the 200 with the largest peaks.
    """
    grid = prepared.grid
    pieces, count = label(z > threshold, np.ones((3, 3, 3), int))
    largest = np.zeros(count + 1, np.float32)
    if count:
        largest[1:] = maximum(z, pieces, np.arange(1, count + 1))
    if peak is not None:
        pieces[(z < _OUTLINE * largest[pieces]) | (largest[pieces] < peak)] = 0
    sizes = np.bincount(pieces.ravel(), minlength=count + 1) * grid.cell_ml
    kept = 1 + np.flatnonzero((sizes[1:] >= least_ml) & (sizes[1:] > 0))
    kept = kept[np.argsort(-largest[kept], kind="stable")][:_MOST]
    number_of = np.zeros(count + 1, np.int16)
    number_of[kept] = np.arange(1, kept.size + 1)
    labels = number_of[pieces]
    if not kept.size:
        return labels, []
    normal = np.median(prepared.voxels[prepared.mask]) if typical is None else typical
    numbers = np.arange(1, kept.size + 1)
    peaks, means, shifts = (
        measure(values, labels, numbers)
        for measure, values in ((maximum, z), (mean, z), (mean, prepared.voxels - normal))
    )
    middle = _place(center_of_mass(prepared.mask), grid)[0]
    regions = []
    for index, centre in enumerate(center_of_mass(np.ones_like(labels), labels, numbers)):
        right, front, head = _place(centre, grid)
        regions.append(
            Region(
                number=index + 1,
                volume_ml=round(float(sizes[kept[index]]), 3),
                peak_z=round(float(peaks[index]), 2),
                mean_z=round(float(means[index]), 2),
                rate=float(f"{1 - NormalDist().cdf(min(float(peaks[index]), 8.0)):.2g}"),
                right_mm=round(right, 1),
                front_mm=round(front, 1),
                head_mm=round(head, 1),
                side=_side(right - middle),
                brightness="brighter" if shifts[index] > 0 else "darker",
            )
        )
    return labels, regions


def _place(index: tuple[float, ...], grid: Grid) -> tuple[float, float, float]:
    right, front, head = grid.affine[:3, :3] @ np.array(index) + grid.affine[:3, 3]
    return float(right), float(front), float(head)


def _side(offset: float) -> str:
    return "middle" if abs(offset) <= _MIDDLE else ("right" if offset > 0 else "left")
