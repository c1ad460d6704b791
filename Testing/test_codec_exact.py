"""The quick ways of the codec find what the format's definition says, number by number."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from MedAELib.codec.context import product
from MedAELib.codec.model_file import load_restoration_model, load_subband_model
from MedAELib.codec.network import evaluate, folded, hidden
from MedAELib.codec.restoration import OFFSETS, Surroundings, corrections
from MedAELib.codec.subband import EDGES, FACES, Band, Relatives, Siblings, log_of
from MedAELib.codec.subband_known import Known, Looker, cut
from MedAELib.codec.tables import row_and_shift
from MedAELib.codec.wavelet import levels_of

COUNTS = st.one_of(st.integers(0, 300), st.sampled_from([2047, 2048, 2049, 2304]))
SHAPES = st.tuples(*[st.integers(2, 9)] * 3)
AXES = st.sampled_from([(0,), (1,), (0, 1), (1, 2), (0, 1, 2)])


def plainly(layers: dict[str, np.ndarray], made: np.ndarray) -> np.ndarray:
    """The second layer's activations, in whole numbers."""
    current = made.astype(np.int64)
    for layer in "12":
        sums = layers[f"w{layer}"].astype(np.int64) @ current + layers[f"b{layer}"].astype(np.int64)[:, None]
        current = np.clip(np.rint(sums / 256), 0, 255).astype(np.int64)
    return current


@settings(max_examples=25)
@given(count=COUNTS, seed=st.integers(0, 99))
def test_layers_in_tiles_are_those_in_whole_numbers(count, seed):
    made = np.random.default_rng(seed).integers(-127, 128, (37, count)).astype(np.float32)
    layers = {name: value[seed % 12] for name, value in load_subband_model().subband.weights.items()}
    seen = plainly(layers, made)
    assert np.array_equal(hidden(layers, made), seen)
    outputs = np.rint((layers["w3"].astype(np.int64) @ seen + layers["b3"].astype(np.int64)[:, None]) / 256)
    correction, _, shape = evaluate(layers, made)
    assert np.array_equal(correction, np.clip(outputs[0], -511, 511))
    assert np.array_equal(shape, np.clip(np.rint(outputs[2] / 32), 0, 3))


@settings(max_examples=15)
@given(count=COUNTS, varying=st.sets(st.integers(0, 36)), seed=st.integers(0, 99))
def test_inputs_that_are_alike_everywhere_may_go_into_the_bias(count, varying, seed):
    generator, chosen = np.random.default_rng(seed), sorted(varying)
    layers = {name: value[seed % 12] for name, value in load_subband_model().subband.weights.items()}
    others = generator.integers(-127, 128, 37).astype(np.float32)
    others[chosen] = 0
    made = np.repeat(others[:, None], count, axis=1)
    made[chosen] = generator.integers(-127, 128, (len(chosen), count))
    few = np.concatenate([made[chosen], np.ones((1, count), np.float32)])
    for found, wanted in zip(evaluate(folded(layers, chosen, others), few), evaluate(layers, made), strict=True):
        assert np.array_equal(found, wanted)


@settings(max_examples=25)
@given(count=COUNTS, rows=st.integers(1, 13), seed=st.integers(0, 99))
def test_a_product_in_tiles_is_the_product(count, rows, seed):
    generator = np.random.default_rng(seed)
    weights, columns = generator.integers(-(2**15), 2**15, (rows, 40)), generator.integers(-65535, 65536, (40, count))
    assert np.array_equal(product(weights.astype(np.float64), columns.astype(np.float64)), weights @ columns)


