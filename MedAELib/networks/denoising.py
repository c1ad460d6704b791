"""The denoising autoencoder: it codes a scan at half resolution, decodes the noise from that, and takes it away."""

from __future__ import annotations

import torch
from monai.networks.blocks import Convolution, ResidualUnit
from monai.networks.utils import pixelshuffle, pixelunshuffle
from torch import Tensor, nn

from MedAELib.networks.arguments import choice, whole_number
from MedAELib.networks.network import Network


class DenoisingAutoencoder(Network):
    """Blind residual denoising autoencoder: ``denoised = x - decode(encode(x))``.

    ::

        x [b, 1, ...] -> unshuffle by 2 -> conv -> N/2 residual blocks -> code [b, C, ... / 2]          (encode)
        code          -> N/2 residual blocks -> conv -> shuffle by 2   -> noise [b, 1, ...]             (decode)
        x - noise                                                                                      (forward)

    It predicts the noise and not the image, so that doing nothing is easy and anatomy has no bottleneck to pass. It
    has no normalisation layers: absolute intensity survives and tiles fit together exactly. Without ``bias`` it is
    homogeneous, f(a x) = a f(x) for a > 0, as the problem itself is for magnitude MRI, where intensity has no unit.

    Under autocast the first and the last convolution, the sum that the residual blocks add to, and the subtraction
    stay in float32: bfloat16 keeps 8 bits and would round a voxel by several Hounsfield units.
    """

    stride = 2

    def __init__(self, dims: int = 3, channels: int = 64, blocks: int = 4, bias: bool = True) -> None:
        super().__init__()
        self.dims, self.blocks = dims, blocks
        self.halo = self.stride * (2 * blocks + 2)
        cells = self.stride**dims
        self.first = Convolution(dims, cells, channels, bias=bias, conv_only=True)
        self.encoder = nn.Sequential(*(_block(dims, channels, bias) for _ in range(blocks // 2)))
        self.decoder = nn.Sequential(*(_block(dims, channels, bias) for _ in range(blocks - blocks // 2)))
        self.last = Convolution(dims, channels, cells, bias=bias, conv_only=True)
        self._start_as_identity()

    def encode(self, x: Tensor) -> Tensor:
        """The code of a windowed scan: [b, 1, ...] -> [b, channels, ... / 2], float32."""
        with torch.autocast(x.device.type, enabled=False):
            code = self.first(pixelunshuffle(x.float(), self.dims, self.stride))
        return self.encoder(code)

    def decode(self, code: Tensor) -> Tensor:
        """The noise that a code describes: [b, channels, ... / 2] -> [b, 1, ...], float32, in units of the window."""
        code = self.decoder(code)
        with torch.autocast(code.device.type, enabled=False):
            return pixelshuffle(self.last(code.float()), self.dims, self.stride)

    def forward(self, x: Tensor) -> Tensor:
        """The denoised scan: [b, 1, ...] -> [b, 1, ...], float32."""
        noise = self.decode(self.encode(x))
        return x.float() - noise

    def _start_as_identity(self) -> None:
        """Before training no noise is found: every block passes its input on and the last convolution gives zero."""
        for name, parameter in self.named_parameters():
            if parameter.ndim == 1 or name.startswith("last"):
                nn.init.zeros_(parameter)
            else:
                nn.init.kaiming_normal_(parameter, nonlinearity="relu")
                if "unit1" in name:
                    parameter.data *= 0.2


def _block(dims: int, channels: int, bias: bool) -> ResidualUnit:
    """Convolution, ReLU, convolution, added to the input."""
    return ResidualUnit(
        dims, channels, channels, subunits=2, adn_ordering="A", act="RELU", norm=None, bias=bias, last_conv_only=True
    )


def build(dims: int = 3, channels: int = 64, blocks: int = 4, bias: bool = True) -> DenoisingAutoencoder:
    """A denoising autoencoder with checked arguments: dims 2 or 3, channels 1..128, blocks 0..12."""
    return DenoisingAutoencoder(
        dims=whole_number("dims", dims, 2, 3),
        channels=whole_number("channels", channels, 1, 128),
        blocks=whole_number("blocks", blocks, 0, 12),
        bias=choice("bias", bias, (True, False)),
    )
