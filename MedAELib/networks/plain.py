"""The plain convolutional autoencoder: MONAI's AutoEncoder without normalisation, with its code in the open."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import AutoEncoder
from torch import Tensor

from MedAELib.errors import BadModel
from MedAELib.networks.arguments import whole_number, whole_numbers
from MedAELib.networks.network import Network


class PlainAutoencoder(Network):
    """MONAI's AutoEncoder(norm=None): x [b, in, ...] -> code [b, channels[-1], ... / stride] -> y [b, out, ...]."""

    def __init__(
        self,
        dims: int = 3,
        channels: Sequence[int] = (16, 32),
        strides: Sequence[int] = (2, 2),
        in_channels: int = 1,
        out_channels: int = 1,
    ) -> None:
        super().__init__()
        self.dims = dims
        self.net = AutoEncoder(dims, in_channels, out_channels, tuple(channels), tuple(strides), norm=None)
        self.stride = 1
        reach = 0
        for step in strides:  # one cell of this level's grid on each side in the encoder, and one in the decoder
            reach += 2 * self.stride
            self.stride *= step
        self.halo = -(-reach // self.stride) * self.stride

    def encode(self, x: Tensor) -> Tensor:
        """The code of a windowed scan: [b, in, ...] -> [b, channels[-1], ... / stride]."""
        return self.net.encode(x)

    def decode(self, code: Tensor) -> Tensor:
        """The scan that a code describes: [b, channels[-1], ... / stride] -> [b, out, ...]."""
        return self.net.decode(code)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstructed scan: [b, in, ...] -> [b, out, ...], float32."""
        return self.decode(self.encode(x)).float()


def build(
    dims: int = 3,
    channels: Sequence[int] = (16, 32),
    strides: Sequence[int] = (2, 2),
    in_channels: int = 1,
    out_channels: int = 1,
) -> PlainAutoencoder:
    """A plain autoencoder, arguments checked: up to 5 levels of 1..256 channels, strides 1 or 2, 1..16 in and out."""
    channels = whole_numbers("channels", channels, 1, 256, 5)
    strides = whole_numbers("strides", strides, 1, 2, 5)
    if len(channels) != len(strides):
        raise BadModel("The network's arguments 'channels' and 'strides' must have the same length.")
    return PlainAutoencoder(
        whole_number("dims", dims, 2, 3),
        channels,
        strides,
        whole_number("in_channels", in_channels, 1, 16),
        whole_number("out_channels", out_channels, 1, 16),
    )
