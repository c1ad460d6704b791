"""A canvas in millimetres: soft-edged shapes are painted over one another, as tissues lie in the head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

Field = npt.NDArray[np.float32]
Place = tuple[Field, Field, Field]  # x to the right, y to the front, z to the top, in millimetres


class Canvas:
    """Voxel values and, for each voxel, its place in the head (already bent, so that no two heads are alike)."""

    def __init__(self, place: Place, values: Mapping[str, float], softness: float) -> None:
        self.place = place
        self.values = values  # intensity of each tissue
        self.softness = softness  # millimetres over which an edge goes from one tissue to the next
        self.image: Field = np.full(place[0].shape, values["air"], np.float32)

    def inside(self, distance: Field) -> Field:
        """How much of each voxel lies inside, from the signed distance to the surface (negative inside), 0..1."""
        return np.clip(0.5 - distance / self.softness, 0, 1)

    def paint(self, weight: Field, tissue: str | Field) -> None:
        """Cover by `weight` (0..1) what was there, with a tissue by name or with given intensities."""
        value = self.values[tissue] if isinstance(tissue, str) else tissue
        self.image += weight * (value - self.image)

    def fill(self, distance: Field, tissue: str) -> None:
        self.paint(self.inside(distance), tissue)


def ellipsoid(place: Place, centre: Sequence[float], radii: Sequence[float], pitch: float = 0.0) -> Field:
    """Signed distance in mm (approximate) to an ellipsoid that is turned by `pitch` degrees about the x axis."""
    x, y, z = (p - np.float32(c) for p, c in zip(place, centre))
    if pitch:
        c, s = np.float32(np.cos(np.radians(pitch))), np.float32(np.sin(np.radians(pitch)))
        y, z = c * y + s * z, c * z - s * y
    a, b, c = (np.float32(r) for r in radii)
    near = np.sqrt((x / a) ** 2 + (y / b) ** 2 + (z / c) ** 2)
    slope = np.sqrt((x / a**2) ** 2 + (y / b**2) ** 2 + (z / c**2) ** 2)
    return near * (near - 1) / np.maximum(slope, 1e-6)


def mirrored(place: Place) -> Place:
    """Fold the left half onto the right one, to paint paired organs in one go."""
    return np.abs(place[0]), place[1], place[2]


def waves(
    place: Place, generator: np.random.Generator, wavelength: float, count: int = 14, slope: bool = False
) -> tuple[Field, Field | None]:
    """A random smooth field of unit variance with one wavelength (mm), and on request the length of its gradient."""
    field = np.zeros(place[0].shape, np.float32)
    gradient = [np.zeros_like(field) for _ in range(3)] if slope else []
    scale = np.float32(np.sqrt(2 / count))
    for _ in range(count):
        direction = generator.normal(size=3)
        k = (direction / np.linalg.norm(direction) * 2 * np.pi / wavelength).astype(np.float32)
        phase = k[0] * place[0] + k[1] * place[1] + k[2] * place[2] + np.float32(generator.uniform(0, 2 * np.pi))
        field += scale * np.cos(phase)
        if slope:
            sine = scale * np.sin(phase)
            for axis in range(3):
                gradient[axis] -= k[axis] * sine
    if not slope:
        return field, None
    return field, np.sqrt(gradient[0] ** 2 + gradient[1] ** 2 + gradient[2] ** 2)
