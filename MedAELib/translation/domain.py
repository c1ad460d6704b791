"""The scans that a translating model learned from: their contrast, to which others are brought, and their voxels."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadModel
from ..quality import sample

Floats = npt.NDArray[np.float64]

_RANKS = np.linspace(0.05, 0.95, 19)
_SEEN = 0.02  # of the window: what is darker is air
_LEAST = 0.05  # of the window: differences between scans of one kind from one scanner
_ALLOWED = 1.5  # times as far from every training scan as these are from one another
_SPACING = 1.5  # times larger or smaller voxels
_MOST = 20  # scans that a model remembers


def spread(array: npt.NDArray[Any], limits: tuple[float, float]) -> Floats:
    """The quantiles of what is not air in a scan `[i, j, k]`, in its window; zeros where all is air."""
    seen = (sample(array).astype(np.float64) - limits[0]) / (limits[1] - limits[0])
    seen = seen[seen > _SEEN]
    return np.quantile(seen, _RANKS) if seen.size else np.zeros(len(_RANKS))


@dataclass(frozen=True, eq=False)
class Curve:
    """How the tissue of one scan comes to the standard contrast of its kind: window units to window units."""

    own: Floats
    standard: Floats

    def __call__(self, seen: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """The voxels in the standard contrast, float32: linear between the quantiles, and on beyond them."""
        rise = (self.standard[-1] - self.standard[-2]) / (self.own[-1] - self.own[-2])
        beyond = np.maximum(seen - np.float32(self.own[-1]), 0) * np.float32(rise)
        below = np.minimum(seen, np.float32(0))
        return (np.interp(seen, self.own, self.standard) + beyond + below).astype(np.float32)


def standard_of(scans: Sequence[Floats]) -> tuple[float, ...]:
    """The contrast of a kind of scan: the mean quantiles of its scans, which rise; none where they do not."""
    mean = [round(float(value), 5) for value in np.mean(scans, axis=0)] if scans else []
    return tuple(mean) if mean and mean[0] > 0 and all(a < b for a, b in pairwise(mean)) else ()


def to_standard(found: Floats, standard: Sequence[float]) -> Curve | None:
    """What brings a scan with these quantiles to a standard (Nyul and Udupa 1999); None where there is none."""
    if len(standard) != len(found) or found[0] <= 0 or not (np.diff(found) > 1e-6).all():
        return None
    ends = np.array([0.0])
    return Curve(np.concatenate([ends, found]), np.concatenate([ends, np.array(standard)]))


def domain(scans: Sequence[Floats], spacings: Sequence[Sequence[float]]) -> dict[str, Any]:
    """What a model folder keeps of its training scans: their spreads, and the range of their voxels in millimetres."""
    rows = [[round(float(value), 4) for value in scan] for scan in scans[:_MOST]]
    sizes = np.array(spacings, dtype=np.float64)
    return {"spreads": rows, "finest": sizes.min(0).round(3).tolist(), "coarsest": sizes.max(0).round(3).tolist()}


def doubts(found: Floats, spacing: Sequence[float], known: Mapping[str, Any], name: str, kind: str) -> list[str]:
    """Why a scan may be none that the model can translate, as plain sentences. Raises BadModel for an odd folder."""
    rows = _numbers(known.get("spreads"), (-1, len(_RANKS)))
    finest, coarsest = (_numbers(known.get(key), (3,)) for key in ("finest", "coarsest"))
    among = [np.abs(one - other).mean() for n, one in enumerate(rows) for other in rows[:n]]
    usual = max([_LEAST, *among])
    distance = float(np.abs(rows - found).mean(1).min()) / usual
    told = []
    if distance > _ALLOWED:
        told.append(
            f"The intensities of {name} are {distance:.1f} times as far from the {kind} scans that the model learned "
            "from as these are from one another: another kind of scan, or another part of the body."
        )
    if any(mm > _SPACING * high or mm * _SPACING < low for mm, low, high in zip(spacing, finest, coarsest)):
        here, there = (" x ".join(f"{mm:.3g}" for mm in sizes) for sizes in (spacing, (finest + coarsest) / 2))
        told.append(f"The voxels of {name} are {here} mm, those of the training scans about {there} mm; resample it.")
    return told


def _numbers(value: Any, shape: tuple[int, ...]) -> Floats:
    try:
        array = np.array(value, dtype=np.float64)
        array = array.reshape(shape)
    except (ValueError, TypeError):
        array = np.array(math.nan)
    if not array.size or not np.isfinite(array).all():
        raise BadModel("The model does not say what its training scans look like.", "Get the model again.")
    return array
