"""How noise is correlated between neighbouring voxels: measured on a scan, and made anew."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

_REACH = 4  # voxels: the largest lag along each axis
_CERTAIN = 0.06  # weaker correlations are not told from chance, or from what a denoiser leaves behind
_EMPTY = 0.1  # of the power at half the Nyquist frequency: a band with less holds no noise


def band_limited(scan: Tensor) -> Tensor:
    """The autocorrelation [9, 9, 9] of MRI noise in a scan [b, i, j, k]: white up to the band that was measured.

    Noise fills all frequencies that the scanner measured alike. Where the outer frequencies of an axis are empty, the
    scan was filled up with zeros or interpolated; anatomy plays no part in this, however fine it is.
    """
    correlation = torch.ones((1, 1, 1))
    lags = torch.arange(-_REACH, _REACH + 1)
    for axis in range(1, 4):
        limit = _band(scan, axis)
        shape = [-1 if other == axis else 1 for other in range(1, 4)]
        correlation = correlation * torch.sinc(limit * lags).reshape(shape)
    return torch.where(correlation.abs() < _CERTAIN, 0, correlation)


def _band(scan: Tensor, axis: int) -> float:
    """The share of the Nyquist frequency up to which the axis holds anything."""
    size = scan.shape[axis]
    taper = torch.hann_window(size, periodic=False, device=scan.device)
    lines = scan * taper.reshape([-1 if other == axis else 1 for other in range(scan.ndim)])
    power = torch.fft.rfft(lines, dim=axis).abs().square().mean([other for other in range(scan.ndim) if other != axis])
    count = len(power) - 1
    middle = float(power[round(0.4 * count) : round(0.5 * count) + 1].median())
    filled = (power > _EMPTY * middle).nonzero()
    return float(filled.max()) / count if middle > 0 else 1.0


def autocorrelation(noise: Tensor, signal: Tensor) -> Tensor | None:
    """The correlation of noise [b, i, j, k] with itself at lags -4..4 along each axis, [9, 9, 9], 1 in the middle.

    Only where `signal`, the clean scan in units of the noise, is flat counts, so that removed anatomy does not pass for
    noise; None when too little is flat. Correlations too weak to be certain of are 0.
    """
    flat = _flat(signal)
    if float(flat.mean()) < 0.01:
        return None
    return correlation_within(noise, flat)


def correlation_within(noise: Tensor, counted: Tensor) -> Tensor:
    """The correlation of noise [b, i, j, k] with itself, [9, 9, 9], over pairs of voxels that are both `counted` (1).

    Correlations too weak to be certain of are 0.
    """
    masked = (noise - (noise * counted).sum() / counted.sum().clamp(min=1)) * counted
    found = _products(masked) / _products(counted).clamp(min=1)
    found = found / found[_REACH, _REACH, _REACH].clamp(min=1e-12)
    return torch.where(found.abs() < _CERTAIN, 0, found)


def _products(voxels: Tensor) -> Tensor:
    """Sums of products of all pairs of voxels [b, i, j, k] at lags -4..4 along each axis: [9, 9, 9]."""
    sizes = [size + _REACH for size in voxels.shape[1:]]  # so that opposite borders do not meet
    power = torch.fft.rfftn(voxels.double(), s=sizes, dim=(1, 2, 3)).abs().square().sum(0)
    found = torch.fft.irfftn(power, s=sizes, dim=(0, 1, 2))
    lags = [torch.arange(-_REACH, _REACH + 1) % size for size in sizes]
    return found[lags[0]][:, lags[1]][:, :, lags[2]].to(voxels.dtype)


def coloured_noise(shape: Sequence[int], correlation: Tensor, generator: Generator) -> Tensor:
    """Gaussian noise [b, c, i, j, k] of deviation 1 with an autocorrelation [9, 9, 9]."""
    size = [max(length, 2 * _REACH + 1) for length in shape[2:]]
    white = torch.randn((*shape[:2], *size), generator=generator)
    kernel = torch.zeros(size)
    reach = range(-_REACH, _REACH + 1)
    for index in ((i, j, k) for i in reach for j in reach for k in reach):
        kernel[index] = correlation[tuple(step + _REACH for step in index)]
    power = torch.fft.rfftn(kernel).real.clamp(min=0)
    noise = torch.fft.irfftn(torch.fft.rfftn(white, dim=(2, 3, 4)) * power.sqrt(), s=size, dim=(2, 3, 4))
    noise = noise[..., : shape[2], : shape[3], : shape[4]]
    return noise / noise.std()


def _flat(signal: Tensor) -> Tensor:
    """1 where a signal [b, i, j, k] varies by less than the noise's deviation within two voxels, else 0."""
    blocks = signal[:, None]
    high = torch.nn.functional.max_pool3d(blocks, 5, 1, 2)
    low = -torch.nn.functional.max_pool3d(-blocks, 5, 1, 2)
    return (high - low < 1.0).float()[:, 0]
