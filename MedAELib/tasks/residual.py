"""Trust figures from what was removed: it should be noise and nothing else, without a shift and without edges."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import gaussian_gradient_magnitude, uniform_filter

from ..training.correlation import band_limited
from .evidence import Evidence, Mask, detrended, inverse
from .figures import Figure, absent, judged, measured

_FEWEST_FLAT = 1000  # voxels: with fewer, chance alone moves a correlation by 0.03
_BLOCK = 6  # voxels along an edge: beyond the reach of the noise's correlation, so blocks count as independent
_GROUPS, _FEWEST_BLOCKS = 12, 12
_LEAST_FLAT = 0.25  # of a block
_SMOOTH = 0.8  # voxels
_AXES = ("left-right", "front-back", "head-foot")


def bias(evidence: Evidence) -> Figure:
    """The shift of intensities in flat tissue, in HU or % of the window, of the brightness where it is largest.

    Flat tissue is cut into blocks and these into a dozen groups by brightness, so that a shift up in one tissue does
    not hide one down in another. (By that of the result: by that of the scan, noise would sort itself.) Judged is what
    exceeds three standard errors: of a dozen groups one is beyond two by chance. In MRI, noise itself raises magnitudes
    by sigma^2 / 2A (Gudbjartsson and Patz 1995); a result that takes that out, or part of it, is not shifted.
    """
    name = "Shift of intensities in flat tissue"
    unit, scale = ("HU", 1.0) if evidence.modality == "CT" else ("% of window", 100 / max(evidence.span, 1e-30))
    shift, brightness, raised = _blocks(evidence)
    if len(shift) < _FEWEST_BLOCKS:
        return absent(name, "too little tissue is flat compared with its noise")
    # Nothing is held against a result between keeping all of the Rician bias (0) and taking it out (-raised).
    shift = scale * (shift - np.clip(shift.mean(), -raised.mean(), 0) if evidence.magnitude else shift)
    order = np.argsort(brightness)
    groups = np.array_split(shift[order], min(_GROUPS, len(order) // _FEWEST_BLOCKS))
    means = [(float(g.mean()), 3 * float(g.std(ddof=1)) / math.sqrt(len(g))) for g in groups]
    worst, doubt = max(means, key=lambda mean: abs(mean[0]) - mean[1])
    # The bars of a good denoiser: 1 HU, and 2 HU at 80 HU of noise; in MRI 0.3 % of the window, and a twentieth of
    # the noise where that is more.
    noise = scale * evidence.typical_noise
    limit = max(1.0, noise / 40) if evidence.modality == "CT" else max(0.3, noise / 20)
    verdict = judged(max(abs(worst) - doubt, 0), limit, 3 * limit)
    told = f"Mean intensities should stay; the largest shift of any brightness is {worst:+.2g} ± {doubt:.1g} {unit}."
    return measured(name, worst, unit, verdict, told)


def _blocks(evidence: Evidence) -> tuple[npt.NDArray[np.float64], ...]:
    """Mean shift, brightness and Rician bias of the blocks of which at least a quarter is flat."""
    edges = [min(_BLOCK, size) for size in evidence.before.shape]
    weight = _sums(evidence.flat.astype(np.float32), edges)
    chosen = weight >= _LEAST_FLAT * math.prod(edges)
    flat = evidence.flat
    raised = np.where(flat, evidence.noise**2 / np.maximum(2 * np.maximum(evidence.before, evidence.noise), 1e-30), 0)
    means = (
        _sums(np.where(flat, voxels, 0), edges)[chosen] / weight[chosen]
        for voxels in (evidence.after - evidence.before, evidence.after, raised)
    )
    return tuple(means)


def _sums(voxels: npt.NDArray[Any], edges: list[int]) -> npt.NDArray[np.float64]:
    """Sums over the blocks of a regular grid; what is left over at the end is left out."""
    whole = tuple(slice(0, size // edge * edge) for size, edge in zip(voxels.shape, edges, strict=True))
    sums = voxels[whole].astype(np.float64)
    for axis, edge in enumerate(edges):
        shape = [*sums.shape[:axis], sums.shape[axis] // edge, edge, *sums.shape[axis + 1 :]]
        sums = sums.reshape(shape).sum(axis + 1)
    return sums


def whiteness(evidence: Evidence, affine: npt.NDArray[np.float64]) -> list[Figure]:
    """The correlation of what was removed with itself one voxel further, along each axis, in flat tissue.

    It should be that of the scan's own noise. In CT that is measured in the same tissue, 0.5 to 0.7 in the plane; both
    are freed of slow trends alike. Where little is flat, anatomy adds to it, so the figure is not judged. MRI noise is
    white up to the band that was measured: 0, if it was not interpolated.
    """
    weight = inverse(evidence.noise)
    removed, own = detrended(evidence.removed * weight), detrended(evidence.before * weight)
    bands = _bands(evidence) if evidence.magnitude else None
    figures = []
    for axis, direction in enumerate(directions(affine)):
        name = f"Grain of the removed noise, {direction}"
        pairs = _pairs(evidence.flat, axis)
        if evidence.before.shape[axis] < 2:
            figures.append(absent(name, "the volume is one voxel thick"))
        elif pairs.sum() < _FEWEST_FLAT:
            figures.append(absent(name, "too little tissue is flat compared with its noise"))
        else:
            found = _lag_one(removed, pairs, axis)
            wanted = _lag_one(own, pairs, axis) if bands is None else _of_band(bands, axis, pairs.shape[axis] + 1)
            verdict, told = "", "No tissue is flat enough to tell how the scan's own noise is."
            if evidence.magnitude or evidence.even:
                # The grain that good denoisers leave makes up to 0.15; at 0.3 it shows, as a look of plastic.
                verdict = judged(abs(found - wanted), 0.15, 0.3)
                told = (
                    f"Neighbours should be as alike as in the scan's noise, {wanted:.2f}; less: coarse grain was left."
                )
            figures.append(measured(name, found, "", verdict, told))
    return figures


def structure(evidence: Evidence) -> Figure:
    """How much what was removed looks like the image's edges: the correlation of its energy with their strength.

    Energy: the root mean square of the removed noise within three voxels, in units of the noise there. Strength: the
    gradient of the lightly smoothed result in the same units, cut off at four, so that bone does not rule. Only amid
    tissue, away from air, where noise differs by nature. Pure noise knows of no edge and gives 0.
    """
    name = "Structure among the removed noise"
    weight = inverse(evidence.noise)
    inside = (uniform_filter(evidence.tissue.astype(np.float32), 5, mode="nearest") > 0.999) & (evidence.noise > 0)
    if inside.sum() < _FEWEST_FLAT:
        return absent(name, "there is too little tissue")
    energy = np.sqrt(uniform_filter(np.square(evidence.removed * weight), 3, mode="nearest").clip(min=0))[inside]
    edges = np.minimum(gaussian_gradient_magnitude(evidence.after, _SMOOTH, mode="nearest") * weight, 4)[inside]
    if min(float(energy.std()), float(edges.std())) <= 1e-6:
        return absent(name, "there are no edges")
    found = float(np.corrcoef(energy, edges)[0, 1])
    # Noise alone gives less than 0.05; the lightest of Gaussian filters, where edges are strong, 0.2 and more.
    told = "Above 0, edges were removed with the noise (1: nothing else); below 0, some noise was left at edges."
    return measured(name, found, "", judged(found, 0.1, 0.25), told)


def directions(affine: npt.NDArray[np.float64]) -> list[str]:
    """The patient's directions that i, j and k are nearest to, each used once."""
    steepness, named = np.abs(affine[:3, :3] / np.linalg.norm(affine[:3, :3], axis=0)), ["", "", ""]
    for _ in range(3):
        row, column = np.unravel_index(int(np.argmax(steepness)), (3, 3))
        named[column] = _AXES[row]
        steepness[row], steepness[:, column] = -1, -1
    return named


