"""Real pairs, without any simulated noise: a noisy scan and a cleaner one of the same thing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from benchmarks.denoise_cases import Case, Crop, Image, Scan, body, middle, spectrum
from scipy.ndimage import uniform_filter

from MedAELib.errors import BadInput
from MedAELib.quality import noise_level
from MedAELib.volume import Volume

KERNELS = "ct_kernel_pairs"
DOSES = "ct_lcd_phantom"
REPEATS = "mr_phantom_repeat"
# The first repeat differs from the others by more than noise in places: the magnetisation was not yet steady.
STEADY = (2, 3, 4, 5)


def pairs(data: Path, modality: str, crop: Crop) -> Iterator[Case]:
    """The pairs of a modality. Thin CT volumes are cut twice as wide as `crop` in the plane."""
    if modality == "MR":
        yield _repeated(data, crop)
        return
    wide = (2 * crop[0], 2 * crop[1], crop[2])
    yield _kernels(data, wide)
    for dose in (10, 55):
        yield _dose(data, dose, wide)


def _voxels(path: Path) -> Image:
    if not path.is_file():
        raise BadInput(f"{path} is missing.", "Name the data folder with --data or MEDAE_DATA.")
    return np.asarray(Volume.load(path).array[0], dtype=np.float32)


def _kernels(data: Path, crop: Crop) -> Case:
    """A sharp kernel against a soft one of the same acquisition: noise and sharpness both differ."""
    soft, sharp = sorted((data / KERNELS).glob("*soft*")), sorted((data / KERNELS).glob("*sharp*"))
    if not (soft and sharp):
        raise BadInput(f"{data / KERNELS} holds no pair.", "Name the data folder with --data or MEDAE_DATA.")
    clean, noisy = (middle(_voxels(found[0]) / 1000, crop) for found in (soft, sharp))
    return _pair("chest: sharp kernel", "against soft", noisy, clean, "CT")


def _dose(data: Path, dose: int, crop: Crop) -> Case:
    """A dose of the phantom against the mean of all realisations at full dose.

    The phantom is the same in every slice and the realisations are independent, so stacked they are what a scan of
    such a phantom would be: ten thin slices. They show the noise's deviation and spectrum as well.
    """
    file = DOSES + "/lcd_fbp_dose{:03d}_signal_present_10reals.nii.gz"
    full, low = ((_voxels(data / file.format(number)) - 1000) / 1000 for number in (100, dose))
    clean = np.repeat(full.mean(axis=2, keepdims=True), low.shape[2], axis=2)
    noise = low - low.mean(axis=2, keepdims=True)
    noise *= np.sqrt(noise.shape[2] / (noise.shape[2] - 1))  # the mean took a part of the noise along
    inside, clean, noisy = middle(noise, crop), middle(clean, crop), middle(low, crop)
    repeats = np.sqrt(uniform_filter((inside**2).mean(axis=2), 9))[..., None]
    repeats = np.repeat(repeats, noisy.shape[2], axis=2)
    return _pair(f"phantom: {dose} % dose", "against 10 x 100 %", noisy, clean, "CT", inside, repeats)


def _repeated(data: Path, crop: Crop) -> Case:
    """One repeat of a phantom scan against the mean of the other steady ones."""
    scans = [_voxels(data / REPEATS / f"epi_ascending_rep{number}.nii.gz") for number in STEADY]
    stack = middle_of_all(np.stack(scans) / np.percentile(scans[0], 99.9), crop)
    variance = uniform_filter(stack.var(axis=0, ddof=1), 7)
    clean = stack[1:].mean(axis=0)
    return _pair("phantom: one repeat", "against 3 others", stack[0], clean, "MR", None, np.sqrt(variance))


def middle_of_all(stack: Image, crop: Crop) -> Image:
    """The middle of every volume of a stack."""
    return middle(stack, (len(stack), *crop))


def _pair(
    name: str, label: str, noisy: Image, clean: Image, modality: str, noise: Image | None = None,
    repeats: Image | None = None,
) -> Case:  # fmt: skip
    """A case with one scan. Peers are told the deviation that repeats show, else the one that flat tissue shows."""
    mask = body(clean, modality)
    level = float(np.sqrt(np.mean(repeats[mask] ** 2))) if repeats is not None else noise_level(noisy)
    scan = Scan(noisy, modality, level, None if noise is None else spectrum(noise))
    return Case(name, clean, mask, {level: scan}, label, repeats)
