"""What the voxels before it say of a voxel of a wave front, in integers: predictions, sizes of errors, inputs.

As in `context.py`, all numbers are integers below 2^24 in float32 or 2^53 in float64: exact in any order of summation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .context import CLIP, FRACTION, LARGEST, UNIT_FACTOR, UNIT_LOG, UNITS, WEIGHT_BITS, Doubles, Floats, product
from .front import BEFORE, OFFSETS, PLANE, Around, Field, Front, Indices, Offset
from .room import Room

ERRORS: tuple[Offset, ...] = (*PLANE[:8], *BEFORE[:5])  # whose errors of the first prediction are looked at
ERROR_WEIGHTS = np.array([[2, 2, 1, 1, 1, 1, 0, 1, 1, 0, 0, 0, 0]], np.float32)  # in their sum; together 10
_SIGNED = (0, 1, 2, 3, 8)  # of them, whose sign is looked at too
_NEAR = (*range(12), *range(len(PLANE), len(OFFSETS)))  # neighbours whose values the network sees
GATHERED = (*_NEAR, *range(12, len(PLANE)))  # all neighbours, those first
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

    @cached_property
    def logs(self) -> Floats:
        """By unit: its logarithm as the network sees it, alone and in steps [2, 96]."""
        return np.stack([(UNIT_LOG >> 2) - 64, ((UNIT_LOG - self.step_log) >> 2) - 32]).astype(np.float32)


@dataclass(frozen=True, eq=False)
class FrontWeights:
    """The linear predictions of a chunk, for voxels of its first slice [0] and of all others [1]: the first prediction
    is `first` [2][40]; the errors' unit gives the class (`classes` [2][96]), and the class the final prediction of
    `final` [2][classes, 40], all in 2^-12."""

    first: tuple[Doubles, Doubles]
    classes: tuple[Indices, Indices]
    final: tuple[Doubles, Doubles]

    @cached_property
    def whole(self) -> tuple[Doubles, Doubles]:
        """The first and all final predictions [2][1 + classes, 40] in eighths, of values in the order `GATHERED`.

        They take the values themselves: the reference, which all differences leave out, gets what they would take off.
        That is as exact, for these are multiples of 2^-9 below 2^12, and values are below 2^16.
        """
        return self._whole(0), self._whole(1)

    def _whole(self, group: int) -> Doubles:
        made = np.concatenate([self.first[group][None], self.final[group]])
        made[:, 0] = (1 << WEIGHT_BITS) - made[:, 1:].sum(axis=1)
        return np.ascontiguousarray(made[:, GATHERED]) * (FRACTION / 2**WEIGHT_BITS)


@dataclass(frozen=True, eq=False)
class Seen:
    """What is known before some voxels: the values around [40, n], in the order `GATHERED`, the errors around [13, n],
    and how many of the voxels, the first ones, lie in the first slice."""

    values: Floats
    errors: Floats
    inside: int

    def groups(self) -> Iterator[tuple[int, slice]]:
        """The voxels of the first slice (0) and all others (1), as far as there are any."""
        count = self.values.shape[1]
        for group, some in enumerate((slice(self.inside), slice(self.inside, count))):
            if some.start != count and some.stop:
                yield group, some


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
        self._values_around = Around(self.values, [OFFSETS[place] for place in GATHERED])
        self._errors_around = Around(self.errors, ERRORS)

    def neighbours(self, voxels: Indices, places: Indices) -> tuple[Floats, Floats, npt.NDArray[np.bool_]]:
        """The reference's values [n], all neighbours' differences from it [40, n], and who is in the first slice."""
        values = self.values.line[self._value_shifts + places]
        reference = values[0].copy()
        values -= reference
        return reference, values, voxels < self._plane

    def seen(self, voxels: Indices, places: Indices, room: Room | None = None) -> Seen:
        """All that is known before these voxels, in ascending order; in `room`, until it is used again."""
        room = room or Room()
        values = self._values_around.of(places, room.rows("values", len(GATHERED), len(places)))
        errors = self._errors_around.of(places, room.rows("errors", len(ERRORS), len(places)))
        return Seen(values, errors, int(voxels.searchsorted(self._plane)))

    def enter(self, voxels: Indices, places: Indices, values: Floats, start: Floats) -> None:
        """Take in the voxels of a step and what was first predicted of them."""
        self.values.enter(voxels, places, values)
        self.errors.enter(voxels, places, values * np.float32(FRACTION) - start)


def predict_front(reference: Floats, differences: Floats, weights: Doubles) -> Floats:
    """Linear predictions in eighths [k, n] by integer weights [k, 40]."""
    relative = np.floor(product(weights, differences.astype(np.float64)) * (FRACTION / 2**WEIGHT_BITS) + 0.5)
    return np.clip(reference * FRACTION + relative, 0, FRACTION * (LARGEST - 1)).astype(np.float32)


def predict_all(seen: Seen, weights: FrontWeights, room: Room | None = None) -> Predicted:
    """Both predictions of some voxels, with what the second depends on."""
    room, count = room or Room(), seen.values.shape[1]
    unit = error_unit(seen, room)
    columns = room.rows("columns", len(GATHERED), count, np.float64)
    np.copyto(columns, seen.values)
    both, place = room.rows("both", 2, count, np.float64), np.empty(count, np.int64)
    for group, some in seen.groups():
        found = product(weights.whole[group], columns[:, some])
        place[some] = weights.classes[group].take(unit[some])
        chosen = (place[some] + 1) * found.shape[1]
        chosen += np.arange(found.shape[1])
        both[0, some], both[1, some] = found[0], found.reshape(-1).take(chosen)
    both += 0.5
    np.floor(both, out=both)
    start, final = both.clip(0, FRACTION * (LARGEST - 1), out=both).astype(np.float32)
    return Predicted(start, final, unit, place)


def error_unit(seen: Seen, room: Room | None = None) -> Indices:
    """The index of the unit that errors are in."""
    sizes = np.abs(seen.errors, out=(room or Room()).rows("error sizes", *seen.errors.shape))
    return unit_of(product(ERROR_WEIGHTS, sizes)[0])


def unit_of(spread: Floats) -> Indices:
    """The index of a unit, in quarters of an octave, from a sum of ten sizes."""
    unit = ((spread + np.float32(2)).view(np.int32) >> 21).astype(np.int64)
    unit -= 127 << 2
    return np.minimum(unit, UNITS - 1, out=unit)


def front_inputs(seen: Seen, predicted: Predicted, setting: FrontSetting, room: Room | None = None) -> Floats:
    """The network's inputs [52, n], whole numbers within -127..127; in `room`, until it is used again."""
    room, count = room or Room(), len(predicted.unit)
    made = room.rows("inputs", FRONT_INPUTS, count)
    near, errors = made[: len(_NEAR)], made[len(_NEAR) : len(_NEAR) + len(ERRORS)]
    signed, rest = made[-_AUXILIARY - len(_SIGNED) : -_AUXILIARY], made[:-_AUXILIARY]
    np.multiply(seen.values[: len(_NEAR)], np.float32(FRACTION), out=near)
    near -= predicted.final  # what differences and prediction would both leave out is the reference
    near[_PLANE_NEAR:, : seen.inside] = 0
    sizes = room.rows("sizes", len(_NEAR), count)
    value_unit = unit_of(np.abs(near[:_NEAREST], out=sizes[:_NEAREST]).sum(axis=0))
    near *= UNIT_FACTOR.take(value_unit)
    factor = UNIT_FACTOR.take(predicted.unit)
    np.multiply(seen.errors, factor, out=errors)
    errors.take(_SIGNED, axis=0, out=signed, mode="clip")
    np.abs(errors, out=errors)
    np.rint(rest, out=rest)
    rest.clip(-CLIP, CLIP, out=rest)
    extra = made[-_AUXILIARY:]
    _auxiliary(extra, seen, predicted, setting, value_unit, factor)
    np.abs(near, out=sizes)
    _sums(extra, sizes)
    extra.clip(-CLIP, CLIP, out=extra)
    return made


