"""Trust figure from edges: how sharp they still are, on edges that are found in the scan itself."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter, map_coordinates

from .evidence import Evidence, Floats
from .figures import Figure, absent, judged, measured

Doubles = npt.NDArray[np.float64]

_SMOOTH = 1.0  # voxels: for finding edges and their middle; both profiles are then read from voxels as they are
_APART = 5  # voxels between two edges
_REACH, _PLATEAU, _STEP = 6.0, 3.5, 0.25  # voxels along the profile: its ends, where the plateaus begin, and sampling
_TRIED, _MOST = 400_000, 4000  # candidates, before and after thinning
_LEAST_STEP = 4.0  # of the noise
_LEVEL = 0.15  # of the step: how much the plateaus of a clear edge may vary
_GROUP, _FEWEST = 20, 60  # edges


@dataclass(frozen=True)
class Widths:
    """The 10-90 % widths of groups of edges in voxels, before and after, and how many edges there were."""

    before: Doubles
    after: Doubles
    edges: int


def sharpness(evidence: Evidence) -> Figure:
    """How much of the sharpness of strong edges is kept: 10-90 % width before over that after, in %.

    Profiles run along the gradient of the lightly smoothed scan, so result and scan are read at the same places. The
    mean profile of twenty edges averages the noise out; the median over such groups is robust.
    """
    name = "Edge sharpness kept"
    if sum(size > 2 * _REACH for size in evidence.before.shape) < 2:
        return absent(name, "the volume is too small")
    widths = edge_widths(evidence)
    if widths.edges < _FEWEST:
        return absent(name, "there are too few clear edges much stronger than the noise")
    ratios = 100 * widths.before / widths.after
    kept, error = float(np.median(ratios)), 1.25 * float(ratios.std(ddof=1)) / math.sqrt(len(ratios))
    # A tenth wider is what a Gaussian filter of a third of a voxel does, which nobody sees; a quarter wider shows.
    # Within its standard error a result is given the benefit of the doubt.
    verdict = judged(kept + error, 90, 80)
    before, after = float(np.median(widths.before)), float(np.median(widths.after))
    told = f"{widths.edges} clear edges rise from 10 to 90 % within {before:.2f} voxels before, {after:.2f} after."
    return measured(name, kept, "%", verdict, told)


def edge_widths(evidence: Evidence) -> Widths:
    """The widths of the clear edges, each much stronger than the noise, in groups of twenty."""
    smooth = np.asarray(gaussian_filter(evidence.after, _SMOOTH, mode="nearest"), np.float32)
    places, normals = _candidates(smooth, evidence)
    offsets = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
    profiles = _along(smooth, places, normals, offsets)
    middle, step = _middle(profiles, offsets)
    noise = _along(evidence.noise, places, normals, np.zeros(1))[:, 0]
    clear = (_restlessness(profiles, offsets) < _LEVEL * step) & (step > _LEAST_STEP * noise) & (np.abs(middle) < 1)
    if evidence.magnitude:  # the noise raises what is darker, which would change the edge's form
        clear &= profiles.min(1) > 3 * noise
    places, normals = places[clear] + middle[clear, None] * normals[clear], normals[clear]
    before, after = (
        _normalised(_along(voxels, places, normals, offsets), offsets) for voxels in (evidence.before, evidence.after)
    )
    usable = np.isfinite(before).all(1) & np.isfinite(after).all(1)
    weights = np.square(np.minimum(step[clear] / np.maximum(noise[clear], 1e-30), 20))[
        usable
    ]  # as the noise of a profile asks for
    groups = len(weights) // _GROUP
    widths = np.zeros((2, groups))
    for row, profiles in enumerate((before[usable], after[usable])):
        for group in range(groups):  # neighbours go to different groups, so that each sees the whole scan
            chosen = slice(group, None, groups)
            widths[row, group] = _width(np.average(profiles[chosen], 0, weights[chosen]), offsets)
    return Widths(widths[0], widths[1], len(weights))


def _candidates(smooth: Floats, evidence: Evidence) -> tuple[Doubles, Doubles]:
    """Places [n, 3] that are steepest along their gradient (Canny 1986), and unit vectors along it, uphill.

    One from each cell of a coarse grid, the first and not the steepest: that one would owe its steepness to noise.
    """
    slopes = np.zeros((3, *smooth.shape), np.float32)
    for axis in (axis for axis, size in enumerate(smooth.shape) if size > 2):
        slopes[axis] = np.gradient(smooth, axis=axis)
    steepness = np.sqrt(np.square(slopes).sum(0))
    places = np.argwhere(steepness > np.maximum(evidence.noise * _LEAST_STEP / 8, 1e-30))
    places = places[:: max(1, len(places) // _TRIED)]
    normals = np.stack([slopes[axis][tuple(places.T)] for axis in range(3)], 1).astype(np.float64)
    normals /= np.linalg.norm(normals, axis=1, keepdims=True)
    beside = _along(steepness, places.astype(np.float64), normals, np.array([-1.0, 0.0, 1.0]))
    steepest = (beside[:, 1:2] >= beside).all(1)
    places, normals = places[steepest], normals[steepest]
    _, first = np.unique(places // _APART, axis=0, return_index=True)
    places, normals = places[first], normals[first]
    inside = _inside(places[:, None] + _REACH * np.array([-1, 1])[:, None] * normals[:, None], smooth.shape).all(1)
    places, normals = places[inside], normals[inside]
    step = max(1, len(places) // _MOST)
    return np.asarray(places[::step], np.float64), normals[::step]


def _inside(points: npt.NDArray[Any], shape: tuple[int, ...]) -> npt.NDArray[np.bool_]:
    return np.asarray(((points >= 0) & (points <= np.array(shape) - 1)).all(-1))


def _along(voxels: Floats, places: Doubles, normals: Doubles, offsets: Doubles) -> Doubles:
    """Voxels along each normal [n, offsets], interpolated linearly."""
    points = places[:, None] + offsets[None, :, None] * normals[:, None]
    return np.asarray(map_coordinates(voxels, points.reshape(-1, 3).T, order=1, mode="nearest"), np.float64).reshape(
        len(places), len(offsets)
    )


def _plateaus(profiles: Doubles, offsets: Doubles) -> tuple[Doubles, Doubles]:
    return profiles[:, offsets <= -_PLATEAU], profiles[:, offsets >= _PLATEAU]


def _restlessness(profiles: Doubles, offsets: Doubles) -> Doubles:
    """The larger of the two plateaus' ranges."""
    low, high = _plateaus(profiles, offsets)
    return np.maximum(np.ptp(low, axis=1), np.ptp(high, axis=1)) if len(profiles) else np.zeros(0)


