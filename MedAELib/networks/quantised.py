"""The vector-quantised autoencoder: each cell of its code is an entry of a codebook, so scans become numbers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import AutoEncoder
from torch import Tensor, nn

from MedAELib.networks.arguments import levels, whole_number
from MedAELib.networks.network import Extras, Network
from MedAELib.networks.plain import stride_and_halo

_LARGEST_TABLE = 1 << 22  # numbers, of cells x entries


class QuantisedAutoencoder(Network):
    """x [b, 1, ...] -> entries [b, width, ... / stride] of the codebook [entries, width] -> y [b, 1, ...].

    VQ-VAE (van den Oord et al., NeurIPS 2017) with entries on the unit sphere, of which more are used (Yu et al.,
    ICLR 2022). The codebook learns by gradient: MONAI's quantiser keeps running sums instead, which neither averaged
    weights nor several processes would share.
    """

    def __init__(
        self, dims: int = 3, channels: Sequence[int] = (16, 32), strides: Sequence[int] = (2, 2), entries: int = 256,
        width: int = 8,
    ) -> None:  # fmt: skip
        super().__init__()
        self.dims = dims
        self.stride, self.halo = stride_and_halo(strides)
        self.net = AutoEncoder(dims, 1, 1, tuple(channels), tuple(strides), norm=None)
        self.narrow = Convolution(dims, channels[-1], width, kernel_size=1, padding=0, conv_only=True)
        self.widen = Convolution(dims, width, channels[-1], kernel_size=1, padding=0, conv_only=True)
        self.codebook = nn.Parameter(torch.randn(entries, width))

    def encode(self, x: Tensor) -> Tensor:
        """The nearest entries of the codebook: [b, 1, ...] -> [b, width, ... / stride], float32."""
        return self.look_up(self.indices(x))

    def indices(self, x: Tensor) -> Tensor:
        """The numbers of the nearest entries: [b, 1, ...] -> [b, ... / stride], 0 .. entries - 1."""
        return self._nearest(self._directions(x))

    def look_up(self, indices: Tensor) -> Tensor:
        """The entries with these numbers: [b, ... / stride] -> [b, width, ... / stride]."""
        return self._entries()[indices].movedim(-1, 1)

    def decode(self, code: Tensor) -> Tensor:
        """The scan that a code describes: [b, width, ... / stride] -> [b, 1, ...]."""
        return self.net.decode(self.widen(code))

    def forward(self, x: Tensor) -> Tensor:
        """The reconstructed scan: [b, 1, ...] -> [b, 1, ...], float32."""
        return self.decode(self.encode(x)).float()

    def learn(self, x: Tensor, keys: Tensor) -> tuple[Tensor, Extras]:
        """The reconstruction, whose gradient passes by the choice of entries; "code", "direction" and "entry"."""
        direction = self._directions(x)
        entry = self.look_up(self._nearest(direction))
        code = direction + (entry - direction).detach()
        return self.decode(code).float(), {"code": code, "direction": direction, "entry": entry}

    def _directions(self, x: Tensor) -> Tensor:
        return nn.functional.normalize(self.narrow(self.net.encode(x)).float(), dim=1)

    def _entries(self) -> Tensor:
        return nn.functional.normalize(self.codebook.float(), dim=1)

    def _nearest(self, direction: Tensor) -> Tensor:
        entries, cells = self._entries(), direction.movedim(1, -1)
        parts = cells.reshape(-1, entries.shape[1]).split(max(1, _LARGEST_TABLE // len(entries)))
        with torch.autocast(direction.device.type, enabled=False):  # ties must not depend on the precision
            return torch.cat([(part @ entries.T).argmax(1) for part in parts]).view(cells.shape[:-1])


def build(
    dims: int = 3,
    channels: Sequence[int] = (16, 32),
    strides: Sequence[int] = (2, 2),
    entries: int = 256,
    width: int = 8,
) -> QuantisedAutoencoder:
    """A vector-quantised autoencoder, arguments checked: 2..8192 entries of 1..256 numbers."""
    channels, strides = levels(channels, strides)
    return QuantisedAutoencoder(
        whole_number("dims", dims, 2, 3),
        channels,
        strides,
        whole_number("entries", entries, 2, 8192),
        whole_number("width", width, 1, 256),
    )
