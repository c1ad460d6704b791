"""Networks with one code for a whole slice or volume: they see it resampled to a grid of their own."""

from __future__ import annotations

from collections.abc import Sequence

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
    return nn.functional.interpolate(x.float(), (grid,) * (x.ndim - 2), mode="area")


def from_grid(y: Tensor, shape: Sequence[int]) -> Tensor:
    """Back from the grid to a size, between the grid's values linearly; float32."""
    mode = "trilinear" if y.ndim == 5 else "bilinear"
    return nn.functional.interpolate(y.float(), tuple(shape), mode=mode, align_corners=False)
