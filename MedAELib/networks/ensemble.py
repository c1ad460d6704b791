"""An ensemble: networks of one kind that learned from different samples; where they disagree, none is to be trusted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from MedAELib.errors import BadModel
from MedAELib.networks.arguments import choice, whole_number
from MedAELib.networks.network import Extras, Network

MEMBERS = ("translating", "plain", "sparse", "variational", "quantised", "recurrent", "fusion")


class Ensemble(Network):
    """Members side by side: x [b, c, ...] -> mean of what they make [b, c, ...]; their codes are one after the other.

    Each member starts from weights of its own, and in training each sample goes to one of them: their deviation says
    how little the samples determined the result (Lakshminarayanan et al., NeurIPS 2017). Nothing is random afterwards.
    A second input of the members (which modalities are there) is passed on.
    """

    def __init__(self, members: Sequence[Network]) -> None:
        super().__init__()
        self.members = nn.ModuleList(members)
        first = members[0]
        self.dims, self.stride, self.halo, self.tiles = first.dims, first.stride, first.halo, first.tiles
        self.grid, self.offset, self.in_channels = first.grid, first.offset, first.in_channels
        self._strides = first.strides

    @property
    def strides(self) -> tuple[int, ...]:
        """The members' own."""
        return self._strides

    def encode(self, x: Tensor, *second: Tensor) -> Tensor:
        """The codes of all members along the second axis: [b, c, ...] -> [b, members * code, ...]."""
        return torch.cat([member.encode(x, *second) for member in self.members], 1)  # type: ignore[operator]

    def decode(self, code: Tensor, *second: Tensor) -> Tensor:
        """The mean of what the members make of their codes."""
        parts = zip(self.members, code.chunk(len(self.members), 1), strict=True)
        return torch.stack([member.decode(part, *second) for member, part in parts]).mean(0)  # type: ignore[operator]

    def forward(self, x: Tensor, *second: Tensor) -> Tensor:
        """The mean of what the members make: [b, c, ...] -> [b, c, ...], float32."""
        return self.each(x, *second).mean(0)

    def each(self, x: Tensor, *second: Tensor) -> Tensor:
        """What each member makes: [b, c, ...] -> [members, b, c, ...], float32."""
        return torch.stack([member(x, *second) for member in self.members])

    def learn(self, x: Tensor, keys: Tensor, *second: Tensor) -> tuple[Tensor, Extras]:
        """What was made of each sample by the member whose turn it is, as its key says, and its code."""
        turns = keys[:, 0] % len(self.members)
        order, made, extras = [], [], []
        for number, member in enumerate(self.members):
            own = torch.nonzero(turns == number)[:, 0].to(x.device)
            if len(own):
                result, told = member.learn(x[own], keys[own.to(keys.device)], *(part[own] for part in second))  # type: ignore[operator]
                order.append(own)
                made.append(result)
                extras.append(told)
        back = torch.cat(order).argsort()
        return torch.cat(made)[back], {name: torch.cat([told[name] for told in extras])[back] for name in extras[0]}


def build(dims: int = 3, network: str = "plain", arguments: Any = None, members: int = 3) -> Ensemble:
    """An ensemble of 2..8 networks of the family, arguments checked. Raises BadModel."""
    from MedAELib.networks import build as build_member

    count, name = whole_number("members", members, 2, 8), choice("network", network, MEMBERS)
    if not isinstance(arguments, Mapping | None):
        raise BadModel("The network's argument 'arguments' must be a table.")
    return Ensemble([build_member(name, dims, arguments or {}) for _ in range(count)])
