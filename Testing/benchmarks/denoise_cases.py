"""What the denoising benchmark judges on: held-out subjects and generated anatomy with noise put on them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from MedAELib.training.anatomy import generated_volume
from MedAELib.training.cohort import CT_TEST, MR_TEST, averaged_down, clean_volumes
from MedAELib.training.corruptions import magnitude_noise
from MedAELib.training.projection import scan_noise

Image = npt.NDArray[Any]
Crop = tuple[int, int, int]

LEVELS = {"MR": (0.03, 0.05, 0.09, 0.15), "CT": (0.02, 0.04, 0.08)}
SPAN = {"MR": 1.0, "CT": 0.4}
CROP: Crop = (96, 96, 64)
GENERATED = 2


@dataclass(frozen=True, eq=False)
class Scan:
    """One noisy volume [i, j, k] and what a peer may be told of its noise.

    MR: 99.9th percentile near 1; CT: HU / 1000. `level` is the noise's true deviation. `spectrum` is its power spectral
    density (the expected square of its Fourier transform) where that is known.
    """

    noisy: Image
    modality: str
    level: float
    spectrum: Image | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """A reference [i, j, k], where to judge, and its noisy versions: by level, or a single one named `label`.

    `repeats` is the deviation of the noise around each voxel as repeated scans show it.
    """

    name: str
    clean: Image
    mask: Image
    scans: dict[float, Scan]
    label: str = ""
    repeats: Image | None = None
    fingerprint: str = field(init=False)

    def __post_init__(self) -> None:
        digest = hashlib.sha256(np.ascontiguousarray(self.clean, dtype=np.float32).tobytes())
        digest.update(np.packbits(self.mask).tobytes())
        for level, scan in self.scans.items():
            # Rounded: the last bits of the simulated noise depend on the number of threads.
            digest.update(f"{level:g} {np.std(scan.noisy - self.clean):.4g}".encode())
        object.__setattr__(self, "fingerprint", digest.hexdigest()[:16])


def cases(
    data: Path, modality: str, crop: Crop = CROP, count: int | None = None, names: Sequence[str] = ()
) -> Iterator[Case]:
    """The held-out subjects and generated volumes that training never drew, the middle of each.

    At most `count`: first one volume of every source, then the second of every source, and so on. With `names` only
    those whose name begins with one of them.
    """
    found = sorted(_sources(data, modality), key=lambda source: source[0])
    found = [source for source in found if not names or source[1].startswith(tuple(names))]
    for _, name, load in found[:count]:
        voxels, spacing = load()
        yield _case(name, voxels, modality, spacing, crop)


def _sources(data: Path, modality: str) -> list[tuple[int, str, Callable[[], tuple[Image, float]]]]:
    """Each volume's number within its source, its name, and how to load its voxels and their size in the plane."""
    found: list[tuple[int, str, Callable[[], tuple[Image, float]]]] = []
    for pattern, factors in (MR_TEST if modality == "MR" else CT_TEST).items():
        paths = sorted(data.glob(pattern))
        if not paths:
            next(clean_volumes(data, pattern, modality))  # says which data is missing
        for number, path in enumerate(paths):
            load = partial(_loaded, data, str(path.relative_to(data)), factors, modality)
            found.append((number, path.name.removesuffix(".gz").removesuffix(".nii"), load))
    for number in range(GENERATED):
        found.append((number, f"generated {number}", partial(_generated, modality, number)))
    return found


def _loaded(data: Path, path: str, factors: Crop, modality: str) -> tuple[Image, float]:
    volume, voxels = next(clean_volumes(data, path, modality))
    return averaged_down(voxels, factors), volume.spacing[0] * factors[0]


def _generated(modality: str, number: int) -> tuple[Image, float]:
    return generated_volume(modality, 90_000 + number, 80), 3.0


def noise_free(modality: str, crop: Crop = CROP) -> list[Image]:
    """The generated volumes: the only ones without any noise."""
    return [middle(_generated(modality, number)[0], crop) for number in range(GENERATED)]


def _case(name: str, voxels: Image, modality: str, spacing: float, crop: Crop) -> Case:
    generator = torch.Generator().manual_seed(0)
    slab = middle(voxels, (*voxels.shape[:2], crop[2]) if modality == "CT" else crop)
    clean = torch.from_numpy(slab.copy())
    reference = middle(slab, crop)
    scans = {}
    if modality == "MR":
        for level in LEVELS["MR"]:
            scans[level] = Scan(magnitude_noise(clean, level, generator).numpy(), modality, level)
    else:  # the scan needs whole slices
        noise = scan_noise(clean, spacing, generator, views=min(360, int(1.5 * max(clean.shape))))
        soft = (clean > -0.15) & (clean < 0.15)
        noise /= noise[soft].std()
        known = spectrum(middle(noise.numpy(), crop))
        for level in LEVELS["CT"]:
            noisy = middle((clean + level * noise).numpy(), crop)
            scans[level] = Scan(noisy, modality, level, level**2 * known)
    return Case(name, reference, body(reference, modality), scans)


def body(reference: Image, modality: str) -> Image:
    """Where there is something to judge: not air."""
    return reference > (10 / 255 if modality == "MR" else -0.5)


def middle(voxels: Image, shape: tuple[int, ...]) -> Image:
    """The middle of a volume, at most `shape` voxels of it."""
    wanted = [min(size, limit) for size, limit in zip(voxels.shape, shape, strict=True)]
    start = [(size - want) // 2 for size, want in zip(voxels.shape, wanted, strict=True)]
    return voxels[tuple(slice(s, s + w) for s, w in zip(start, wanted, strict=True))]


def spectrum(noise: Image) -> Image:
    """The power spectral density of noise [i, j, k] that is correlated in plane and white across the slices."""
    planes = np.abs(np.fft.fft2(np.asarray(noise, dtype=np.float64), axes=(0, 1))) ** 2
    return np.repeat(planes.mean(axis=2, keepdims=True) * noise.shape[2], noise.shape[2], axis=2)
