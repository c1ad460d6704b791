"""Regions of a map above its threshold, as labels and as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import center_of_mass, label, maximum, mean

from ..errors import BadModel
from .calibration import RATES, z_of
from .grid import Floats, Grid
from .prepare import Prepared
from .sides import sides

REGIONS = "regions"
_MOST = 200  # regions: nobody reads a longer table, and a byte holds their labels
_RAREST = 1e-9  # share of normal tissue; beyond there is none


@dataclass(frozen=True)
class RegionRule:
    """What makes a region of a calibrated map: how many times rarer than the rate of false alarms its peak is, and the
    share of its largest z at which it is outlined: what lies lower around it is its soft edge.

    Chosen with the map on anomalies drawn into tuning scans; these are the values of folders that do not tell theirs.
    """

    rarer: float = 35_000.0
    outline: float = 0.4

    def peak(self, rate: float) -> float:
        """The z that a region must reach somewhere, by the rate of false alarms.

        Of a thousand millilitres of normal brain ten lie above the threshold of 1 %, in some ten places; nearly all of
        them peak lower. So rare a z is read off the straight line beyond the last knot of the calibration. Raises
        BadInput for a rate that makes no sense.
        """
        return max(z_of(rate), NormalDist().inv_cdf(1 - max(rate / self.rarer, _RAREST)))

    def to_json(self) -> dict[str, float]:
        """Plain values for a model folder."""
        return asdict(self)


# Without a model z is no rarity, and large lesions are uneven: the threshold itself outlines them.
PLAIN = RegionRule(outline=0.0)


def rule_of(known: Mapping[str, Any]) -> RegionRule:
    """As the calibration of a model folder gives it, or the usual one. Raises BadModel when it is malformed."""
    found = known.get(REGIONS)
    if found is None:
        return RegionRule()
    if isinstance(found, dict) and set(found) == {"rarer", "outline"}:
        rarer, outline = found["rarer"], found["outline"]
        numbers = all(type(value) in (int, float) and math.isfinite(value) for value in (rarer, outline))
        if numbers and rarer >= 1 and 0 <= outline <= 1:
            return RegionRule(float(rarer), float(outline))
    raise BadModel("The model does not say what makes a region.", "Get the model again.")


@dataclass(frozen=True)
class Region:
    """One connected place above the threshold; millimetres are RAS, `rate` is how rare the peak is in normal tissue.

    `rate` goes no lower than what was measured on normal scans, so 0.0005 is that or rarer. It is None where z is no
    rarity, and `side` is empty where the scan does not tell it.
    `sharpest_map` is the one of the single maps in which the place stands out most, by `sharpest_z`, its peak there;
    empty and 0 where no maps were given.
    """

    number: int
    volume_ml: float
    peak_z: float
    mean_z: float
    rate: float | None
    right_mm: float
    front_mm: float
    head_mm: float
    side: str
    brightness: str
    sharpest_map: str = ""
    sharpest_z: float = 0.0

    def row(self) -> dict[str, Any]:
        """Plain values, in the order of the columns."""
        return asdict(self)


def find_regions(
    z: Floats, threshold: float, prepared: Prepared, least_ml: float, typical: Floats | None,
    peak: float | None = None, outline: float = RegionRule.outline, maps: Mapping[str, Floats] | None = None,
) -> tuple[npt.NDArray[np.int16], list[Region]]:  # fmt: skip
    """Labels 1, 2, ... `[i, j, k]` on the grid and their table, the largest peak first.

    Voxels above the threshold that touch, also at a corner, belong together. With a `peak` one of them must reach this
    z (a threshold with hysteresis), and the region is what is above the share `outline` of its largest z, as lesions
    are outlined in PET; so for volumes. As z ends, the outline of what is plain takes some of its soft edge along.
    Regions smaller than `least_ml` millilitres are left out, and all but the 200 with the largest peaks. `maps` are the
    single maps of z by name, among which the sharpest is told.
    """
    grid = prepared.grid
    pieces, count = label(z > threshold, np.ones((3, 3, 3), int))
    largest = np.zeros(count + 1, np.float32)
    if count:
        largest[1:] = maximum(z, pieces, np.arange(1, count + 1))
    if peak is not None:
        pieces[(z < outline * largest[pieces]) | (largest[pieces] < peak)] = 0
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
    side_of = sides(prepared)
    sharpest = _sharpest(maps or {}, labels, kept.size)
    regions = []
    for index, centre in enumerate(center_of_mass(np.ones_like(labels), labels, numbers)):
        right, front, head = _place(centre, grid)
        regions.append(
            Region(
                number=index + 1,
                volume_ml=round(float(sizes[kept[index]]), 3),
                peak_z=round(float(peaks[index]), 2),
                mean_z=round(float(means[index]), 2),
                rate=_rate(float(peaks[index])),
                right_mm=round(right, 1),
                front_mm=round(front, 1),
                head_mm=round(head, 1),
                side=side_of(right),
                brightness="brighter" if shifts[index] > 0 else "darker",
                sharpest_map=sharpest[index][0],
                sharpest_z=sharpest[index][1],
            )
        )
    return labels, regions


def _rate(z: float) -> float:
    """How rare a z is, down to the least rate that was measured on normal scans: beyond, z is a straight line."""
    return max(float(f"{1 - NormalDist().cdf(z):.2g}"), RATES[-1])


def _sharpest(maps: Mapping[str, Floats], labels: npt.NDArray[np.int16], count: int) -> list[tuple[str, float]]:
    """For each of the regions the map with the highest peak in it, and that z.

    Of maps with the same peak, as where z ends, it is that with the higher mean.
    """
    places = labels > 0
    own = labels[places].astype(int) - 1
    sizes, found = np.bincount(own, minlength=count), [(-math.inf, -math.inf, "")] * count
    for name, z in maps.items():
        values, peaks = z[places], np.full(count, -math.inf, np.float32)
        np.maximum.at(peaks, own, values)
        means = np.bincount(own, values, count) / sizes
        for index in range(count):
            found[index] = max(found[index], (float(peaks[index]), float(means[index]), name), key=lambda one: one[:2])
    return [(name, round(peak, 2) if name else 0.0) for peak, _mean, name in found]


def _place(index: tuple[float, ...], grid: Grid) -> tuple[float, float, float]:
    right, front, head = grid.affine[:3, :3] @ np.array(index) + grid.affine[:3, 3]
    return float(right), float(front), float(head)