def _auxiliary(
    extra: Floats, seen: Seen, predicted: Predicted, setting: FrontSetting, value_unit: Indices, factor: Floats
) -> None:  # fmt: skip
    """The last twelve inputs, but for the two that sum up others."""
    error_log, step_log = setting.logs
    error_log.take(predicted.unit, out=extra[0], mode="clip")
    error_log.take(value_unit, out=extra[1], mode="clip")
    step_log.take(predicted.unit, out=extra[2], mode="clip")
    extra[3] = (UNIT_LOG.take(value_unit) - UNIT_LOG.take(predicted.unit)) >> 1
    np.multiply(_counted(seen.values[1:10] == seen.values[0]), np.float32(14), out=extra[4])
    place = predicted.final.astype(np.float64)
    place -= setting.low * FRACTION
    place *= 128
    place /= max(setting.high - setting.low, 1) * FRACTION
    extra[5] = np.floor(place, out=place)
    np.subtract(predicted.final, predicted.start, out=extra[6])
    extra[6] *= factor
    np.rint(extra[6], out=extra[6])
    extra[7] = 16 * setting.ratio
    extra[8], extra[8, : seen.inside] = 0, 64
    np.multiply(_counted(seen.errors[:8] == 0), np.float32(16), out=extra[11])


def _sums(extra: Floats, sizes: Floats) -> None:
    """The two inputs that sum up those of values, by their sizes, which are used up."""
    np.multiply(sizes.sum(axis=0), np.float32(1 / 16), out=extra[9])
    sizes *= sizes
    np.multiply(sizes.sum(axis=0), np.float32(1 / 512), out=extra[10])
    np.floor(extra[9:11], out=extra[9:11])


def _counted(flags: npt.NDArray[np.bool_]) -> npt.NDArray[np.int8]:
    """How many are true [n] of a few [k, n]; in bytes, of which a processor adds up many at once."""
    found: npt.NDArray[np.int8] = np.add.reduce(flags.view(np.int8), axis=0, dtype=np.int8)
    return found
