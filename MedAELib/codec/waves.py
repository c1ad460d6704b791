"""Wavelets in a .maez file: a chunk of them, and what its entry in the header says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy.typing as npt

from ..threads import ALONE, Helpers
from .assemble import Chunk
from .container import BASE_NUMBERS, WAVES
from .context import LARGEST
from .filled import extended, filled_columns, pack_mask
from .model_file import CodecModel
from .residuals import VALUE_BITS
from .restoration import RestorationModel
from .restoration_fit import restore_level
from .search import LARGEST_STEP
from .subband_decoder import LowGrid
from .subband_encoder import encode_waves
from .subband_levels import WaveGrid
from .subband_network import SubbandModel
from .values import Mapped, from_whole
from .wavelet import JOINS, MOST_LEVELS, Axes, Shape, choose_axes

_LARGEST_START = 1 << 24


def wave_chunk(
    voxels: npt.NDArray[Any], mapped: Mapped, spacing: Shape, step: int, waves: SubbandModel, model: CodecModel,
    restoration: RestorationModel | None = None, joins: float = JOINS, helpers: Helpers = ALONE,
) -> Chunk:  # fmt: skip
    """A chunk by wavelets, with a step in 2^-6 whole numbers; `joins` as for `choose_axes`.

    Raises BadInput when the step is too small.
    """
    i, j, k = mapped.whole.shape
    axes = tuple(choose_axes((i, j, k), spacing, joins))
    grid = WaveGrid((i, j, k), spacing, axes, step, int(mapped.whole.max()))
    mask, extra, whole = filled_columns(mapped.whole), b"", mapped.whole
    if mask is not None:
        extra, whole = pack_mask(mask), extended(whole, mask)
    restore = None if restoration is None else partial(restore_level, model=restoration, helpers=helpers)
    coded = encode_waves(whole, grid, waves, model.context, restore, helpers=helpers)
    low, decoded = coded.low, coded.decoded
    if mask is not None:
        decoded[mask] = 0
    entry = {
        "how": mapped.how,
        "low": 0,
        "high": grid.largest,
        "largest": grid.largest,
        "step": step,
        "order": WAVES,
        "axes": [list(axes) for axes in grid.axes],
        "base": [low.start, low.grid.low, low.grid.high, low.grid.largest, low.grid.base_bits],
        **({"restored": True} if coded.restored else {}),
    }
    return Chunk(entry, extra, coded.parts, from_whole(decoded, mapped.how, b"", voxels.dtype))


def wave_grids(chunk: Mapping[str, Any], shape: Shape, spacing: Shape) -> tuple[WaveGrid, LowGrid]:
    """What a chunk's entry says. Raises KeyError, TypeError or ValueError when it is not one of wavelets."""
    step, largest, base, axes = chunk["step"], chunk["largest"], chunk["base"], chunk["axes"]
    if not 1 <= step <= LARGEST_STEP or not 1 <= len(axes) <= MOST_LEVELS:
        raise ValueError("no levels")
    current, levels = list(shape), []
    for halved in axes:
        level: Axes = tuple(halved)
        if not level or list(level) != sorted(set(level)) or not set(level) <= {0, 1, 2}:
            raise ValueError("no level")
        for d in level:
            if current[d] < 2:
                raise ValueError("nothing to halve")
            current[d] = -(-current[d] // 2)
        levels.append(level)
    if len(base) not in (4, BASE_NUMBERS) or not all(type(number) is int for number in base):
        raise ValueError("no low band")
    start, low, high, most, *bits = base
    if abs(start) > _LARGEST_START or not 0 <= low <= high <= most < LARGEST:
        raise ValueError("no low band")
    if not all(1 <= number <= VALUE_BITS for number in bits):
        raise ValueError("no low band")
    grid = WaveGrid(shape, spacing, tuple(levels), step, largest)
    return grid, LowGrid.of(grid, start, low, high, most, *bits)


def levels_left_out(grid: WaveGrid, coarser: int) -> tuple[int, int]:
    """How many of the finest levels lie within so many halvings, and how many halvings remain."""
    for number, level in enumerate(grid.levels):
        if coarser < len(level.axes):
            return number, coarser
        coarser -= len(level.axes)
    return len(grid.levels), coarser


def wave_steps(grid: WaveGrid, coarser: int) -> Shape:
    """How far apart the voxels of a coarser chunk are; what does not fill a level halves its first axes."""
    out, rest = levels_left_out(grid, coarser)
    steps = [2 ** sum(d in level.axes for level in grid.levels[:out]) for d in range(3)]
    for d in grid.levels[out].axes[:rest] if out < len(grid.levels) else ():
        steps[d] *= 2
    return steps[0], steps[1], steps[2]
