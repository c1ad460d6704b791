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
_FLAT = (0.2, 0.6)  # deviations of the result within a window, in units of the noise: left alone, and fitted in full
_COMMON = 0.02  # of the noise's variance: what the noise that is left has in common with that which went


class Refitted(Wrapped):
    """A denoiser whose result gets back the means and contrasts that it lost: [b, c, ...] -> the same, float32.

    Who removes noise draws fat towards muscle and bone towards what lies around it, the more the stronger the noise.
    In every window of about 20 voxels along each edge the noisy scan is expressed by the denoised one, as ``slope x
    denoised + shift`` with the least squares; two numbers for so many voxels take up next to nothing of the noise, and
    of noise as filtered back-projection leaves it (little at low frequencies) even less. Each voxel becomes what the
    windows around it say on average. Where the result is flat there is nothing to scale, the mean is known to the
    network, and it stays as it is.

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
            self.told.share = _LAYERS / 6
            return torch.cat([refitted(x.float(), made[:, :1], self.told), made[:, 1:]], 1)


def refitted(noisy: Tensor, denoised: Tensor, told: Callable[[Tensor], Tensor] = lambda x: x) -> Tensor:
    """The denoised scan with the local means and contrasts of the noisy one: [b, 1, i, j, k] -> the same.

    In units of the noise; sizes are multiples of CELL. ``told`` is called six times on the way.
    """
    removed = noisy - denoised
    moments = (denoised, removed, denoised.square(), denoised * removed)
    mean, lost, square, product = (local_mean(told(functional.avg_pool3d(voxels, CELL)), _REACH) for voxels in moments)
    variance = (square - mean.square()).clamp(min=0)
    share = ((variance.sqrt() - _FLAT[0]) / (_FLAT[1] - _FLAT[0])).clamp(0, 1)
    slope = share * (product - mean * lost - _COMMON) / variance.clamp(min=_FLAT[0] ** 2)
    shift = share * lost - slope * mean
    slope, shift = (told(_between(local_mean(cells, _REACH))) for cells in (slope, shift))
    return torch.addcmul(denoised, slope, denoised).add_(shift)


def _between(cells: Tensor) -> Tensor:
    """Cells at every voxel, interpolated linearly."""
    return functional.interpolate(cells, scale_factor=CELL, mode="trilinear")
