"""The sparse autoencoder: few of its code's values differ from zero, by a penalty in training or by choice."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from MedAELib.errors import BadModel
from MedAELib.networks.arguments import levels, whole_number
from MedAELib.networks.plain import PlainAutoencoder


class SparseAutoencoder(PlainAutoencoder):
    """A plain autoencoder with a sparse code: x [b, 1, ...] -> code [b, channels[-1], ... / stride] -> y [b, 1, ...].

    With ``keep`` above 0 only so many channels of each cell, the largest in magnitude, are kept (k-sparse: Makhzani and
    Frey, ICLR 2014). With 0 the code is as it comes, and sparse once trained with the term "sparsity" (L1: Ng, 2011).
    """

    def __init__(
        self, dims: int = 3, channels: Sequence[int] = (16, 32), strides: Sequence[int] = (2, 2), keep: int = 0
    ) -> None:
        super().__init__(dims, channels, strides)
        self.keep = keep

    def encode(self, x: Tensor) -> Tensor:
        """The sparse code of a windowed scan: [b, 1, ...] -> [b, channels[-1], ... / stride]."""
        code = super().encode(x)
        if not self.keep:
            return code
        magnitude = code.abs()
        least = magnitude.topk(self.keep, dim=1).values[:, -1:]
        return code * (magnitude >= least)


def build(
    dims: int = 3, channels: Sequence[int] = (16, 32), strides: Sequence[int] = (2, 2), keep: int = 0
) -> SparseAutoencoder:
    """A sparse autoencoder, arguments checked: `keep` from 0 (all) to the channels of the last level."""
    channels, strides = levels(channels, strides)
    if whole_number("keep", keep, 0, 256) > channels[-1]:
        raise BadModel(f"The network's argument 'keep' is {keep}, but its code has only {channels[-1]} channels.")
    return SparseAutoencoder(whole_number("dims", dims, 2, 3), channels, strides, keep)
