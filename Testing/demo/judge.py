"""How good a result is when the truth is known: against the noise-free phantom, and beside the best Gaussian filter."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from phantom import Lesion, Phantom
from scipy.ndimage import binary_erosion, gaussian_filter

from MedAELib.quality import psnr

Array = npt.NDArray[Any]


def judge(phantom: Phantom, noisy: Array, denoised: Array) -> dict[str, Any]:
    """PSNR (dB), bias and kept lesion contrast in soft tissue; arrays are [i, j, k] in the phantom's own units.

    CT: true values of -20 to 90 HU, three voxels away from bone and air, for a signal range of 400 HU.
    MRI: the foreground, for a signal range up to the 99.9th percentile.
    """
    clean = phantom.clean
    if phantom.modality == "CT":
        # Near bone a Gaussian filter is hopeless; leaving that rim out is to its favour.
        inside, data_range = binary_erosion((clean > -20) & (clean < 90), iterations=3), 400.0
    else:
        data_range = float(np.percentile(clean, 99.9))
        inside = clean > 0.1 * data_range
    width, smoothed = best_gaussian(clean, noisy, inside, data_range)
    return {
        "signal_range": data_range,
        "psnr_noisy_db": round(psnr(clean, noisy, data_range, inside), 2),
        "psnr_denoised_db": round(psnr(clean, denoised, data_range, inside), 2),
        "psnr_best_gaussian_db": round(smoothed, 2),
        "best_gaussian_voxels": width,
        "mean_shift": round(float((denoised[inside].astype(np.float64) - noisy[inside]).mean()), 3),
        "lesions": [lesion_row(phantom, lesion, noisy, denoised) for lesion in phantom.lesions],
    }


def best_gaussian(clean: Array, noisy: Array, inside: Array, data_range: float) -> tuple[float, float]:
    """The width (voxels) at which a Gaussian filter comes closest to the truth, and its PSNR there."""
    found = [
        (psnr(clean, gaussian_filter(noisy.astype(np.float32), width), data_range, inside), width)
        for width in (0.5, 0.7, 0.9, 1.1, 1.4, 1.8)
    ]
    best = max(found)
    return best[1], best[0]


def lesion_row(phantom: Phantom, lesion: Lesion, noisy: Array, denoised: Array) -> dict[str, float]:
    """Difference between a lesion's inside and the ring around it: true, in the noisy and in the denoised volume."""
    low, high, distance = _distance_box(phantom, lesion)
    box = tuple(slice(a, b) for a, b in zip(low, high))
    inside = distance < 0.7 * lesion.radius
    around = (distance > 1.6 * lesion.radius) & (distance < 2.4 * lesion.radius)

    def contrast(array: Array) -> float:
        part = array[box].astype(np.float64)
        return round(float(part[inside].mean() - np.median(part[around])), 1)

    return {
        "radius_mm": lesion.radius,
        "true": contrast(phantom.clean),
        "noisy": contrast(noisy),
        "denoised": contrast(denoised),
    }


def _distance_box(phantom: Phantom, lesion: Lesion) -> tuple[Array, Array, Array]:
    """The box of voxels around a lesion and each voxel's distance (mm) from the lesion's centre."""
    affine, shape = phantom.affine, np.array(phantom.clean.shape)
    spacing = np.linalg.norm(affine[:3, :3], axis=0)
    centre = np.linalg.inv(affine) @ [*lesion.centre, 1]
    reach = np.ceil(2.5 * lesion.radius / spacing).astype(int)
    low = np.clip(np.rint(centre[:3]).astype(int) - reach, 0, shape)
    high = np.clip(np.rint(centre[:3]).astype(int) + reach + 1, 0, shape)
    index = np.stack(np.meshgrid(*(np.arange(a, b) for a, b in zip(low, high)), indexing="ij"), axis=-1)
    return low, high, np.linalg.norm((index - centre[:3]) @ affine[:3, :3].T, axis=-1)
