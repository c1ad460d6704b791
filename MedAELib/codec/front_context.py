"""What the voxels before it say of a voxel of a wave front, in integers: predictions, sizes of errors, inputs.

As in `context.py`, all numbers are integers below 2^24 in float32 or 2^53 in float64: exact in any order of summation.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .context import CLIP, FRACTION, LARGEST, UNIT_FACTOR, UNIT_LOG, UNITS, WEIGHT_BITS, Doubles, Floats, product
from .front import BEFORE, OFFSETS, PLANE, Field, Front, Indices, Offset

ERRORS: tuple[Offset, ...] = (*PLANE[:8], *BEFORE[:5])  # whose errors of the first prediction are looked at
ERROR_WEIGHTS = np.array([2, 2, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0], np.float32)  # in their sum; together 10
_SIGNED = (0, 1, 2, 3, 8)  # of them, whose sign is looked at too
_NEAR = (*range(12), *range(len(PLANE), len(OFFSETS)))  # neighbours whose values the network sees
_PLANE_NEAR = 12
_NEAREST = 10  # neighbours whose spread is the unit of values
_AUXILIARY = 12
FRONT_INPUTS = len(_NEAR) + len(ERRORS) + len(_SIGNED) + _AUXILIARY


@dataclass(frozen=True)
class FrontSetting:
    """What all contexts of a chunk share: log2 of the spacing of slices over that in the plane in halves (-4..8), the
    values that all but 1 % lie above and below, the largest value, the quantisation step and 24 * log2 of it."""

    ratio: int
    low: int
    high: int
    largest: int
    step: int
    step_log: int


@dataclass(frozen=True, eq=False)
class FrontWeights:
    """The linear predictions of a chunk, for voxels of its first slice [0] and of all others [1]: the first prediction
    is `first` [2][40]; the errors' unit gives the class (`classes` [2][96]), and the class the final prediction of
    `final` [2][classes, 40], all in 2^-12."""

    first: tuple[Doubles, Doubles]
    classes: tuple[Indices, Indices]
    final: tuple[Doubles, Doubles]


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known before some voxels: the reference, differences from it [40, n], the errors around [13, n], and
    which voxels lie in the first slice."""

    reference: Floats
    differences: Floats
    errors: Floats
    first: npt.NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Predicted:
    """Of each voxel: the first and the final prediction in eighths, the index of the unit of errors, the class."""

    start: Floats
    final: Floats
    unit: Indices
    place: Indices


class Known:
    """The values and the errors of the first prediction (in eighths) of all voxels that are known."""

    def __init__(self, front: Front, start: int) -> None:
        self.values, self.errors = Field(front, start), Field(front, 0)
        self._plane = front.shape[1] * front.shape[2]
        self._value_shifts = np.array([self.values.shift(offset) for offset in OFFSETS])[:, None]
        self._error_shifts = np.array([self.errors.shift(offset) for offset in ERRORS])[:, None]

    def neighbours(self, voxels: Indices, places: Indices) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        """The reference's values [n], all neighbours' differences from it [40, n], and who is in the first slice."""
        values = self.values.line[self._value_shifts + places]
        reference = values[0].copy()
        values -= reference
        return reference, values, voxels < self._plane

    def seen(self, voxels: Indices, places: Indices) -> Seen:
        """All that is known before these voxels."""
        reference, differences, first = self.neighbours(voxels, places)
        return Seen(reference, differences, self.errors.line[self._error_shifts + places], first)

    def enter(self, voxels: Indices, places: Indices, values: Floats, start: Floats) -> None:
        """Take in voxels and what was first predicted of them."""
        self.values.enter(voxels, places, values)
        self.errors.enter(voxels, places, values * np.float32(FRACTION) - start)


def predict_front(reference: Floats, differences: Floats, weights: Doubles) -> Floats:
    """Linear predictions in eighths [k, n] by integer weights [k, 40]."""
    relative = np.floor(product(weights, differences.astype(np.float64)) * (FRACTION / 2**WEIGHT_BITS) + 0.5)
    return np.clip(reference * FRACTION + relative, 0, FRACTION * (LARGEST - 1)).astype(np.float32)


