"""Residual blocks, and sums of features that take no more memory than they must."""

from __future__ import annotations

import torch
from monai.networks.blocks import ResidualUnit
from torch import Tensor

_PIECE = 1 << 20  # numbers: what a processor's cache holds


class Residual(ResidualUnit):
    """Convolution, ReLU, convolution, added to the input: [b, c, ...] -> the same; MONAI's unit and its weights.

    With ``overwrites`` the sum takes the place of the input where no gradient is asked for. Only for a block whose
    input nobody else looks at: one behind another layer.
    """

    def __init__(self, dims: int, channels: int, overwrites: bool = False) -> None:
        act = ("RELU", {"inplace": True})
        super().__init__(
            dims, channels, channels, subunits=2, adn_ordering="A", act=act, norm=None, last_conv_only=True
        )
        self.overwrites = overwrites

    def forward(self, x: Tensor) -> Tensor:
        """The input and what the convolutions add to it."""
        change: Tensor = self.conv(x)
        return plus(x, change, self.overwrites)


def plus(x: Tensor, change: Tensor, overwrites: bool = False) -> Tensor:
    """The sum of features and a change of them, [b, c, ...], in the type of the wider of both.

    Outside training new memory costs more than the sum: the system has to clear it first. So the sum is written over
    ``x`` if it ``overwrites``; and a change of a shorter type, which torch would first copy as a whole on a processor,
    is added in pieces.
    """
    if torch.is_grad_enabled() or torch.promote_types(x.dtype, change.dtype) != x.dtype:
        return x + change
    total = x if overwrites else x.clone()
    if x.dtype == change.dtype or x.device.type != "cpu":
        return total.add_(change)
    pieces = -(-x.numel() // _PIECE)
    for part, added in zip(total.chunk(pieces, 2), change.chunk(pieces, 2), strict=True):
        part.add_(added)
    return total
