"""Noise as scanners make it: correlated within the slice and strongest in the middle (CT), Rician (MRI)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from .anatomy import Phantom


def add_noise(phantom: Phantom, level: float = 15.0, seed: int = 1) -> npt.NDArray[np.int16]:
    """The scan that a scanner would have made of the phantom, as the 16-bit integers of a DICOM file.

    `level` is the standard deviation of the noise: HU in the middle of the head (CT), or of each of the two channels
    of an MRI, in the phantom's own units.
    """
    generator = np.random.default_rng(seed)
    spacing = np.linalg.norm(phantom.affine[:3, :3], axis=0)
    if phantom.modality == "MR":
        scan = rician(phantom.clean, level, generator)
    else:
        scan = phantom.clean + level * dose_map(phantom.clean, spacing) * correlated(phantom.clean.shape, generator)
        scan = np.maximum(scan, -1024)
    return np.rint(scan).astype(np.int16)


def correlated(shape: tuple[int, ...], generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """Unit noise with the spectrum of a filtered back-projection: a ramp with a Hann window, within each slice (i, j).

    Neighbours within a slice correlate by about 0.6; slices are independent.
    """
    u = np.fft.fftfreq(shape[0])[:, None]
    v = np.fft.rfftfreq(shape[1])[None, :]
    frequency = np.hypot(u, v)
    cutoff = 0.48
    window = np.where(frequency < cutoff, 0.5 + 0.5 * np.cos(np.pi * frequency / cutoff), 0)
    transfer = (np.sqrt(frequency) * window).astype(np.float32)
    noise = np.empty(shape, np.float32)
    for k in range(shape[2]):
        spectrum = np.fft.rfft2(generator.standard_normal(shape[:2], dtype=np.float32)) * transfer
        noise[:, :, k] = np.fft.irfft2(spectrum, s=shape[:2])
    return noise / noise.std()


def dose_map(clean: npt.NDArray[np.float32], spacing: npt.NDArray[np.float64]) -> npt.NDArray[np.float32]:
    """Relative noise, 1 in the middle of the body and less towards its edge, from how much tissue is around."""
    body = (np.clip(clean, -1000, 1500) + 1000) / 1000
    around = gaussian_filter(body, 28 / spacing, mode="constant")
    return 0.35 + 0.65 * around / max(float(around.max()), 1e-6)


def rician(clean: npt.NDArray[np.float32], level: float, generator: np.random.Generator) -> npt.NDArray[np.float32]:
    """Magnitude of a complex signal with Gaussian noise in both channels, under a gently uneven coil sensitivity."""
    grid = np.meshgrid(*(np.linspace(-1, 1, n, dtype=np.float32) for n in clean.shape), indexing="ij", sparse=True)
    sensitivity = 1 + sum(np.float32(generator.uniform(-0.12, 0.12)) * g for g in grid)
    real = clean * sensitivity + level * generator.standard_normal(clean.shape, dtype=np.float32)
    imaginary = level * generator.standard_normal(clean.shape, dtype=np.float32)
    return np.hypot(real, imaginary)
