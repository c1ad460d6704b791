"""How the engine hears that a network goes on, where long work is done without layers."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class Told(nn.Module):
    """Passes its input on. The engine reports progress, and can be stopped, after each module with a parameter.

    ``layers`` is how many of the network's layers all its calls count as, ``share`` as how many the next one does.
    """

    def __init__(self, layers: float) -> None:
        super().__init__()
        self.layers = self.share = layers
        self.counted = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        """What came in."""
        return x
