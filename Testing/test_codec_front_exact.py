"""The quick way of a wave front finds what the format's definition says, number by number."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from MedAELib.codec.context import CLIP, UNIT_FACTOR, UNIT_LOG
from MedAELib.codec.front import OFFSETS, Front
from MedAELib.codec.front_context import (
    ERROR_WEIGHTS,
    ERRORS,
    FrontSetting,
    FrontWeights,
    Known,
    front_inputs,
    predict_all,
)

SHAPES = st.tuples(st.integers(1, 4), st.integers(1, 9), st.integers(1, 12))
LOW, STEP_LOG = 5, 38


def unit_plainly(sizes: np.ndarray) -> np.ndarray:
    """The index of the unit that sums of sizes [n] are in, by whole numbers."""
    octave = np.array([int(size + 2).bit_length() - 1 for size in sizes])
    return np.minimum(4 * octave + (4 * (sizes.astype(np.int64) + 2) >> octave) - 4, 95)


def predicted_plainly(weights: np.ndarray, around: np.ndarray) -> np.ndarray:
    """Predictions in eighths [n] by weights [n, 40]."""
    sums = (weights.astype(np.int64) * (around - around[0]).T).sum(axis=1)
    return np.clip(8 * around[0] + (8 * sums + 2048) // 4096, 0, 8 * 65535)


def inputs_plainly(around, errors, start, final, unit, flat, span):
    """The network's inputs [52, n]."""
    near = 8 * around[[*range(12), *range(30, 40)]] - final
    near[12:, flat] = 0
    value_unit = unit_plainly(np.abs(near[:10]).sum(axis=0))
    factor, log, value_log = UNIT_FACTOR[unit], UNIT_LOG[unit], UNIT_LOG[value_unit]
    scaled = np.clip(np.rint(near * UNIT_FACTOR[value_unit]), -CLIP, CLIP)
    sizes = np.abs(scaled).astype(np.int64)
    made = [
        *scaled, *np.rint(np.abs(errors) * factor), *np.rint(errors[[0, 1, 2, 3, 8]] * factor),
        (log >> 2) - 64, (value_log >> 2) - 64, ((log - STEP_LOG) >> 2) - 32, (value_log - log) >> 1,
        14 * (around[1:10] == around[0]).sum(axis=0), 128 * (final - 8 * LOW) // (8 * span),
        np.rint((final - start) * factor), np.full(len(unit), 48), 64 * flat,
        sizes.sum(axis=0) // 16, (sizes**2).sum(axis=0) // 512, 16 * (errors[:8] == 0).sum(axis=0),
    ]  # fmt: skip
    return np.clip(np.stack(made), -CLIP, CLIP)


@settings(max_examples=15)
@given(shape=SHAPES, largest=st.sampled_from([2, 700, 65535]), seed=st.integers(0, 99))
def test_what_a_wave_front_sees_and_predicts_is_what_the_format_says(shape, largest, seed):
    generator = np.random.default_rng(seed)
    classes = [np.sort(generator.integers(0, count, 96)) for count in (2, 5)]
    final = [generator.integers(-(2**15), 2**15, (count, 40)).astype(np.float64) for count in (2, 5)]
    first = [generator.integers(-900, 901, 40).astype(np.float64) for _ in range(2)]
    known = Known(Front((0, 1, 2), shape), LOW)
    known.values.fill(generator.integers(0, largest + 1, shape).astype(np.float32))
    known.errors.fill(generator.integers(-8 * largest, 8 * largest + 1, shape).astype(np.float32))
    voxels = np.arange(np.prod(shape))
    places = known.values.places(voxels)
    seen = known.seen(voxels, places)
    found = predict_all(seen, FrontWeights(tuple(first), tuple(classes), tuple(final)))

    around = np.array([known.values.line[places + known.values.shift(o)] for o in OFFSETS]).astype(np.int64)
    errors = np.array([known.errors.line[places + known.errors.shift(o)] for o in ERRORS]).astype(np.int64)
    unit = unit_plainly(ERROR_WEIGHTS[0].astype(np.int64) @ np.abs(errors))
    flat = voxels < shape[1] * shape[2]
    place = np.where(flat, classes[0][unit], classes[1][unit])
    start = predicted_plainly(np.where(flat[:, None], *first), around)
    last = predicted_plainly(np.where(flat[:, None], final[0][np.minimum(place, 1)], final[1][place]), around)
    for one, other in ((found.unit, unit), (found.place, place), (found.start, start), (found.final, last)):
        assert np.array_equal(one, other)
    high = max(largest - 9, LOW)
    made = front_inputs(seen, found, FrontSetting(3, LOW, high, largest, 3, STEP_LOG))
    assert np.array_equal(made, inputs_plainly(around, errors, start, last, unit, flat, max(high - LOW, 1)))
