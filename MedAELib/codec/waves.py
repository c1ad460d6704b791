"""Wavelets in a .maez file: what a chunk's entry says of them, and the step for a wanted quality or size."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from .assemble import Chunk
from .container import WAVES
from .context import LARGEST
from .filled import extended, filled_columns, pack_mask
from .model_file import CodecModel
from .subband_decoder import LowGrid
from .subband_encoder import encode_waves
from .subband_levels import WaveGrid
from .subband_network import SubbandModel
from .values import Mapped, from_whole
from .wavelet import FRACTION_BITS, MOST_LEVELS, Axes, Shape, choose_axes

_LARGEST_STEP = LARGEST << FRACTION_BITS
_LARGEST_START = 1 << 24
_TRIES = 7
_CLOSE = {"psnr": 0.04, "ratio": 0.006}  # decibels; octaves of the size
_SLOPE = {"psnr": -4.5, "ratio": -0.8}  # what a step twice as large changes, roughly


def wave_chunk(
    voxels: npt.NDArray[Any], mapped: Mapped, spacing: Shape, step: int, waves: SubbandModel, model: CodecModel
) -> Chunk:
    """A chunk by wavelets, with a step in 2^-6 whole numbers. Raises BadInput when the step is too small."""
    i, j, k = mapped.whole.shape
    grid = WaveGrid((i, j, k), spacing, tuple(choose_axes((i, j, k), spacing)), step, int(mapped.whole.max()))
    mask, extra, whole = filled_columns(mapped.whole), b"", mapped.whole
    if mask is not None:
        extra, whole = pack_mask(mask), extended(whole, mask)
    low, parts, decoded = encode_waves(whole, grid, waves, model.context)
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
        "base": [low.start, low.grid.low, low.grid.high, low.grid.largest],
    }
    return Chunk(entry, extra, parts, from_whole(decoded, mapped.how, b"", voxels.dtype))


def wave_grids(chunk: Mapping[str, Any], shape: Shape, spacing: Shape) -> tuple[WaveGrid, LowGrid]:
    """What a chunk's entry says. Raises KeyError, TypeError or ValueError when it is not one of wavelets."""
    step, largest, base, axes = chunk["step"], chunk["largest"], chunk["base"], chunk["axes"]
    if not 1 <= step <= _LARGEST_STEP or not 1 <= len(axes) <= MOST_LEVELS:
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
    if len(base) != 4 or not all(type(number) is int for number in base):
        raise ValueError("no low band")
    start, low, high, most = base
    if abs(start) > _LARGEST_START or not 0 <= low <= high <= most < LARGEST:
        raise ValueError("no low band")
    grid = WaveGrid(shape, spacing, tuple(levels), step, largest)
    return grid, LowGrid.of(grid, start, low, high, most)


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


def wave_step(measure: Callable[[int], float], kind: str, wanted: float, nbytes: int, span: float) -> int | None:
    """The step that keeps a PSNR or gives a ratio, and hardly more; None when none of those tried does.

    `measure` gives the PSNR, or log2 of the file's bytes, of a step; both fall with it. `span` in whole numbers.
    """
    goal = wanted if kind == "psnr" else math.log2(nbytes / wanted)
    guess = span * 10 ** (-(wanted if kind == "psnr" else 45) / 20) * 12**0.5
    tried: dict[float, float] = {}
    place = math.log2(max(guess, 0.5)) + FRACTION_BITS
    for _ in range(_TRIES):
        step = min(max(round(2**place), 1), _LARGEST_STEP)
        place = math.log2(step)
        if place in tried:
            break
        tried[place] = measure(step)
        over = tried[place] - goal if kind == "psnr" else goal - tried[place]
        if 0 <= over <= _CLOSE[kind]:
            return step
        place = _next_place(tried, goal + (0.4 if kind == "psnr" else -0.4) * _CLOSE[kind], _SLOPE[kind])
    kept = [place for place, value in tried.items() if (value >= goal if kind == "psnr" else value <= goal)]
    if not kept:
        return None
    return round(2 ** (max(kept) if kind == "psnr" else min(kept)))


def _next_place(tried: Mapping[float, float], goal: float, slope: float) -> float:
    """Where the goal should lie: on the line between the tries on its two sides, else by the usual slope."""
    finer = [place for place, value in tried.items() if value > goal]
    coarser = [place for place, value in tried.items() if value <= goal]
    if finer and coarser:
        first, last = max(finer), min(coarser)
        share = (tried[first] - goal) / (tried[first] - tried[last]) if np.isfinite(tried[first]) else 0.5
        return first + (last - first) * min(max(share, 0.1), 0.9)
    here = max(finer) if finer else min(coarser)
    return here + min(max((goal - tried[here]) / slope, -3.0), 3.0)
