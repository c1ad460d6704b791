"""A denoiser whose result holds no finer waves than the scan's anatomy does, along each axis."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from MedAELib.networks.network import Network, Wrapped

REACH = 16  # voxels on each side of the low-pass filter


class BandLimited(Wrapped):
    """A network whose first channel is low-passed: [b, c, ...] -> the same.

    ``band`` is the highest frequency that is kept along each axis, as a share of Nyquist's; 1 leaves an axis alone. The
    filter is a sinc under a Hann window (windowed design; Oppenheim and Schafer): constants stay as they are, and the
    halo is wider by its reach, so tiles are as exact as before.
    """

    def __init__(self, network: Network, band: Sequence[float]) -> None:
        super().__init__(network)
        self.band = tuple(band)
        self.halo = network.halo + math.ceil(REACH / network.stride) * network.stride
        for axis, share in enumerate(self.band):
            self.register_buffer(f"filter{axis}", _low_pass(share))

    def forward(self, x: Tensor) -> Tensor:
        """What the network makes of x, without the waves that are finer than the band; float32."""
        made: Tensor = self.network(x)
        with torch.autocast(x.device.type, enabled=False):
            limited = made[:, :1].float()
            for axis, share in enumerate(self.band):
                if share < 1:
                    limited = self._filtered(limited, axis)
            return torch.cat([limited, made[:, 1:].float()], 1)

    def _filtered(self, x: Tensor, axis: int) -> Tensor:
        """Low-passed along one axis; beyond the border the scan is mirrored, where it is long enough."""
        sides = [0, 0] * self.dims
        sides[2 * (self.dims - 1 - axis)] = sides[2 * (self.dims - 1 - axis) + 1] = REACH
        padded = functional.pad(x, sides, mode="reflect" if x.shape[2 + axis] > REACH else "replicate")
        shape = [1] * (2 + self.dims)
        shape[2 + axis] = 2 * REACH + 1
        convolve = functional.conv3d if self.dims == 3 else functional.conv2d
        return convolve(padded, self.get_buffer(f"filter{axis}").view(shape))


def _low_pass(share: float) -> Tensor:
    """The filter [2 x reach + 1], symmetric, of sum 1."""
    place = torch.arange(-REACH, REACH + 1, dtype=torch.float64)
    kernel = torch.sinc(share * place) * (0.5 + 0.5 * torch.cos(math.pi * place / (REACH + 1)))
    return (kernel / kernel.sum()).float()
