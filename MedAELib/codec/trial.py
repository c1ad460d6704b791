"""A piece of a volume on which an encoder of wavelets makes its choices, and the step that it tells to begin with."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ..volume import Volume
from .assemble import Chunk, micrometres
from .lossy import lossy_whole
from .search import HEADER, Goal, WaveEstimate, first_step
from .values import span_of

_TRIAL = (192, 192, 16)  # voxels of the piece
_ASIDE = (0.75, 0.75, 0.5)  # where it lies, from the first to the last possible place: tissue, its border and air
_WORTH_PIECES, _MOST_LOOKS = 2, 2  # times as large must a volume be for each look at the piece; looks at most

Array = npt.NDArray[np.generic]


def piece_of(volume: Volume) -> Array:
    """Some voxels [i, j, k] on which choices are tried."""
    start = [int(max(size - most, 0) * aside) for size, most, aside in zip(volume.shape, _TRIAL, _ASIDE, strict=True)]
    i, j, k = (slice(first, first + most) for first, most in zip(start, _TRIAL, strict=True))
    return np.ascontiguousarray(volume.array[0, i, j, k])


def step_by_piece(
    volume: Volume, unit: tuple[float, float], goal: Goal, estimate: WaveEstimate, step: int,
    encode: Callable[[Array, int], Chunk],
) -> int:  # fmt: skip
    """The step to try first for a wanted size: where the estimate is as wrong about the bytes of the volume as one of a
    piece is about those of the piece.

    `unit` is that of `lossy_unit`; `encode` codes the piece with a step. A volume that is hardly larger than the piece
    keeps the `step` that it came with. Raises BadInput when a step is too small.
    """
    voxels = piece_of(volume)
    looks = min(volume.array.size // (_WORTH_PIECES * voxels.size), _MOST_LOOKS)
    if not looks:
        return step
    span = span_of(volume.array) / unit[1]
    about = WaveEstimate([lossy_whole(voxels, *unit).whole], voxels.size, micrometres(volume), span)
    for _ in range(looks):
        size = sum(map(len, encode(voxels, step).parts)) + HEADER
        step = first_step(estimate, goal, math.log2(size) - about.log_bytes(math.log2(step)))
    return step
