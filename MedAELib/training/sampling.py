"""Training patches from memory-mapped cases: random boxes with something to see in them, in the window, flipped."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from MedAELib.bundle import Window
from MedAELib.networks.whole import to_grid
from MedAELib.quality import limits, sample
from MedAELib.training.corruptions import chance, uniform
from MedAELib.training.folder import Case
from MedAELib.training.loop import Batch
from MedAELib.translation.domain import Curve

_TRIES = 4
_OCCUPIED = 0.1  # of a patch
_EMPTY_KEPT = 0.1  # of the patches without that much in them


@dataclass(frozen=True, eq=False)
class Source:
    """A case with the intensities that its channels see as 0 and 1, and what a network is told besides, if anything."""

    case: Case
    limits: tuple[tuple[float, float], ...]
    second: tuple[float, ...] | None = None
    curves: tuple[Curve | None, ...] = ()  # of the channels, where they are brought to a standard contrast


@dataclass(frozen=True)
class Shape:
    """How samples are cut: dims 2 or 3, edges of a patch in voxels, samples of a batch, channels of a sample.

    With ``grid`` a sample is a whole slice (2D) or volume (3D), as means on a grid with this edge.
    """

    dims: int
    edges: tuple[int, ...]
    batch: int
    fused: bool = False
    grid: int = 0


def windowed(case: Case, window: Window, second: Sequence[float] | None = None) -> Source:
    """A case as a network with this window sees it."""
    found = [limits(window, channel) if _is_there(channel) else (0.0, 1.0) for channel in case.voxels]
    return Source(case, tuple(found), tuple(second) if second is not None else None)


def _is_there(channel: npt.NDArray[Any]) -> bool:
    """Whether a channel [i, j, k] holds any number; slice by slice, so mostly the first one tells."""
    return any(bool(np.isfinite(channel[..., k]).any()) for k in range(channel.shape[-1]))


def fills(window: Window, channel: npt.NDArray[Any]) -> bool:
    """Whether a channel [i, j, k] has intensities for the window, or nothing to see; where so little is above 0 that
    the percentile is not, the window would tell nothing of what there is."""
    if window.kind != "percentile" or not _is_there(channel):
        return True
    values = sample(channel)
    if not values.size or values.min() == values.max():  # as of frames that a scanner left empty
        return bool(values.size)
    return float(np.percentile(values, window.high)) > window.low


Pairing = Callable[[Tensor, Generator], tuple[Tensor, Tensor]]  # a sample [c, i, j, k] -> what is seen, and aimed at


def batches(
    sources: Sequence[Source], shape: Shape, seed: int, pairing: Pairing | None = None
) -> Callable[[int], Batch]:
    """The batch of a step as a function of the step: (given, target, keys) or (given, target, keys, second).

    Given and target are [b, c, ...]; they are the same without a `pairing`. Keys [b, 2] are a number for each sample's
    randomness, and the step. `second` [b, n] is a condition or tells which modalities are there.
    """

    def batch(step: int) -> Batch:
        generator = Generator().manual_seed(seed * 1_000_003 + step)
        chosen = torch.randint(len(sources), (shape.batch,), generator=generator).tolist()
        targets, given = [], []
        for index in chosen:
            sample = draw(sources[index], shape, generator)
            seen, target = paired(sample, pairing, generator)
            given.append(seen)
            targets.append(target)
        first = (seed * 7_919 + step) * shape.batch
        keys = torch.tensor([[first + n, step] for n in range(shape.batch)])
        parts = (torch.stack(given), torch.stack(targets), keys)
        seconds = [sources[index].second for index in chosen]
        if shape.fused and parts[1].shape[1] > 1:
            return (*parts, torch.isfinite(parts[1]).flatten(2).any(2).float())
        return parts if seconds[0] is None else (*parts, torch.tensor(seconds, dtype=torch.float32))

    return batch


def draw(source: Source, shape: Shape, generator: Generator) -> Tensor:
    """A sample [c, ...] in the window; boxes with nothing in them are mostly drawn anew. Raises nothing."""
    voxels = source.case.voxels
    channel = None if shape.fused else int(uniform(0, voxels.shape[0], generator))
    looked = source.case.first if channel is None else channel
    edges = shape.edges if not shape.grid else voxels.shape[1 : 1 + shape.dims]
    sizes = voxels.shape[1:]
    wanted = (*edges, *(1,) * (3 - shape.dims))
    whole = all(edge >= size for size, edge in zip(sizes, wanted, strict=True))
    for _ in range(1 if whole else _TRIES):
        box = []
        for size, edge in zip(sizes, wanted, strict=True):
            start = int(uniform(0, max(size - edge, 0) + 1, generator))
            box.append(slice(start, min(start + edge, size)))
        first = np.array(voxels[looked][tuple(box)])  # what is mapped is read once, in the order it lies in
        if float((first > source.case.tissue[looked]).mean()) > _OCCUPIED or chance(_EMPTY_KEPT, generator):
            break
    cut = window_box(source, tuple(box)) if channel is None else _windowed(source, {channel: first})
    if shape.grid:
        patch = _on_grid(cut if shape.dims == 3 else cut[..., 0], shape.grid)
    else:
        cut = _padded(cut, wanted)
        patch = (cut if shape.dims == 3 else cut[..., 0]).contiguous()
    flips = [axis for axis in range(1, patch.ndim) if chance(0.5, generator)]
    return patch.flip(flips) if flips else patch


def _on_grid(cut: Tensor, grid: int) -> Tensor:
    """Means of a slice or volume [c, ...] on a grid, taken in the order in which its voxels lie: many times faster."""
    if cut.stride(-1) > cut.stride(1):
        return _on_grid(cut.transpose(1, -1), grid).transpose(1, -1).contiguous()
    return to_grid(cut[None], grid)[0]


def window_box(source: Source, box: tuple[slice, ...], channel: int | None = None) -> Tensor:
    """A box of one channel [1, i, j, k], or of all [c, i, j, k], float32, in the window.

    What is not finite becomes the lower limit; a channel that is missing stays without numbers where all are asked for.
    """
    chosen = range(len(source.limits)) if channel is None else [channel]
    return _windowed(source, {n: source.case.voxels[n][box] for n in chosen})


def _windowed(source: Source, pieces: Mapping[int, npt.NDArray[Any]]) -> Tensor:
    """Boxes of voxels by channel, see `window_box`."""
    made = []
    for n, piece in pieces.items():
        low, high = source.limits[n]
        cut = (np.asarray(piece, np.float32) - low) / (high - low)
        finite = np.isfinite(cut)
        if len(pieces) == 1 or finite.any():
            cut = cut if finite.all() else np.where(finite, cut, np.float32(0))
            curve = source.curves[n] if source.curves else None
            cut = curve(cut) if curve else cut
        made.append(torch.from_numpy(cut))
    return torch.stack(made) if len(made) > 1 else made[0][None]


def middle(source: Source, edges: Sequence[int], stride: Sequence[int] = (1, 1, 1)) -> tuple[slice, ...]:
    """The middle box of a case with at most these edges, as many voxels as the stride divides, if there are any."""
    box = []
    for size, edge, step in zip(source.case.voxels.shape[1:], edges, stride, strict=True):
        length = min(size, edge) // step * step or min(size, edge)
        box.append(slice((size - length) // 2, (size - length) // 2 + length))
    return tuple(box)


def middle_voxels(source: Source, edges: Sequence[int], stride: Sequence[int], channel: int | None = None) -> Tensor:
    """That box [c, i, j, k] in the window, mirrored where the case is thinner than the stride."""
    cut = window_box(source, middle(source, edges, stride), channel)
    return _padded(cut, [max(size, step) for size, step in zip(cut.shape[1:], stride, strict=True)])


def _padded(cut: Tensor, wanted: Sequence[int]) -> Tensor:
    """A box [c, i, j, k] with mirrored voxels after it where the volume is smaller than the patch."""
    missing = [max(edge - size, 0) for edge, size in zip(wanted, cut.shape[1:], strict=True)]
    if not any(missing):
        return cut
    padded: npt.NDArray[np.float32] = np.pad(cut.numpy(), [(0, 0), *((0, n) for n in missing)], mode="symmetric")
    return torch.from_numpy(padded)


def paired(sample: Tensor, pairing: Pairing | None, generator: Generator) -> tuple[Tensor, Tensor]:
    """What is seen and what is aimed at, from a sample [c, i, j] or [c, i, j, k]."""
    if pairing is None:
        return sample, sample
    flat = sample.ndim == 3
    seen, target = pairing(sample[..., None] if flat else sample, generator)
    return (seen[..., 0], target[..., 0]) if flat else (seen, target)
