"""How unlike normal each voxel is, by several measures: the model's answer, its residual, and plain baselines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, median_filter

from ..engine.run import Engine, Progress
from ..engine.tiles import Box
from ..model import Model
from ..networks import Wrapped
from ..networks.normative import NormativeAutoencoder
from .asymmetry import ASYMMETRY, asymmetry
from .grid import Floats
from .masks import Mask, box_around
from .prepare import Prepared, other_task
from .smoothness import SMOOTH, smoothness

_WIDE, _NARROW = 7, 3  # voxels of the median filters


@dataclass(frozen=True, eq=False)
class Scores:
    """Maps `[i, j, k]` on the grid by name, larger where the scan is less normal, and the nearest typical scan."""

    maps: dict[str, Floats]
    typical: Floats | None = None


class _Told(Wrapped):
    """The normative network as the engine runs it: typical scan, and log-odds as a further channel."""

    network: NormativeAutoencoder

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.typical_and_odds(x)


def baseline_scores(prepared: Prepared) -> Scores:
    """What needs no training: `bright`, the lightly smoothed intensity over the tissue's median, and `contrast`, how
    far a voxel is from the median within 7 voxels, both after a median of 3 voxels; see `untrained` for the others.

    The first finds hyperintense lesions on FLAIR better than most published autoencoders (Meissen et al., 2021).
    """
    box, smooth, contrast = box_around(prepared.mask, _WIDE), *np.zeros((2, *prepared.voxels.shape), np.float32)
    smooth[box] = median_filter(prepared.voxels[box], _window(prepared, _NARROW))
    contrast[box] = np.abs(smooth[box] - median_filter(prepared.voxels[box], _window(prepared, _WIDE)))
    return Scores({"bright": smooth, "contrast": contrast, **untrained(prepared)})


def untrained(prepared: Prepared) -> dict[str, Floats]:
    """Further maps without any training, which may be part of the shown one: of volumes `asymmetry`, and `smooth` but
    for CT, where all is the same in air and bone."""
    if prepared.dims != 3:
        return {}
    return {ASYMMETRY: asymmetry(prepared), **({} if prepared.hounsfield else {SMOOTH: smoothness(prepared)})}


def model_scores(
    prepared: Prepared,
    model: Model,
    engine: Engine,
    progress: Progress,
    *,
    mirrored: bool = False,
    smoothing: float = 0.0,
) -> Scores:
    """The baselines, and what a normative model says: `unlike`, its log-odds, and `residual`, the size of scan minus
    typical scan.

    With `mirrored` the mean of its answers to the scan and to its mirror image is used, for models that were trained on
    both. `smoothing` is the Gaussian over the answers, in cells of the grid and within the mask; at 0 the residual goes
    through a median of 3 voxels instead. Raises BadModel for a model of another task.
    """
    odds, typical = answers(prepared, model, engine, progress, mirrored)
    found = scores_from(prepared, odds, typical, smoothing)
    return Scores({**found.maps, **baseline_scores(prepared).maps}, typical)


def scores_from(prepared: Prepared, odds: Floats, typical: Floats, smoothing: float) -> Scores:
    """`unlike` and `residual` alone, as `model_scores`, from the network's answers."""
    residual = np.where(prepared.mask, prepared.voxels - typical, 0)
    if smoothing:
        odds, residual = (mean_within(score, prepared.mask, smoothing, prepared.dims) for score in (odds, residual))
    else:
        residual = median_filter(residual, _window(prepared, _NARROW))
    return Scores({"unlike": odds, "residual": np.abs(residual)}, typical)


def answers(
    prepared: Prepared, model: Model, engine: Engine, progress: Progress, mirrored: bool
) -> tuple[Floats, Floats]:
    """Log-odds and nearest typical scan of the network, means of its answers to both sides if it is asked about both.

    Raises BadModel for a model of another task.
    """
    if not isinstance(model.network, NormativeAutoencoder):
        raise other_task(model)
    sides, stride = 2 if mirrored else 1, model.network.stride
    box = box_around(prepared.mask, 2 * stride, stride)  # most of a CT's grid may be air around the body
    odds, typical = np.zeros_like(prepared.voxels), np.zeros_like(prepared.voxels)
    for side in range(sides):
        seen = np.ascontiguousarray(np.flip(prepared.voxels[box], 0) if side else prepared.voxels[box])
        told = np.zeros((2, *seen.shape), np.float32)

        def keep(core: Box, before: Floats, after: Floats, more: Floats, told: Floats = told) -> None:
            told[0][core], told[1][core] = after, more

        def half(done: int, total: int, side: int = side) -> None:
            progress(side * total + done, sides * total)

        engine.run(_Told(model.network), seen, (0.0, 1.0), keep, half, 1)
        told = np.flip(told, 1) if side else told
        typical[box] += told[0] / sides
        odds[box] += told[1] / sides
    return odds, np.where(prepared.mask, np.maximum(typical, 0), 0).astype(np.float32)


def mean_within(score: Floats, mask: Mask, width: float, dims: int) -> Floats:
    """The Gaussian mean `[i, j, k]` over the voxels of the mask alone, of so many cells; planes within themselves."""
    widths = [width if axis < dims else 0 for axis in range(3)]
    weight = gaussian_filter(mask.astype(np.float32), widths)
    return np.asarray(gaussian_filter(np.where(mask, score, 0), widths) / np.maximum(weight, 1e-3), np.float32)


def _window(prepared: Prepared, edge: int) -> tuple[int, ...]:
    """A window of so many voxels along each axis; flat in a plane."""
    return tuple(edge if axis < prepared.dims else 1 for axis in range(3))
