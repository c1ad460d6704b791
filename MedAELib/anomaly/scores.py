"""How unlike normal each voxel is, by several measures: the model's answer, its residual, and plain baselines."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from scipy.ndimage import median_filter

from ..engine.run import Engine, Progress
from ..engine.tiles import Box
from ..errors import BadModel
from ..model import Model
from ..networks import Network
from ..networks.normative import NormativeAutoencoder
from .grid import Floats
from .prepare import Prepared

BASELINES = ("bright", "contrast")
_WIDE, _NARROW = 7, 3  # voxels of the median filters


@dataclass(frozen=True, eq=False)
class Scores:
    """Maps `[i, j, k]` on the grid by name, larger where the scan is less normal, and the nearest typical scan."""

    maps: dict[str, Floats]
    typical: Floats | None = None


class _Told(Network):
    """The normative network as the engine runs it: typical scan, and log-odds as a further channel."""

    def __init__(self, network: NormativeAutoencoder) -> None:
        super().__init__()
        self.network = network
        self.dims, self.stride, self.halo = network.dims, network.stride, network.halo

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network.typical_and_odds(x)


def baseline_scores(prepared: Prepared) -> Scores:
    """What needs no training: `bright`, the lightly smoothed intensity over the tissue's median, and `contrast`, how
    far a voxel is from the median within 7 voxels, both after a median of 3 voxels.

    The first finds hyperintense lesions on FLAIR better than most published autoencoders (Meissen et al., 2021).
    """
    smooth = median_filter(prepared.voxels, _NARROW)
    contrast = np.abs(smooth - median_filter(prepared.voxels, _WIDE))
    return Scores({"bright": smooth, "contrast": contrast})


def model_scores(prepared: Prepared, model: Model, engine: Engine, progress: Progress) -> Scores:
    """The baselines, and what a normative model says: `unlike`, its log-odds, and `residual`, the size of scan minus
    typical scan after a median of 3 voxels. Raises BadModel for a model of another task."""
    if not isinstance(model.network, NormativeAutoencoder):
        raise BadModel(f"The model was made to {model.spec.task}, not to find what is unlike normal scans.")
    odds, typical = np.zeros_like(prepared.voxels), np.zeros_like(prepared.voxels)

    def keep(core: Box, before: Floats, after: Floats, told: Floats) -> None:
        typical[core], odds[core] = after, told

    engine.run(_Told(model.network), prepared.voxels, (0.0, 1.0), keep, progress, 1)
    typical = np.where(prepared.mask, np.maximum(typical, 0), 0).astype(np.float32)
    residual = np.abs(median_filter(prepared.voxels - typical, _NARROW))
    return Scores({"unlike": odds, "residual": residual, **baseline_scores(prepared).maps}, typical)
