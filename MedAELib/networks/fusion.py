"""Graph fusion: the modalities of a subject are nodes that tell one another what they see; a missing one is no node."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import AutoEncoder
from torch import Tensor, nn

from MedAELib.bundle import MOST_FUSED
from MedAELib.networks.arguments import levels, whole_number
from MedAELib.networks.network import Extras, Network
from MedAELib.networks.plain import stride_and_halo


class FusionAutoencoder(Network):
    """x [b, m, ...], present [b, m] -> nodes [b, m, c, ... / stride] -> code [b, c, ... / stride] -> y [b, m, ...].

    Each modality has its own encoder and decoder. In every cell of the code's grid the nodes that are there form a
    complete graph; messages weighted by attention pass along its edges (graph attention: Velickovic et al., ICLR 2018)
    and the nodes' mean is the code (missing modalities: Havaei et al., MICCAI 2016). All modalities are decoded, the
    missing ones too. One modality is the smallest graph. Absent channels may hold anything, also no numbers.
    """

    def __init__(
        self, dims: int = 3, channels: Sequence[int] = (16, 32), strides: Sequence[int] = (2, 2), modalities: int = 1
    ) -> None:
        super().__init__()
        self.dims, self.in_channels = dims, modalities
        self.stride, self.halo = stride_and_halo(strides)
        nets = [AutoEncoder(dims, 1, 1, tuple(channels), tuple(strides), norm=None) for _ in range(modalities)]
        self.encoders = nn.ModuleList(net.encode for net in nets)
        self.decoders = nn.ModuleList(net.decode for net in nets)
        self.edges = Convolution(dims, channels[-1], 3 * channels[-1], kernel_size=1, padding=0, conv_only=True)

    def encode(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """The joint code of the modalities that are there (all, unless told): -> [b, c, ... / stride]."""
        there = torch.ones(x.shape[:2], device=x.device) if present is None else present.to(x.device)
        there = there[(...,) + (None,) * self.dims] > 0
        x = torch.where(there, x, 0.0)
        nodes = torch.stack([encoder(x[:, n : n + 1]) for n, encoder in enumerate(self.encoders)], 1)
        there = there[:, :, None]
        asked, offered, message = self.edges(nodes.flatten(0, 1)).unflatten(0, nodes.shape[:2]).chunk(3, 2)
        # [b, asking i, answering j, ...]
        affinity = torch.einsum("bic...,bjc...->bij...", asked, offered).float() / math.sqrt(nodes.shape[2])
        weight = affinity.masked_fill(~there[:, None, :, 0], -1e4).softmax(2).to(nodes.dtype)
        nodes = nodes + torch.einsum("bij...,bjc...->bic...", weight, message)
        return (nodes * there).sum(1) / there.sum(1).clamp(min=1)

    def decode(self, code: Tensor) -> Tensor:
        """Every modality that a code describes: [b, c, ... / stride] -> [b, m, ...]."""
        return torch.cat([decoder(code) for decoder in self.decoders], 1)

    def forward(self, x: Tensor, present: Tensor | None = None) -> Tensor:
        """All modalities from those that are there: [b, m, ...], [b, m] -> [b, m, ...], float32."""
        return self.decode(self.encode(x, present)).float()

    def learn(self, x: Tensor, keys: Tensor, present: Tensor | None = None) -> tuple[Tensor, Extras]:
        """The reconstruction from a random part of the modalities that are there, and the code."""
        there = torch.ones(x.shape[:2]) if present is None else present.cpu()
        shown = torch.stack([_some(row, int(key)) for row, key in zip(there, keys[:, 0], strict=True)])
        code = self.encode(x, shown)
        return self.decode(code).float(), {"code": code}


def _some(there: Tensor, key: int) -> Tensor:
    """At least one of the modalities that are there, each of the others with an even chance; drawn from the key."""
    generator = torch.Generator().manual_seed(key)
    chances = torch.rand(len(there), generator=generator) * (there > 0)
    shown = (chances > 0.5).float()
    shown[int(chances.argmax())] = float(there.any())
    return shown


def build(
    dims: int = 3, channels: Sequence[int] = (16, 32), strides: Sequence[int] = (2, 2), modalities: int = 1
) -> FusionAutoencoder:
    """A fusion of 1..8 modalities, arguments checked."""
    channels, strides = levels(channels, strides)
    return FusionAutoencoder(
        whole_number("dims", dims, 2, 3), channels, strides, whole_number("modalities", modalities, 1, MOST_FUSED)
    )
