"""Generated pairs of scans on one grid for tests: what the second kind shows depends on more than one voxel."""

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from MedAELib import Volume

AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
SIZE = (40, 36, 10)


def pair(seed: int, size: tuple[int, int, int] = SIZE) -> tuple[np.ndarray, np.ndarray]:
    """T1 and T2 [i, j, k] of a head: tissue with spots of one brightness; T2 is dark where many of them are close."""
    random = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in size], indexing="ij"))
    head = np.sqrt((grid**2).sum(0) / 2) < 0.62
    spots = gaussian_filter(random.normal(size=size), (1.2, 1.2, 0.7)) > 0.05
    first = head * (250.0 + 200.0 * spots)
    second = head * (900.0 - 1.6 * gaussian_filter(first, (2, 2, 0)))
    noise = random.normal(0, 4, (2, *size))
    return np.abs(first + noise[0]).astype(np.float32), np.abs(second + noise[1]).astype(np.float32)


def write_pairs(folder: Path, count: int = 4) -> Path:
    """So many subjects in the folder, two files each."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        for name, array in zip(("T1", "T2"), pair(n), strict=True):
            Volume(array[None], AFFINE).save(folder / f"patient{n}_{name}.nii.gz")
    return folder
