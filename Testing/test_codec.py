"""A volume through a .maez file: bit for bit or within the bound, in its place, coarser from a prefix, a slab alone."""

import numpy as np
import pytest
from codec_tools import AFFINE, scan, smooth
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from MedAELib import Volume
from MedAELib.codec.container import open_container
from MedAELib.codec.reader import decompress, read_volume
from MedAELib.codec.values import TYPES
from MedAELib.codec.volumes import Mode, compress, largest_error
from MedAELib.errors import BadInput
from MedAELib.quality import psnr

SHAPES = st.tuples(st.integers(1, 2), *[st.integers(1, 9)] * 3)


@settings(max_examples=60)
@given(data=st.data(), dtype=st.sampled_from(TYPES))
def test_any_volume_comes_back_bit_for_bit(data, dtype):
    volume = Volume(data.draw(arrays.arrays(dtype, SHAPES)), AFFINE)
    again = decompress(compress(volume))
    assert again.array.dtype == volume.array.dtype
    assert again.array.tobytes() == np.ascontiguousarray(volume.array).tobytes()
    assert np.array_equal(again.affine, volume.affine)


@settings(max_examples=40)
@given(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(["uint8", "int16", "int32", "float32", "float64"]),
    bound=st.floats(0.05, 60),
    shape=st.tuples(*[st.integers(1, 10)] * 3),
)
def test_no_voxel_differs_by_more_than_the_bound(seed, dtype, bound, shape):
    volume = Volume((smooth(shape, seed)[None] / 8 + 130).astype(dtype), AFFINE)
    again = decompress(compress(volume, Mode("max-error", bound)))
    assert again.array.dtype == volume.array.dtype
    assert np.abs(again.array.astype(np.float64) - volume.array.astype(np.float64)).max() <= bound


def test_anatomy_becomes_small_and_a_bound_makes_it_smaller():
    volume = scan((32, 32, 28))
    exact, near = len(compress(volume)), len(compress(volume, Mode("max-error", 4)))
    entropy = np.log2(5.0 * np.sqrt(2 * np.pi * np.e)) * volume.array.size / 8  # of the noise alone
    assert exact < 1.3 * entropy
    assert near < 0.6 * exact


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_a_wanted_quality_and_a_wanted_size_are_reached(dtype):
    voxels = smooth((18, 16, 14))[None] / (8 if dtype == "uint8" else 1) + (130 if dtype == "uint8" else 0)
    volume = Volume(voxels.astype(dtype), AFFINE)
    span = float(np.ptp(volume.array.astype(np.float64)))
    data = compress(volume, Mode("psnr", 42))
    assert 42 <= psnr(volume.array, decompress(data).array, span) < 50
    assert len(data) < 0.8 * len(compress(volume))
    assert len(compress(volume, Mode("ratio", 2))) <= volume.array.nbytes / 2


def test_what_cannot_be_reached_is_told():
    volume = Volume(np.random.default_rng(0).integers(0, 255, (1, 6, 6, 6), np.uint8), AFFINE)
    with pytest.raises(BadInput, match="cannot be reached"):
        compress(volume, Mode("ratio", 1e6))
    with pytest.raises(BadInput, match="only be compressed losslessly"):
        compress(Volume(np.full((1, 4, 4, 4), np.nan, np.float32), AFFINE), Mode("psnr", 40))


def test_channels_name_modality_and_header_come_back():
    volume = scan((9, 8, 7), channels=3)
    again = decompress(compress(volume))
    assert again.name == "ball" and again.meta["modality"] == "CT" and again.meta["header"] == {"note": "made"}
    assert np.array_equal(again.array, volume.array)


def test_a_volume_of_several_chunks_and_a_slab_of_it(monkeypatch):
    monkeypatch.setattr("MedAELib.codec.volumes._CHUNK_VOXELS", 3000)
    volume = scan((15, 14, 50))
    data = compress(volume)
    container = open_container(data, "ball.maez")
    assert len(container.header["chunks"]) == 4
    assert np.array_equal(decompress(data).array, volume.array)
    slab = read_volume(container, slices=(13, 35))
    assert np.array_equal(slab.array, volume.array[..., 13:35])
    assert np.allclose(slab.affine @ [0, 0, 0, 1], volume.affine @ [0, 0, 13, 1])
    with pytest.raises(BadInput, match="no slices"):
        read_volume(container, slices=(13, 51))


@pytest.mark.parametrize("coarser", [1, 2, 3, 4, 5])
def test_a_coarser_volume_lies_where_its_voxels_were(coarser, monkeypatch):
    monkeypatch.setattr("MedAELib.codec.volumes._CHUNK_VOXELS", 9000)
    volume = scan((24, 20, 48))
    preview = decompress(compress(volume), "ball", coarser)
    assert preview.array.size < 0.7 * volume.array.size / 2 ** (coarser - 1)
    last = np.array(preview.shape) - 1
    places = np.rint(np.linalg.inv(volume.affine) @ preview.affine @ [*last, 1]).astype(int)[:3]
    assert preview.array[0][tuple(last)] == volume.array[0][tuple(places)]
    assert np.allclose(preview.affine[:, 3], volume.affine[:, 3])


def test_a_prefix_of_the_file_is_a_coarser_volume():
    volume = scan((32, 30, 28))
    data = compress(volume)
    sizes = [decompress(data[: int(len(data) * part)], "cut", None).array.size for part in (0.15, 0.3, 0.6, 1.0)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] == volume.array.size
    with pytest.raises(BadInput, match="cut short"):
        decompress(data[:-1])


def test_the_largest_error_is_measured_without_overflow():
    top = np.array([[[[2**64 - 1]]]], np.uint64)
    assert largest_error(top, np.zeros_like(top)) == 2.0**64
    assert largest_error(np.array([np.nan, 1.0]), np.array([np.nan, 1.5])) == 0.5
    assert largest_error(np.array([np.nan]), np.array([1.0])) == np.inf


@pytest.mark.parametrize(
    ("kind", "bound"), [("max-error", 0.0), ("max-error", float("nan")), ("smaller", 1.0), ("ratio", 0.9)]
)
def test_a_promise_that_cannot_be_kept_is_refused(kind, bound):
    with pytest.raises(BadInput):
        Mode(kind, bound)


def test_the_number_of_threads_does_not_change_a_byte(monkeypatch):
    monkeypatch.setattr("MedAELib.codec.volumes._CHUNK_VOXELS", 3000)
    volume = scan((15, 14, 50))
    several = compress(volume)
    monkeypatch.setattr("MedAELib.codec.volumes.encoders", lambda *_: 1)
    assert compress(volume) == several
