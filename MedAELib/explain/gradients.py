"""Integrated gradients: which voxels made the case score, from the nearest typical scan to the scan itself."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..engine.run import Engine
from ..features.code import Floats, Seen
from ..networks import Network
from .residuals import counted_in_each, given, voxels_of, worked_on

_SLICES = 16  # of a 2D network, at once
LARGEST = 3 * 2**20  # voxels: above, a part around the point is looked at, for the memory of the backward pass


@dataclass(frozen=True, eq=False)
class Attribution:
    """What each voxel [i, j, k] adds to the case score; the mean over the `counted` ones is `score` - `typical`.

    Of several modalities the voxels are those of each, [c, i, j, k], and the mean is over all together. All others are
    0. `gap` is how far it is from that, relative to it: the error of the path's few steps.
    """

    voxels: Floats
    score: float
    typical: float
    gap: float
    counted: int


def integrated_gradients(
    network: Network, seen: Seen, start: Floats, steps: int, engine: Engine, progress: Callable[[int, int], None]
) -> Attribution:
    """The attribution of the case score, the mean squared difference of a scan from what the network makes of it.

    Sundararajan et al. (ICML 2017): the gradient of the score, averaged along the straight path from `start` [i, j, k]
    to the scan, times their difference. Of several modalities those that are there go along the path together. The path
    is sampled at Gauss-Legendre points. `progress` may raise Cancelled.
    """
    runs = given(network, seen).to(engine.torch_device).eval()
    points, weights = np.polynomial.legendre.leggauss(steps)
    counted, shape = counted_in_each(seen), start.shape
    voxels, count = np.zeros(seen.voxels.shape, np.float32), int(counted.sum())
    # What does not count stays as it is along the path.
    begin = np.where(counted, start.reshape(seen.voxels.shape), seen.voxels)
    score = first = 0.0
    parts = list(_parts(seen, begin, counted, network.dims, engine.torch_device))
    for number, (place, x, base, mask) in enumerate(parts):
        total = torch.zeros_like(x)
        for step, (point, weight) in enumerate(zip(points, weights, strict=True)):
            progress(number * steps + step, len(parts) * steps)
            here = (base + (point + 1) / 2 * (x - base)).requires_grad_(True)
            (gradient,) = torch.autograd.grad(_squares(runs, here, mask), here)
            total += weight / 2 * gradient
        with torch.inference_mode():
            score += float(_squares(runs, x, mask)) / count
            first += float(_squares(runs, base, mask)) / count
        voxels[place] = voxels_of(total * (x - base), network.dims)
    progress(1, 1)
    found = float(voxels.sum(dtype=np.float64)) / count
    gap = abs(found - (score - first)) / max(abs(score - first), 1e-30)
    return Attribution(voxels.reshape(shape), score, first, gap, count)


def _squares(network: Network, x: Tensor, mask: Tensor) -> Tensor:
    """The sum of squared differences where the mask is 1; sizes are made multiples of the stride for the network."""
    padding = [amount for size, step in zip(x.shape[:1:-1], network.strides[::-1]) for amount in (0, -size % step)]
    padded = torch.nn.functional.pad(x, padding, mode="replicate") if any(padding) else x
    made = network(padded)[tuple(slice(size) for size in x.shape)]
    return ((x - made).square() * mask).sum(dtype=torch.float64)


def _parts(
    seen: Seen, start: Floats, counted: npt.NDArray[np.bool_], dims: int, device: torch.device
) -> Iterator[tuple[tuple[Any, ...], Tensor, Tensor, Tensor]]:
    """The scan, where the path starts, and the mask as the network takes them, whole (3D) or some slices at a time."""
    mask = counted.astype(np.float32)
    depth = start.shape[3] if dims == 3 else _SLICES
    for k in range(0, start.shape[3], depth):
        place = np.s_[..., k : k + depth]
        x, base, counts = (worked_on(voxels[place], dims, device) for voxels in (seen.voxels, start, mask))
        yield place, x, base, counts
