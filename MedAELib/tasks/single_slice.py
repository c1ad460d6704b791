"""A single slice through a network for volumes: its neighbours are copies of it, shifted within the plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine.run import Engine, Progress, Sink
from ..networks import Network

Floats = npt.NDArray[np.float32]

# Where the copies lie, in steps along the two axes of the plane. Repeated in place, noise would be the same in all
# slices, as anatomy is, and the network would keep it. Found on real and generated slices with known noise: neighbours
# that lie far apart cost detail. The noise of a CT is correlated in plane, so its steps are wider.
_SHIFTS = ((0, 0), (1, 0), (0, -1), (-1, 0), (0, 1), (1, 1), (-1, 1), (-1, -1))
_STEP = {"CT": 2}  # voxels; else 1
_MARGIN = 2  # voxels: the furthest shift
# By how many times the noise map, calibrated on volumes, tells too much of copies: the median of generated slices.
_TOLD = {"CT": 1.12, "MR": 1.04}


def single_axis(network: Network, shape: tuple[int, ...]) -> int | None:
    """The axis of one voxel of a single slice [i, j, k] that a network for volumes gets; None for all else."""
    flat = [axis for axis, size in enumerate(shape) if size == 1]
    return flat[0] if network.dims == 3 and len(flat) == 1 else None


def run_slice(
    engine: Engine, network: Network, source: npt.NDArray[Any], axis: int, modality: str,
    limits: tuple[float, float], sink: Sink, progress: Progress = lambda done, total: None, deviations: int = 0,
) -> None:  # fmt: skip
    """What `Engine.run` does, for one slice: eight copies go through the network, and what comes back is averaged.

    The copies are made and joined outside of the tiles, so the result does not depend on these.
    """
    step = _STEP.get(modality, 1)
    shifts = tuple((step * i, step * j) for i, j in _SHIFTS)
    copies = np.stack([_shifted(source.take(0, axis), shift) for shift in shifts], axis)
    room = np.empty((1 + deviations, *copies.shape), np.float32)

    def report(done: int, total: int) -> None:
        progress(source.size * done // total, source.size)

    engine.run(network, copies, limits, into(room), report, deviations)
    room[1:] /= np.float32(_TOLD.get(modality, 1.0))
    whole = tuple(slice(0, size) for size in source.shape)
    sink(whole, source, *(np.expand_dims(_joined(voxels, axis, shifts), axis) for voxels in room))


def into(room: Floats) -> Sink:
    """A sink that gathers what comes back, output by output, in `[outputs, i, j, k]`."""

    def keep(core: tuple[slice, ...], before: npt.NDArray[Any], *made: Floats) -> None:
        for voxels, part in zip(room, made, strict=True):
            voxels[core] = part

    return keep


def _shifted(plane: npt.NDArray[Any], shift: tuple[int, int]) -> npt.NDArray[Any]:
    """A plane with a margin, mirrored beyond its border, so that it holds the whole plane wherever that is shifted."""
    wide = np.pad(plane, 2 * _MARGIN, mode="reflect")
    (i, j), sizes = (_MARGIN + step for step in shift), [size + 2 * _MARGIN for size in plane.shape]
    return wide[i : i + sizes[0], j : j + sizes[1]]


def _joined(copies: Floats, axis: int, shifts: tuple[tuple[int, int], ...]) -> Floats:
    """The mean of the copies, each back in its place and without its margin."""
    planes = np.moveaxis(copies, axis, 0)
    sizes = [size - 2 * _MARGIN for size in planes.shape[1:]]
    starts = [[_MARGIN - step for step in shift] for shift in shifts]
    parts = (plane[i : i + sizes[0], j : j + sizes[1]] for plane, (i, j) in zip(planes, starts, strict=True))
    total = np.zeros(sizes, np.float32)
    for part in parts:
        total += part
    return total / np.float32(len(shifts))
