"""Training patches: random pieces of clean scans and generated anatomy, averaged down, turned, with new contrasts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Generator, Tensor

from MedAELib.training.corruptions import chance, log_uniform, uniform

SHAPES = ((48, 48, 48), (48, 48, 48), (64, 64, 64), (64, 64, 32), (96, 96, 16), (72, 72, 24))  # of one patch
VOXELS = 48**3 * 2  # of one batch, about
CONSTANT_SHARE = {"MR": 0.32, "CT": 0.32}  # of the patches
LESION_SHARE = {False: 0.35, True: 0.55}  # of the patches with anatomy, and of those that are constant
BLENDED_SHARE = 0.2  # of the MR patches: the sum of two, as no scanner ever saw
_CURVE = (-1.1, -0.3, -0.1, 0.1, 0.4, 1.5, 3.1)  # HU / 1000, between which a random curve to MR signal is straight
THICKEST = {"MR": 4, "CT": 6}  # voxels that make one thick slice
MAGNIFIED_SHARE = {"MR": 0.38, "CT": 0.25}  # of the patches with anatomy
ZERO_FILLED_SHARE = 0.75  # of the magnified MR patches: by the scanner; the others were resampled afterwards
FINEST_SCANNED = 2.0  # zoom up to which the noise of the simulated scan is that of a real one
Band = tuple[float, float, float]  # the share of k-space that was measured along each axis: below 1 where zero-filled
WHOLE: Band = (1.0, 1.0, 1.0)


@dataclass(frozen=True, eq=False)
class Source:
    """A clean volume [i, j, k], float32, windowed, to cut patches from.

    ``least`` are the smallest averaging factors along each axis at which its own noise is low enough to be a target.
    CT only: ``body`` says how much body lies around each voxel, 0..1; ``noise`` is that of a simulated scan of this
    volume with a sharp kernel. ``weight`` is how often the source is drawn. ``generated`` anatomy has no noise of
    its own. ``is_ct`` says that a source of MR patches holds HU / 1000.
    """

    name: str
    voxels: Tensor
    least: tuple[int, int, int] = (1, 1, 1)
    body: Tensor | None = None
    noise: Tensor | None = None
    weight: float = 1.0
    generated: bool = False
    is_ct: bool = False


def windowed_mr(voxels: np.ndarray) -> np.ndarray:
    """Magnitudes with the 99.9th percentile at 1 and nothing below 0."""
    voxels = np.maximum(voxels.astype(np.float32), 0)
    return voxels / np.percentile(voxels, 99.9)


def windowed_ct(voxels: np.ndarray) -> np.ndarray:
    """HU / 1000, from -1024 HU (nothing measured) to 3071 HU (metal)."""
    return np.clip(voxels.astype(np.float32), -1024, 3071) / 1000


def body_around(voxels: np.ndarray) -> np.ndarray:
    """How much body (water = 1) lies around each voxel in its slice, 0..1: CT noise grows with the path through it."""
    density = np.clip(voxels + 1, 0, 1.3)
    width = 0.12 * max(voxels.shape[:2])
    around = gaussian_filter(density, (width, width, 0))
    return (around / max(float(around.max()), 1e-3)).astype(np.float32)


def draw_batch(
    sources: Sequence[Source], modality: str, generator: Generator, voxels: int = VOXELS
) -> tuple[Tensor, Tensor, Tensor, list[bool], list[Band]]:
    """About so many voxels: clean patches [b, 1, i, j, k] of one random shape, and what small lesions added to each.

    The third tensor holds body and scan noise for CT, [b, 2, i, j, k], nothing for MR, [b, 0, i, j, k]. The lists say
    which patches are generated anatomy, and how much of k-space was measured for each.
    """
    shape = SHAPES[int(torch.randint(len(SHAPES), (), generator=generator))]
    count = max(1, round(voxels / int(np.prod(shape))))
    weights = torch.tensor([source.weight for source in sources])
    drawn = torch.multinomial(weights, count, replacement=True, generator=generator)
    drawn_patches = [draw_patch(sources[int(index)], shape, modality, generator) for index in drawn]
    patches, bands = [patch for patch, _ in drawn_patches], [band for _, band in drawn_patches]
    generated = [sources[int(index)].generated for index in drawn]
    for place, patch in enumerate(patches):
        if modality == "MR" and chance(BLENDED_SHARE, generator):
            other = sources[int(torch.multinomial(weights, 1, generator=generator))]
            share = uniform(0.2, 0.8, generator)
            second, band = draw_patch(other, shape, modality, generator)
            for part, added in enumerate(second):
                patch[part] = share * patch[part] + (1 - share) * added
            generated[place] &= other.generated
            bands[place] = _wider(bands[place], band)
    parts = torch.stack([torch.stack(patch) for patch in patches])
    return parts[:, :1], parts[:, 1:2], parts[:, 2:], generated, bands


def _wider(first: Band, second: Band) -> Band:
    """What was measured of the sum of two patches."""
    return (max(first[0], second[0]), max(first[1], second[1]), max(first[2], second[2]))


def draw_patch(source: Source, shape: Sequence[int], modality: str, generator: Generator) -> tuple[list[Tensor], Band]:
    """One patch, its lesions and its maps, turned and flipped as the modality allows, with a random contrast.

    The second is how much of k-space was measured along each axis.
    """
    if chance(CONSTANT_SHARE[modality], generator):
        maps = [torch.full(tuple(shape), 0.7), torch.zeros(tuple(shape))] if modality == "CT" else []
        constant = _constant(shape, modality, generator)
        return [*with_some_lesions(constant, modality, generator, constant=True), *maps], WHOLE
    # An MRI slice may lie in any plane; a CT is reconstructed in axial planes (i, j), which its noise shows.
    order = torch.randperm(3, generator=generator).tolist() if modality == "MR" else _in_plane(generator)
    flips = [axis for axis in range(3) if chance(0.5, generator)]
    cut_shape = [0, 0, 0]
    for axis, origin in enumerate(order):
        cut_shape[origin] = shape[axis]
    zooms, thick, by_scanner = _scan_grid(modality, generator)
    coarse = [round(size / zoom) for size, zoom in zip(cut_shape, zooms, strict=True)]
    for _ in range(4):
        voxels, *maps = _cut(source, coarse, thick, THICKEST[modality], generator)
        if source.is_ct:
            voxels = _as_magnitude(voxels, generator)
        occupied = (voxels > (0.06 if modality == "MR" else -0.8)).float().mean()
        if occupied > 0.1 or chance(0.08, generator):
            break
    if modality == "MR":  # contrast is measured, and interpolated afterwards
        voxels = _recontrasted(voxels, generator)
    parts = [zero_filled(voxels, cut_shape)] if by_scanner else _magnified([voxels, *maps], cut_shape, zooms)
    voxels, *maps = (part.permute(order).flip(flips).contiguous() for part in parts)
    if chance(0.08, generator):
        voxels = _softened(voxels, uniform(0.3, 0.8, generator))
    if modality == "CT":
        voxels = _rescaled(voxels, generator)
    first, second, third = (coarse[axis] / cut_shape[axis] if by_scanner else 1.0 for axis in order)
    return [*with_some_lesions(voxels, modality, generator), *maps], (first, second, third)


def _scan_grid(modality: str, generator: Generator) -> tuple[list[float], int | None, bool]:
    """How many times finer than measured the grid is along each axis, along which slices are thick, if zero-filled.

    Scanners interpolate: MRI in the plane of its slices, or in all of a 3D scan, and slices are resampled to cubes
    afterwards; a CT of a small field of view in the plane.
    """
    magnified = chance(MAGNIFIED_SHARE[modality], generator)
    if modality == "CT":
        zoom = log_uniform(1.2, 4, generator) if magnified else 1.0
        return [zoom, zoom, 1.0], 2 if chance(0.25, generator) else None, False
    across = int(uniform(0, 3, generator))
    if not magnified:
        return [1.0] * 3, across if chance(0.25, generator) else None, False
    zoom = uniform(1.2, 2.5, generator)
    kind = uniform(0, 1, generator)
    if kind < 0.55:
        zooms = [1.0 if axis == across else zoom for axis in range(3)]
    elif kind < 0.8:
        zooms = [zoom if axis == across else 1.0 for axis in range(3)]
    else:
        zooms = [zoom] * 3
    thick = across if chance(0.5, generator) else None
    return zooms, thick, chance(ZERO_FILLED_SHARE, generator)


def _magnified(parts: list[Tensor], shape: Sequence[int], zooms: Sequence[float]) -> list[Tensor]:
    """A patch and its maps on a finer grid of this shape, interpolated linearly."""
    if max(zooms) == 1:
        return parts
    if len(parts) == 3 and max(zooms) > FINEST_SCANNED:  # magnified further it would be smoother than any kernel's
        parts[2] = torch.zeros_like(parts[2])
    finer = torch.nn.functional.interpolate(
        torch.stack(parts)[None], tuple(shape), mode="trilinear", align_corners=True
    )
    return list(finer[0])


def zero_filled(voxels: Tensor, shape: Sequence[int]) -> Tensor:
    """A magnitude patch on a finer grid of this shape that holds no frequency more: zeros in outer k-space.

    It rings at edges as scans do. The patch is continued as in a mirror (cosines), so that opposite borders, which do
    not belong together, leave each other alone.
    """
    for axis, size in enumerate(shape):
        if size != voxels.shape[axis]:
            voxels = torch.tensordot(_cosine_interpolation(voxels.shape[axis], size), voxels, ([1], [axis]))
            voxels = voxels.movedim(0, axis)
    return voxels.abs()


@lru_cache(maxsize=256)
def _cosine_interpolation(measured: int, size: int) -> Tensor:
    """The matrix [size, measured] that takes samples apart into cosines and sums these on the finer grid."""
    frequency = torch.arange(measured, dtype=torch.float64)
    at = (torch.arange(measured, dtype=torch.float64) + 0.5) * (math.pi / measured)
    finer = (torch.arange(size, dtype=torch.float64) + 0.5) * (math.pi / size)
    weight = torch.where(frequency == 0, 1.0, 2.0) / measured
    return (torch.cos(finer[:, None] * frequency) @ (weight[:, None] * torch.cos(frequency[:, None] * at))).float()


def _in_plane(generator: Generator) -> list[int]:
    return [1, 0, 2] if chance(0.5, generator) else [0, 1, 2]


def _constant(shape: Sequence[int], modality: str, generator: Generator) -> Tensor:
    """One value: there the network must learn to invent nothing, and to leave small lesions alone."""
    low, high = (0.0, 1.0) if modality == "MR" else (-1.0, 0.3)
    return torch.full(tuple(shape), uniform(low, high, generator))


def _cut(source: Source, shape: Sequence[int], thick: int | None, thickest: int, generator: Generator) -> list[Tensor]:
    """A random box of the source, averaged down by random factors along each axis, mirrored where it is too small.

    Along the axis ``thick`` up to ``thickest`` voxels are averaged: thick slices.
    """
    corner, extent, factors = [], [], []
    for axis in range(3):
        size, least = source.voxels.shape[axis], source.least[axis]
        most, fewest = (thickest, shape[axis] // 4) if axis == thick else (3, shape[axis] // 2)
        largest = max(least, min(most, size // max(fewest, 1)))
        same = largest == least or (axis != thick and chance(0.75, generator))
        factor = least if same else int(uniform(least, largest + 1, generator))
        cells = min(shape[axis], size // factor)
        corner.append(int(uniform(0, size - cells * factor + 1, generator)))
        extent.append(cells * factor)
        factors.append(factor)
    box = tuple(slice(start, start + length) for start, length in zip(corner, extent, strict=True))
    parts = [part for part in (source.voxels, source.body, source.noise) if part is not None]
    return [_fitted(part[box], factors, shape) for part in parts]


def _fitted(voxels: Tensor, factors: Sequence[int], shape: Sequence[int]) -> Tensor:
    averaged = torch.nn.functional.avg_pool3d(voxels[None, None], tuple(factors))[0, 0]
    missing = [wanted - size for wanted, size in zip(shape, averaged.shape, strict=True)]
    if any(missing):
        averaged = torch.from_numpy(np.pad(averaged.numpy(), [(0, amount) for amount in missing], mode="symmetric"))
    return averaged


def _softened(voxels: Tensor, width: float) -> Tensor:
    return torch.from_numpy(gaussian_filter(voxels.numpy(), width, truncate=3.0))


def with_some_lesions(
    voxels: Tensor, modality: str, generator: Generator, constant: bool = False
) -> tuple[Tensor, Tensor]:
    """A patch [i, j, k], by chance with lesions, and what they added to it.

    Constant patches have them more often: a network that saw all tissue without texture empty would empty it.
    """
    made = _with_lesions(voxels, modality, generator) if chance(LESION_SHARE[constant], generator) else voxels
    return made, made - voxels


def _with_lesions(voxels: Tensor, modality: str, generator: Generator) -> Tensor:
    """One to twelve small balls in the tissue of a patch [i, j, k], brighter or darker than what lies around them.

    Radii are 1 to 4 voxels, each axis its own; contrasts 1 to 30 % of the range of MR, or 10 to 300 HU.
    """
    voxels, shape = voxels.clone(), voxels.shape
    tissue = voxels > (0.06 if modality == "MR" else -0.8)
    axes = [torch.arange(size, dtype=torch.float32) for size in shape]
    for _ in range(int(uniform(1, 13, generator))):
        radius = uniform(1, 4, generator)
        squares = [
            ((axis - uniform(0, size, generator)) / uniform(0.7, 1.4, generator)).square()
            for axis, size in zip(axes, shape, strict=True)
        ]
        distance = (squares[0][:, None, None] + squares[1][:, None] + squares[2]).sqrt()
        contrast = log_uniform(0.01, 0.3, generator) * (1 if chance(0.5, generator) else -1)
        voxels += contrast * tissue * (radius + 0.5 - distance).clamp(0, 1)
    return voxels.clamp(min=0 if modality == "MR" else -1.024)


def _as_magnitude(voxels: Tensor, generator: Generator) -> Tensor:
    """CT voxels (HU / 1000) through a random curve to magnitudes 0..1; air, which has no signal, gives 0.

    No step between two knots is steeper than 5 per 1000 HU, so that the scan's own noise stays weak.
    """
    knots = torch.rand(len(_CURVE), generator=generator)
    knots[0] = 0
    knots[1] *= 0.3  # lung
    places = torch.tensor(_CURVE)
    upper = torch.bucketize(voxels.contiguous(), places).clamp(1, len(_CURVE) - 1)
    share = (voxels - places[upper - 1]) / (places[upper] - places[upper - 1])
    return knots[upper - 1] + (knots[upper] - knots[upper - 1]) * share.clamp(0, 1)


def _recontrasted(voxels: Tensor, generator: Generator) -> Tensor:
    """Another MRI contrast of the anatomy: gain, gamma or a random curve through 0, and a smooth coil sensitivity."""
    voxels = voxels.clamp(min=0)
    if chance(0.3, generator):
        knots = torch.rand(5, generator=generator)
        knots[0] = 0
        place = (voxels.clamp(max=1) * 4).clamp(max=3.999)
        lower = place.long()
        voxels = knots[lower] + (knots[lower + 1] - knots[lower]) * (place - lower) + (voxels - 1).clamp(min=0)
    elif chance(0.3, generator):
        voxels = voxels ** uniform(0.6, 1.6, generator)
    if chance(0.3, generator):
        sensitivity = 0.25 * torch.randn((1, 1, 3, 3, 3), generator=generator)
        sensitivity = torch.nn.functional.interpolate(sensitivity, voxels.shape, mode="trilinear", align_corners=True)
        voxels = voxels * sensitivity[0, 0].exp()
    return voxels * uniform(0.5, 1.2, generator)


def _rescaled(voxels: Tensor, generator: Generator) -> Tensor:
    """Another CT energy or contrast phase: HU of tissue scaled and shifted a little; air stays air."""
    if chance(0.5, generator):
        inside = (voxels + 1).clamp(0, 1)
        voxels = voxels + inside * (uniform(-0.06, 0.06, generator) + uniform(-0.15, 0.15, generator) * voxels)
    return voxels
