"""A denoised scan fitted to the noisy one again: its local means and contrasts become those of what was measured."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from MedAELib.networks.denoising import local_mean, ramp
from MedAELib.networks.network import Aligned, Network
from MedAELib.networks.told import Told

_LAYERS = 2  # of the network, that all of it takes about as long as
CELL = 4  # voxels along an edge, of which only moments are looked at
_REACH = 2  # cells on each side, of the windows that are fitted and of the means over them
# Deviations of the result within a window, in units of the noise there:
_FLAT = (0.2, 0.6)  # left alone, and fitted in full
_PLAIN = (1.5, 3.0)  # contrast fitted in full, and left alone: one so plain is kept, and blurred edges would count
_ABOVE = 4.0  # of the noise: what is so far above the value where a scan is cut off was not raised
_LEAST = 0.05  # of a window: with less in it nothing is fitted
_STEPS = 8  # that are told
_COMMON = 0.02  # of the noise's variance: what the noise that is left has in common with that which went


class Refitted(Aligned):
    """A denoiser whose result gets back the means and contrasts that it lost: [b, c, ...] -> the same, float32.

    Who removes noise draws fat towards muscle and bone towards what lies around it, the more the stronger the noise.
    In every window of about 20 voxels along each edge the noisy scan is expressed by the denoised one, as ``slope x
    denoised + shift`` with the least squares; two numbers for so many voxels take up next to nothing of the noise, and
    of noise as filtered back-projection leaves it (little at low frequencies) even less. Each voxel becomes what the
    windows around it say on average. Where the result is flat there is nothing to scale, the mean is known to the
    network, and it stays as it is; where contrasts are far above the noise, only the mean comes back.

    The scan comes in units of its noise. Where smaller values were raised to ``cut_off``, as most scanners do at -1024
    HU, the mean of air is too high: what lies so low is left out, and stays. Only the first channel changes.
    Sources: guided filter, with the result as the guide of the noisy scan (He, Sun and Tang, IEEE TPAMI 2013);
    least-squares refitting of what a regulariser has shrunk (Deledalle et al., SIAM Journal on Imaging Sciences 2017).
    """

    def __init__(self, network: Network, cut_off: float) -> None:
        # The reach of the noise, of fits and of their means, and a cell in between.
        super().__init__(network, CELL, CELL * (3 * _REACH + 1))
        self.cut_off = cut_off
        self.told = Told(_LAYERS / network.calls)

    def forward(self, x: Tensor) -> Tensor:
        """The denoised scan, refitted, and the further channels as they were."""
        made = self.network(x).float()
        with torch.autocast(x.device.type, enabled=False):
            self.told.share = _LAYERS / _STEPS
            return torch.cat([refitted(x.float(), made[:, :1], self.cut_off, self.told), made[:, 1:]], 1)


def refitted(
    noisy: Tensor, denoised: Tensor, cut_off: float = -math.inf, told: Callable[[Tensor], Tensor] = lambda x: x
) -> Tensor:
    """The denoised scan with the local means and contrasts of the noisy one: [b, 1, i, j, k] -> the same.

    In units of the noise; sizes are multiples of CELL. ``told`` is called _STEPS times on the way.
    """
    removed = noisy - denoised
    noise = _variance(told(_cells(removed)), told(_cells(removed.square())))
    above = (denoised > cut_off + _ABOVE * functional.interpolate(noise.sqrt(), scale_factor=CELL)).float()
    weight = local_mean(_cells(above), _REACH)
    mean, lost, square, product = (
        local_mean(told(_cells(above * voxels)), _REACH) / weight.clamp(min=_LEAST)
        for voxels in (denoised, removed, denoised.square(), denoised * removed)
    )
    variance = (square - mean.square()).clamp(min=0)
    contrast = (variance / noise).sqrt()
    share = ramp(contrast, *_FLAT) * (weight > _LEAST)
    fitted = (product - mean * lost - _COMMON * noise) / variance.clamp(min=_FLAT[0] ** 2)
    slope = share * (1 - ramp(contrast, *_PLAIN)) * fitted
    shift = share * lost - slope * mean
    around = local_mean(weight, _REACH).clamp(min=_LEAST)
    slope, shift = (told(_between(local_mean(weight * cells, _REACH) / around)) for cells in (slope, shift))
    return denoised + above * torch.addcmul(shift, slope, denoised)


def _cells(voxels: Tensor) -> Tensor:
    return functional.avg_pool3d(voxels, CELL)


def _variance(mean: Tensor, square: Tensor) -> Tensor:
    """The variance of the noise around each cell, at least 1, from means over the cells."""
    return (local_mean(square, _REACH) - local_mean(mean, _REACH).square()).clamp(min=1)


def _between(cells: Tensor) -> Tensor:
    """Cells at every voxel, interpolated linearly."""
    return functional.interpolate(cells, scale_factor=CELL, mode="trilinear")