def _bands(evidence: Evidence) -> torch.Tensor:
    """The autocorrelation [9, 9, 9] of white noise up to the band that was measured; thin axes count as white."""
    voxels = evidence.before / max(evidence.span, 1e-30)
    for axis, size in enumerate(voxels.shape):
        if size < 16:
            voxels = np.repeat(voxels, 16, axis)
    return band_limited(torch.from_numpy(np.ascontiguousarray(voxels, np.float32))[None])


def _of_band(correlation: torch.Tensor, axis: int, size: int) -> float:
    """The correlation of neighbours along an axis of some size, from the autocorrelation [9, 9, 9]."""
    if size < 16:
        return 0.0
    place = [min(4, size // 2) for size in correlation.shape]
    place[axis] += 1
    return float(correlation[tuple(place)])


def _pairs(mask: Mask, axis: int) -> Mask:
    """Where a voxel and the next one along an axis both lie in the mask."""
    size = mask.shape[axis]
    return np.take(mask, range(size - 1), axis) & np.take(mask, range(1, size), axis)


def _lag_one(voxels: npt.NDArray[Any], pairs: Mask, axis: int) -> float:
    size = voxels.shape[axis]
    first, second = (np.take(voxels, range(start, size - 1 + start), axis)[pairs] for start in (0, 1))
    power = math.sqrt(float(np.square(first).sum()) * float(np.square(second).sum()))
    return float((first * second).sum()) / power if power > 0 else 0.0
