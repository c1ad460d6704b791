"""Noise as scanners make it: Rician and non-central chi for magnitude MRI, filtered back-projection noise for CT."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from scipy.ndimage import uniform_filter
from torch import Generator, Tensor

from MedAELib.noise import LEAST

# How far the unit is off, as a logarithm: the estimate errs, and most of a CT is louder than its quiet part.
_UNIT_OFF = {"MR": (-0.15, 0.25), "CT": (-0.9, 0.4)}


def gaussian(shape: Sequence[int], generator: Generator) -> Tensor:
    """White Gaussian noise of standard deviation 1."""
    return torch.randn(tuple(shape), generator=generator)


def uniform(low: float, high: float, generator: Generator) -> float:
    """One number drawn evenly from low..high."""
    return low + (high - low) * float(torch.rand((), generator=generator))


def log_uniform(low: float, high: float, generator: Generator) -> float:
    """One number drawn evenly on a logarithmic scale from low..high (both above 0)."""
    return math.exp(uniform(math.log(low), math.log(high), generator))


def chance(probability: float, generator: Generator) -> bool:
    """True with this probability."""
    return float(torch.rand((), generator=generator)) < probability


def smooth_field(shape: Sequence[int], spread: float, generator: Generator, knots: int = 3) -> Tensor:
    """A positive field that varies slowly over the patch: exp(spread x Gaussian knots, interpolated), mean square 1."""
    knot_values = spread * gaussian((1, 1, knots, knots, knots), generator)
    field = torch.nn.functional.interpolate(knot_values, tuple(shape), mode="trilinear", align_corners=True)[0, 0].exp()
    return field / field.square().mean().sqrt()


def low_passed(noise: Tensor, cutoffs: Sequence[float]) -> Tensor:
    """White noise after zero filling: nothing above a fraction ``cutoffs`` of each axis' Nyquist; deviation 1 again."""
    for axis, cutoff in enumerate(cutoffs):
        if cutoff >= 1:
            continue
        spectrum = torch.fft.rfft(noise, dim=axis)
        kept = max(1, round(cutoff * (spectrum.shape[axis] - 1)))
        spectrum.narrow(axis, kept, spectrum.shape[axis] - kept).zero_()
        noise = torch.fft.irfft(spectrum, n=noise.shape[axis], dim=axis)
        noise = noise / math.sqrt(max(2 * kept - 1, 1) / noise.shape[axis])
    return noise


def magnitude_noise(
    clean: Tensor, sigma: float | Tensor, generator: Generator, coils: int = 1, cutoffs: Sequence[float] = (1, 1, 1)
) -> Tensor:
    """A magnitude image [i, j, k] as an MRI scanner with ``coils`` combined by sum of squares would measure it.

    Each coil holds an equal share of the signal and complex Gaussian noise of deviation ``sigma`` (a number or a map)
    per channel; one coil gives Rician noise, more give non-central chi noise. ``cutoffs`` below 1 make the noise
    correlated, as zero filling or interpolation leaves it.
    """
    share = clean / math.sqrt(coils)
    power = torch.zeros_like(clean)
    for _ in range(coils):
        power += (share + sigma * low_passed(gaussian(clean.shape, generator), cutoffs)).square()
        power += (sigma * low_passed(gaussian(clean.shape, generator), cutoffs)).square()
    return power.sqrt()


def projection_noise(
    shape: Sequence[int], generator: Generator, cutoff: float = 0.5, across: float = 0.0, streaks: float = 0.0
) -> Tensor:
    """Noise of deviation 1 [i, j, k] as filtered back-projection leaves it in the axial planes (i, j).

    Its power over spatial frequency is |f| W(f)^2 with the Hann apodisation W that ends at ``cutoff`` cycles per
    voxel: 0.2 is a very soft kernel, 0.5 a plain Hann filter, 1 and more a sharp kernel or a coarse grid. ``across``
    (0..0.5) mixes neighbouring slices; ``streaks`` (0..1) makes one random direction stronger than the one across it,
    as shoulders and hips do. Made on a field larger than asked for, so that opposite borders do not belong together.
    """
    margin = 16
    size_i, size_j, size_k = shape[0] + margin, shape[1] + margin, shape[2] + 2
    frequency_i = torch.fft.fftfreq(size_i)[:, None]
    frequency_j = torch.fft.rfftfreq(size_j)[None, :]
    radius = torch.hypot(frequency_i, frequency_j)
    amplitude = radius.sqrt() * _hann(radius, cutoff)
    if streaks:
        angle = torch.atan2(frequency_i, frequency_j) - uniform(0, math.pi, generator)
        amplitude = amplitude * (1 + streaks * torch.cos(2 * angle)).clamp(min=0).sqrt()
    noise = gaussian((size_k, size_i, size_j), generator)
    noise = torch.fft.irfft2(torch.fft.rfft2(noise) * amplitude, s=(size_i, size_j))
    if across:
        noise = (1 - across) * noise + across * 0.5 * (noise.roll(1, 0) + noise.roll(-1, 0))
    noise = noise / noise.std()
    return noise[1:-1, : shape[0], : shape[1]].permute(1, 2, 0).contiguous()


