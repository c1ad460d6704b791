"""Anomalies drawn into normal scans: bright, dark, textured, blurred, copied and bulging places, and small spots."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.ndimage import binary_erosion, gaussian_filter, map_coordinates

Floats = npt.NDArray[np.float32]
Mask = npt.NDArray[np.bool_]
Random = np.random.Generator

KINDS = ("bright", "dark", "texture", "blur", "copy", "bulge")
SPOTS = "spots"  # many at once, besides the kinds: see draw_spots
_BRIGHTER, _DEEP = 0.6, 4  # quantile of brightness, and voxels from the edge: where spots are drawn
_DARK_SPOTS = 0.7  # how often spots are dark


def draw_anomaly(
    scan: Floats, inside: Mask, kind: str, radius: float, strength: float, random: Random
) -> tuple[Floats, Mask]:
    """The scan `[i, j, k]` with one anomaly around a random voxel of `inside`, and where it is.

    `radius` is the mean radius in voxels of an ellipsoid with an uneven surface and a soft edge; `strength` 0..1 is how
    plain it is: intensities change by up to 0.3 at a tissue median of 0.5, texture deviates by up to 0.4, blur replaces
    up to all detail, a copy comes from at least two diameters away, a bulge moves tissue by up to 0.6 of the radius.
    """
    places = np.flatnonzero(inside)
    place = np.array(np.unravel_index(places[random.integers(len(places))], inside.shape))
    share, box = _extent(scan.shape, place, radius, random)
    share = share * inside[box]
    changed = scan.copy()
    changed[box] = _KINDS[kind](scan, box, place, share, radius, strength, random)
    mask = np.zeros(scan.shape, bool)
    mask[box] = share > 0.5
    return changed, mask


def draw_spots(scan: Floats, inside: Mask, random: Random, largest: float = 3.0) -> tuple[Floats, Mask]:
    """The scan `[i, j, k]` with many small dark or bright places in its brighter tissue, and where they are.

    So lesions of white matter look on T1, where it is bright: 1 to `largest` voxels in radius, faint to plain. Nothing
    changes where there is no such tissue away from the edge of `inside`.
    """
    soft = gaussian_filter(scan, 1.0)
    bright = inside & (soft > np.quantile(soft[inside], _BRIGHTER)) if inside.any() else inside
    deep = binary_erosion(inside, iterations=_DEEP) & bright
    where, changed = np.zeros(scan.shape, bool), scan
    kind = "dark" if random.random() < _DARK_SPOTS else "bright"
    for _ in range(int(random.integers(6, 20)) if deep.any() else 0):
        radius, strength = float(random.uniform(1.0, largest)), float(random.uniform(0.3, 0.9))
        changed, spot = draw_anomaly(changed, deep, kind, radius, strength, random)
        where |= spot
    return changed, where


def _extent(
    shape: tuple[int, ...], place: npt.NDArray[np.int64], radius: float, random: Random
) -> tuple[Floats, tuple[slice, ...]]:
    """How much of each voxel (0..1) in a box around the place belongs to an uneven ellipsoid, and the box."""
    radii = radius * np.exp(random.uniform(-0.25, 0.25, 3))
    reach = np.ceil(1.4 * radii).astype(int) + 2
    low = np.maximum(place - reach, 0)
    high = np.minimum(place + reach + 1, shape)
    axes = [(np.arange(a, b) - c) / r for a, b, c, r in zip(low, high, place, radii, strict=True)]
    distance = np.sqrt(sum(part**2 for part in np.meshgrid(*axes, indexing="ij")))
    rough = gaussian_filter(random.standard_normal(distance.shape), max(1.0, radius / 2))
    distance = distance * (1 + random.uniform(0, 0.2) * rough / max(float(rough.std()), 1e-6))
    share = np.clip((1 - distance) * radius + 0.5, 0, 1)
    return share.astype(np.float32), tuple(slice(a, b) for a, b in zip(low, high, strict=True))


def _bright(
    scan: Floats, box: tuple[slice, ...], place: npt.NDArray[np.int64], share: Floats, radius: float, strength: float,
    random: Random,
) -> Floats:  # fmt: skip
    return scan[box] + share * np.float32(0.3 * strength)


def _dark(
    scan: Floats, box: tuple[slice, ...], place: npt.NDArray[np.int64], share: Floats, radius: float, strength: float,
    random: Random,
) -> Floats:  # fmt: skip
    return np.maximum(scan[box] - share * np.float32(0.3 * strength), 0)


def _texture(
    scan: Floats, box: tuple[slice, ...], place: npt.NDArray[np.int64], share: Floats, radius: float, strength: float,
    random: Random,
) -> Floats:  # fmt: skip
    noise = random.standard_normal(share.shape)
    noise = gaussian_filter(noise, random.uniform(0.3, 1.2)) - gaussian_filter(noise, 3)
    return np.asarray(np.maximum(scan[box] + share * (0.4 * strength / noise.std()) * noise, 0), np.float32)


def _blur(
    scan: Floats, box: tuple[slice, ...], place: npt.NDArray[np.int64], share: Floats, radius: float, strength: float,
    random: Random,
) -> Floats:  # fmt: skip
    part = scan[box]
    inside = share > 0.5
    mean = part[inside].mean() if inside.any() else part.mean()
    smooth = mean if random.random() < 0.5 else gaussian_filter(part, random.uniform(1.0, 3.0))
    return np.asarray(part + share * strength * (smooth - part), np.float32)


def _copy(
    scan: Floats, box: tuple[slice, ...], place: npt.NDArray[np.int64], share: Floats, radius: float, strength: float,
    random: Random,
) -> Floats:  # fmt: skip
    """Tissue from elsewhere, as it is or mirrored."""
    part, size = scan[box], np.array(share.shape)
    for _ in range(20):
        low = random.integers(0, np.array(scan.shape) - size + 1)
        if np.linalg.norm(low - [b.start for b in box]) < 4 * radius:
            continue
        other = scan[tuple(slice(a, a + n) for a, n in zip(low, size, strict=True))]
        if (other > 0).mean() > 0.9 * (part > 0).mean():
            break
    else:
        other = part
    if random.random() < 0.5:
        other = np.flip(other, int(random.integers(3)))
    return np.asarray(part + share * (0.5 + 0.5 * strength) * (other - part), np.float32)


def _bulge(
    scan: Floats, box: tuple[slice, ...], place: npt.NDArray[np.int64], share: Floats, radius: float, strength: float,
    random: Random,
) -> Floats:  # fmt: skip
    """Tissue pushed away from the middle, or pulled towards it."""
    index = np.meshgrid(*[np.arange(b.start, b.stop, dtype=np.float64) for b in box], indexing="ij")
    offset = [axis - centre for axis, centre in zip(index, place, strict=True)]
    distance = np.sqrt(sum(part**2 for part in offset)) / radius
    amount = (0.2 + 0.4 * strength) * (1 if random.random() < 0.6 else -1) * np.clip(1 - distance, 0, 1)
    moved = [axis - amount * part for axis, part in zip(index, offset, strict=True)]
    return np.asarray(map_coordinates(scan, moved, order=1, mode="nearest"), np.float32)


_KINDS: dict[str, Callable[..., Floats]] = {
    "bright": _bright, "dark": _dark, "texture": _texture, "blur": _blur, "copy": _copy, "bulge": _bulge,
}  # fmt: skip
