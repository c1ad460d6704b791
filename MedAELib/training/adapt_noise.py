"""What a denoiser that adapts to one scan knows of its noise, and the pairs that are made of the scan with it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from ..engine.run import Engine
from ..errors import BadInput
from ..networks import Network
from ..networks.regrouped import rician
from ..tasks.noise_map import CALIBRATIONS, deviation
from .correlation import autocorrelation, band_limited, coloured_noise, correlation_within

SHARE = 0.5  # of the noise's own deviation, that is added once more (alpha of the paper)
AIR = -1000  # HU: what lies below is cut off by scanners, so the noise of air tells nothing
SIGNAL = 3.0  # times the noise: what magnitudes (MR) must exceed, and air (CT), to count


@dataclass(frozen=True)
class Pair:
    """What a network sees, what it shall say, where that counts, and the deviation of the noise: each [b, 1, ...]."""

    seen: Tensor
    target: Tensor
    counted: Tensor
    deviation: Tensor


@dataclass(frozen=True)
class Told:
    """What the model says of a piece: without noise, how strong its noise is around each voxel, where that holds."""

    clean: Tensor
    deviation: Tensor
    counted: Tensor


class Teacher:
    """The network as it was: it tells what is clean, and the noise map, of each piece of the scan.

    The noise is as correlated as that which it removes from `sample` pieces [b, 1, i, j, k]. `air` is what the network
    sees of air. Raises BadInput where the sample holds no tissue.
    """

    def __init__(self, network: Network, engine: Engine, magnitude: bool, air: float, sample: Tensor) -> None:
        self.network, self.engine, self.magnitude, self._air = network, engine, magnitude, air
        self.random = Generator().manual_seed(0)
        told = self.told(sample)
        if float(told.counted.mean()) < 0.01:
            raise BadInput("The volume holds too little tissue to adapt to.", "Run without adapting.")
        if magnitude:
            self.correlation = band_limited(sample[:, 0].cpu())
        else:
            removed = ((sample - told.clean) / told.deviation)[:, 0].cpu()
            found = autocorrelation(removed, (told.clean / told.deviation)[:, 0].cpu())
            if found is None:  # little is flat: then all tissue tells it, a little less exactly
                found = correlation_within(removed, told.counted[:, 0].cpu())
            self.correlation = _across(found)

    @torch.no_grad()
    def told(self, piece: Tensor) -> Told:
        """What the network tells of pieces [b, 1, i, j, k]."""
        with autocast(self.engine):
            clean = self.network(piece).float()
        told = CALIBRATIONS["MR" if self.magnitude else "CT"]
        # At least 1, as the scan comes in units of the noise of its quiet part.
        noise = deviation(piece, clean, told).clamp(min=1)
        least = SIGNAL * noise + (0 if self.magnitude else self._air)
        return Told(clean, noise, (clean > least).float())

    def noise(self, told: Told) -> Tensor:
        """Noise as strong and correlated as the piece's own, but not it: [b, 1, i, j, k]."""
        return coloured_noise(told.clean.shape, self.correlation, self.random).to(told.clean.device) * told.deviation

    def unbiased(self, piece: Tensor, told: Told) -> Tensor:
        """A piece without the bias of its magnitudes (MR)."""
        return piece - rician(told.clean, told.deviation)[0] if self.magnitude else piece

    def recorrupted(self, piece: Tensor) -> Pair:
        """A piece with more noise, and with noise that is independent of that (Pang et al., CVPR 2021)."""
        told = self.told(piece)
        noise = self.noise(told)
        target = torch.where(told.counted > 0, self.unbiased(piece, told) - noise / SHARE, told.clean)
        return Pair(piece + SHARE * noise, target, torch.ones_like(piece), told.deviation)

    def known(self, told: Told, clean: Tensor) -> Pair:
        """A pair whose truth is known: `clean` is what the network said, or that with something drawn into it.

        It holds also where the signal of a magnitude is weak.
        """
        noisy = clean + self.noise(told)
        if self.magnitude:
            noisy = (noisy.square() + self.noise(told).square()).sqrt()
            return Pair(noisy, clean.clamp(min=0), torch.ones_like(clean), told.deviation)
        return Pair(noisy, clean, told.counted, told.deviation)


def autocast(engine: Engine) -> torch.autocast:
    """The engine's precision for training; half precision would need scaled gradients, so it becomes float32."""
    return torch.autocast(engine.torch_device.type, torch.bfloat16, enabled=engine.dtype == torch.bfloat16)


def _across(correlation: Tensor) -> Tensor:
    """Slices of a CT are independent or mixed, never opposed; a denoiser removes a little as if they were."""
    found = correlation.clone()
    middle = found.shape[2] // 2
    for step in range(found.shape[2]):
        if step != middle:
            found[..., step].clamp_(min=0)
    return found
