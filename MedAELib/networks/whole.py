"""Networks with one code for a whole slice or volume: they see it resampled to a grid of their own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from MedAELib.networks.network import Network


class WholeImage(Network):
    """What such networks share: x [b, 1, ...] of any size -> means on a grid -> code [b, n] -> grid -> size of x.

    They cannot be cut into tiles: every voxel of the result depends on every voxel of the slice (2D) or volume (3D).
    """

    tiles = False

    def __init__(self, dims: int, grid: int) -> None:
        super().__init__()
        self.dims, self.grid, self.stride, self.halo = dims, grid, 1, 0

    def forward(self, x: Tensor) -> Tensor:
        """The reconstructed scan: [b, 1, ...] -> [b, 1, ...], float32."""
        return from_grid(self.decode(self.encode(x)), x.shape[2:])


def to_grid(x: Tensor, grid: int) -> Tensor:
    """Means of x [b, c, ...] on a grid with this edge; repeated values where x is smaller."""
    if torch.compiler.is_exporting():  # ONNX has no means of regions of different sizes, but products of matrices
        for axis in range(2, x.ndim):
            means = _means(x.shape[axis], grid).to(x.device)
            x = (x.float().transpose(axis, -1) @ means).transpose(axis, -1)
        return x
    return nn.functional.interpolate(x.float(), (grid,) * (x.ndim - 2), mode="area")


def _means(size: int, grid: int) -> Tensor:
    """The matrix [size, grid] that takes a line of voxels to the means of its regions, as pooling cuts it in them."""
    voxel, cell = torch.arange(size)[:, None], torch.arange(grid)
    start, stop = cell * size // grid, ((cell + 1) * size + grid - 1) // grid
    within = ((start <= voxel) & (voxel < stop)).float()
    return within / within.sum(0)


def from_grid(y: Tensor, shape: Sequence[int]) -> Tensor:
    """Back from the grid to a size, between the grid's values linearly; float32."""
    mode = "trilinear" if y.ndim == 5 else "bilinear"
    return nn.functional.interpolate(y.float(), tuple(shape), mode=mode, align_corners=False)
