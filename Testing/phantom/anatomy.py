"""A whole head: skin, fat, muscle, skull with marrow, sinuses, eyes, teeth-free face, brain, lesions, head rest."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_filter

from .brain import paint_brain
from .canvas import Canvas, Field, Place, ellipsoid, mirrored, waves

# Intensity of each tissue: Hounsfield units, and arbitrary units of a T1-weighted gradient echo.
VALUES = {
    "CT": {
        "air": -1000, "skin": 45, "fat": -95, "muscle": 55, "bone": 1150, "marrow": 420, "fluid": 7, "grey": 38,
        "white": 29, "falx": 52, "plexus": 95, "eye": 14, "lens": 70, "mucosa": 35, "rest": -820, "shell": -250,
    },
    "MR": {
        "air": 8, "skin": 480, "fat": 900, "muscle": 330, "bone": 45, "marrow": 560, "fluid": 110, "grey": 470,
        "white": 660, "falx": 260, "plexus": 330, "eye": 140, "lens": 300, "mucosa": 400, "rest": 8, "shell": 8,
    },
}  # fmt: skip


@dataclass(frozen=True)
class Lesion:
    """A round spot that was put into the brain: centre in RAS mm, radius in mm, difference to what was there."""

    centre: tuple[float, float, float]
    radius: float
    contrast: float


@dataclass(frozen=True, eq=False)
class Phantom:
    """A noise-free head [i, j, k] and the 4x4 affine from voxel index to RAS millimetres."""

    clean: npt.NDArray[np.float32]
    affine: npt.NDArray[np.float64]
    modality: str
    lesions: tuple[Lesion, ...]


def oblique_affine(shape: tuple[int, int, int], spacing: tuple[float, float, float], tilt: float, turn: float) -> Field:
    """Voxel index to RAS mm with the volume's middle at the origin: i to the left, j to the back, k up, then turned."""
    t, u = np.radians(tilt), np.radians(turn)
    about_x = np.array([[1, 0, 0], [0, np.cos(t), -np.sin(t)], [0, np.sin(t), np.cos(t)]])
    about_z = np.array([[np.cos(u), -np.sin(u), 0], [np.sin(u), np.cos(u), 0], [0, 0, 1]])
    affine = np.eye(4)
    affine[:3, :3] = about_z @ about_x @ np.diag([-spacing[0], -spacing[1], spacing[2]])
    affine[:3, 3] = (4.0, -2.0, 9.0) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return affine


def head(
    modality: str = "CT",
    seed: int = 0,
    shape: tuple[int, int, int] = (208, 256, 120),
    spacing: tuple[float, float, float] = (0.9, 0.9, 1.5),
    tilt: float = 12.0,
    turn: float = 4.0,
) -> Phantom:
    """Generate the head of a person who does not exist; the seed decides size, folds, ventricles and lesions.

    `shape` in voxels, `spacing` in mm, `tilt` (about the left-right axis) and `turn` (about the head-foot axis) in
    degrees. Intensities are Hounsfield units ("CT") or arbitrary units ("MR", T1-weighted).
    """
    generator = np.random.default_rng(seed)
    affine = oblique_affine(shape, spacing, tilt, turn)
    canvas = Canvas(bent_places(affine, shape, generator), VALUES[modality], softness=max(0.9, min(spacing)))
    skin = paint_soft_tissue(canvas, generator)
    cavity = paint_skull(canvas, skin, generator)
    paint_face(canvas, generator)
    brain = paint_brain(canvas, cavity, generator)
    texture, _ = waves(canvas.place, generator, wavelength=11.0, count=10)
    canvas.image += canvas.inside(brain) * texture * np.float32(0.7 if modality == "CT" else 8)
    lesions = add_lesions(canvas, affine, brain, generator, modality)
    if modality == "CT":
        paint_head_rest(canvas)
    blur = [0.42 / s for s in spacing[:2]] + [0.35]  # the scanner's sharpness; along k the slice's own thickness
    return Phantom(gaussian_filter(canvas.image, blur), affine, modality, lesions)


