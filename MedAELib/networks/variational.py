"""The variational autoencoder: its code is a distribution, in every cell of a grid or as one vector for the whole."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import AutoEncoder
from torch import Tensor, nn

from MedAELib.errors import BadModel
from MedAELib.networks.arguments import choice, levels, whole_number
from MedAELib.networks.network import Extras, Network
from MedAELib.networks.plain import stride_and_halo
from MedAELib.networks.whole import WholeImage, from_grid, to_grid

_LARGEST_LAYER = 1 << 24  # weights


class SpatialVariational(Network):
    """x [b, 1, ...] -> mean and log variance [b, latent, ... / stride] -> decoded mean [b, 1, ...].

    Kingma and Welling (ICLR 2014). MONAI's VarAutoEncoder has one size and adds the deviation to the mean when it
    should be deterministic, its AutoencoderKL normalises over space; so this is its AutoEncoder with two heads. The
    code is the mean; a sample is drawn in training only.
    """

    def __init__(
        self, dims: int = 3, channels: Sequence[int] = (16, 32), strides: Sequence[int] = (2, 2), latent: int = 8
    ) -> None:
        super().__init__()
        self.dims = dims
        self.stride, self.halo = stride_and_halo(strides)
        self.net = AutoEncoder(dims, 1, 1, tuple(channels), tuple(strides), norm=None)
        self.heads = Convolution(dims, channels[-1], 2 * latent, kernel_size=1, padding=0, conv_only=True)
        self.back = Convolution(dims, latent, channels[-1], kernel_size=1, padding=0, conv_only=True)

    def encode(self, x: Tensor) -> Tensor:
        """The mean of the code's distribution: [b, 1, ...] -> [b, latent, ... / stride]."""
        return self.posterior(x)[0]

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the code, each [b, latent, ... / stride], float32."""
        mean, log_variance = self.heads(self.net.encode(x)).float().chunk(2, 1)
        return mean, log_variance.clamp(-20, 10)

    def decode(self, code: Tensor) -> Tensor:
        """The scan that a code describes: [b, latent, ... / stride] -> [b, 1, ...]."""
        return self.net.decode(self.back(code))

    def forward(self, x: Tensor) -> Tensor:
        """The reconstructed scan, the same at every call: [b, 1, ...] -> [b, 1, ...], float32."""
        return self.decode(self.encode(x)).float()

    def learn(self, x: Tensor, keys: Tensor) -> tuple[Tensor, Extras]:
        """The reconstruction of a sample of the code; "code", "mean" and "log_variance"."""
        code, extras = drawn(*self.posterior(x), keys)
        return self.decode(code).float(), extras


class VectorVariational(WholeImage):
    """The same with one code for all: x [b, 1, ...] -> own grid -> mean and log variance [b, latent] -> y [b, 1, ...].

    For features and traversals of whole slices (2D) or volumes (3D): what does not fit the grid is not reconstructed.
    """

    def __init__(
        self, dims: int = 3, channels: Sequence[int] = (16, 32), strides: Sequence[int] = (2, 2), latent: int = 64,
        grid: int = 32,
    ) -> None:  # fmt: skip
        super().__init__(dims, grid)
        self.net = AutoEncoder(dims, 1, 1, tuple(channels), tuple(strides), norm=None)
        self.cells = (channels[-1], *(grid // math.prod(strides),) * dims)
        self.heads = nn.Linear(math.prod(self.cells), 2 * latent)
        self.back = nn.Linear(latent, math.prod(self.cells))

    def encode(self, x: Tensor) -> Tensor:
        """The mean of the code's distribution: [b, 1, ...] -> [b, latent]."""
        return self.posterior(x)[0]

    def posterior(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance of the code, each [b, latent], float32."""
        mean, log_variance = self.heads(self.net.encode(to_grid(x, self.grid)).flatten(1)).float().chunk(2, 1)
        return mean, log_variance.clamp(-20, 10)

    def decode(self, code: Tensor) -> Tensor:
        """The scan that a code describes, on the network's own grid: [b, latent] -> [b, 1, grid, ...]."""
        return self.net.decode(self.back(code).unflatten(1, self.cells))

    def learn(self, x: Tensor, keys: Tensor) -> tuple[Tensor, Extras]:
        """The reconstruction of a sample of the code, in the size of x; "code", "mean" and "log_variance"."""
        code, extras = drawn(*self.posterior(x), keys)
        return from_grid(self.decode(code), x.shape[2:]), extras


def drawn(mean: Tensor, log_variance: Tensor, keys: Tensor) -> tuple[Tensor, Extras]:
    """A sample of the code. Each sample's noise comes from its own key: the same alone, in parts and when resumed."""
    noise = [torch.randn(mean.shape[1:], generator=torch.Generator().manual_seed(int(key))) for key in keys[:, 0]]
    code = mean + (0.5 * log_variance).exp() * torch.stack(noise).to(mean.device)
    return code, {"code": code, "mean": mean, "log_variance": log_variance}


def build(
    dims: int = 3,
    channels: Sequence[int] = (16, 32),
    strides: Sequence[int] = (2, 2),
    latent: int = 8,
    code: str = "spatial",
    grid: int = 32,
) -> Network:
    """A variational autoencoder, arguments checked: latent 1..512, code "spatial" or "vector", grid 8..128 (vector).

    The grid must be a multiple of the stride.
    """
    channels, strides = levels(channels, strides)
    dims, latent = whole_number("dims", dims, 2, 3), whole_number("latent", latent, 1, 512)
    grid = whole_number("grid", grid, 8, 128)
    if choice("code", code, ("spatial", "vector")) == "spatial":
        return SpatialVariational(dims, channels, strides, latent)
    stride = math.prod(strides)
    if grid % stride:
        raise BadModel(f"The network's argument 'grid' is {grid}, which is no multiple of its stride {stride}.")
    if 2 * latent * channels[-1] * (grid // stride) ** dims > _LARGEST_LAYER:
        raise BadModel("The network's grid, channels and latent together are too large.")
    return VectorVariational(dims, channels, strides, latent, grid)