def test_rows_of_all_scales_are_those_of_the_formula():
    scale, fraction = (some.reshape(-1) for some in np.meshgrid(np.arange(-900, 1500), np.arange(8), indexing="ij"))
    shape = scale % 4
    rows, octaves = row_and_shift(scale, shape, fraction)
    t = np.maximum((scale + 108) // 4, 0)
    expected = np.clip(np.ceil((t - 47) / 6), 0, 12).astype(np.int64)
    t = np.minimum(t - 6 * expected, 47)
    assert np.array_equal(octaves, expected)
    assert np.array_equal(rows, (48 * shape + t) * 8 + np.where(expected > 0, 4, fraction))


@settings(max_examples=25)
@given(shape=SHAPES, axes=AXES, density=st.sampled_from([0.05, 0.6]), seed=st.integers(0, 99))
def test_what_a_coefficient_sees_of_its_band_is_what_lies_around_it(shape, axes, density, seed):
    generator = np.random.default_rng(seed)
    level = levels_of(shape, [axes])[0]
    band = Band.of(level, level.bands()[-1], (700, 900, 800), 1, 60)
    values = generator.integers(-400, 400, band.shape) * (generator.random(band.shape) < density)
    known = Known(band)
    band.ordered(known.inside)[...] = values
    known.look()
    low = [np.zeros(level.low, np.int8)] * 8
    around = np.pad(values, 2)
    for parity in [(a, b, c) for a in (0, 1) for b in (0, 1) for c in (0, 1)]:
        if any(p >= n for p, n in zip(parity, band.shape, strict=True)):
            continue
        found = Looker(band, known, Relatives(band, Siblings(), None, ()), low).seen(parity)
        places = cut(np.arange(values.size).reshape(band.shape), parity).reshape(-1)
        assert len(found.busy) + len(found.quiet) == len(places)
        for column, place in enumerate(places[found.busy]):
            a, b, c = (n + 2 for n in np.unravel_index(place, band.shape))
            pairs = [(around[a + x, b + y, c + z], around[a - x, b - y, c - z]) for x, y, z in (*FACES, *EDGES)]
            sizes = np.array([min(abs(one), 255) + min(abs(other), 255) for one, other in pairs])
            near = np.minimum(np.abs(around[a - 2 : a + 3, b - 2 : b + 3, c - 1 : c + 2]), 127).sum()
            signed = np.array([one + other for one, other in pairs[:3]])
            logs = [2.0 * log_of(sizes), np.sign(signed) * 2.0 * log_of(np.abs(signed)), 2.0 * log_of(np.array([near]))]
            assert np.array_equal(found.made[:13, column], np.clip(np.concatenate(logs), -127, 127))
            total = 2 + 4 * sizes[:3].sum() + 2 * sizes[3:].sum() + near
            octave = int(total).bit_length() - 1
            assert found.unit[column] == min(4 * octave + int(4 * total) // 2**octave - 4, 95)


@settings(max_examples=15)
@given(shape=st.tuples(st.integers(2, 12), st.integers(2, 30), st.integers(2, 9)), axes=AXES, seed=st.integers(0, 99))
def test_a_restoration_in_tiles_is_that_of_each_voxel(shape, axes, seed):
    generator = np.random.default_rng(seed)
    level, model = levels_of(shape, [axes])[0], load_restoration_model().restoration
    low = np.rint(generator.normal(0, 900, shape)) * (generator.random(shape) < 0.7)
    bands = {high: generator.integers(-3, 4, level.band(high)).astype(np.int32) for high in level.bands()}
    around = Surroundings(low, bands, level, (700, 700, 3000), 640, (1, 60))
    shown = np.rint(np.clip(low.transpose(2, 0, 1) * (32 / 640), -(2.0**23), 2.0**23))
    padded = np.pad(shown, [(1, 1), (2, 2), (2, 2)], mode="edge")
    made = around.inputs(around.voxels)
    for row, (z, y, x) in zip(made, OFFSETS, strict=False):
        beside = padded[1 + z : shown.shape[0] + 1 + z, 2 + y : shown.shape[1] + 2 + y, 2 + x : shown.shape[2] + 2 + x]
        assert np.array_equal(row, np.clip(beside - shown, -127, 127).reshape(-1)[around.voxels])
    line = low.transpose(2, 0, 1).copy().reshape(-1)
    moved = corrections(plainly(model.weights, made).astype(np.float32), model.layer).astype(np.float64)
    line[around.voxels] += np.floor(moved * (640 / 2**16) + 0.5)
    expected = line.reshape(shown.shape).transpose(1, 2, 0)
    assert np.array_equal(around.restored(model, model.layer), expected)
