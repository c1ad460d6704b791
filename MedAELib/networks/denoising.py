"""The denoising autoencoder: it codes a scan in units of its noise, decodes the noise, and takes it away."""

from __future__ import annotations

import math

import torch
from monai.networks.blocks import Convolution
from torch import Tensor, nn

from MedAELib.networks.arguments import whole_number
from MedAELib.networks.network import Network
from MedAELib.networks.residual import Residual, plus

_CELL = 2  # voxels along an edge
_REACH = 2  # cells on each side, of local means
_FLAT_REACH = 4  # cells on each side, of the mean that stands for flat tissue


class DenoisingAutoencoder(Network):
    """Residual denoising autoencoder with gates: takes the decoded noise away, then the detail that is none.

    ::

        x [b, 1, ...] -> Haar cells [b, 2^dims, ... / 2] -> seen twice -> conv -> blocks -> fine code
        fine code -> strided conv -> deep blocks -> deep code [b, deep_channels, ... / 4]                 (encode)
        fine code + transposed conv(deep code) -> blocks -> noise and gates [b, 2 * 2^dims, ... / 2]      (decode)
        flat + gate * (Haar cells of x - noise - flat) -> inverse Haar                                    (denoised)

    The fine code keeps edges; the deep code, where a convolution reaches twice as far at an eighth of the cost,
    averages over flat tissue. Without `deep_channels` there is only the fine code.

    The scan comes in units of its noise (`MedAELib.noise` tells how strong that is for the volume as a whole): seen so,
    all noise levels look alike and one network learns them all at once. A level that is looked for in the
    neighbourhood alone cannot tell fine anatomy from noise. Only differences from the local mean are coded, so bfloat16
    rounds the noise estimate and never the scan. The network predicts the noise and not the image, so that doing
    nothing is easy and anatomy has no bottleneck to pass. Where nothing but noise is left, the opposite shall be easy:
    a gate of 0 puts the mean of the surroundings (no detail) in the place of a Haar coefficient, a gate of 1 leaves it.
    This is wavelet shrinkage (Donoho and Johnstone 1994) whose thresholds are learned. There is no normalisation layer
    and no statistic over the whole tile: tiles fit exactly.

    In training the code is also asked how strong the noise really is around each voxel: a network that must know this
    codes noise and anatomy apart.

    Under autocast everything but the convolutions between the first and the last stays in float32.
    """

    offset = 0.5  # the middle of the first cell

    def __init__(
        self, dims: int = 3, channels: int = 32, blocks: int = 4, deep_channels: int = 0, deep_blocks: int = 0
    ) -> None:
        super().__init__()
        self.dims, cells = dims, _CELL**dims
        self.stride = 2 * _CELL if deep_channels else _CELL
        reach = _CELL * (_REACH + 2 * blocks + 2)
        if deep_channels:  # the deep cell that a voxel lies in may begin a fine cell earlier
            reach += self.stride * 2 * deep_blocks + _CELL
        reach += _CELL * _FLAT_REACH
        self.halo = math.ceil(reach / self.stride) * self.stride
        self.first = Convolution(dims, 2 * cells + 3, channels, conv_only=True)
        self.encoder = nn.Sequential(*(Residual(dims, channels, overwrites=True) for _ in range(blocks // 2)))
        self.decoder = nn.Sequential(*(Residual(dims, channels, n > 0) for n in range(blocks - blocks // 2)))
        self.deep = _deep(dims, channels, deep_channels, deep_blocks) if deep_channels else None
        self.last = Convolution(dims, channels, cells, conv_only=True)
        self.gate = Convolution(dims, channels, cells, kernel_size=1, padding=0, conv_only=True)
        self.level = Convolution(dims, channels, 1, kernel_size=1, padding=0, conv_only=True)
        self._start_as_identity()

    def encode(self, x: Tensor) -> Tensor:
        """The code of a scan in units of its noise: [b, 1, ...] -> [b, channels, ... / 2].

        With a deep code, that has been unfolded onto the fine one already: decoding needs nothing else.
        """
        with torch.autocast(x.device.type, enabled=False):
            layout = torch.channels_last_3d if self.dims == 3 else torch.channels_last
            features = self.first(_seen(haar(x.float(), self.dims)).contiguous(memory_format=layout))
        features = self.encoder(features)
        return features if self.deep is None else plus(features, self.deep(features), overwrites=True)

    def decode(self, code: Tensor) -> Tensor:
        """The noise that a code describes, and where there is detail: [b, channels, ...] -> [b, 2 * 2^dims, ...].

        First the Haar cells of the noise, then a gate 0..1 for each coefficient; float32, on the grid of the cells.
        """
        features = self.decoder(code)
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            return torch.cat([self.last(features), (1 - self.gate(features)).clamp(0, 1)], 1)

    def denoised(self, x: Tensor, decoded: Tensor) -> Tensor:
        """A scan [b, 1, ...] without the noise that was decoded: [b, 1, ...], float32."""
        with torch.autocast(x.device.type, enabled=False):
            cells = haar(x.float(), self.dims)
            noise, gate = decoded.chunk(2, 1)
            flat = local_mean(cells[:, :1] - noise[:, :1], _FLAT_REACH)
            flat = torch.cat([flat, torch.zeros_like(cells[:, 1:])], 1)
            taken = noise + (1 - gate) * (cells - noise - flat)
            return x.float() - inverse_haar(taken, self.dims)

    def forward(self, x: Tensor) -> Tensor:
        """The denoised scan: [b, 1, ...] -> [b, 1, ...], float32."""
        return self.denoised(x, self.decode(self.encode(x)))

    def denoised_and_level(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The denoised scan, and the logarithm of the deviation of its noise around each cell, [b, 1, ... / 2]."""
        code = self.encode(x)
        with torch.autocast(x.device.type, enabled=False):
            level = self.level(code.float())
        return self.denoised(x, self.decode(code)), level

    def _start_as_identity(self) -> None:
        """Before training no noise is found: every block passes its input on, the last convolution gives zero."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1 or name.startswith(("last", "gate", "level")):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
                if "unit1" in name:
                    parameter.data *= 0.2


def _seen(cells: Tensor) -> Tensor:
    """What the first convolution sees [b, 2 * 2^dims + 3, ...], from Haar cells in units of the noise.

    Each coefficient twice, cut off softly at four deviations (noise in full, edges as their sign) and on a logarithmic
    scale; then how much varies around here, the share of the finest diagonal detail (correlated noise has little), and
    the signal-to-noise ratio (a Rician bias depends on it).
    """
    dims, detail = cells.ndim - 2, cells[:, 1:]
    mean = local_mean(cells[:, :1], _REACH)
    deviation = local_mean(detail.square().mean(1, keepdim=True), _REACH).sqrt()
    finest = local_mean(detail[:, -1:].square(), _REACH).sqrt()
    ratio = torch.cat([cells[:, :1] - mean, detail], 1)
    signal = mean * 2 ** (-dims / 2)
    context = [deviation.log1p(), finest / deviation.clamp(min=1), signal / (signal.abs() + 3)]
    return torch.cat([ratio / (1 + (ratio / 4).square()).sqrt(), ratio.asinh(), *context], 1)


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


def local_mean(x: Tensor, reach: int) -> Tensor:
    """Means over the cells within ``reach`` along every axis, of those inside the volume; axis by axis."""
    for axis in range(2, x.ndim):
        size, steps = x.shape[axis], range(2 * reach + 1)
        padded = nn.functional.pad(x, [0, 0] * (x.ndim - 1 - axis) + [reach, reach])
        inside = nn.functional.pad(torch.ones(size, device=x.device), (reach, reach))
        total = sum((padded.narrow(axis, step, size) for step in steps), torch.zeros((), device=x.device))
        count = torch.stack([inside[step : step + size] for step in steps]).sum(0)
        x = total / count.view(-1, *[1] * (x.ndim - 1 - axis))
    return x


def ramp(x: Tensor, start: float, end: float) -> Tensor:
    """0 up to `start`, 1 from `end` on."""
    return ((x - start) / (end - start)).clamp(0, 1)


def _deep(dims: int, channels: int, deep_channels: int, blocks: int) -> nn.Sequential:
    """Down to cells of twice the size, residual blocks, and back up."""
    down = Convolution(dims, channels, deep_channels, strides=2, kernel_size=2, padding=0, conv_only=True)
    up = Convolution(
        dims, deep_channels, channels, strides=2, kernel_size=2, padding=0, output_padding=0, conv_only=True,
        is_transposed=True,
    )  # fmt: skip
    return nn.Sequential(down, *(Residual(dims, deep_channels, overwrites=True) for _ in range(blocks)), up)


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
