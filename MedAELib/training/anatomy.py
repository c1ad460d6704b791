"""Generated anatomy: volumes of organs, vessels, sheets and texture, as training targets without any noise."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import gaussian_filter

CT_TISSUES = (-1000, -1000, -850, -700, -110, -90, -60, 0, 10, 30, 45, 55, 70, 120, 200, 350, 700, 1100, 1800)  # HU


def generated_volume(modality: str, seed: int, size: int = 96) -> np.ndarray:
    """A noise-free generated volume [size, size, size], float32: signal 0..1 for "MR", HU / 1000 for "CT".

    A body in air is filled with random organs, each with its own intensity and faint texture, then with vessels and
    thin sheets; edges are a fraction of a voxel wide, as partial volume leaves them.
    """
    random = np.random.default_rng([seed, 20241])
    grid = np.stack(np.meshgrid(*[np.linspace(-1, 1, size, dtype=np.float32)] * 3, indexing="ij"))
    volume = np.full((size,) * 3, _air(modality), np.float32)
    body = _ellipsoid(grid, random, centre_spread=0.2, radii=(0.7, 1.3))
    if random.random() < 0.3:
        body[:] = True  # a field of view that lies inside the patient
    volume[body] = _intensity(modality, random)
    textured = random.choice([0.2, 0.5, 1.0])  # from mostly flat to nowhere flat
    if random.random() < textured:
        volume[body] += _texture(size, random)[body] * _texture_strength(modality, random)
    for _ in range(int(np.exp(random.uniform(np.log(12), np.log(90))))):
        kind = random.choice(["ellipsoid", "organic", "vessel", "sheet"], p=[0.4, 0.25, 0.25, 0.1])
        inside = _SHAPES[kind](grid, random) & body
        if inside.any():
            volume[inside] = _intensity(modality, random)
            if random.random() < textured:
                volume[inside] += _texture(size, random)[inside] * _texture_strength(modality, random)
    volume = gaussian_filter(volume, random.uniform(0.3, 0.8))
    return np.maximum(volume, 0) if modality == "MR" else np.maximum(volume, -1.024)


def _air(modality: str) -> float:
    return 0.0 if modality == "MR" else -1.0


def _intensity(modality: str, random: np.random.Generator) -> float:
    if modality == "MR":
        return float(random.uniform(0.02, 1.0))
    return float(random.choice(CT_TISSUES)) / 1000 + float(random.normal(0, 0.02))


def _texture_strength(modality: str, random: np.random.Generator) -> float:
    return float(np.exp(random.uniform(np.log(0.005), np.log(0.08 if modality == "MR" else 0.06))))


def _texture(size: int, random: np.random.Generator) -> np.ndarray:
    """A random field of deviation 1 whose power falls with frequency, as in real tissue."""
    frequency = np.sqrt(sum(np.meshgrid(*[np.fft.fftfreq(size) ** 2] * 2, np.fft.rfftfreq(size) ** 2, indexing="ij")))
    frequency[0, 0, 0] = np.inf
    white = np.fft.rfftn(random.standard_normal((size,) * 3).astype(np.float32))
    spectrum = white * frequency ** -random.uniform(1.0, 2.2)
    field = np.fft.irfftn(spectrum, s=(size,) * 3, axes=(0, 1, 2)).astype(np.float32)
    return field / field.std()


def _rotated(grid: np.ndarray, random: np.random.Generator, spread: float) -> np.ndarray:
    """The grid's coordinates in a randomly turned and shifted frame."""
    turn, _ = np.linalg.qr(random.standard_normal((3, 3)))
    centre = random.uniform(-spread, spread, 3)[:, None, None, None].astype(np.float32)
    return np.tensordot(turn.astype(np.float32), grid - centre, axes=1)


def _ellipsoid(
    grid: np.ndarray, random: np.random.Generator, centre_spread: float = 0.8, radii: tuple[float, float] = (0.03, 0.5)
) -> np.ndarray:
    radius = np.exp(random.uniform(np.log(radii[0]), np.log(radii[1]), 3)).astype(np.float32)[:, None, None, None]
    return ((_rotated(grid, random, centre_spread) / radius) ** 2).sum(0) < 1


def _organic(grid: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """Where a smooth random field is high: folded shapes like cortex or bowel."""
    field = gaussian_filter(random.standard_normal(grid.shape[1:]).astype(np.float32), np.exp(random.uniform(0.7, 2.3)))
    return (field > np.quantile(field, random.uniform(0.5, 0.95))) & _ellipsoid(grid, random, radii=(0.2, 0.8))


def _sheet(grid: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A thin folded wall: where a smooth random field passes through a level."""
    field = gaussian_filter(random.standard_normal(grid.shape[1:]).astype(np.float32), random.uniform(4, 9))
    return (np.abs(field / field.std()) < random.uniform(0.05, 0.2)) & _ellipsoid(grid, random, radii=(0.3, 0.9))


def _vessel(grid: np.ndarray, random: np.random.Generator) -> np.ndarray:
    """A winding tube of one to four voxels' radius."""
    along, across_1, across_2 = _rotated(grid, random, 0.6)
    radius = random.uniform(1, 4) * 2 / grid.shape[1]
    bend_1, bend_2 = (
        random.uniform(0.05, 0.3) * np.sin(random.uniform(1, 6) * along + random.uniform(0, 6)) for _ in range(2)
    )
    return (across_1 - bend_1) ** 2 + (across_2 - bend_2) ** 2 < radius**2


_SHAPES = {"ellipsoid": _ellipsoid, "organic": _organic, "vessel": _vessel, "sheet": _sheet}
