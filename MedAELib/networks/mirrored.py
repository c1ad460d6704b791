"""The mean of what a network makes of a scan and of its mirror images (geometric self-ensemble)."""

from __future__ import annotations

import itertools

from torch import Tensor

from MedAELib.errors import BadInput
from MedAELib.networks.network import Network, Wrapped

PASSES = (1, 2, 4, 8)


class Mirrored(Wrapped):
    """An image-to-image network that looks 2, 4 or 8 times, each time at another mirror image: [b, c, ...] -> the same.

    A network that learned from mirrored patches errs differently on each mirror image; their mean errs less. Two passes
    see the scan and the scan mirrored along all axes, four those mirrored along an even number of axes, eight all of
    them; a 2D network has four. Tiles are as exact as before: their edges are multiples of the stride, so that in every
    tile the mirrored strides begin at the same voxels.
    Raises BadInput for another number of passes. Source: Timofte, Rothe and Van Gool, CVPR 2016.
    """

    def __init__(self, network: Network, passes: int) -> None:
        super().__init__(network)
        check_passes(passes)
        self.mirrors = _mirrors(network.dims, passes)
        self.calls = network.calls * len(self.mirrors)

    def forward(self, x: Tensor) -> Tensor:
        """The mean over the mirror images, float32."""
        total = self.network(x).float()
        for axes in self.mirrors[1:]:
            total = total + self.network(x.flip(axes)).float().flip(axes)
        return total / len(self.mirrors)


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
