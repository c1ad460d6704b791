"""Small volumes with anatomy-like content for the tests of the codec."""

import numpy as np

from MedAELib import Volume

AFFINE = np.array([[-0.7, 0.0, 0.1, 101.5], [0.0, 0.9, 0.0, -33.25], [0.05, 0.0, 2.0, 7.0], [0.0, 0.0, 0.0, 1.0]])


def smooth(shape: tuple[int, ...], seed: int = 0, noise: float = 5.0) -> np.ndarray:
    """A bright ball in the dark, with noise: float64 [i, j, k] within about -1000 .. 300."""
    grid = np.meshgrid(*[np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape], indexing="ij")
    ball = 1 / (1 + np.exp(6 * (np.sqrt(sum(axis**2 for axis in grid)) - 0.7)))
    return -1000 + 1200 * ball + np.random.default_rng(seed).normal(0, noise, shape)


def scan(shape: tuple[int, int, int] = (24, 20, 18), dtype: str = "int16", seed: int = 0, channels: int = 1) -> Volume:
    """A volume of that content, of any type that holds -1100 .. 400 (unsigned ones are lifted)."""
    voxels = np.stack([smooth(shape, seed + channel) for channel in range(channels)])
    lifted = np.rint(voxels) + (1200 if np.dtype(dtype).kind == "u" else 0)
    return Volume(lifted.astype(dtype), AFFINE, {"name": "ball", "modality": "CT", "header": {"note": "made"}})
