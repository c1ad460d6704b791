"""A denoised scan fitted to the noisy one again: its local means and contrasts become those of what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from MedAELib.networks.denoising import local_mean
from MedAELib.networks.network import Network, Wrapped
from MedAELib.networks.told import Told

_LAYERS = 2  # of the network, that all of it takes about as long as
CELL = 4  # voxels along an edge, of which only moments are looked at
_REACH = 2  # cells on each side, of the windows that are fitted and of the means over them
# Deviations of the result within a window, in units of the noise there:
_FLAT = (0.2, 0.6)  # left alone, and fitted in full
_PLAIN = (1.5, 3.0)  # contrast fitted in full, and left alone: one so plain is kept, and blurred edges would count
_COMMON = 0.02  # of the noise's variance: what the noise that is left has in common with that which went


class Refitted(Wrapped):
    """A denoiser whose result gets back the means and contrasts that it lost: [b, c, ...] -> the same, float32.

    Who removes noise draws fat towards muscle and bone towards what lies around it, the more the stronger the noise.
    In every window of about 20 voxels along each edge the noisy scan is expressed by the denoised one, as ``slope x
    denoised + shift`` with the least squares; two numbers for so many voxels take up next to nothing of the noise, and
    of noise as filtered back-projection leaves it (little at low frequencies) even less. Each voxel becomes what the
    windows around it say on average. Where the result is flat there is nothing to scale, the mean is known to the
    network, and it stays as it is; where contrasts are far above the noise, only the mean comes back.

    The scan comes in units of its noise. Only the first channel is changed. Sources: guided filter, with the result as
    the guide of the noisy scan (He, Sun and Tang, IEEE TPAMI 2013); least-squares refitting of what a regulariser has
    shrunk (Deledalle et al., SIAM Journal on Imaging Sciences 2017).
    """

    def __init__(self, network: Network) -> None:
        super().__init__(network)
        self.told = Told(_LAYERS / network.calls)
        self.stride = math.lcm(network.stride, CELL)
        reach = network.halo + CELL * (2 * _REACH + 1)  # and a cell of the interpolation
        self.halo = math.ceil(reach / self.stride) * self.stride

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride along each axis, a multiple of the edge of a cell."""
        return (self.stride,) * self.dims

    def forward(self, x: Tensor) -> Tensor:
        """The denoised scan, refitted, and the further channels as they were."""
        made = self.network(x).float()
        with torch.autocast(x.device.type, enabled=False):
            self.told.share = _LAYERS / 7
            return torch.cat([refitted(x.float(), made[:, :1], self.told), made[:, 1:]], 1)


def refitted(noisy: Tensor, denoised: Tensor, told: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """The denoised scan with the local means and contrasts of the noisy one: [b, 1, i, j, k] -> the same.

    In units of the noise; sizes are multiples of CELL. ``told`` is called seven times on the way.
    """
    removed = noisy - denoised
    moments = (denoised, removed, denoised.square(), denoised * removed, removed.square())
    pooled = (told(functional.avg_pool3d(voxels, CELL)) for voxels in moments)
    mean, lost, square, product, power = (local_mean(cells, _REACH) for cells in pooled)
    noise = (power - lost.square()).clamp(min=1)
    variance = (square - mean.square()).clamp(min=0)
    contrast = (variance / noise).sqrt()
    share = _ramp(contrast, *_FLAT)
    fitted = (product - mean * lost - _COMMON * noise) / variance.clamp(min=_FLAT[0] ** 2)
    slope = share * (1 - _ramp(contrast, *_PLAIN)) * fitted
    shift = share * lost - slope * mean
    slope, shift = (told(_between(local_mean(cells, _REACH))) for cells in (slope, shift))
    return torch.addcmul(denoised, slope, denoised).add_(shift)


def _ramp(x: Tensor, start: float, end: float) -> Tensor:
    """0 up to `start`, 1 from `end` on."""
    return ((x - start) / (end - start)).clamp(0, 1)


def _between(cells: Tensor) -> Tensor:
    """Cells at every voxel, interpolated linearly."""
    return functional.interpolate(cells, scale_factor=CELL, mode="trilinear")
