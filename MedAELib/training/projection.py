"""Noise of a simulated CT scan: project the patient, count photons, reconstruct what the counting adds."""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor

WATER = 0.02  # attenuation per millimetre at about 60 keV


def scan_noise(
    clean: Tensor,
    spacing: float,
    generator: Generator,
    cutoff: float = 0.5,
    photons: float = 1e5,
    electronic: float = 10.0,
    views: int = 0,
) -> Tensor:
    """The noise (HU / 1000) that a parallel-beam scan of ``clean`` [i, j, k] (HU / 1000) adds to its axial slices.

    The slices are projected, each ray's photons (``photons`` before the body) and electronic noise (``electronic``
    counts) give the deviation of its line integral, and that noise is filtered with a Hann-apodised ramp ending at
    ``cutoff`` cycles per detector bin (1 and above: hardly apodised) and back-projected. So it is correlated in plane,
    white across slices, stronger in the middle and streaked along wide parts of the body. ``spacing`` is the size of
    a voxel in the plane in millimetres; ``views`` is how many directions are projected (0: 1.5 per voxel across).
    """
    size = max(clean.shape[:2])
    square = torch.full((clean.shape[2], 1, size, size), -1.0)
    square[:, 0, : clean.shape[0], : clean.shape[1]] = clean.permute(2, 0, 1)
    attenuation = WATER * spacing * (1 + square).clamp(min=0)
    views = views or int(1.5 * size)
    noise = torch.zeros(clean.shape[2], size, size)
    line = torch.linspace(-1 + 1 / size, 1 - 1 / size, size)
    across_i, across_j = torch.meshgrid(line, line, indexing="ij")
    for view in range(views):
        angle = math.pi * view / views
        integrals = _projected(attenuation, angle)
        counts = photons * torch.exp(-integrals)
        deviation = (counts + electronic**2).sqrt() / counts.clamp(min=1)
        filtered = _ramp_filtered(deviation * torch.randn(integrals.shape, generator=generator), cutoff)
        place = (across_i * math.sin(angle) + across_j * math.cos(angle) + 1) * size / 2 - 0.5
        noise += _between(filtered, place)
    noise *= math.pi / views / (WATER * spacing)
    return noise[:, : clean.shape[0], : clean.shape[1]].permute(1, 2, 0).contiguous()


def _projected(attenuation: Tensor, angle: float) -> Tensor:
    """Line integrals [k, bin] of slices [k, 1, n, n] along one direction."""
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = torch.tensor([[cosine, -sine, 0.0], [sine, cosine, 0.0]])[None]
    channels = attenuation[:, 0][None]  # the slices share one grid
    grid = torch.nn.functional.affine_grid(turn, [1, *channels.shape[1:]], align_corners=False)
    return torch.nn.functional.grid_sample(channels, grid, align_corners=False)[0].sum(1)


def _ramp_filtered(lines: Tensor, cutoff: float) -> Tensor:
    """Lines [k, bin] times |f| and a Hann window that ends at ``cutoff`` cycles per bin."""
    length = 2 * lines.shape[1]
    frequency = torch.fft.rfftfreq(length)
    window = torch.where(frequency < cutoff, 0.5 + 0.5 * torch.cos(math.pi * frequency / cutoff), 0.0)
    return torch.fft.irfft(torch.fft.rfft(lines, n=length) * frequency * window, n=length)[:, : lines.shape[1]]


def _between(lines: Tensor, place: Tensor) -> Tensor:
    """Lines [k, bin] at fractional bins ``place`` [n, n], by linear interpolation; zero outside."""
    lower = place.floor()
    weight = place - lower
    padded = torch.nn.functional.pad(lines, (1, 1))
    index = (lower.long() + 1).clamp(0, padded.shape[1] - 2)
    return padded[:, index] * (1 - weight) + padded[:, index + 1] * weight
