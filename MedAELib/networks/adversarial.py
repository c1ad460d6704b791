"""The adversarial autoencoder: in training a critic judges its codes, or its reconstructions, against real ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from monai.networks.blocks import Convolution
from monai.networks.nets import PatchDiscriminator
from torch import Tensor, nn

from MedAELib.networks.arguments import choice, levels, whole_number
from MedAELib.networks.network import Extras
from MedAELib.networks.plain import PlainAutoencoder


class AdversarialAutoencoder(PlainAutoencoder):
    """x [b, 1, ...] -> code [b, latent, ... / stride] -> y [b, 1, ...].

    ``judged`` "code": a critic of each cell's code pulls the codes towards a normal distribution (Makhzani et al.,
    2015). ``judged`` "image": a critic of patches pulls the reconstructions towards the look of real scans (VAE-GAN:
    Larsen et al., ICML 2016; patches: Isola et al., CVPR 2017). The critic belongs to the training, not to the model.
    """

    def __init__(
        self, dims: int = 3, channels: Sequence[int] = (16, 32), strides: Sequence[int] = (2, 2), latent: int = 8,
        judged: str = "code",
    ) -> None:  # fmt: skip
        super().__init__(dims, channels, strides)
        self.latent, self.judged = latent, judged
        self.narrow = Convolution(dims, channels[-1], latent, kernel_size=1, padding=0, conv_only=True)
        self.widen = Convolution(dims, latent, channels[-1], kernel_size=1, padding=0, conv_only=True)

    def encode(self, x: Tensor) -> Tensor:
        """The code of a windowed scan: [b, 1, ...] -> [b, latent, ... / stride]."""
        return self.narrow(super().encode(x))

    def decode(self, code: Tensor) -> Tensor:
        """The scan that a code describes: [b, latent, ... / stride] -> [b, 1, ...]."""
        return super().decode(self.widen(code))

    def critic(self) -> nn.Module:
        """A new critic for the training: one number for each cell of the code, or for each patch of the image."""
        if self.judged == "code":
            return CodeCritic(self.dims, self.latent)
        # Normalised within each image: no running sums, so several processes and a resumed training agree.
        return PatchDiscriminator(self.dims, channels=16, in_channels=1, num_layers_d=2, norm="INSTANCE")

    def real_and_made(self, x: Tensor, y: Tensor, extras: Extras, keys: Tensor) -> tuple[Tensor, Tensor]:
        """What the critic is shown: as real, images or samples of a normal distribution; as made, y or its code."""
        if self.judged == "image":
            return x, y
        code = extras["code"].float()
        samples = [torch.randn(code.shape[1:], generator=torch.Generator().manual_seed(int(key))) for key in keys[:, 0]]
        return torch.stack(samples).to(code.device), code


class CodeCritic(nn.Module):
    """Three layers that see one cell of a code at a time: [b, latent, ...] -> [b, 1, ...]."""

    def __init__(self, dims: int, latent: int, width: int = 64) -> None:
        super().__init__()
        sizes = ((latent, width, False), (width, width, False), (width, 1, True))
        self.layers = nn.Sequential(
            *(
                Convolution(dims, a, b, kernel_size=1, padding=0, norm=None, act="LEAKYRELU", conv_only=last)
                for a, b, last in sizes
            )
        )

    def forward(self, code: Tensor) -> Tensor:
        """How real each cell looks: high for real ones."""
        return self.layers(code)


def build(
    dims: int = 3,
    channels: Sequence[int] = (16, 32),
    strides: Sequence[int] = (2, 2),
    latent: int = 8,
    judged: str = "code",
) -> AdversarialAutoencoder:
    """An adversarial autoencoder, arguments checked: latent 1..256, judged "code" or "image"."""
    channels, strides = levels(channels, strides)
    return AdversarialAutoencoder(
        whole_number("dims", dims, 2, 3),
        channels,
        strides,
        whole_number("latent", latent, 1, 256),
        choice("judged", judged, ("code", "image")),
    )
