"""The normative autoencoder: it gives the nearest typical scan, and says where the scan is unlike the training data."""

from __future__ import annotations

from itertools import pairwise

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from MedAELib.networks.arguments import whole_number
from MedAELib.networks.network import Network
from MedAELib.networks.residual import Residual, plus

_AROUND = 3  # voxels on each side


class NormativeAutoencoder(Network):
    """Autoencoder over several scales, trained to undo what does not belong into a normal scan.

    ::

        x [b, 1, ...] -> cells of 2 voxels -> blocks -> / 2 -> blocks -> / 2 -> blocks
                      -> * 2, added to the finer -> blocks -> * 2, added to the finest: the code   (encode)
        code -> blocks -> voxels: what to add for a typical scan, and the log-odds of being unlike (decode)

    Reconstruction alone misses texture, blur and shape, which change intensities little (Kascenas et al., MIDL 2022,
    for the corruption; Zavrtanik et al., ICCV 2021, for the second answer). Brightness is meant as such: the scan comes
    with the median of its tissue at a fixed value. No statistic over the tile is taken: tiles fit exactly.
    """

    offset = 0.5  # the middle of the first cell

    def __init__(self, dims: int = 3, channels: int = 32, levels: int = 2, blocks: int = 1) -> None:
        super().__init__()
        self.dims, self.stride, self.levels = dims, 2 ** (levels + 1), levels
        widths = [channels * 2**level for level in range(levels + 1)]
        self.first = _smaller(dims, 2, channels)
        counts = [blocks] * levels + [1]  # a second one at the coarsest did nothing, and would hold most of the weights
        self.encoder = nn.ModuleList(_blocks(dims, width, count) for width, count in zip(widths, counts, strict=True))
        self.down = nn.ModuleList(_smaller(dims, narrow, wide) for narrow, wide in pairwise(widths))
        self.up = nn.ModuleList(_larger(dims, wide, narrow) for narrow, wide in pairwise(widths))
        self.decoder = nn.ModuleList(
            _blocks(dims, width, blocks, overwrites=level > 0) for level, width in enumerate(widths[:-1])
        )
        self.last = _larger(dims, channels, 2)
        self._start_as_identity()
        # A block reaches two of its cells, on the way down and on the way up; a cell may begin a cell earlier.
        reach = sum(2 ** (level + 1) * (4 * blocks + 1) for level in range(levels)) + self.stride * (2 * counts[-1] + 1)
        reach += _AROUND
        self.halo = -(-reach // self.stride) * self.stride

    def _start_as_identity(self) -> None:
        """Before training everything is typical, and nothing is known; signals keep their size through the levels."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1 or name.startswith("last"):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
                if "unit1" in name:
                    parameter.data *= 0.2

    def encode(self, x: Tensor) -> Tensor:
        """The code of a windowed scan: [b, 1, ...] -> [b, channels, ... / 2].

        The coarser codes have been unfolded onto the finest one already: decoding needs nothing else.
        """
        with torch.autocast(x.device.type, enabled=False):
            seen = _seen(x.float())
        features, codes = self.first(seen), []
        for level, block in enumerate(self.encoder):
            features = block(features if level == 0 else self.down[level - 1](features))
            codes.append(features)
        for level in reversed(range(self.levels)):
            features = plus(codes[level], self.up[level](features), overwrites=True)
            features = self.decoder[level](features) if level else features
        return features

    def decode(self, code: Tensor) -> Tensor:
        """What to add to the scan to make it typical, and the log-odds of being unlike: -> [b, 2, ...], float32."""
        made: Tensor = self.last(self.decoder[0](code))
        return made.float()

    def forward(self, x: Tensor) -> Tensor:
        """The nearest typical scan: [b, 1, ...] -> [b, 1, ...], float32."""
        return self.typical_and_odds(x)[:, :1]

    def typical_and_odds(self, x: Tensor) -> Tensor:
        """The nearest typical scan and the log-odds that a voxel is unlike the training data, [b, 2, ...], float32."""
        made = self.decode(self.encode(x))
        return torch.cat([x.float() + made[:, :1], made[:, 1:]], 1)


def _seen(x: Tensor) -> Tensor:
    """Brightness about the tissue's median, and what differs from its surroundings, both of a size near 1."""
    pool = nn.functional.avg_pool3d if x.ndim == 5 else nn.functional.avg_pool2d
    around = pool(x, 2 * _AROUND + 1, stride=1, padding=_AROUND)
    return torch.cat([4 * (x - 0.5), 10 * (x - around)], 1)


def _smaller(dims: int, channels: int, more: int) -> Convolution:
    """Cells of twice the size."""
    return Convolution(dims, channels, more, strides=2, kernel_size=2, padding=0, conv_only=True)


def _larger(dims: int, channels: int, fewer: int) -> Convolution:
    """Cells of half the size."""
    return Convolution(
        dims, channels, fewer, strides=2, kernel_size=2, padding=0, output_padding=0, conv_only=True, is_transposed=True
    )


def _blocks(dims: int, channels: int, count: int, overwrites: bool = True) -> nn.Sequential:
    """Residual blocks; the first one writes over its input only if it may."""
    return nn.Sequential(*(Residual(dims, channels, overwrites or number > 0) for number in range(count)))


def build(dims: int = 3, channels: int = 32, levels: int = 2, blocks: int = 1) -> NormativeAutoencoder:
    """A normative autoencoder with checked arguments: dims 2 or 3, channels 1..64, levels 1..4, blocks 1..4 at each
    scale but the coarsest, which has one."""
    return NormativeAutoencoder(
        dims=whole_number("dims", dims, 2, 3),
        channels=whole_number("channels", channels, 1, 64),
        levels=whole_number("levels", levels, 1, 4),
        blocks=whole_number("blocks", blocks, 1, 4),
    )
