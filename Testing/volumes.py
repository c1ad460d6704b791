"""Small generated volumes of different sizes and spacings, in folders, for tests of the training."""

from pathlib import Path

import numpy as np

from MedAELib import Volume

SIZES = ((24, 20, 16), (20, 26, 12), (30, 22, 18), (22, 22, 14))
SPACINGS = ((1.0, 1.0, 3.0), (0.8, 0.8, 2.0), (2.0, 2.0, 2.0), (1.0, 1.0, 1.5))


def blob(seed: int, shape: tuple[int, int, int], modality: str = "MR") -> np.ndarray:
    """A bright body with a brighter core and a little noise: magnitudes, or Hounsfield units for "CT"."""
    rng = np.random.default_rng(seed)
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, n) for n in shape], indexing="ij"))
    radius = np.sqrt((grid**2).sum(0))
    array = 400.0 * (radius < 0.9) + 300.0 * (radius < 0.3 + 0.1 * rng.random()) + np.abs(rng.normal(0, 8, shape))
    return (1.5 * array - 1000 if modality == "CT" else array).astype(np.int16)


def write_volumes(folder: Path, count: int = 4, modality: str = "MR") -> Path:
    """So many subjects in the folder, a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for n in range(count):
        array = blob(n, SIZES[n % 4], modality)
        Volume(array[None], np.diag([*SPACINGS[n % 4], 1.0])).save(folder / f"subject{n}.nii.gz")
    return folder
