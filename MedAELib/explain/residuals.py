"""The nearest typical scan, and what differs from it at several scales; beside both, a plain median filter's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import distance_transform_edt, gaussian_filter, median_filter
from torch import Tensor

from ..anomaly.grid import Grid, onto_grid
from ..engine.run import Engine, Progress
from ..engine.tiles import Box
from ..errors import BadInput
from ..features.code import Floats, Seen, seen_by
from ..model import Model
from ..networks import Given, Network
from ..networks.normative import NormativeAutoencoder
from ..volume import Volume

SCALES = (0.7, 1.7, 4.0)  # mm: the deviations of the Gaussians
MEDIAN = 7  # voxels: rivals small networks on bright blobs
_SLAB = 8  # slices between two looks at the progress
_TOUCHED = 0.01  # of a cell's value: as much of it from voxels that are not finite makes the cell unknown


def looked_at(model: Model, volume: Volume) -> Seen:
    """The scan as the model's network sees it, with `known` telling what is not finite in it: that must not count.

    Raises BadInput where nothing is left.
    """
    seen = seen_by(model, volume)
    gaps = ~np.isfinite(volume.array if len(seen.voxels) > 1 else volume.array[0])
    if gaps.any():
        known = ~gaps
        if seen.prepared is not None and seen.mask is not None:
            known = onto_grid(gaps, volume.affine, seen.prepared.grid) < _TOUCHED
            mask = seen.mask & known
            voxels = np.where(mask, seen.prepared.voxels, 0).astype(np.float32)  # as what lies outside
            prepared = replace(seen.prepared, voxels=voxels, mask=mask)
            seen = replace(seen, voxels=voxels[None], mask=mask, prepared=prepared)
        seen = replace(seen, known=known)
    if seen.counted is not None and not seen.counted.any():
        raise BadInput(
            f"{volume.name or 'The volume'} holds nothing finite where the model looks.", "Choose another scan."
        )
    return seen


def given(network: Network, seen: Seen) -> Network:
    """The network with the scan's own condition, where it takes one."""
    return network if seen.second is None else Given(network, seen.second)


def nearest_typical(network: Network, seen: Seen, engine: Engine, progress: Progress) -> Floats:
    """What the network makes of the scan, [i, j, k] in its window: of a denoiser that is the denoised scan.

    Of several modalities [c, i, j, k], those that are missing among them.
    """
    made = np.empty(seen.voxels.shape, np.float32)

    def keep(core: Box, before: Floats, *after: Floats) -> None:
        for room, channel in zip(made, after, strict=True):
            room[core] = channel

    several = len(made) > 1
    engine.run(given(network, seen), seen.voxels if several else seen.voxels[0], (0.0, 1.0), keep, progress)
    return within(seen, made if several else made[0])


def within(seen: Seen, made: Floats) -> Floats:
    """What a network made, [..., i, j, k] in its window: 0 outside of where it looks, and not below."""
    return made if seen.mask is None else np.where(seen.mask, np.maximum(made, 0), 0).astype(np.float32)


def median_of(seen: Seen, dims: int, progress: Progress) -> Floats:
    """The median of 7 voxels along each axis (in the slices, for a 2D network): a typical scan without any learning."""
    source = seen.voxels[0]
    counted = seen.counted
    if counted is not None and counted.any():  # what lies outside of a brain must not make its border stand out
        source = spread_from(source, counted)
    size, reach = (MEDIAN, MEDIAN, MEDIAN if dims == 3 else 1), MEDIAN // 2 if dims == 3 else 0
    made, depth = np.empty_like(source), source.shape[2]
    for start in range(0, depth, _SLAB):
        progress(start, depth)
        low, stop = max(start - reach, 0), min(start + _SLAB, depth)
        found = median_filter(source[..., low : stop + reach], size)
        made[..., start:stop] = found[..., start - low : stop - low]
    progress(depth, depth)
    return np.where(seen.mask, made, 0).astype(np.float32) if seen.mask is not None else made


def spread_from(voxels: Floats, known: npt.NDArray[np.bool_]) -> Floats:
    """The voxels [i, j, k] with the value of the nearest known one wherever they are not known."""
    nearest = tuple(distance_transform_edt(~known, return_distances=False, return_indices=True))
    return np.asarray(voxels[nearest])


def at_scales(
    seen: Seen, typical: Floats, scales: tuple[float, ...], report: Callable[[int, int], None]
) -> dict[float, Floats]:
    """Scan minus typical scan in the scan's own unit, signed, smoothed to each scale in mm; 0 where nothing counts."""
    spacing = np.linalg.norm(seen.affine[:3, :3], axis=0)
    residual, found = seen.differences(seen.voxels[0] - typical), {}
    for number, scale in enumerate(scales):
        report(number, len(scales))
        widths = [scale / step if size > 1 else 0 for step, size in zip(spacing, residual.shape, strict=True)]
        found[scale] = _smooth(residual, seen.counted, widths)
    report(len(scales), len(scales))
    return found


def _smooth(values: Floats, mask: npt.NDArray[np.bool_] | None, widths: list[float]) -> Floats:
    if mask is None:
        return np.asarray(gaussian_filter(values, widths, mode="nearest"))
    weight = gaussian_filter(mask.astype(np.float32), widths)
    smooth = gaussian_filter(np.where(mask, values, 0), widths)
    return np.where(mask, smooth / np.maximum(weight, 1e-6), 0).astype(np.float32)


def case_score(seen: Seen, typical: Floats) -> float:
    """The mean squared difference from the typical scan, in the network's window, over the voxels that count."""
    square = np.square((seen.voxels - typical.reshape(seen.voxels.shape)).astype(np.float64))
    return float(square[counted_in_each(seen)].mean())


def counted_in_each(seen: Seen) -> npt.NDArray[np.bool_]:
    """The voxels of each channel, [c, i, j, k], that count; of a modality that is missing none."""
    every = np.zeros(seen.voxels.shape, bool)
    every[seen.there] = True
    return every if seen.counted is None else every & seen.counted


def part_of(seen: Seen, box: Box) -> Seen:
    """A box of the scan, seen alone."""
    shift = np.eye(4)
    shift[:3, 3] = [side.start for side in box]
    voxels, affine = seen.voxels[(slice(None), *box)], seen.affine @ shift
    i, j, k = box
    mask, known = (None if some is None else some[..., i, j, k] for some in (seen.mask, seen.known))
    prepared = seen.prepared
    if prepared is not None:
        grid = Grid((voxels.shape[1], voxels.shape[2], voxels.shape[3]), affine)
        field = None if prepared.field is None else prepared.field[box]
        prepared = replace(prepared, voxels=voxels[0], mask=prepared.mask[box], grid=grid, field=field)
    return replace(seen, voxels=voxels, affine=affine, mask=mask, prepared=prepared, known=known)


def voxels_of(x: Tensor, dims: int) -> Floats:
    """Channels [c, i, j, k] from what a network works on: [1, c, i, j, k], or slices [k, c, i, j]."""
    return np.asarray((x[0] if dims == 3 else x.permute(1, 2, 3, 0)).cpu().numpy())


def worked_on(voxels: npt.NDArray[Any], dims: int, device: torch.device) -> Tensor:
    """The other way round: what a network works on, from channels [c, i, j, k]."""
    x = torch.from_numpy(np.ascontiguousarray(voxels)).to(device)
    return x[None] if dims == 3 else x.permute(3, 0, 1, 2)


def is_normative(network: Network) -> bool:
    """Whether the network sees a brain on a grid of its own."""
    return isinstance(network, NormativeAutoencoder)
