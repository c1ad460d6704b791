"""The contents of the skull: folded cortex, white matter, ventricles, deep nuclei, cerebellum, falx."""

from __future__ import annotations

import numpy as np

from .canvas import Canvas, Field, ellipsoid, mirrored, waves


def paint_brain(canvas: Canvas, cavity: Field, generator: np.random.Generator) -> Field:
    """Fill the cavity (signed distance in mm) with a brain; returns the signed distance to the brain's surface."""
    x, y, z = canvas.place
    canvas.fill(cavity, "fluid")
    atrophy = generator.uniform(0.8, 1.5)
    hemispheres = np.maximum(cavity + 2.0 * np.float32(atrophy), tentorium(canvas))
    paint_cerebrum(canvas, hemispheres, generator, atrophy)
    paint_deep_nuclei(canvas, hemispheres, generator)
    paint_ventricles(canvas, generator.uniform(0.75, 1.35))
    cerebellum = paint_cerebellum(canvas, cavity, generator)
    falx = np.maximum(np.abs(x + 0.6 * np.sin(y / 30)) - 0.7, np.maximum(cavity + 1, -z + 8 + 0.12 * y))
    canvas.fill(falx, "falx")
    return np.minimum(hemispheres, cerebellum)


def tentorium(canvas: Canvas) -> Field:
    """Distance above (negative) or below the sheet that the hemispheres lie on at the back."""
    x, y, z = canvas.place
    sheet = -14 - 0.35 * (y + 30) - 0.012 * x**2
    return np.where(y < -18, sheet - z, -np.float32(50)) * np.float32(0.9)


def paint_cerebrum(canvas: Canvas, surface: Field, generator: np.random.Generator, atrophy: float) -> None:
    """White matter below a cortex of about 3 mm that follows the sulci; a sulcus is a zero sheet of a random field."""
    x, _, _ = canvas.place
    depth = -surface
    canvas.fill(surface, "white")
    fold, slope = waves(canvas.place, generator, wavelength=24.0, slope=True)
    assert slope is not None
    sheet = np.abs(fold) / np.maximum(slope, 0.08)
    reach = np.clip(1 - depth / 17, 0, 1)  # sulci grow narrower with depth and end at 17 mm
    width = np.float32(0.9 * atrophy) * reach
    fissure = np.abs(x) - 0.6 * atrophy  # between the hemispheres
    to_fluid = np.minimum(np.minimum(np.where(reach > 0, sheet - width, 50), depth), np.where(depth < 34, fissure, 50))
    cortex = np.minimum(canvas.inside(to_fluid - 3.4), canvas.inside(surface))
    canvas.paint(cortex.astype(np.float32), "grey")
    canvas.paint(np.minimum(canvas.inside(sheet - width), canvas.inside(surface)) * (reach > 0), "fluid")
    canvas.paint(np.minimum(canvas.inside(fissure), canvas.inside(surface)) * (depth < 30), "fluid")


def paint_deep_nuclei(canvas: Canvas, surface: Field, generator: np.random.Generator) -> None:
    """Caudate, putamen and thalamus on both sides, with white matter between them; insula and Sylvian fissure."""
    both = mirrored(canvas.place)
    shift = generator.uniform(-1, 1, size=3)
    core = ellipsoid(both, (20, 6, 8), (22, 36, 24))
    canvas.fill(core, "white")
    canvas.fill(ellipsoid(both, (11 + shift[0], 24, 11), (5, 12, 9), pitch=20), "grey")
    canvas.fill(ellipsoid(both, (25, 9 + shift[1], 5), (6, 16, 10)), "grey")
    canvas.fill(ellipsoid(both, (9.5, -10, 7 + shift[2]), (7.5, 13, 9)), "grey")
    bent = both[2] - 0.35 * (both[1] - 10) - 2.5 * np.sin(both[0] / 6 + both[1] / 11)
    fissure = np.maximum(np.abs(bent) - 0.8, ellipsoid(both, (52, 14, 3), (18, 24, 12)))
    canvas.fill(np.maximum(fissure - 3.0, surface), "grey")
    canvas.fill(np.maximum(fissure, surface), "fluid")


def paint_ventricles(canvas: Canvas, size: float) -> None:
    """Lateral ventricles (frontal horn, body, occipital horn), third ventricle, plexus with a little calcium."""
    both = mirrored(canvas.place)
    x, y, z = both
    bend = (x - 0.004 * (y - 5) ** 2, y, z)  # the horns diverge to the front and to the back
    canvas.fill(ellipsoid(bend, (5, 24, 15), (4.2 * size, 17, 7 * size), pitch=12), "fluid")
    canvas.fill(ellipsoid(bend, (6, -2, 21), (4.5 * size, 28, 5.5 * size), pitch=-6), "fluid")
    canvas.fill(ellipsoid(bend, (7, -36, 12), (5 * size, 20, 6.5 * size), pitch=14), "fluid")
    canvas.fill(ellipsoid(both, (0, -4, 5), (1.6 * size, 15, 9)), "fluid")
    canvas.fill(ellipsoid(both, (13, -31, 12), (3.2, 6, 3.2), pitch=14), "plexus")
    canvas.fill(ellipsoid(canvas.place, (0, -26, 8), (2.2, 3, 2.5)), "plexus")  # pineal gland
    canvas.fill(ellipsoid(both, (0, 13, -17), (9, 6, 5)), "fluid")  # cistern in front of the brain stem


def paint_cerebellum(canvas: Canvas, cavity: Field, generator: np.random.Generator) -> Field:
    """Cerebellum with fine folia, brain stem and fourth ventricle; returns the signed distance to their surface."""
    x, y, z = canvas.place
    behind = np.maximum(2.0 - tentorium(canvas), np.maximum(y + 27 - 0.012 * x**2, cavity + 2.5))
    shape = np.maximum(behind, 2.5 - np.abs(x) - np.clip((z + 52) / 2, 0, 20) - np.clip((y + 62) / 2, 0, 20))
    stem = np.maximum(ellipsoid(canvas.place, (0, -16, -38), (13, 13, 38), pitch=-10), cavity + 1)
    canvas.fill(shape, "grey")
    tree = np.maximum(shape + 8, 0.5 * np.sin((np.hypot(y + 34, z + 32) + 0.3 * np.abs(x)) * 1.1) - 0.1)
    canvas.paint(canvas.inside(tree) * 0.8, "white")
    folia = np.sin((z + 0.4 * y) * np.float32(2 * np.pi / 4.2) + generator.uniform(0, 6)) > 0.7
    canvas.paint(canvas.inside(shape) * (shape > -6) * folia * np.float32(0.35), "fluid")
    canvas.fill(stem, "white")
    canvas.fill(ellipsoid(canvas.place, (0, -31, -36), (6, 4, 9)), "fluid")
    return np.minimum(shape, stem)
