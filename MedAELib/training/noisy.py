"""Denoisers from a plain folder: its scans with measured noise added, in units of that noise, and held-out figures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor, nn
from torch.nn import functional

from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.noise import LEAST
from MedAELib.quality import psnr, ssim
from MedAELib.tasks.denoise import denoise
from MedAELib.training.corruptions import corrupt_ct, corrupt_mr, magnitude_noise, projection_noise
from MedAELib.training.folder import Case
from MedAELib.training.held_out import decibels
from MedAELib.training.loop import Batch
from MedAELib.training.patches import with_some_lesions
from MedAELib.training.sampling import Shape, Source, draw, middle_voxels
from MedAELib.volume import Volume

SHOWN = {"MR": 0.06, "CT": 0.04}  # of the window: the noise of the held-out figures
_KNOWN = 0.03  # weaker noise than that of the scan itself is not known
_EDGES = {2: (128, 128, 4), 3: (64, 64, 32)}
_MOST_CASES = 4


def denoising_batches(sources: Sequence[Source], shape: Shape, modality: str, seed: int) -> Callable[[int], Batch]:
    """The batch of a step as a function of the step: (noisy, clean, level, lesions), each patch in units of its noise.

    Noisy, clean and lesions, what small lesions added to clean, are [b, 1, ...]; level [b, 1, ... / 2] is the logarithm
    of the noise's deviation in cells of two voxels, not a number where it is unknown: real scans have noise of their
    own.
    """

    def batch(step: int) -> Batch:
        generator = Generator().manual_seed(seed * 1_000_003 + step)
        parts = [_sample(sources, shape, modality, generator) for _ in range(shape.batch)]
        noisy, clean, level, lesions = (torch.stack(part) for part in zip(*parts, strict=True))
        return noisy, clean, level, lesions

    return batch


def _sample(
    sources: Sequence[Source], shape: Shape, modality: str, generator: Generator
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    source = sources[int(torch.randint(len(sources), (), generator=generator))]
    clean = draw(source, shape, generator)[0]
    clean = clean.clamp(-1.024, 3.071) if modality == "CT" else clean.clamp(min=0)
    clean, lesions = with_some_lesions(clean[..., None] if shape.dims == 2 else clean, modality, generator)
    if modality == "CT":
        body = torch.full_like(clean, 0.5)
        noisy, deviation, unit = corrupt_ct(clean, body, torch.zeros_like(clean), generator)
    else:
        noisy, deviation, unit = corrupt_mr(clean, generator)
    known = deviation > _KNOWN
    if modality == "CT":
        known &= clean > -0.95  # scanners cut air off
    level = torch.where(known, deviation.clamp(min=LEAST), math.nan)
    parts = (noisy, clean, level, lesions)
    noisy, clean, level, lesions = ((part[..., 0] if shape.dims == 2 else part)[None] for part in parts)
    cells = functional.avg_pool2d(level, 2) if shape.dims == 2 else functional.avg_pool3d(level, 2)
    return noisy / unit, clean / unit, cells.log() - math.log(unit), lesions / unit


def with_noise(clean: Tensor, modality: str, seed: int) -> Tensor:
    """A clean box [i, j, k] with the noise of the held-out figures: Rician for MRI, that of a soft kernel for CT."""
    generator = Generator().manual_seed(seed)
    if modality == "CT":
        return clean + SHOWN["CT"] * projection_noise(clean.shape, generator, 0.5)
    return magnitude_noise(clean, SHOWN["MR"], generator)


def denoising_validation(
    sources: Sequence[Source], dims: int, stride: int, modality: str, device: torch.device
) -> Callable[[nn.Module], dict[str, float]]:
    """A measure of a denoiser: mean PSNR (dB, range 1) of denoised middle boxes, and of the noisy ones."""
    pairs = []
    for seed, source in enumerate(sources[:_MOST_CASES]):
        steps = (stride, stride, stride if dims == 3 else 1)
        clean = middle_voxels(source, _EDGES[dims], steps, 0)[0]
        pairs.append((with_noise(clean, modality, seed).to(device), clean.to(device)))
    unit = SHOWN[modality]

    @torch.no_grad()
    def measure(network: nn.Module) -> dict[str, float]:
        better, worse = [], []
        for noisy, clean in pairs:
            seen = (noisy.permute(2, 0, 1)[:, None] if dims == 2 else noisy[None, None]) / unit
            made = network(seen.contiguous()) * unit
            made = made[:, 0].permute(1, 2, 0) if dims == 2 else made[0, 0]
            better.append(decibels(made, clean))
            worse.append(decibels(noisy, clean))
        return {"held_out_psnr": float(np.mean(better)), "noisy_psnr": float(np.mean(worse))}

    return measure


def denoising_figures(
    model: Model, sources: Sequence[Source], engine: Engine, progress: Callable[[str, int, int], None]
) -> list[dict[str, Any]]:
    """For each case PSNR (dB) and SSIM of noise added and taken away again by the denoise task, in its middle."""
    rows = []
    for seed, source in enumerate(sources):
        progress("Measuring on held-out subjects", seed, len(sources))
        case: Case = source.case
        clean = middle_voxels(source, (96, 96, 48), (1, 1, 1), 0)[0]
        noisy = with_noise(clean, model.spec.modality, seed)
        scale = 1000.0 if model.spec.modality == "CT" else 1.0
        volume = Volume(noisy.numpy()[None] * np.float32(scale), case.affine, {"modality": model.spec.modality})
        made = denoise(volume, model, engine=engine, passes=1).array[0] / scale
        rows.append({
            "case": case.name,
            "psnr": psnr(clean.numpy(), made, 1.0),
            "ssim": ssim(clean.numpy(), made, 1.0),
            "noisy_psnr": psnr(clean.numpy(), noisy.numpy(), 1.0),
        })  # fmt: skip
    progress("Measuring on held-out subjects", len(sources), len(sources))
    return rows
