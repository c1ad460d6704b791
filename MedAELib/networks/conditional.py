"""The conditional autoencoder: how a scan was made (its spacing, dose, age, ...) modulates coding and decoding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from MedAELib.networks.arguments import levels, names, whole_number
from MedAELib.networks.network import Extras
from MedAELib.networks.plain import PlainAutoencoder

SPACING = "spacing"
UNHEARD = 1e30  # the spread of a number that is not listened to; a model's numbers are finite


class ConditionalAutoencoder(PlainAutoencoder):
    """x [b, 1, ...], condition [b, n] -> code [b, channels[-1], ... / stride] -> y [b, 1, ...].

    FiLM (Perez et al., AAAI 2018): two linear layers of the condition scale and shift each channel of the code, once
    when it is made and once when it is read. The condition is the same for a whole volume, so tiles fit exactly.
    ``fields`` name the numbers of the condition: "spacing" stands for three, the logarithms of the millimetres along
    i, j, k; every other name for one. ``centre`` and ``spread`` [n] are those of the training subjects; a number that
    is not known (not a number, or no condition at all) counts as the centre, and so does one that never varied.
    """

    centre: Tensor
    spread: Tensor

    def __init__(
        self, dims: int = 3, channels: Sequence[int] = (16, 32), strides: Sequence[int] = (2, 2),
        fields: Sequence[str] = (SPACING,),
    ) -> None:  # fmt: skip
        super().__init__(dims, channels, strides)
        self.fields = tuple(fields)
        self.condition_size = sum(3 if field == SPACING else 1 for field in fields)
        self.register_buffer("centre", torch.zeros(self.condition_size))
        self.register_buffer("spread", torch.ones(self.condition_size))
        self.making = nn.Linear(self.condition_size, 2 * channels[-1])
        self.reading = nn.Linear(self.condition_size, 2 * channels[-1])

    def encode(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The code of a windowed scan under a condition: [b, 1, ...], [b, n] -> [b, channels[-1], ... / stride]."""
        return _modulated(super().encode(x), self.making(self._seen(condition, len(x))))

    def decode(self, code: Tensor, condition: Tensor | None = None) -> Tensor:
        """The scan that a code describes under a condition, which may be another: -> [b, 1, ...]."""
        return super().decode(_modulated(code, self.reading(self._seen(condition, len(code)))))

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        """The reconstructed scan: [b, 1, ...], [b, n] -> [b, 1, ...], float32."""
        return self.decode(self.encode(x, condition), condition).float()

    def learn(self, x: Tensor, keys: Tensor, condition: Tensor | None = None) -> tuple[Tensor, Extras]:
        """The reconstruction, and the code."""
        code = self.encode(x, condition)
        return self.decode(code, condition).float(), {"code": code}

    def _seen(self, condition: Tensor | None, count: int) -> Tensor:
        if condition is None:
            return torch.zeros(count, self.condition_size, device=self.centre.device, dtype=self.centre.dtype)
        return ((condition - self.centre) / self.spread).nan_to_num(nan=0.0).clamp(-5, 5)


def _modulated(code: Tensor, film: Tensor) -> Tensor:
    scale, shift = film[(...,) + (None,) * (code.ndim - 2)].chunk(2, 1)
    return code * (1 + scale) + shift


def build(
    dims: int = 3,
    channels: Sequence[int] = (16, 32),
    strides: Sequence[int] = (2, 2),
    fields: Sequence[str] = (SPACING,),
) -> ConditionalAutoencoder:
    """A conditional autoencoder, arguments checked: up to 16 different fields, named by short texts."""
    channels, strides = levels(channels, strides)
    return ConditionalAutoencoder(whole_number("dims", dims, 2, 3), channels, strides, names("fields", fields, 16))