def bent_places(affine: Field, shape: tuple[int, int, int], generator: np.random.Generator) -> Place:
    """Where each voxel lies in the standard head: RAS mm, scaled and gently bent for this person."""
    index = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    m = affine.astype(np.float32)
    ras = [m[a, 0] * index[0] + m[a, 1] * index[1] + m[a, 2] * index[2] + m[a, 3] for a in range(3)]
    scale = 1 + generator.uniform(-0.04, 0.04, size=3)
    x, y, z = (r / np.float32(s) for r, s in zip(ras, scale))
    place: Place = (x, y, z)
    bent = [p + np.float32(1.6) * waves(place, generator, wavelength=95.0, count=5)[0] for p in place]
    return bent[0], bent[1], bent[2]


def paint_soft_tissue(canvas: Canvas, generator: np.random.Generator) -> Field:
    """Skin, fat and muscle of head and neck; returns the signed distance to the skin."""
    place = canvas.place
    x, y, z = place
    nose = ellipsoid(place, (0, 101, -52), (10, 13, 18), pitch=-25)
    neck = np.maximum(np.hypot(x, (y + 22) * 0.95) - 58, z + 62)
    face = ellipsoid(place, (0, 40, -60), (63, 56, 66))
    skin = np.minimum(np.minimum(ellipsoid(place, (0, 0, 4), (77, 98, 90)), face), np.minimum(neck, nose))
    canvas.fill(skin, "skin")
    canvas.fill(skin + 2.0, "fat")
    strands, _ = waves(place, generator, wavelength=22.0, count=10)
    canvas.fill(np.maximum(skin + 4.6, -0.6 - strands), "muscle")
    ear = ellipsoid(mirrored(place), (81, -10, -32), (4, 15, 24))
    canvas.fill(np.maximum(ear, -ellipsoid(mirrored(place), (84, -10, -32), (4, 9, 16))), "skin")
    return np.minimum(skin, ear)


def paint_skull(canvas: Canvas, skin: Field, generator: np.random.Generator) -> Field:
    """Skull cap of two tables with marrow between them, and skull base; returns the signed distance to the cavity."""
    place = canvas.place
    x, y, z = place
    thickness = generator.uniform(5.5, 8.0)
    outer = ellipsoid(place, (0, 0, 4), (71, 92, 84))
    vault = outer + np.float32(thickness) + 0.8 * waves(place, generator, wavelength=45.0, count=6)[0]
    front, middle = 1 / (1 + np.exp(-(y - 36) / 4)), 1 / (1 + np.exp(-(y + 8) / 5))
    ridge = 10 * np.exp(-(((y + 6) / 5) ** 2)) * np.clip(np.abs(x) / 20 - 0.6, 0, 1)
    floor = -66 + 26 * middle + 17 * front + ridge + 0.0015 * x**2 * (1 - front)
    cavity = np.maximum(vault, (floor - z) * np.float32(0.85))
    base = np.maximum(np.maximum(outer, floor - 7 - z), -cavity)
    canvas.fill(base, "bone")
    spongy, _ = waves(place, generator, wavelength=5.0, count=10)
    table = 2.2 + 0.5 * spongy
    canvas.fill(np.maximum(np.maximum(outer + table, -cavity + table), floor - 6 - z), "marrow")
    cells = waves(mirrored(place), generator, wavelength=6.5, count=12)[0]
    mastoid = ellipsoid(mirrored(place), (52, -26, -46), (13, 15, 20))
    canvas.fill(mastoid, "bone")
    canvas.fill(np.maximum(mastoid + 2, 1.2 - 2.5 * cells), "air")
    canal = np.maximum(np.hypot(y + 12, z + 38) - 3.2, 48 - np.abs(x))
    canvas.fill(np.maximum(canal, np.abs(x) - 84), "air")
    return cavity


