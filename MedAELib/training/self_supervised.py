"""Learning to denoise from noisy scans alone: blind spots, neighbours, and repeated scans of the same anatomy."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

_BLIND_SHARE = 0.03  # of the voxels
_REACH = 2  # voxels along each axis


def blind_spot(noisy: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """A patch [i, j, k] with some voxels replaced by a neighbour in it, and what those were (elsewhere not a number).

    Noise2Void (Krull et al., CVPR 2019): the network cannot see the voxel's own noise, so it learns what is expected
    there. Holds for noise that is independent from voxel to voxel.
    """
    blind = torch.rand(noisy.shape, generator=generator) < _BLIND_SHARE
    blind.view(-1)[int(torch.randint(noisy.numel(), (), generator=generator))] = True
    places = blind.nonzero()
    sizes = torch.tensor(noisy.shape)
    lowest, highest = (places - _REACH).clamp(min=0), torch.minimum(places + _REACH, sizes - 1)
    other = lowest + torch.randint(60, places.shape, generator=generator) % (highest - lowest + 1)  # all divide 60
    itself, longest = (other == places).all(1), int(sizes.argmax())
    along = other[itself, longest]
    other[itself, longest] = torch.where(along > 0, along - 1, (along + 1).clamp(max=sizes[longest] - 1))
    seen = noisy.clone()
    seen[blind] = noisy[tuple(other.T)]
    return seen, torch.where(blind, noisy, torch.nan)


def neighbours(noisy: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Two half-size versions of a patch [i, j, k]: from each 2 x 2 cell in (i, j) two different voxels.

    Neighbor2Neighbor (Huang et al., CVPR 2021): both show nearly the same anatomy under independent noise. Odd sizes
    lose their last row.
    """
    rows, columns = noisy.shape[0] // 2, noisy.shape[1] // 2
    cells = noisy[: 2 * rows, : 2 * columns].reshape(rows, 2, columns, 2, -1).permute(0, 2, 4, 1, 3).flatten(3)
    first = torch.randint(4, (*cells.shape[:3], 1), generator=generator)
    second = (first + torch.randint(1, 4, first.shape, generator=generator)) % 4
    return cells.gather(3, first)[..., 0], cells.gather(3, second)[..., 0]


def repeats(scans: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Two different ones of repeated scans [n, i, j, k] of the same anatomy: one to see, one to aim at.

    Noise2Noise (Lehtinen et al., ICML 2018). Raises ValueError for a single scan.
    """
    if len(scans) < 2:
        raise ValueError("noise2noise needs at least two scans of the same anatomy")
    seen, target = torch.randperm(len(scans), generator=generator)[:2].tolist()
    return scans[seen], scans[target]
