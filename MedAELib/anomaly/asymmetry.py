"""How unlike its other side each place is: what is one-sided shows without any training."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import affine_transform, gaussian_filter, map_coordinates, maximum_filter, minimum_filter
from scipy.optimize import minimize

from .grid import Floats
from .masks import box_around
from .prepare import Prepared

ASYMMETRY = "asymmetry"
_SOFT = 1.0  # cells: what is finer differs between the sides of everybody
_REACH = 2  # cells: so far from its mirrored place tissue may lie, as folds do
_AFTER = 1.5  # cells, of the Gaussian over the map
_PLACES = 6000  # that the middle plane is found by
_FIRST = np.array([[0, 0, 0], [0.08, 0, 0], [0, 0.08, 0], [0, 0, 3.0]])  # slopes of the plane's normal, cells
_MARGIN = 6  # cells around the mask


def asymmetry(scan: Prepared) -> Floats:
    """By how much the smoothed brightness of a place leaves the range around its mirrored place `[i, j, k]`.

    The range is that within two cells, so that natural differences in shape count less; 0 outside the mask and where
    the other side is outside it.
    """
    box = box_around(scan.mask, _MARGIN)
    found = np.zeros_like(scan.voxels)
    part = replace(scan, voxels=scan.voxels[box], mask=scan.mask[box])
    normal, distance = middle_plane(part)
    soft = gaussian_filter(part.voxels, _SOFT)
    other = _mirrored(soft, normal, distance)
    size = 2 * _REACH + 1
    beyond = np.maximum(soft - maximum_filter(other, size), minimum_filter(other, size) - soft)
    both = part.mask & (_mirrored(part.mask.astype(np.float32), normal, distance) > 0.5)
    beyond = gaussian_filter(np.where(both, np.maximum(beyond, 0), 0), _AFTER)
    weight = gaussian_filter(part.mask.astype(np.float32), _AFTER)
    found[box] = np.where(part.mask, beyond / np.maximum(weight, 1e-3), 0)
    return found


def middle_plane(scan: Prepared) -> tuple[npt.NDArray[np.float64], float]:
    """The plane between left and right: its unit normal in voxels, and how far it is from the first voxel along it.

    It is where the smoothed scan is most like its mirror image, near the middle of the mask.
    """
    places = np.argwhere(scan.mask)
    middle = places.mean(axis=0)
    soft = gaussian_filter(scan.voxels, 1.5 * _SOFT)
    chosen = places[:: max(1, len(places) // _PLACES)]
    here = soft[tuple(chosen.T)]

    def plane(values: npt.NDArray[Any]) -> tuple[npt.NDArray[np.float64], float]:
        normal = np.array([1.0, values[0], values[1]])
        normal /= np.linalg.norm(normal)
        return normal, float(normal @ middle + values[2])

    def unlike(values: npt.NDArray[Any]) -> float:
        normal, distance = plane(values)
        there = chosen - 2 * (chosen @ normal - distance)[:, None] * normal
        other = map_coordinates(soft, there.T, order=1, mode="constant")
        spread = float(here.std() * other.std())
        return -float(np.mean((here - here.mean()) * (other - other.mean()))) / spread if spread > 0 else 0.0

    options = {"initial_simplex": _FIRST, "maxiter": 120, "xatol": 1e-3, "fatol": 1e-5}
    return plane(minimize(unlike, np.zeros(3), method="Nelder-Mead", options=options).x)


def _mirrored(voxels: Floats, normal: npt.NDArray[np.float64], distance: float) -> Floats:
    turn = np.eye(3) - 2 * np.outer(normal, normal)
    return np.asarray(affine_transform(voxels, turn, 2 * distance * normal, order=1, output=np.float32))
