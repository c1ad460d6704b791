"""Trust figures of any method's result in the benchmark: those that MedAE shows beside every result of its own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from benchmarks.denoise_cases import Image, Scan
from benchmarks.denoise_medae import SCALE, scanned

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
