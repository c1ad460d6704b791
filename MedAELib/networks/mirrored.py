"""The mean of what a network makes of a scan and of its mirror images, on shifted grids (geometric self-ensemble)."""

from __future__ import annotations

import itertools

from torch import Tensor
from torch.nn import functional

from MedAELib.errors import BadInput
from MedAELib.networks.network import Network, Wrapped

PASSES = (1, 2, 4, 8)


class Mirrored(Wrapped):
    """An image-to-image network that looks 2, 4 or 8 times, each time at another mirror image: [b, c, ...] -> the same.

    A network that learned from mirrored patches errs differently on each mirror image; their mean errs less. It errs
    differently, too, where its cells begin at other voxels: so along every axis that a pass mirrors, cells begin one
    voxel earlier. That brings more than the mirror: a network with cells is not blind to shifts.
    Two passes see the scan and the scan mirrored along all axes, four those mirrored along an even number of axes,
    eight all of them; a 2D network has four. Tiles are as exact as before: their edges are multiples of the stride, so
    that in every tile the mirrored cells begin at the same voxels, and the halo is wider by a stride. A network without
    tiles is not shifted.
    Raises BadInput for another number of passes. Sources: Timofte, Rothe and Van Gool, CVPR 2016; cycle spinning,
    Coifman and Donoho 1995.
    """

    def __init__(self, network: Network, passes: int) -> None:
        super().__init__(network)
        check_passes(passes)
        self.mirrors = _mirrors(network.dims, passes)
        self.calls = network.calls * len(self.mirrors)
        self.halo = network.halo + (network.stride if len(self.mirrors) > 1 else 0)

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the mirror images, float32."""
        total = self.network(x).float()
        for axes in self.mirrors[1:]:
            total = total + self._pass(x.flip(axes), axes).float().flip(axes)
        return total / len(self.mirrors)

    def _pass(self, x: Tensor, axes: tuple[int, ...]) -> Tensor:
        """What the network makes of x when its cells begin one voxel earlier along the axes.

        What lies beyond the border is mirrored: repeated voxels would look like a place without noise.
        """
        celled = [self.tiles and stride > 1 for stride in self.strides]
        before = [int(axis in axes and shifts) for axis, shifts in enumerate(celled, 2)]
        after = [(stride - 1) * one for one, stride in zip(before, self.strides, strict=True)]
        sides = [side for pair in zip(before[::-1], after[::-1], strict=True) for side in pair]
        made: Tensor = self.network(functional.pad(x, sides, mode="reflect"))
        inside = [slice(start, start + size) for start, size in zip(before, x.shape[2:], strict=True)]
        return made[(slice(None), slice(None), *inside)]


def check_passes(passes: int) -> None:
    """Raises BadInput for a number of passes that there is not; 0 (automatic) is none."""
    if passes not in PASSES:
        raise BadInput(f"{passes} passes are not possible.", "Choose 1, 2, 4 or 8, or 0 for automatic.")


def _mirrors(dims: int, passes: int) -> list[tuple[int, ...]]:
    """The axes [b, c, i, j(, k)] along which each pass is mirrored; the first along none."""
    every = [axes for count in range(dims + 1) for axes in itertools.combinations(range(2, dims + 2), count)]
    if passes <= 2:
        return [every[0], every[-1]][:passes]
    return [axes for axes in every if len(axes) % 2 == 0] if passes == 4 and dims == 3 else every
