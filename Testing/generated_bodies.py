"""A generated CT of a neck for tests: fat, muscle, vertebrae and an airway on a table, anywhere and on any grid."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from MedAELib.volume import Volume

SIZE = np.array([260.0, 240.0, 200.0])  # millimetres


def body(spacing=(4.0, 4.0, 4.0), seed: int = 0, noise: float = 10.0) -> tuple[Volume, np.ndarray]:
    """The CT in HU, int16, and the body [i, j, k]; the middle of the grid is at 0, 0, 0 RAS millimetres."""
    size = np.ceil(SIZE / spacing).astype(int)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -affine[:3, :3] @ ((size - 1) / 2)
    i, j, k = np.meshgrid(*[np.arange(n) for n in size], indexing="ij")
    x, y, z = (axis * s + o for axis, s, o in zip((i, j, k), spacing, affine[:3, 3], strict=True))
    random = np.random.default_rng(seed)
    wide = 1 + 0.1 * random.uniform(-1, 1) + 0.1 * np.sin(z / 60)
    out = np.sqrt((x / (80 * wide)) ** 2 + (y / (65 * wide)) ** 2)
    voxels = np.full(x.shape, -1000.0)
    inside = (out < 1) & (np.abs(z) < 85)
    voxels[inside] = -100
    voxels[inside & (out < 0.85)] = 50
    voxels[inside & (np.hypot(x / 18, (y + 25) / 18) < 1)] = np.where(np.sin(z / 5) > 0, 400, 150)[
        inside & (np.hypot(x / 18, (y + 25) / 18) < 1)
    ]
    voxels[inside & (np.hypot(x / 10, (y - 30) / 10) < 1)] = -1000  # the airway
    voxels[(np.abs(x) < 100) & (y > -85) & (y < -77)] = 100  # the table
    voxels = gaussian_filter(voxels, [1.5 / s for s in spacing]) + random.normal(0, noise, voxels.shape)
    meta = {"name": "neck", "modality": "CT"}
    return Volume(np.round(voxels).astype(np.int16)[None], affine, meta), inside
