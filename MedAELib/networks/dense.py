"""The fully connected autoencoder of the textbooks, on whole 2D slices."""

from __future__ import annotations

from collections.abc import Sequence

from monai.networks.nets import FullyConnectedNet
from torch import Tensor

from MedAELib.errors import BadModel
from MedAELib.networks.arguments import whole_number, whole_numbers
from MedAELib.networks.network import Extras
from MedAELib.networks.whole import WholeImage, from_grid, to_grid


class DenseAutoencoder(WholeImage):
    """x [b, 1, i, j] -> [b, grid^2] -> hidden layers -> code [b, latent] -> hidden layers -> [b, 1, grid, grid] -> y.

    Hinton and Salakhutdinov (Science 2006), trained in one go. Built of MONAI's FullyConnectedNet.
    """

    def __init__(self, grid: int = 64, hidden: Sequence[int] = (256,), latent: int = 64) -> None:
        super().__init__(2, grid)
        self.encoder = FullyConnectedNet(grid * grid, latent, tuple(hidden))
        self.decoder = FullyConnectedNet(latent, grid * grid, tuple(hidden)[::-1])

    def encode(self, x: Tensor) -> Tensor:
        """The code of windowed slices: [b, 1, i, j] -> [b, latent]."""
        return self.encoder(to_grid(x, self.grid).flatten(1))

    def decode(self, code: Tensor) -> Tensor:
        """The slices that a code describes, on the network's own grid: [b, latent] -> [b, 1, grid, grid]."""
        return self.decoder(code).unflatten(1, (1, self.grid, self.grid))

    def learn(self, x: Tensor, keys: Tensor) -> tuple[Tensor, Extras]:
        """The reconstruction [b, 1, i, j], and the code."""
        code = self.encode(x)
        return from_grid(self.decode(code), x.shape[2:]), {"code": code}


def build(dims: int = 2, grid: int = 64, hidden: Sequence[int] = (256,), latent: int = 64) -> DenseAutoencoder:
    """A fully connected autoencoder, arguments checked: 2D, grid 4..128, up to 3 hidden layers, sizes 1..1024."""
    if whole_number("dims", dims, 2, 3) != 2:
        raise BadModel("The fully connected network works on slices (2D) and not on volumes.", "Choose 2 dimensions.")
    return DenseAutoencoder(
        whole_number("grid", grid, 4, 128),
        whole_numbers("hidden", hidden, 1, 1024, 3),
        whole_number("latent", latent, 1, 1024),
    )
