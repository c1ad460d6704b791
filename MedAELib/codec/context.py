"""What a voxel's known neighbours say of it, in integers: a prediction, its unit, and the inputs of the small network.

All numbers are integers below 2^24 in float32, or below 2^53 in float64, so every sum is exact in any order: two
computers, or a CPU and a graphics card, find the same bits.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from .lattice import NEIGHBOURS, OFFSETS, Lattice, Stage

LARGEST = 1 << 16  # modelled values are 0 .. 2^16 - 1
FRACTION = 8  # predictions count in eighths of a grey value
WEIGHT_BITS = 12  # of the linear prediction: 2^12 is a weight of 1
OCTAVE = 24  # steps of a logarithmic scale within a factor of 2
CLIP = 127  # of the network's inputs
_NEAREST = 10  # neighbours whose spread is the unit
UNITS = 96  # a quarter of an octave each
AUXILIARY = 9
INPUTS = NEIGHBOURS + AUXILIARY

TILE = 128  # columns of a product

Kind = TypeVar("Kind", bound=np.generic)
Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


def _unit_tables() -> tuple[Floats, Floats, npt.NDArray[np.int64]]:
    """By unit index: what makes the nearest neighbours' mean deviation about 26; the unit over 32 in eighths; its log.

    The unit is the sum of ten deviations, known to a quarter of an octave. Every factor has few bits: exact.
    """
    octave, quarter = np.divmod(np.arange(UNITS), 4)
    inwards = np.array([28, 23, 20, 17])[quarter] * 2.0 ** (3 - octave)
    outwards = (9 + 2 * quarter) * 2.0 ** (octave - 11)
    return inwards.astype(np.float32), outwards.astype(np.float32), OCTAVE * octave + np.array([0, 8, 14, 19])[quarter]


UNIT_FACTOR, CORRECTION_FACTOR, UNIT_LOG = _unit_tables()


@dataclass(frozen=True)
class Setting:
    """What the contexts of a whole stage share: the stage, how many stages come after it, the values that all but 1 %
    lie above and below, the largest value, and the quantisation step."""

    stage: Stage
    remaining: int
    low: int
    high: int
    largest: int
    step: int = 1

    @cached_property
    def step_log(self) -> int:
        """24 * log2 of the step, rounded down; integers alone."""
        return int(self.step**OCTAVE).bit_length() - 1


def neighbours(lattice: Lattice, parity: tuple[int, int], rows: slice) -> tuple[Floats, Floats]:
    """The first neighbour's values [n], and all neighbours' differences from it [28, n], of some rows of a pass."""
    views = [lattice.view(parity, offset, rows) for offset in OFFSETS[lattice.flat, parity]]
    count = views[0].size
    reference = np.ascontiguousarray(views[0]).reshape(count)
    differences = np.empty((NEIGHBOURS, *views[0].shape), np.float32)
    for place, view in enumerate(views):
        np.subtract(view, views[0], out=differences[place])
    return reference, differences.reshape(NEIGHBOURS, count)


def product(weights: npt.NDArray[Kind], columns: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
    """Weights [k, m] times columns [m, n], in tiles so small that no library shares one among threads: chunks are
    decoded in threads already, and those would wait for each other."""
    found = np.empty((len(weights), columns.shape[1]), weights.dtype)
    whole = columns.shape[1] // TILE * TILE
    if whole:
        np.matmul(weights, tiles(columns[:, :whole]), out=tiles(found[:, :whole]))
    if whole < columns.shape[1]:
        np.matmul(weights, columns[:, whole:], out=found[:, whole:])
    return found


def tiles(columns: npt.NDArray[Kind]) -> npt.NDArray[Kind]:
    """Columns [k, n] in tiles [tiles, k, 128], or a single one of fewer columns; a view."""
    return columns.reshape(len(columns), -1, min(TILE, columns.shape[1])).transpose(1, 0, 2)


def predict(reference: Floats, differences: Floats, weights: Doubles) -> Floats:
    """Linear prediction in eighths [n]; `weights` [28] are integers, 2^12 for a weight of 1."""
    total = product(weights[None], differences.astype(np.float64))[0]
    relative = np.floor(total * (FRACTION / 2**WEIGHT_BITS) + 0.5)
    return np.clip(reference * FRACTION + relative, 0, FRACTION * (LARGEST - 1)).astype(np.float32)


def inputs(
    reference: Floats, differences: Floats, predicted: Floats, setting: Setting
) -> tuple[Floats, npt.NDArray[np.int32]]:
    """The network's inputs [37, n], within -127..127, and the index of the unit that they are in [n]."""
    made = np.empty((INPUTS, len(reference)), np.float32)
    deviations = made[:NEIGHBOURS]
    np.multiply(differences, np.float32(FRACTION), out=deviations)
    deviations -= predicted - reference * np.float32(FRACTION)
    spread = np.abs(deviations[:_NEAREST]).sum(axis=0) + np.float32(2)
    unit = np.clip((spread.view(np.int32) >> 21) - (127 << 2), 0, UNITS - 1)
    deviations *= UNIT_FACTOR[unit]
    np.rint(deviations, out=deviations)
    np.clip(deviations, -CLIP, CLIP, out=deviations)
    made[NEIGHBOURS:] = 0
    equal = (differences[1:_NEAREST] == 0).sum(axis=0, dtype=np.float32)
    span = max(setting.high - setting.low, 1) * FRACTION
    place = np.floor((predicted.astype(np.float64) - setting.low * FRACTION) * 128 / span)
    extra = made[NEIGHBOURS:]
    extra[0] = np.clip((UNIT_LOG[unit] >> 2) - 64, -CLIP, CLIP)
    extra[1] = np.clip(((UNIT_LOG[unit] - setting.step_log) >> 2) - 32, -CLIP, CLIP)
    extra[2] = equal * 14
    extra[3] = np.clip(place, -CLIP, CLIP)
    extra[4], extra[5] = 16 * setting.stage.ratios[0], 16 * setting.stage.ratios[1]
    extra[6] = min(16 * setting.remaining, CLIP)
    size = np.abs(deviations)
    extra[7] = np.floor(size.sum(axis=0) / 16)
    size *= size
    extra[8] = np.floor(size.sum(axis=0) / 512)
    np.clip(extra, -CLIP, CLIP, out=extra)
    return made, unit
