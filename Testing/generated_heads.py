"""Generated T1-like heads for tests: a folded brain in fluid, skull and scalp, anywhere and on any grid."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

from MedAELib.volume import Volume

CENTRE = np.array([3.0, -12.0, 20.0])  # RAS millimetres
BRAIN_RADII = np.array([62.0, 78.0, 60.0])  # millimetres


def head(
    spacing=(2.0, 2.0, 2.0), turn: np.ndarray | None = None, gain: float = 300.0, seed: int = 0, skull: bool = True
) -> tuple[Volume, np.ndarray]:
    """The head in noise of 2 % of white matter, and its brain, [i, j, k]; `turn` is a rotation of the grid."""
    turn = np.eye(3) if turn is None else turn
    size = np.ceil(np.array([180.0, 210.0, 180.0]) / spacing).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = CENTRE - affine[:3, :3] @ ((size - 1) / 2)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in size], indexing="ij"))
    place = (
        np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3][:, None, None, None] - CENTRE[:, None, None, None]
    )
    depth = (1 - np.sqrt(((place / BRAIN_RADII[:, None, None, None]) ** 2).sum(0))) * BRAIN_RADII.mean()
    random = np.random.default_rng(seed)
    folds = np.sin(place[0] / 4 + 2 * np.sin(place[1] / 9)) * np.sin(place[1] / 5) * np.sin(place[2] / 4.5)
    brain = depth > 0
    cortex = brain & (depth < 12) & (folds < 0.15)
    ventricles = (np.abs(place[0]) < 8) & (np.abs(place[1]) < 30) & (np.abs(place[2] - 5) < 10)
    voxels = np.where(brain, np.where(cortex, 0.72, 1.0), 0.0)
    voxels[brain & ventricles] = 0.2
    if skull:
        voxels[(depth <= 0) & (depth > -3)] = 0.2  # fluid
        voxels[(depth <= -10) & (depth > -16)] = 1.25  # scalp
    voxels = gaussian_filter(voxels, [0.8 / s for s in spacing])
    noise = random.normal(0, 0.02, (2, *size))
    voxels = np.hypot(voxels + noise[0], noise[1]) if skull else np.where(brain, voxels + noise[0], 0)
    return Volume((gain * voxels)[None].astype(np.float32), affine, {"name": "head", "modality": "MR"}), brain


def with_ball(volume: Volume, place: np.ndarray, radius: float, amount: float) -> tuple[Volume, np.ndarray]:
    """The volume with a ball around a place in RAS millimetres made brighter by `amount`, and the ball [i, j, k]."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.shape], indexing="ij"))
    where = np.tensordot(volume.affine[:3, :3], index, axes=1) + volume.affine[:3, 3][:, None, None, None]
    ball = ((where - np.asarray(place)[:, None, None, None]) ** 2).sum(0) < radius**2
    return volume.like(volume.array + np.float32(amount) * ball), ball


def rotation(about_i: float, about_k: float) -> np.ndarray:
    """The rotation about i and then about k, in radians."""
    (c, s), (e, f) = ((np.cos(a), np.sin(a)) for a in (about_i, about_k))
    return np.array([[1, 0, 0], [0, c, -s], [0, s, c]]) @ np.array([[e, -f, 0], [f, e, 0], [0, 0, 1]])
