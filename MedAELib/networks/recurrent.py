"""The recurrent autoencoder: slices are coded one by one, and a convolutional GRU tells each of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import AutoEncoder
from torch import Tensor, nn

from MedAELib.networks.arguments import levels, whole_number
from MedAELib.networks.network import Network


class RecurrentAutoencoder(Network):
    """x [b, 1, i, j, k] -> codes of the slices [b, c, i / stride, j / stride, k] -> y [b, 1, i, j, k].

    Each slice along the last axis goes through a 2D encoder; a convolutional GRU (Ballas et al., ICLR 2016) runs over
    the codes up and down, and what it remembers is added to each; a 2D decoder draws the slices. Any number of slices.
    With dims 2 the slices are the lines along the last axis. A slice may depend on all others, so there are no tiles.
    """

    tiles = False

    def __init__(self, dims: int = 3, channels: Sequence[int] = (16, 32), strides: Sequence[int] = (2, 2)) -> None:
        super().__init__()
        self.dims, self.stride, self.halo = dims, math.prod(strides), 0
        self.net = AutoEncoder(dims - 1, 1, 1, tuple(channels), tuple(strides), norm=None)
        self.upward = ConvolutionalGRU(dims - 1, channels[-1])
        self.downward = ConvolutionalGRU(dims - 1, channels[-1])

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride within slices, and 1 from slice to slice."""
        return (*(self.stride,) * (self.dims - 1), 1)

    def encode(self, x: Tensor) -> Tensor:
        """The codes of the slices, each aware of the others: [b, 1, ..., k] -> [b, c, ... / stride, k]."""
        code = _slice_by_slice(self.net.encode, x)
        return code + self.upward(code) + self.downward(code.flip(-1)).flip(-1)

    def decode(self, code: Tensor) -> Tensor:
        """The slices that the codes describe: [b, c, ... / stride, k] -> [b, 1, ..., k]."""
        return _slice_by_slice(self.net.decode, code)

    def forward(self, x: Tensor) -> Tensor:
        """The reconstructed scan: [b, 1, ..., k] -> [b, 1, ..., k], float32."""
        return self.decode(self.encode(x)).float()


class ConvolutionalGRU(nn.Module):
    """A gated recurrent unit over the last axis whose matrices are convolutions: [b, c, ..., k] -> [b, c, ..., k]."""

    def __init__(self, dims: int, channels: int) -> None:
        super().__init__()
        self.gates = Convolution(dims, 2 * channels, 2 * channels, conv_only=True)
        self.candidate = Convolution(dims, 2 * channels, channels, conv_only=True)

    def forward(self, codes: Tensor) -> Tensor:
        """What is remembered after each step, beginning with nothing."""
        state, states = torch.zeros_like(codes[..., 0]), []
        for code in codes.unbind(-1):
            update, reset = self.gates(torch.cat([code, state], 1)).sigmoid().chunk(2, 1)
            candidate = self.candidate(torch.cat([code, reset * state], 1)).tanh()
            state = (1 - update) * state + update * candidate
            states.append(state)
        return torch.stack(states, -1)


def _slice_by_slice(layers: nn.Module, x: Tensor) -> Tensor:
    """Layers for one dimension less, on every slice along the last axis."""
    slices = x.movedim(-1, 1)
    return layers(slices.flatten(0, 1)).unflatten(0, slices.shape[:2]).movedim(1, -1)


def build(dims: int = 3, channels: Sequence[int] = (16, 32), strides: Sequence[int] = (2, 2)) -> RecurrentAutoencoder:
    """A recurrent autoencoder, arguments checked."""
    channels, strides = levels(channels, strides)
    return RecurrentAutoencoder(whole_number("dims", dims, 2, 3), channels, strides)
