"""The plain convolutional autoencoder: MONAI's AutoEncoder without normalisation, with its code in the open."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import AutoEncoder
from torch import Tensor

from MedAELib.networks.arguments import levels, whole_number
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
        self.dims, self.in_channels = dims, in_channels
        self.net = AutoEncoder(dims, in_channels, out_channels, tuple(channels), tuple(strides), norm=None)
        self.stride, self.halo = stride_and_halo(strides)

    def encode(self, x: Tensor) -> Tensor:
        """The code of a windowed scan: [b, in, ...] -> [b, channels[-1], ... / stride]."""
        return self.net.encode(x)

    def decode(self, code: Tensor) -> Tensor:
        """The scan that a code describes: [b, channels[-1], ... / stride] -> [b, out, ...]."""
        return self.net.decode(code)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstructed scan: [b, in, ...] -> [b, out, ...], float32."""
        return self.decode(self.encode(x)).float()


def stride_and_halo(strides: Sequence[int]) -> tuple[int, int]:
    """Stride and halo of MONAI's AutoEncoder with kernels of three: one cell of each level's grid in both halves."""
    stride, reach = 1, 0
    for step in strides:
        reach += 2 * stride
        stride *= step
    return stride, -(-reach // stride) * stride


def build(
    dims: int = 3,
    channels: Sequence[int] = (16, 32),
    strides: Sequence[int] = (2, 2),
    in_channels: int = 1,
    out_channels: int = 1,
) -> PlainAutoencoder:
    """A plain autoencoder, arguments checked: up to 5 levels of 1..256 channels, strides 1 or 2, 1..16 in and out."""
    channels, strides = levels(channels, strides)
    return PlainAutoencoder(
        whole_number("dims", dims, 2, 3),
        channels,
        strides,
        whole_number("in_channels", in_channels, 1, 16),
        whole_number("out_channels", out_channels, 1, 16),
    )
