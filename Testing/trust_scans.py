"""Generated scans for the tests of the trust figures: flat organs with sharp edges, noise that is known."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
from scipy.ndimage import gaussian_filter

from MedAELib import Volume
from MedAELib.tasks.figures import Figure
from MedAELib.tasks.trust import trust

LEVELS = {"MR": 30.0, "CT": 20.0}


@dataclass(frozen=True)
class Scan:
    """The truth [i, j, k], the noise that was added to it, and the noisy volume; `again` knows the noise."""

    clean: np.ndarray
    noise: np.ndarray
    volume: Volume

    def judge(self, result: np.ndarray, again: Callable[[np.ndarray], np.ndarray], **options) -> dict[str, Figure]:
        """The trust figures of a result, by name."""
        denoised = self.volume.like(result[None].astype(self.volume.array.dtype))
        return {figure.name: figure for figure in trust(self.volume, denoised, again, **options)}

    def ideal(self, voxels: np.ndarray) -> np.ndarray:
        """What a denoiser gives that knows the noise of this very scan."""
        return voxels - self.noise


def organs(size: tuple[int, int, int] = (64, 64, 64), base: float = 500.0) -> np.ndarray:
    """Balls of 9 voxels' radius in a grid, each of its own brightness, in even tissue; edges are not quite sharp."""
    random = np.random.default_rng(3)
    grid = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"))
    tissue = np.full(size, base, np.float32)
    first = np.array([min(10, n // 2) for n in size])
    for place in np.ndindex(*[max(1, n // 21) for n in size]):
        inside = ((grid - (21 * np.array(place) + first)[:, None, None, None]) ** 2).sum(0) < 81
        tissue[inside] += random.choice([-1, 1]) * random.uniform(150, 300)
    return gaussian_filter(tissue, 0.5)


@cache
def scan(modality: str = "MR", size: tuple[int, int, int] = (64, 64, 64), dtype: str = "float32") -> Scan:
    """Rician noise, or noise that is correlated in plane and white across slices."""
    random = np.random.default_rng(1)
    clean = organs(size, 500.0 if modality == "MR" else 50.0)
    real, other = (random.normal(0, 1, size) for _ in range(2))
    if modality == "CT":
        real = gaussian_filter(real, (0.6, 0.6, 0))
        noisy = clean + LEVELS["CT"] * real / real.std()
    else:
        noisy = np.hypot(clean + LEVELS["MR"] * real, LEVELS["MR"] * other)
    noisy = noisy.astype(dtype)
    meta = {"name": "scan", "modality": modality}
    return Scan(clean, noisy.astype(np.float32) - clean, Volume(noisy[None], np.eye(4), meta))
