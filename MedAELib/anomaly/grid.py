"""The grid that a normative model works on: isotropic, along the patient's axes; there and back without a shift."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, gaussian_filter

from ..errors import BadInput
from ..volume import Volume

Floats = npt.NDArray[np.float32]
_LARGEST = 40_000_000  # voxels of a grid: a whole body at 2 mm
_MANY = 8  # voxels that share a cell along an edge of the volume: no scan is so fine and so small
_SOFT = 0.4  # voxels of the grid: the Gaussian that keeps finer detail from becoming a pattern


@dataclass(frozen=True)
class Grid:
    """Size in voxels and the 4x4 affine from voxel index to RAS millimetres."""

    shape: tuple[int, int, int]
    affine: npt.NDArray[np.float64]

    @property
    def cell_ml(self) -> float:
        """Millilitres of a voxel."""
        return float(abs(np.linalg.det(self.affine[:3, :3]))) / 1000


def plane_grid(volume: Volume, spacing: float) -> Grid:
    """The volume's own slices along k, on square pixels of `spacing` millimetres.

    Raises BadInput when there would be more than in any scan, or the volume is smaller than a pixel.
    """
    _check_large_enough(volume, spacing, 2)
    size = np.linalg.norm(volume.affine[:3, :3], axis=0)
    ratio = np.array([spacing / size[0], spacing / size[1], 1.0])
    old = np.array(volume.shape)
    new = np.maximum(1, np.round(old / ratio)).astype(int)
    if int(np.prod(new)) > _LARGEST:
        raise BadInput(f"{volume.name or 'The volume'} has too many pixels.", "Check the pixel spacing of the file.")
    affine = volume.affine @ np.diag([*ratio, 1.0])
    affine[:3, 3] = volume.affine[:3, :3] @ ((old - 1) / 2) + volume.affine[:3, 3]
    affine[:3, 3] -= affine[:3, :3] @ ((new - 1) / 2)
    return Grid((int(new[0]), int(new[1]), int(new[2])), affine)


def grid_around(volume: Volume, spacing: float) -> Grid:
    """The smallest grid along left-right, front-back and head-foot that holds the volume.

    Raises BadInput when it would be larger than any body, or the volume is smaller than a cell.
    """
    _check_large_enough(volume, spacing, 3)
    ends = np.array(np.meshgrid(*[(-0.5, n - 0.5) for n in volume.shape], indexing="ij")).reshape(3, -1)
    corners = volume.affine[:3, :3] @ ends + volume.affine[:3, 3:]
    low, high = corners.min(axis=1), corners.max(axis=1)
    i, j, k = (max(1, math.ceil((b - a) / spacing - 1e-6)) for a, b in zip(low, high, strict=True))
    if i * j * k > _LARGEST:
        extent = " x ".join(f"{b - a:.0f}" for a, b in zip(low, high, strict=True))
        raise BadInput(f"{volume.name or 'The volume'} is {extent} mm large.", "Check the voxel spacing of the file.")
    affine = np.diag([spacing, spacing, spacing, 1.0])
    affine[:3, 3] = (low + high) / 2 - spacing * (np.array([i, j, k]) - 1) / 2
    return Grid((i, j, k), affine)


def _check_large_enough(volume: Volume, spacing: float, dims: int) -> None:
    """Raises BadInput where many voxels along one of the first axes lie within a cell."""
    edges = np.array(volume.shape) * np.linalg.norm(volume.affine[:3, :3], axis=0)
    if any(count >= _MANY and edge < spacing for count, edge in zip(volume.shape[:dims], edges[:dims], strict=True)):
        extent = " x ".join(f"{edge:.3g}" for edge in edges)
        told = f"{volume.name or 'The volume'} is only {extent} mm large."
        raise BadInput(told, "Check the voxel spacing of the file.")


def onto_grid(source: npt.NDArray[Any], affine: npt.NDArray[np.float64], grid: Grid) -> Floats:
    """Voxels [i, j, k] of a place in the patient as the grid sees them, linearly; 0 outside and where not finite."""
    voxels = np.nan_to_num(np.asarray(source, np.float32), nan=0, posinf=0, neginf=0)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    ratio = np.linalg.norm(grid.affine[:3, :3], axis=0) / spacing
    widths = [_SOFT * math.sqrt(r * r - 1) if r > 1.001 else 0.0 for r in ratio]
    if any(widths):
        voxels = gaussian_filter(voxels, widths)
    there = np.linalg.inv(affine) @ grid.affine
    found = affine_transform(
        voxels, there[:3, :3], there[:3, 3], grid.shape, order=1, mode="grid-constant", cval=0.0, output=np.float32
    )
    return np.asarray(found)


def from_grid(voxels: npt.NDArray[Any], grid: Grid, volume: Volume, nearest: bool = False) -> Floats:
    """What the grid holds at each voxel of the volume, float32 [i, j, k], linearly or from the nearest cell."""
    there = np.linalg.inv(grid.affine) @ volume.affine
    found = affine_transform(
        np.asarray(voxels, np.float32), there[:3, :3], there[:3, 3], volume.shape,
        order=0 if nearest else 1, mode="nearest", output=np.float32,
    )  # fmt: skip
    return np.asarray(found)
