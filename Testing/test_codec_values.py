"""Voxels of every type and content become whole numbers and come back bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from MedAELib.codec.context import LARGEST
from MedAELib.codec.values import TYPES, from_whole, ordered, to_whole, unordered
from MedAELib.errors import BadInput

SHAPES = arrays.array_shapes(min_dims=3, max_dims=3, max_side=6)


def same_bits(a: np.ndarray, b: np.ndarray) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def there_and_back(array: np.ndarray) -> dict:
    mapped = to_whole(array)
    assert mapped.whole.min() >= 0 and mapped.whole.max() < LARGEST
    assert same_bits(from_whole(mapped.whole, mapped.how, mapped.extra, array.dtype), array)
    return mapped.how


@settings(max_examples=200)
@given(data=st.data(), dtype=st.sampled_from(TYPES))
def test_any_values_of_any_type_come_back_to_the_bit(data, dtype):
    there_and_back(data.draw(arrays.arrays(dtype, SHAPES)))


@settings(max_examples=100)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    slope=st.floats(1e-3, 1e3),
    start=st.floats(-2000, 2000),
)
def test_rescaled_integers_come_back_to_the_bit(seed, dtype, slope, start):
    whole = np.random.default_rng(seed).integers(0, 500, (6, 5, 4))
    there_and_back((whole * slope + start).astype(dtype))


@pytest.mark.parametrize(
    ("array", "kind"),
    [
        (np.arange(-1024, 1024, 4, dtype=np.int16).reshape(2, 4, -1), "even"),
        (np.arange(8, dtype=np.uint64).reshape(2, 2, 2) * 2**60, "even"),
        (np.array([-(2**63), 2**63 - 1] * 500).reshape(10, 10, 10), "even"),
        (np.arange(1000, dtype=np.float32).reshape(10, 10, 10) - 5, "grid"),
        ((np.arange(1000) * 0.1).astype(np.float32).reshape(10, 10, 10), "grid"),
        (np.array([0.0, -0.0] * 32, np.float32).reshape(4, 4, 4), "table"),
        (np.tile(np.array([1, 7, 2**40]), 90).reshape(3, 9, 10), "table"),
        (np.random.default_rng(0).normal(size=(10, 10, 10)), "split"),
    ],
    ids=["multiples", "wide", "extremes", "whole floats", "tenths", "minus zero", "sparse", "noise"],
)
def test_the_way_fits_the_content(array, kind):
    assert there_and_back(array)["kind"] == kind


@settings(max_examples=60)
@given(data=st.data(), dtype=st.sampled_from([name for name in TYPES if name != "bool"]))
def test_the_order_of_a_type_is_that_of_its_values(data, dtype):
    array = data.draw(arrays.arrays(dtype, st.integers(1, 30)))
    places = ordered(array)
    assert same_bits(unordered(places, array.dtype), array)
    numbers = array[~np.isnan(array)] if array.dtype.kind == "f" else array
    inside = places[~np.isnan(array)] if array.dtype.kind == "f" else places
    rising = numbers[np.argsort(inside, kind="stable")]
    assert np.all(rising[1:] >= rising[:-1])  # a difference would overflow


@pytest.mark.parametrize(
    "how",
    [{}, {"kind": "even"}, {"kind": "table", "size": 10**9}, {"kind": "split", "low": "0", "shift": 99}, {"kind": "x"}],
    ids=["nothing", "half", "huge table", "huge shift", "unknown"],
)
def test_a_damaged_description_is_told(how):
    with pytest.raises(BadInput, match="description of the voxel values"):
        from_whole(np.zeros((2, 2, 2), np.int64), how, b"", np.dtype("int16"))
