"""Regions of a map above its threshold, as labels and as rows of a table."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import label, maximum, mean

from ..errors import BadModel
from ..volume import Volume
from .calibration import RATES, z_of
from .grid import Floats, from_grid
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
    z is that of the model's grid.

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


@dataclass(frozen=True, eq=False)
class Placed:
    """Regions of a scan: `labels` 1, 2, ... `[i, j, k]` on the grid, int16; the same `on_voxels` of the scan itself,
    uint8; their table, and how many further ones lie `between` the voxels of a coarse scan, so that none shows them."""

    labels: npt.NDArray[np.int16]
    on_voxels: npt.NDArray[np.uint8]
    regions: list[Region]
    between: int


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
    pieces, largest = _pieces(z, threshold, peak, outline)
    place = _places(pieces, prepared.grid.affine, largest.size)
    number_of = _numbered(largest, place, least_ml)
    labels = number_of[pieces]
    return labels, _table(labels, number_of, place, z, prepared, typical, maps or {})


def regions_on(
    volume: Volume, z: Floats, threshold: float, prepared: Prepared, least_ml: float, typical: Floats | None,
    peak: float | None = None, outline: float = RegionRule.outline, maps: Mapping[str, Floats] | None = None,
) -> Placed:  # fmt: skip
    """The same regions as the scan's own voxels hold them, each taking the label of the grid's cell that it lies in:
    volume and middle in the table, and what is smaller than `least_ml`, are those of the labels that the user gets.

    A region that holds none of these voxels is left out and counted, if the grid's cells make it large enough.
    """
    pieces, largest = _pieces(z, threshold, peak, outline)
    own = from_grid(pieces, prepared.grid, volume, nearest=True).astype(np.int32)
    place = _places(own, volume.affine, largest.size)
    on_grid = np.bincount(pieces.ravel(), minlength=largest.size)[1:] * prepared.grid.cell_ml
    between = (place.ml[1:] == 0) & (on_grid > 0) & (on_grid >= least_ml)
    number_of = _numbered(largest, place, least_ml)
    labels = number_of[pieces]
    table = _table(labels, number_of, place, z, prepared, typical, maps or {})
    return Placed(labels, number_of[own].astype(np.uint8), table, int(between.sum()))


@dataclass(frozen=True, eq=False)
class _Places:
    """Millilitres, and RAS millimetres `[piece, 3]` of the middle, of each piece; those of piece 0 mean nothing."""

    ml: npt.NDArray[np.float64]
    middle: npt.NDArray[np.float64]


def _pieces(
    z: Floats, threshold: float, peak: float | None, outline: float
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float32]]:
    """Numbers of what is connected `[i, j, k]` on the grid, and the largest z of each; 0 is what belongs to none."""
    pieces, count = label(z > threshold, np.ones((3, 3, 3), int))
    largest = np.zeros(count + 1, np.float32)
    if count:
        largest[1:] = maximum(z, pieces, np.arange(1, count + 1))
    if peak is not None:
        pieces[(z < outline * largest[pieces]) | (largest[pieces] < peak)] = 0
    return pieces, largest


def _places(pieces: npt.NDArray[np.int32], affine: npt.NDArray[np.float64], count: int) -> _Places:
    """Where the pieces lie that these voxels hold, whatever their geometry."""
    voxels = np.flatnonzero(pieces)
    own = pieces.ravel()[voxels]
    sizes = np.bincount(own, minlength=count)
    sums = [np.bincount(own, index, count) for index in np.unravel_index(voxels, pieces.shape)]
    middle = (np.array(sums) / np.maximum(sizes, 1)).T @ affine[:3, :3].T + affine[:3, 3]
    return _Places(sizes * float(abs(np.linalg.det(affine[:3, :3]))) / 1000, middle)


def _numbered(largest: npt.NDArray[np.float32], place: _Places, least_ml: float) -> npt.NDArray[np.int16]:
    """The label of each piece, 1 for the largest peak and so on; 0 of what is left out."""
    kept = 1 + np.flatnonzero((place.ml[1:] >= least_ml) & (place.ml[1:] > 0))
    kept = kept[np.argsort(-largest[kept], kind="stable")][:_MOST]
    number_of = np.zeros(largest.size, np.int16)
    number_of[kept] = np.arange(1, kept.size + 1)
    return number_of


def _table(
    labels: npt.NDArray[np.int16], number_of: npt.NDArray[np.int16], place: _Places, z: Floats, prepared: Prepared,
    typical: Floats | None, maps: Mapping[str, Floats],
) -> list[Region]:  # fmt: skip
    """A row for each label."""
    count = int(number_of.max())
    if not count:
        return []
    pieces = np.argsort(number_of, kind="stable")[-count:]
    normal = np.median(prepared.voxels[prepared.mask]) if typical is None else typical
    peaks, means, shifts = (
        measure(values, labels, np.arange(1, count + 1))
        for measure, values in ((maximum, z), (mean, z), (mean, prepared.voxels - normal))
    )
    side_of, sharpest = sides(prepared), _sharpest(maps, labels, count)
    regions = []
    for index, piece in enumerate(pieces):
        right, front, head = map(float, place.middle[piece])
        regions.append(
            Region(
                number=index + 1,
                volume_ml=round(float(place.ml[piece]), 3),
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
    return regions


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
