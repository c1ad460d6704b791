"""How good a result is when the truth is known: against the noise-free phantom, and beside the best Gaussian filter."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from phantom import Lesion, Phantom
from scipy.ndimage import binary_erosion, gaussian_filter

from MedAELib.quality import psnr

Array = npt.NDArray[Any]
GAUSSIAN_WIDTHS = (0.3, 0.4, 0.5, 0.7, 0.9, 1.1, 1.4)  # voxels


def judge(phantom: Phantom, noisy: Array, denoised: Array) -> dict[str, Any]:
    """PSNR (dB), bias and kept lesion contrast in soft tissue; arrays are [i, j, k] in the phantom's own units.

    CT: where the truth is -20 to 90 HU, for a signal range of 400 HU. MRI: the foreground, up to the 99.9th percentile.
    Figures are also given for the part that is three voxels away from all else: there nothing is to be blurred, and a
    Gaussian filter is at its best.
    """
    clean = phantom.clean
    if phantom.modality == "CT":
        inside, data_range = (clean > -20) & (clean < 90), 400.0
    else:
        data_range = float(np.percentile(clean, 99.9))
        inside = clean > 0.1 * data_range
    regions = {"all soft tissue": inside, "away from bone and air": binary_erosion(inside, iterations=3)}
    widths = {width: gaussian_filter(noisy.astype(np.float32), width) for width in GAUSSIAN_WIDTHS}
    rows, best = [], 0.0
    for name, region in regions.items():
        smoothed, best = max((psnr(clean, image, data_range, region), width) for width, image in widths.items())
        rows.append(
            {
                "region": name,
                "noisy": round(psnr(clean, noisy, data_range, region), 2),
                "gaussian": round(smoothed, 2),
                "gaussian_width_voxels": best,
                "denoised": round(psnr(clean, denoised, data_range, region), 2),
            }
        )
    images = {"true": clean, "noisy": noisy, "gaussian": widths[best], "denoised": denoised}
    return {
        "signal_range": data_range,
        "psnr_db": rows,
        "mean_shift": round(float((denoised[inside].astype(np.float64) - noisy[inside]).mean()), 3),
        "lesions": [
            {"radius_mm": lesion.radius, **contrasts(phantom, lesion, images)} for lesion in phantom.lesions
        ],
    }


def contrasts(phantom: Phantom, lesion: Lesion, images: dict[str, Array]) -> dict[str, float]:
    """Difference between a lesion's inside and the ring around it, in each image."""
    low, high, distance = _distance_box(phantom, lesion)
    box = tuple(slice(a, b) for a, b in zip(low, high))
    inside = distance < 0.7 * lesion.radius
    around = (distance > 1.6 * lesion.radius) & (distance < 2.4 * lesion.radius)
    found = {}
    for name, image in images.items():
        part = image[box].astype(np.float64)
        found[name] = round(float(part[inside].mean() - np.median(part[around])), 1)
    return found


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
