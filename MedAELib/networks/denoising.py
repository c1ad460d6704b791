"""The denoising autoencoder: it codes a scan in units of its own local noise, decodes the noise, and takes it away."""

from __future__ import annotations

import math

import torch
from monai.networks.blocks import Convolution, ResidualUnit
from torch import Tensor, nn

from MedAELib.networks.arguments import whole_number
from MedAELib.networks.network import Network

LEAST_NOISE = 0.002  # of the window: weaker noise is not looked for
_CELL = 2  # voxels along an edge
NOTHING = 1e-4  # of the window: cells that vary less hold no measurement (masked air) and say nothing about the noise


class DenoisingAutoencoder(Network):
    """Blind residual denoising autoencoder: ``denoised = x - decode(encode(x))``.

    ::

        x [b, 1, ...] -> Haar cells [b, 2^dims, ... / 2] -> in yardsticks -> conv -> blocks -> fine code
        fine code -> strided conv -> deep blocks -> deep code [b, deep_channels, ... / 4]                 (encode)
        fine code + transposed conv(deep code) -> blocks -> conv -> times the yardstick -> inverse Haar   (decode)
        x - noise                                                                                         (forward)

    The fine code keeps edges; the deep code, where a convolution reaches twice as far at an eighth of the cost,
    averages over flat tissue. Without `deep_channels` there is only the fine code.

    The yardstick is the smallest local deviation of the detail coefficients within a few cells: anatomy only adds to
    it, so it follows the noise. Seen in its units all noise levels look alike and one network learns them all at once;
    and as only differences from the local mean are coded, in these units, bfloat16 rounds the noise estimate and never
    the scan. The network predicts the noise and not the image, so that doing nothing is easy and anatomy has no
    bottleneck to pass. There is no normalisation layer and no statistic over the whole tile: tiles fit exactly.

    Anatomy that is nowhere flat makes the yardstick too long. So the code is also asked how many yardsticks the noise
    really measures; that answer is the noise map (`noise`), and learning it teaches the code to correct itself.

    Under autocast everything but the convolutions between the first and the last stays in float32.
    """

    deviation_reach, quietest_reach = 2, 3  # cells on each side

    def __init__(
        self, dims: int = 3, channels: int = 32, blocks: int = 4, deep_channels: int = 0, deep_blocks: int = 0
    ) -> None:
        super().__init__()
        self.dims, cells = dims, _CELL**dims
        self.stride = 2 * _CELL if deep_channels else _CELL
        reach = _CELL * (self.deviation_reach + self.quietest_reach + 2 * blocks + 2)
        if deep_channels:  # the deep cell that a voxel lies in may begin a fine cell earlier
            reach += self.stride * 2 * deep_blocks + _CELL
        self.halo = math.ceil(reach / self.stride) * self.stride
        self.first = Convolution(dims, 2 * cells + 3, channels, conv_only=True)
        self.encoder = nn.Sequential(*(_block(dims, channels) for _ in range(blocks // 2)))
        self.decoder = nn.Sequential(*(_block(dims, channels) for _ in range(blocks - blocks // 2)))
        self.deep = _deep(dims, channels, deep_channels, deep_blocks) if deep_channels else None
        self.last = Convolution(dims, channels, cells, conv_only=True)
        self.level = Convolution(dims, channels, 1, kernel_size=1, padding=0, conv_only=True)
        self._start_as_identity()

    def encode(self, x: Tensor) -> Tensor:
        """The code of a windowed scan: [b, 1, ...] -> [b, channels + 1, ... / 2], float32; last is the yardstick.

        With a deep code, that has been unfolded onto the fine one already: decoding needs nothing else.
        """
        return torch.cat(self._encoded(x), 1)

    def decode(self, code: Tensor) -> Tensor:
        """The noise that a code describes: [b, channels + 1, ... / 2] -> [b, 1, ...], float32, in window units."""
        return self._decoded(code[:, :-1], code[:, -1:])

    def forward(self, x: Tensor) -> Tensor:
        """The denoised scan: [b, 1, ...] -> [b, 1, ...], float32."""
        return x.float() - self._decoded(*self._encoded(x))

    def noise(self, x: Tensor) -> Tensor:
        """The standard deviation of the noise around each voxel: [b, 1, ...] -> [b, 1, ...], float32, window units."""
        level = self._level(*self._encoded(x)).exp()
        for axis in range(2, 2 + self.dims):
            level = level.repeat_interleave(_CELL, axis)
        return level

    def denoised_and_level(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """For training: the denoised scan, and the logarithm of its noise's deviation [b, 1, ... / 2]."""
        features, yardstick = self._encoded(x)
        return x.float() - self._decoded(features, yardstick), self._level(features, yardstick)

    def _level(self, features: Tensor, yardstick: Tensor) -> Tensor:
        with torch.autocast(features.device.type, enabled=False):
            return yardstick.log() + self.level(features.float())

    def _encoded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(x.device.type, enabled=False):
            cells = haar(x.float(), self.dims)
            seen, yardstick = self._in_units_of_noise(cells)
            layout = torch.channels_last_3d if self.dims == 3 else torch.channels_last
            features = self.first(seen.contiguous(memory_format=layout))
        features = self.encoder(features)
        return features if self.deep is None else features + self.deep(features), yardstick

    def _decoded(self, features: Tensor, yardstick: Tensor) -> Tensor:
        features = self.decoder(features)
        with torch.autocast(features.device.type, enabled=False):
            return inverse_haar(self.last(features.float()) * yardstick, self.dims)

    def _in_units_of_noise(self, cells: Tensor) -> tuple[Tensor, Tensor]:
        """What the first convolution sees [b, 2 * 2^dims + 3, ...], and the yardstick [b, 1, ...], from Haar cells.

        Each coefficient twice, cut off softly at four yardsticks (noise in full, edges as their sign) and on a
        logarithmic scale; then how much more than the yardstick varies here, the share of the finest diagonal detail
        (correlated noise has little), and the signal-to-noise ratio (a Rician bias depends on it).
        """
        detail = cells[:, 1:]
        mean = _local(cells[:, :1], "mean", self.deviation_reach)
        deviation = _local(detail.square().mean(1, keepdim=True), "mean", self.deviation_reach).sqrt()
        finest = _local(detail[:, -1:].square(), "mean", self.deviation_reach).sqrt()
        quietest = -_local(-torch.where(deviation < NOTHING, math.inf, deviation), "maximum", self.quietest_reach)
        yardstick = torch.where(quietest.isinf(), 0, quietest).square().add(LEAST_NOISE**2).sqrt()
        ratio = torch.cat([cells[:, :1] - mean, detail], 1) / yardstick
        signal = mean * 2 ** (-self.dims / 2)
        context = [(deviation / yardstick).log1p(), finest / yardstick.maximum(deviation)]
        context.append(signal / (signal.abs() + 3 * yardstick))
        return torch.cat([ratio / (1 + (ratio / 4).square()).sqrt(), ratio.asinh(), *context], 1), yardstick

    def _start_as_identity(self) -> None:
        """Before training no noise is found: every block passes its input on and the last convolution gives zero."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1 or name.startswith(("last", "level")):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
                if "unit1" in name:
                    parameter.data *= 0.2


def haar(x: Tensor, dims: int) -> Tensor:
    """Orthonormal Haar transform of one level: [b, c, ...] -> [b, c * 2^dims, ... / 2], the local mean first.

    Made of sums and differences, not of a convolution, so that no device rounds the scan to a shorter type.
    """
    for axis in range(2, 2 + dims):
        even, odd = x.unflatten(axis, (-1, 2)).unbind(axis + 1)
        x = torch.cat([even + odd, even - odd], 1) * math.sqrt(0.5)
    return x


def inverse_haar(cells: Tensor, dims: int) -> Tensor:
    """The inverse of `haar`: [b, c * 2^dims, ... / 2] -> [b, c, ...]."""
    for axis in reversed(range(2, 2 + dims)):
        low, high = cells.chunk(2, 1)
        cells = torch.stack([low + high, low - high], axis + 1).flatten(axis, axis + 1) * math.sqrt(0.5)
    return cells


def _local(x: Tensor, kind: str, reach: int) -> Tensor:
    """Mean or maximum over the cells within ``reach`` along every axis, of those inside the volume; axis by axis."""
    outside = 0.0 if kind == "mean" else -math.inf
    for axis in range(2, x.ndim):
        padding = [0, 0] * (x.ndim - 1 - axis) + [reach, reach]
        cells = nn.functional.pad(x, padding, value=outside).unfold(axis, 2 * reach + 1, 1)
        if kind == "maximum":
            x = cells.amax(-1)
            continue
        inside = nn.functional.pad(torch.ones(x.shape[axis], device=x.device), (reach, reach)).unfold(
            0, 2 * reach + 1, 1
        )
        x = cells.mean(-1) * ((2 * reach + 1) / inside.sum(-1)).view(-1, *[1] * (x.ndim - 1 - axis))
    return x


def _deep(dims: int, channels: int, deep_channels: int, blocks: int) -> nn.Sequential:
    """Down to cells of twice the size, residual blocks, and back up."""
    down = Convolution(dims, channels, deep_channels, strides=2, kernel_size=2, padding=0, conv_only=True)
    up = Convolution(
        dims, deep_channels, channels, strides=2, kernel_size=2, padding=0, output_padding=0, conv_only=True,
        is_transposed=True,
    )  # fmt: skip
    return nn.Sequential(down, *(_block(dims, deep_channels) for _ in range(blocks)), up)


def _block(dims: int, channels: int) -> ResidualUnit:
    """Convolution, ReLU, convolution, added to the input."""
    return ResidualUnit(
        dims, channels, channels, subunits=2, adn_ordering="A", act="RELU", norm=None, last_conv_only=True
    )


def build(
    dims: int = 3, channels: int = 32, blocks: int = 4, deep_channels: int = 0, deep_blocks: int = 0
) -> DenoisingAutoencoder:
    """A denoising autoencoder with checked arguments: dims 2 or 3, channels 1..128, blocks 0..12.

    deep_channels 0 (no deep code) to 256, deep_blocks 0..12.
    """
    return DenoisingAutoencoder(
        dims=whole_number("dims", dims, 2, 3),
        channels=whole_number("channels", channels, 1, 128),
        blocks=whole_number("blocks", blocks, 0, 12),
        deep_channels=whole_number("deep_channels", deep_channels, 0, 256),
        deep_blocks=whole_number("deep_blocks", deep_blocks, 0, 12),
    )