def paint_face(canvas: Canvas, generator: np.random.Generator) -> None:
    """Facial bones, nasal cavity, sinuses, orbits with eyes."""
    place, both = canvas.place, mirrored(canvas.place)
    x, y, z = place
    orbit = ellipsoid(both, (31, 62, -32), (18, 24, 17))
    jaw = ellipsoid(both, (22, 58, -66), (28, 30, 26))
    canvas.fill(np.maximum(np.maximum(jaw, -orbit), np.abs(x) - 44), "bone")
    canvas.fill(ellipsoid(both, (0, 74, -22), (26, 12, 20)), "bone")
    canvas.fill(np.maximum(np.abs(orbit - 1) - 1.2, y - 78), "bone")
    canvas.fill(np.maximum(orbit, y - 84), "fat")
    muscles = np.abs(np.hypot(both[0] - 31 + 0.35 * (62 - y), z + 32) - 9 * np.clip((y - 38) / 24, 0.1, 1)) - 1.3
    canvas.fill(np.maximum(np.maximum(muscles, orbit + 1), y - 62), "muscle")
    canvas.fill(ellipsoid(both, (31, 72, -32), (12.2, 12, 12.2)), "eye")
    canvas.fill(ellipsoid(both, (31, 80, -32), (4.6, 2.2, 4.6)), "lens")
    nerve = np.hypot(both[0] - 31 + 0.45 * (62 - y), z + 32) - 1.8
    canvas.fill(np.maximum(nerve, np.maximum(y - 61, 38 - y)), "muscle")
    canvas.fill(ellipsoid(both, (26, 58, -64), (14, 17, 16)), "mucosa")
    canvas.fill(ellipsoid(both, (26, 58, -64), (12.6, 15.6, 14.6)), "air")  # maxillary sinus
    canvas.fill(ellipsoid(both, (9, 83, -16), (9, 5, 9)), "air")  # frontal sinus
    canvas.fill(ellipsoid(both, (8, 32, -46), (8, 12, 8)), "air")  # sphenoid sinus
    cells, _ = waves(place, generator, wavelength=9.0, count=10)
    canvas.fill(np.maximum(ellipsoid(both, (7, 60, -34), (8, 18, 12)), -0.4 - cells), "air")  # ethmoid cells
    nasal = np.maximum(ellipsoid(both, (8, 62, -62), (9, 32, 20)), 1.2 - both[0])
    canvas.fill(nasal, "air")
    canvas.fill(np.maximum(nasal, np.hypot(both[0] - 10, (z + 66) * 0.8 + 2 * np.sin(y / 9)) - 4), "mucosa")
    canvas.fill(np.maximum(ellipsoid(place, (0, 18, -80), (14, 11, 34)), -z - 110), "air")  # throat


def add_lesions(
    canvas: Canvas, affine: Field, brain: Field, generator: np.random.Generator, modality: str
) -> tuple[Lesion, ...]:
    """Small spots, brighter and darker than the white or grey matter around them, apart from each other."""
    lesions = []
    white, grey = sorted((canvas.values["white"], canvas.values["grey"]))
    margin = (grey - white) / 2
    tissue = (canvas.image > white - margin) & (canvas.image < grey + margin) & (brain < -16)
    voxels = np.argwhere(tissue[::3, ::3, ::3]) * 3
    unit = 1.0 if modality == "CT" else 8.0
    for radius, contrast in ((6.0, -12.0), (4.0, 22.0), (3.0, 30.0), (5.0, -14.0), (2.5, 40.0)):
        if not len(voxels):
            break
        voxel = voxels[generator.integers(len(voxels))]
        place = [float(axis[tuple(voxel)]) for axis in canvas.place]
        weight = canvas.inside(ellipsoid(canvas.place, place, (radius, radius * 1.15, radius)))
        canvas.image += weight * np.float32(contrast * unit)
        centre = affine[:3, :3] @ voxel + affine[:3, 3]
        lesions.append(Lesion((float(centre[0]), float(centre[1]), float(centre[2])), radius, contrast * unit))
        voxels = voxels[np.linalg.norm((voxels - voxel) @ affine[:3, :3].T, axis=1) > 20]
    return tuple(lesions)


def paint_head_rest(canvas: Canvas) -> None:
    """The scanner's cradle below the head: foam in a thin shell."""
    x, y, _ = canvas.place
    ring = np.hypot(x, y + 2)
    below = canvas.inside(np.where(y < -20, np.abs(ring - 106) - 3.5, 50).astype(np.float32))
    canvas.paint(below * (canvas.image < -700), "rest")
    shell = canvas.inside(np.where(y < -20, np.abs(ring - 110.5) - 1.0, 50).astype(np.float32))
    canvas.paint(shell * (canvas.image < -700), "shell")