def _middle(profiles: Doubles, offsets: Doubles) -> tuple[Doubles, Doubles]:
    """Where each profile is nearest to half its step, and the step."""
    low, high = (plateau.mean(1) for plateau in _plateaus(profiles, offsets))
    central = np.abs(offsets) <= 2
    nearest = np.abs(profiles[:, central] - (low + high)[:, None] / 2).argmin(1) if len(profiles) else np.zeros(0, int)
    return offsets[central][nearest], high - low


def _normalised(profiles: Doubles, offsets: Doubles) -> Doubles:
    """Profiles with their own plateaus at 0 and 1; not finite where there is no step."""
    low, high = (plateau.mean(1, keepdims=True) for plateau in _plateaus(profiles, offsets))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(high > low, (profiles - low) / (high - low), np.nan)


def _width(profile: Doubles, offsets: Doubles) -> float:
    """The distance from the last 10 % before the middle to the first 90 % behind it, interpolated."""
    fine = np.linspace(offsets[0], offsets[-1], 20 * len(offsets))
    values = np.interp(fine, offsets, profile)
    low = fine[(values <= 0.1) & (fine < 1)]
    start = low[-1] if low.size else fine[0]
    high = fine[(values >= 0.9) & (fine > start)]
    return float((high[0] if high.size else fine[-1]) - start)
