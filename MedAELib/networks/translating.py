"""The translating network: codes at several scales that all reach the decoder, so that fine anatomy passes."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import UNet
from torch import Tensor

from MedAELib.errors import BadModel
from MedAELib.networks.arguments import levels, whole_number
from MedAELib.networks.network import Network
from MedAELib.networks.plain import stride_and_halo


class TranslatingNetwork(Network):
    """MONAI's UNet(norm=None): x [b, 1, ...] -> code [b, 2 channels[0], ... / strides[0]] -> y [b, 1, ...].

    The code of an autoencoder cannot hold fine anatomy, and what a translation makes would be blurred. Here the codes
    of the coarser scales are unfolded onto the finest one (Ronneberger et al., MICCAI 2015), as in the denoising
    network; decoding needs nothing else. There is no normalisation layer: tiles fit exactly.
    """

    def __init__(
        self, dims: int = 2, channels: Sequence[int] = (8, 16, 32, 32), strides: Sequence[int] = (1, 2, 2)
    ) -> None:
        super().__init__()
        self.dims = dims
        self.net = UNet(dims, 1, 1, tuple(channels), tuple(strides), num_res_units=0, act="RELU", norm=None)
        self.stride, self.halo = stride_and_halo((*strides, 1))

    def encode(self, x: Tensor) -> Tensor:
        """The codes of all scales on the finest one: [b, 1, ...] -> [b, 2 channels[0], ... / strides[0]]."""
        code: Tensor = self.net.model[1](self.net.model[0](x))
        return code

    def decode(self, code: Tensor) -> Tensor:
        """The scan that the code describes: [b, 2 channels[0], ... / strides[0]] -> [b, 1, ...]."""
        made: Tensor = self.net.model[2](code)
        return made

    def forward(self, x: Tensor) -> Tensor:
        """The translated scan: [b, 1, ...] -> [b, 1, ...], float32."""
        return self.decode(self.encode(x)).float()


def build(
    dims: int = 2, channels: Sequence[int] = (8, 16, 32, 32), strides: Sequence[int] = (1, 2, 2)
) -> TranslatingNetwork:
    """A translating network, arguments checked: 2 to 5 scales of 1..256 channels, strides 1 or 2.

    Raises BadModel.
    """
    scales, steps = levels(channels, [*strides, 1] if isinstance(strides, list | tuple) else strides)
    if len(scales) < 2:
        raise BadModel("The network's argument 'channels' must have two scales or more.")
    return TranslatingNetwork(whole_number("dims", dims, 2, 3), scales, steps[:-1])
