"""Trust figures of any method's result in the benchmark: those that MedAE shows beside every result of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from benchmarks.denoise_cases import Crop, Image, Scan
from benchmarks.denoise_medae import FLAT, SCALE, applied, flat_scans, scanned

from MedAELib.model import Model
from MedAELib.tasks.trust import trust

LESIONS = "Small lesions kept"  # how the names of the figures begin that tell the contrast of inserted lesions


def trust_figures(scan: Scan, image: Image, again: Callable[[Image], Image]) -> dict[str, float]:
    """The figures that could be measured, by name. `again` denoises another noisy volume in the same way.

    All methods are judged by the true level of the noise, so that lesions have the same contrast for all.
    """
    volume = scanned(scan.noisy, scan.modality)
    noise = volume.like(np.full(volume.array.shape, scan.level * SCALE, np.float32))
    denoised = volume.like((image * SCALE)[None].astype(np.float32))
    figures = trust(volume, denoised, lambda noisy: (again(noisy / SCALE) * SCALE).astype(np.float32), noise)
    return {figure.name: figure.value for figure in figures if figure.value is not None}


def flat_lesions(model: Model, modality: str, size: Crop = FLAT) -> dict[str, float]:
    """How much contrast (%) balls of 5 voxels at twice the noise keep amid tissue without structure, by level.

    Who empties flat tissue of noise may empty it of lesions too. Levels at which MR signal is too weak are left out.
    """
    kept = {}
    for scan in flat_scans(modality, size):
        figures = trust_figures(
            scan, applied(model, scan.noisy, modality), lambda noisy: applied(model, noisy, modality)
        )
        found = figures.get(f"{LESIONS}, 2 x noise")
        if found is not None:
            kept[f"flat_lesions_kept_{scan.level:g}"] = found
    return kept
