"""Whether the map of a scan can be believed: a brain was found, with the contrast and quality of the training scans."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, gaussian_filter, zoom

from ..errors import BadModel
from .anatomies import anatomies_of
from .orientation import QUARTER, cut_off, quarter_turned, turned
from .prepare import MEDIAN, Prepared
from .scores import Scores

Floats = npt.NDArray[np.float64]

_BINS = np.linspace(0, 2 * MEDIAN, 41)
_COARSE = 10  # cells along each axis of the brain's box
# More log-odds than the largest of normal scans: of right brains from unseen scanners at most 2.6, and 3.3 with uneven
# brightness besides; of a T2 4.7. Others of another sequence, turned over or noisy have less, and are told by more.
_ODD = 3.5
_CLOSEST = 0.04  # the farthest normal histogram is at least so far: few scans of one scanner lie close together
ALLOWED = 1.5  # times as far from the training scans as the farthest normal one
_RIM, _DEEP = (4.0, 8.0), (16.0, 24.0)  # mm below the surface of a brain: mostly grey, and mostly white matter
_SAME = 0.25  # of the contrast between them in normal scans (its logarithm) is left where it is the same sequence


def measures(prepared: Prepared, scores: Scores) -> dict[str, Floats]:
    """What the gate looks at: the histogram of the tissue, the log-odds that nine tenths of it stay below, the coarse
    anatomy `[10, 10, 10]` (none of single images), whether it is a brain, and how much brighter it is within."""
    return {
        "histogram": _histogram(prepared),
        "odds": np.quantile(scores.maps["unlike"][prepared.mask], [0.9]),
        "coarse": coarse_of(prepared).ravel(),
        "brain": np.array([float(prepared.brain)]),
        "inward": inward(prepared),
    }


def inward(prepared: Prepared) -> Floats:
    """The logarithm of how much brighter a brain is deep inside than near its surface, as a list; empty of all else.

    On T1 white matter is brighter than grey matter, on T2 and FLAIR it is darker; a histogram does not tell which is
    which.
    """
    if not prepared.brain:
        return np.zeros(0)
    depth = distance_transform_edt(np.pad(prepared.mask, 1))[1:-1, 1:-1, 1:-1] * float(prepared.grid.affine[0, 0])
    layers = [prepared.voxels[(depth > low) & (depth <= high)] for low, high in (_RIM, _DEEP)]
    if not all(layer.size and np.median(layer) > 0 for layer in layers):
        return np.zeros(0)
    return np.log(np.array([np.median(layers[1]) / np.median(layers[0])]))


def other_sequence(found: Floats, gate: Mapping[str, Floats]) -> bool:
    """Whether white and grey matter, of which `inward` found so much, differ otherwise than in the training scans.

    False where either does not tell.
    """
    usual = gate["inward"]
    return bool(usual.size and found.size and found[0] * np.sign(usual[0]) < _SAME * abs(usual[0]))


def population(normals: Sequence[Mapping[str, Floats]]) -> dict[str, list[float]]:
    """The gate of a model from the measures of normal scans: their means, the farthest histogram, the largest odds."""
    mean = np.mean([normal["histogram"] for normal in normals], axis=0)
    farthest = max(wasserstein(normal["histogram"], mean) for normal in normals)
    found = {
        "histogram": mean,
        "distance": np.array([max(farthest, _CLOSEST)]),
        "odds": np.max([normal["odds"] for normal in normals], axis=0),
        "coarse": np.mean([normal["coarse"] for normal in normals], axis=0),
        "brain": np.mean([normal["brain"] for normal in normals], axis=0),
    }
    if all(normal["inward"].size for normal in normals):
        found["inward"] = np.mean([normal["inward"] for normal in normals], axis=0)
    return {name: [float(f"{value:.4g}") for value in values] for name, values in found.items()}


def gate_of(known: Mapping[str, Any]) -> dict[str, Floats]:
    """The gate as a model folder gives it. Raises BadModel when it is not complete."""
    gate, sizes = known.get("gate"), {"histogram": len(_BINS) - 1, "distance": 1, "odds": 1, "brain": 1}
    if isinstance(gate, dict):
        gate = {"brain": [1.0], "inward": [], **gate}
        sizes["inward"] = 1 if gate["inward"] else 0
        images = gate["brain"] == [0.0] and gate.get("coarse") == []
        sizes["coarse"] = 0 if images else _COARSE**3
    if not isinstance(gate, dict) or any(not _numbers(gate.get(name), size) for name, size in sizes.items()):
        raise BadModel("The model does not say what normal scans look like.", "Get the model again.")
    return {name: np.array(gate[name], dtype=np.float64) for name in sizes}


def _numbers(values: Any, size: int) -> bool:
    """Whether this is a list of so many finite numbers."""
    return (
        isinstance(values, list)
        and len(values) == size
        and all(type(value) in (int, float) and math.isfinite(value) for value in values)
    )


def _histogram(prepared: Prepared) -> Floats:
    values = prepared.voxels[prepared.mask]
    return np.histogram(np.clip(values, 0, 2 * MEDIAN), _BINS)[0] / max(values.size, 1)


def coarse_of(prepared: Prepared) -> Floats:
    """The box around the mask in 10 x 10 x 10 cells: what is left of the anatomy tells up from down.

    Empty for single images, which may be turned as their makers like.
    """
    if prepared.dims == 2:
        return np.zeros(0)
    places = np.argwhere(prepared.mask)
    box = tuple(slice(a, b + 1) for a, b in zip(places.min(axis=0), places.max(axis=0), strict=True))
    part = prepared.voxels[box].astype(np.float64)
    part = gaussian_filter(part, [size / _COARSE / 2.5 for size in part.shape])
    return np.asarray(zoom(part, [_COARSE / size for size in part.shape], order=1))


def distance_from(prepared: Prepared, gate: Mapping[str, Floats]) -> float:
    """How far a scan's tissue is from the training scans, in units of the farthest normal one."""
    return wasserstein(_histogram(prepared), gate["histogram"]) / max(float(gate["distance"][0]), 1e-6)