def predict_all(seen: Seen, weights: FrontWeights) -> Predicted:
    """Both predictions of some voxels, with what the second depends on."""
    unit = unit_of(ERROR_WEIGHTS @ np.abs(seen.errors))
    count = len(unit)
    start, final, place = np.empty(count, np.float32), np.empty(count, np.float32), np.empty(count, np.int64)
    inside = int(seen.first.sum())
    for group in (1,) if inside == 0 else (0,) if inside == count else (0, 1):
        chosen = slice(None) if inside in (0, count) else np.flatnonzero(seen.first != bool(group))
        both = np.concatenate([weights.first[group][None], weights.final[group]])
        found = predict_front(seen.reference[chosen], seen.differences[:, chosen], both)
        place[chosen] = weights.classes[group][unit[chosen]]
        start[chosen] = found[0]
        final[chosen] = np.take_along_axis(found, place[chosen][None] + 1, 0)[0]
    return Predicted(start, final, unit, place)


def unit_of(spread: Floats) -> Indices:
    """The index of a unit, in quarters of an octave, from a sum of ten sizes."""
    return np.clip(((spread + np.float32(2)).view(np.int32) >> 21) - (127 << 2), 0, UNITS - 1).astype(np.int64)


def front_inputs(seen: Seen, predicted: Predicted, setting: FrontSetting) -> Floats:
    """The network's inputs [52, n], whole numbers within -127..127."""
    made = np.empty((FRONT_INPUTS, len(predicted.unit)), np.float32)
    near, errors = made[: len(_NEAR)], made[len(_NEAR) : len(_NEAR) + len(ERRORS)]
    signed, extra = made[-_AUXILIARY - len(_SIGNED) : -_AUXILIARY], made[-_AUXILIARY:]
    np.multiply(seen.differences[_NEAR, :], np.float32(FRACTION), out=near)
    near -= predicted.final - seen.reference * np.float32(FRACTION)
    near[_PLANE_NEAR:, seen.first] = 0
    value_unit = unit_of(np.abs(near[:_NEAREST]).sum(axis=0))
    factor = UNIT_FACTOR[predicted.unit]
    near *= UNIT_FACTOR[value_unit]
    np.multiply(np.abs(seen.errors), factor, out=errors)
    np.multiply(seen.errors[_SIGNED, :], factor, out=signed)
    np.rint(made[:-_AUXILIARY], out=made[:-_AUXILIARY])
    np.clip(made[:-_AUXILIARY], -CLIP, CLIP, out=made[:-_AUXILIARY])
    _auxiliary(extra, near, seen, predicted, setting, UNIT_LOG[value_unit])
    return made


def _auxiliary(
    extra: Floats, near: Floats, seen: Seen, predicted: Predicted, setting: FrontSetting, value_log: Indices
) -> None:  # fmt: skip
    """The last twelve inputs."""
    error_log = UNIT_LOG[predicted.unit]
    span = max(setting.high - setting.low, 1) * FRACTION
    extra[0] = (error_log >> 2) - 64
    extra[1] = (value_log >> 2) - 64
    extra[2] = ((error_log - setting.step_log) >> 2) - 32
    extra[3] = (value_log - error_log) >> 1
    extra[4] = (seen.differences[1:10] == 0).sum(axis=0) * 14
    extra[5] = np.floor((predicted.final.astype(np.float64) - setting.low * FRACTION) * 128 / span)
    extra[6] = np.rint((predicted.final - predicted.start) * UNIT_FACTOR[predicted.unit])
    extra[7] = 16 * setting.ratio
    extra[8] = 64 * seen.first
    size = np.abs(near)
    extra[9] = np.floor(size.sum(axis=0) / 16)
    size *= size
    extra[10] = np.floor(size.sum(axis=0) / 512)
    extra[11] = (seen.errors[:8] == 0).sum(axis=0) * 16
    np.clip(extra, -CLIP, CLIP, out=extra)