def corrupt_mr(clean: Tensor, generator: Generator, band: Sequence[float] = (1, 1, 1)) -> tuple[Tensor, Tensor, float]:
    """A random MRI measurement of ``clean`` (99.9th percentile near 1), the deviation of its noise, and its unit.

    ``band`` is the share of k-space along each axis that holds ``clean``; by chance it holds the noise too, as when the
    scanner filled the rest with zeros.

    The deviation is that of each voxel; the unit is what `MedAELib.noise.noise_unit` would take for it, give or take:
    its deviation in the quiet part of the patch.
    Level, kind and unevenness of the noise are drawn. Levels are log-uniform from 0.4 to 20 %, most of them above 2 %;
    one patch in twenty has no noise, so that clean scans are left alone.
    """
    if chance(1 / 20, generator):
        return clean.clone(), torch.zeros_like(clean), log_uniform(0.001, 0.02, generator)
    sigma: float | Tensor = log_uniform(0.02 if chance(0.75, generator) else 0.004, 0.2, generator)
    if chance(0.25, generator):
        sigma = sigma * smooth_field(clean.shape, uniform(0.1, 0.6, generator), generator)
    coils = 1 if chance(0.95, generator) else int(uniform(2, 5, generator))
    cutoffs: tuple[float, ...] = (1.0, 1.0, 1.0)
    if chance(0.12, generator):
        cutoffs = tuple(1.0 if chance(0.4, generator) else uniform(0.45, 1, generator) for _ in range(3))
    elif min(band) < 1 and chance(0.3, generator):
        cutoffs = tuple(band)
    noisy = magnitude_noise(clean, sigma, generator, coils, cutoffs)
    if chance(0.06, generator):  # a scan whose background was masked out afterwards
        noisy = torch.where(clean > 0.02, noisy, 0.0)
    deviation = sigma * torch.ones_like(clean)
    return noisy, deviation, _unit(deviation, _UNIT_OFF["MR"], generator)


def corrupt_ct(clean: Tensor, body: Tensor, scan: Tensor, generator: Generator) -> tuple[Tensor, Tensor, float]:
    """A random CT measurement of ``clean`` (HU / 1000), the deviation of its noise around each voxel, and its unit.

    The unit is what `MedAELib.noise.noise_unit` would take for the deviation: that in the quiet part of the whole
    volume, which the patch may not hold.
    Dose, kernel, correlation and unevenness of the noise are drawn. Half of the patches take the noise of the simulated
    scan ``scan`` through a random kernel, the others noise of the same spectrum that follows ``body``, how much body
    lies around each voxel (0 outside .. 1 deep inside). Levels are log-uniform, 2 to 130 HU, most of them above 10 HU;
    most kernels are near a plain Hann filter; one patch in twenty has no noise; half are cut off at -1024 HU as
    scanners do.
    """
    if chance(1 / 20, generator):
        return clean.clone(), torch.zeros_like(clean), log_uniform(0.002, 0.02, generator)
    sigma = log_uniform(0.01 if chance(0.75, generator) else 0.002, 0.13, generator)
    cutoff = log_uniform(0.35, 0.75, generator) if chance(0.5, generator) else log_uniform(0.2, 1.2, generator)
    if scan.any() and chance(0.5, generator):
        noise = in_plane_filtered(scan * (1 if chance(0.5, generator) else -1), cutoff)
        noise = noise / noise.square().mean().sqrt()
    else:
        noise = _spectral_ct_noise(clean.shape, cutoff, body, generator)
    noisy = clean + sigma * noise
    deviation = sigma * _local_deviation(noise)
    unit = _unit(deviation, _UNIT_OFF["CT"], generator)
    return (noisy.clamp(min=-1.024) if chance(0.5, generator) else noisy), deviation, unit


def _unit(deviation: Tensor, off: tuple[float, float], generator: Generator) -> float:
    """The deviation that a fifth of the patch stays below, wrong by a factor e to the power of one in the range."""
    return max(float(deviation.flatten()[::97].quantile(0.2)) * math.exp(uniform(*off, generator)), LEAST)


def _local_deviation(noise: Tensor) -> Tensor:
    """Root mean square within about 17 x 17 x 9 voxels of each voxel."""
    power = uniform_filter(noise.square().numpy(), (17, 17, 9), mode="reflect")
    return torch.from_numpy(power).clamp(min=0).sqrt()


def _spectral_ct_noise(shape: Sequence[int], cutoff: float, body: Tensor, generator: Generator) -> Tensor:
    across = 0.0 if chance(0.6, generator) else uniform(0, 0.5, generator)
    streaks = 0.0 if chance(0.5, generator) else uniform(0, 0.8, generator)
    noise = projection_noise(shape, generator, cutoff, across, streaks)
    if chance(0.5, generator):
        noise = noise * smooth_field(shape, uniform(0.05, 0.35, generator), generator)
    if chance(0.7, generator):
        noise = noise * (uniform(0.4, 1, generator) + body).div(1.2)
    return noise


def in_plane_filtered(noise: Tensor, cutoff: float) -> Tensor:
    """Noise [i, j, k] through a softer kernel: a Hann window that ends at ``cutoff`` cycles per voxel in plane."""
    frequency_i = torch.fft.fftfreq(noise.shape[0])[:, None]
    frequency_j = torch.fft.rfftfreq(noise.shape[1])[None, :]
    window = _hann(torch.hypot(frequency_i, frequency_j), cutoff)
    planes = noise.permute(2, 0, 1)
    planes = torch.fft.irfft2(torch.fft.rfft2(planes) * window, s=planes.shape[1:])
    return planes.permute(1, 2, 0).contiguous()


def _hann(frequency: Tensor, cutoff: float) -> Tensor:
    return torch.where(frequency < cutoff, 0.5 + 0.5 * torch.cos(math.pi * frequency / cutoff), 0.0)