def wasserstein(one: Floats, other: Floats) -> float:
    """How far intensities must be moved to make one histogram the other, in units of the tissue's median."""
    return float(np.abs(np.cumsum(one) - np.cumsum(other)).sum() * (_BINS[1] - _BINS[0]) / MEDIAN)


def doubts(prepared: Prepared, scores: Scores, known: Mapping[str, Any] | None) -> list[str]:
    """Plain sentences on why the map may not be believed; empty when nothing speaks against it.

    `known` is the calibration of the model, None where there is no model. Raises BadModel when it has no gate.
    """
    warnings = [sentence for sentence in (prepared.labels, prepared.missing) if sentence]
    if known is None:
        told = "No model was used: the map shows brightness, and its false-alarm rate is not calibrated on normals."
        return [told, *warnings]
    gate = gate_of(known)
    brains = gate["brain"][0] > 0.5
    if brains and not prepared.brain:
        warnings.append("No brain was found in the scan: another part of the body, a wrong orientation or few slices.")
    distance, found = distance_from(prepared, gate), measures(prepared, scores)
    if distance > ALLOWED:
        reasons = "another sequence, strong contrast agent, or a mask that holds more than the brain"
        warnings.append(
            f"The contrast of the tissue is {distance:.1f} times as far from the training scans as the farthest normal "
            f"scan: {reasons if brains else 'another kind of scan or another part of the body'}."
        )
    if other_sequence(found["inward"], gate):
        warnings.append("White and grey matter differ otherwise than in the training scans: another sequence.")
    anatomies = anatomies_of(known)
    if anatomies is not None and not anatomies.knows(found["coarse"]):
        warnings.append(
            "The anatomy is unlike that of every normal scan: another part of the body, or one that lies otherwise."
        )
    over = _turned_over(found["coarse"], gate["coarse"], brains and prepared.brain, prepared)
    if over:
        what = "head" if brains else "anatomy"
        warnings.append(f"The {what} seems to lie {over}: check the orientation that the file gives.")
    if found["odds"][0] > gate["odds"][0] + _ODD:
        reasons = "turned over, very noisy, or another kind of scan"
        reasons = f"by its missing slices, or it is {reasons}" if prepared.missing else reasons
        warnings.append(f"Most of the scan is unlike the training scans: {reasons}.")
    return warnings


def _turned_over(found: Floats, normal: Floats, brain: bool, prepared: Prepared) -> str:
    """As `turned`, of lists of cells; of a brain also by its own symmetry. Empty where one of them tells no anatomy."""
    if found.size != normal.size or not found.size:
        return ""
    coarse, usual = (cells.reshape((_COARSE,) * 3) for cells in (found, normal))
    if brain and quarter_turned(coarse):
        return QUARTER
    return turned(coarse, usual, quarters=brain, cut=brain and cut_off(prepared.mask))
