"""Volumes at the edges of what a .maez file holds: extreme numbers, other byte orders, sizes beyond its limits."""

import tracemalloc
from fractions import Fraction

import numpy as np
import pytest
from codec_tools import AFFINE, smooth
from hypothesis import given, settings
from hypothesis import strategies as st

from MedAELib import Volume
from MedAELib.codec import values, volumes
from MedAELib.codec.container import open_container
from MedAELib.codec.promise import decibels, kept
from MedAELib.codec.reader import decompress
from MedAELib.codec.volumes import Mode, compress, compress_and_decode, largest_error
from MedAELib.errors import BadInput
from MedAELib.quality import psnr

SHAPE = (12, 11, 9)


def whole(shape=SHAPE, noise: float = 5.0) -> np.ndarray:
    """Whole numbers from 0 to about 1500 [1, i, j, k]."""
    voxels = np.rint(smooth(shape, 1, noise)).astype(np.int64)
    return (voxels - voxels.min())[None]


@pytest.mark.parametrize("mode", [Mode("psnr", 45), Mode("ratio", 12)], ids=lambda mode: mode.kind)
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_the_largest_numbers_lose_no_more_than_small_ones(dtype, mode):
    low, bounds = whole(), np.iinfo(dtype)
    for start in (bounds.min, bounds.max - int(low.max())):
        lifted = Volume(low.astype(dtype) + np.array(start, dtype), AFFINE)
        data, again = compress_and_decode(lifted, mode)
        plain_data, plain = compress_and_decode(Volume(low.astype(dtype), AFFINE), mode)
        if mode.kind == "psnr":  # of a ratio the header, in which large numbers have more digits, takes its part
            assert np.array_equal(again.array - np.array(start, dtype), plain.array)
        assert again.array.dtype == dtype and abs(len(data) - len(plain_data)) < 100
        assert 0 < largest_error(lifted.array, again.array) < 200


def test_the_largest_error_is_never_told_too_small():
    for one, other in ((1e10, 1e-3), (-1e10, 1e-3), (1e30, 1.0), (3.0, 1.0), (16777216.0, -0.1)):
        before, after = np.full((1, 2), one, np.float32), np.full((1, 2), other, np.float32)
        exact = abs(Fraction(float(before[0, 0])) - Fraction(float(after[0, 0])))
        for told in (largest_error(before, after), largest_error(after, before)):
            assert told >= exact and np.nextafter(told, 0) < exact
    top = np.array([2**53 + 1, 0], np.int64)
    assert largest_error(top, np.zeros_like(top)) == 2**53 + 2


def test_numbers_that_spread_too_far_for_a_psnr_are_told():
    for huge in (1e308, 1e200, 5e-324, 1e-200):
        volume = Volume(np.where(np.random.default_rng(0).random((1, 6, 5, 4)) < 0.5, huge, -huge), AFFINE)
        for kind in ("psnr", "ratio"):
            with pytest.raises(BadInput, match="only be compressed losslessly"):
                compress(volume, Mode(kind, 4))
        assert decompress(compress(volume)).array.tobytes() == volume.array.tobytes()


def test_what_a_volume_says_of_its_frames_is_kept_if_it_is_a_number():
    told = {"frames": True, "frame_spacing": 0.5}
    assert decompress(compress(Volume(whole((4, 4, 4)), AFFINE, told))).meta["frame_spacing"] == 0.5
    for odd in (float("nan"), float("inf"), "half", None):
        again = decompress(compress(Volume(whole((4, 4, 4)), AFFINE, {**told, "frame_spacing": odd})))
        assert again.meta["frames"] and "frame_spacing" not in again.meta


@pytest.mark.parametrize("dtype", [">i2", ">u4", ">f4", ">f8"])
@pytest.mark.parametrize("mode", [Mode(), Mode("max-error", 3), Mode("psnr", 45)], ids=lambda mode: mode.kind)
def test_the_order_of_bytes_does_not_matter(dtype, mode):
    voxels = whole().astype(dtype)
    if dtype == ">f4" and mode.kind == "lossless":
        voxels[0, 0, 0, :2] = np.nan, -0.0
    data, again = compress_and_decode(Volume(voxels, AFFINE), mode)
    native = Volume(voxels.astype(voxels.dtype.newbyteorder("=")), AFFINE)
    assert data == compress(native, mode)
    assert again.array.dtype == native.array.dtype and again.array.dtype.isnative
    assert largest_error(voxels, again.array) == largest_error(native.array, again.array) < 200


@pytest.mark.parametrize(("shape", "limit"), [((1, 70000, 1, 1), "65536 voxels"), ((5000, 1, 1, 1), "4096 channels")])
def test_a_volume_beyond_the_limits_is_told_before_anything_is_coded(monkeypatch, shape, limit):
    monkeypatch.setattr(volumes, "_encode", lambda *_: pytest.fail("it was coded"))
    for mode in (Mode(), Mode("psnr", 40)):
        with pytest.raises(BadInput, match=limit):
            compress(Volume(np.zeros(shape, np.int16), AFFINE), mode)


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
@pytest.mark.parametrize("bound", [0.9, 3, 700, 1e6 + 0.5, 2.0**31, 1e18, 1e300])
def test_integers_that_spread_wide_keep_any_bound_and_become_smaller(dtype, bound):
    bounds, generator = np.iinfo(dtype), np.random.default_rng(0)
    for low, high in ((bounds.min, bounds.max), (bounds.max - 200_000, bounds.max), (bounds.min, bounds.min + 200_000)):
        voxels = generator.integers(low, high, (1, 6, 5, 4), dtype, endpoint=True)
        voxels[0, 0, 0, :2] = low, high
        again = compress_and_decode(Volume(voxels, AFFINE), Mode("max-error", bound))[1].array
        apart = [abs(int(one) - int(other)) for one, other in zip(voxels.ravel(), again.ravel(), strict=True)]
        assert max(apart) <= bound
        assert (max(apart) > 0) == (2 * int(bound) + 1 > (high - low) / 65536 and bound >= 1)


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16"])
@pytest.mark.parametrize("content", ["smooth", "noise"])
def test_a_voxel_that_is_not_finite_keeps_its_bits_and_leaves_the_others_their_bound(dtype, content):
    voxels = (smooth((20, 18, 14), 1, 30.0)[None] * 1.0137).astype(dtype)
    if content == "noise":
        voxels = np.random.default_rng(0).normal(100, 30, voxels.shape).astype(dtype)
    odd, bound = np.array([np.nan, -np.inf, np.inf], dtype), 4.0
    some = voxels.copy()
    some[0, 3:6, 4, 5] = odd
    data, again = compress_and_decode(Volume(some, AFFINE), Mode("max-error", bound))
    assert again.array[0, 3:6, 4, 5].tobytes() == odd.tobytes()
    assert 0 < largest_error(some, again.array) <= bound
    assert len(data) < 1.1 * len(compress(Volume(voxels, AFFINE), Mode("max-error", bound))) + 400
    assert open_container(data, "it").header["mode"] == {"kind": "max-error", "bound": bound}


def test_a_volume_without_a_finite_voxel_has_no_bound_to_keep():
    voxels = np.full((1, 5, 4, 3), np.nan, np.float32)
    assert np.isnan(compress_and_decode(Volume(voxels, AFFINE), Mode("max-error", 2))[1].array).all()


def test_a_bound_makes_wide_integers_smaller():
    voxels = (whole((16, 15, 12)) * 100 + np.random.default_rng(0).integers(0, 100, (16, 15, 12))).astype(np.int32)
    exact, near = (len(compress(Volume(voxels, AFFINE), mode)) for mode in (Mode(), Mode("max-error", 200)))
    assert near < 0.6 * exact


@pytest.mark.parametrize("bound", [0.3, 0.5, 1, 1.5, 2, 12, 20])
def test_floats_that_hold_whole_numbers_are_as_small_as_these_within_a_bound(bound):
    """As a CT is after a rescale by its file."""
    voxels, mode = whole((20, 18, 14), 4.0) - 1024, Mode("max-error", bound)
    data, again = compress_and_decode(Volume(voxels.astype(np.float32), AFFINE), mode)
    assert largest_error(voxels.astype(np.float32), again.array) <= bound
    small = compress(Volume(voxels.astype(np.int16), AFFINE), mode)
    assert len(data) < 1.01 * len(small) + 60  # the names of type and grid
    if bound < 0.5:
        assert np.array_equal(again.array, voxels)
    else:
        assert len(data) < 0.9 * len(compress(Volume(voxels.astype(np.float32), AFFINE)))


@settings(max_examples=25)
@given(
    seed=st.integers(0, 99),
    dtype=st.sampled_from(["float16", "float32", "float64"]),
    slope=st.sampled_from([1.0, 0.1, 0.25, 3.0, 1 / 3, 1e-6, 1e5]),
    start=st.sampled_from([0.0, -1024.0, 0.3, 1e4, -1e9]),
    bound=st.one_of(st.sampled_from([0.5, 1.0, 1.5, 0.3, 7.0]), st.floats(0.05, 40)),
)
def test_floats_keep_a_bound_exactly(seed, dtype, slope, start, bound):
    grid = np.random.default_rng(seed).integers(0, 60, (1, 5, 4, 3))
    voxels = (grid * slope + start).clip(-6e4, 6e4 if dtype == "float16" else None).astype(dtype)
    wanted = bound * slope
    again = compress_and_decode(Volume(voxels, AFFINE), Mode("max-error", wanted))[1].array
    pairs = zip(voxels.ravel().tolist(), again.ravel().tolist(), strict=True)
    assert all(abs(Fraction(one) - Fraction(other)) <= Fraction(wanted) for one, other in pairs)


def test_a_bound_that_takes_no_values_together_loses_nothing():
    few = np.array([0.0, 1.1, 7.3, 900.77], np.float32)[np.random.default_rng(0).integers(0, 4, (1, 12, 11, 9))]
    assert np.array_equal(compress_and_decode(Volume(few, AFFINE), Mode("max-error", 0.2))[1].array, few)


@pytest.mark.parametrize("mode", [Mode("psnr", 120), Mode("ratio", 1.5)], ids=lambda mode: mode.kind)
@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_no_file_with_a_loss_is_larger_than_one_without(dtype, mode):
    volume = Volume(whole((20, 18, 14)).astype(dtype), AFFINE)
    data, again = compress_and_decode(volume, mode)
    assert np.array_equal(again.array, volume.array)
    assert data == compress(volume)
    assert open_container(data, "it").header["mode"] == {"kind": "lossless"}


def test_a_quality_between_is_reached_by_the_smaller_file():
    volume = Volume(whole((20, 18, 14)).astype(np.float32), AFFINE)
    exact, span = len(compress(volume)), float(np.ptp(volume.array))
    for error, lossless in ((0.02, True), (4.0, False)):
        data = compress(volume, Mode("psnr", 20 * np.log10(span / error)))
        assert (len(data) == exact) == lossless and len(data) <= exact
        assert open_container(data, "it").header["mode"]["kind"] == ("lossless" if lossless else "psnr")


def test_a_quality_that_only_all_bits_reach_is_kept():
    noise = Volume(np.random.default_rng(0).normal(0, 100, (1, 8, 7, 6)).astype(np.float32), AFFINE)
    for wanted in (105, 300):
        assert np.array_equal(compress_and_decode(noise, Mode("psnr", wanted))[1].array, noise.array)


@pytest.mark.parametrize("wanted", [Mode("psnr", 90), Mode("ratio", 2.0)], ids=lambda mode: mode.kind)
def test_what_is_clear_is_not_tried(monkeypatch, wanted):
    monkeypatch.setattr(volumes, "_SMALL", 0)
    monkeypatch.setattr(volumes, "_with_loss", lambda *_: pytest.fail("a loss was tried"))
    volume = Volume(whole((20, 18, 14)).astype(np.float32), AFFINE)
    assert np.array_equal(compress_and_decode(volume, wanted)[1].array, volume.array)


def test_the_ordinary_way_tries_no_file_without_loss(monkeypatch):
    monkeypatch.setattr(volumes, "_without_loss", lambda *_: pytest.fail("it was tried without loss"))
    for dtype in ("int16", "float32"):
        volume = Volume(whole((20, 18, 14)).astype(dtype), AFFINE)
        for mode in (Mode("psnr", 45), Mode("ratio", 4 * volume.array.itemsize)):
            assert open_container(compress(volume, mode), "it").header["mode"] == mode.to_json()


@pytest.mark.parametrize("kind", ["ratio", "psnr", "max-error", "lossless"])
def test_a_value_that_is_no_number_is_told_at_once(kind):
    for value in ("8", None, [8], 10**400, 10**5000, True, np.bool_(True), 8j, np.array([8.0])):
        with pytest.raises(BadInput, match=f"^The value of {kind} is "):
            Mode(kind, value)


def test_a_value_may_be_a_number_of_numpy():
    volume = Volume(whole((20, 18, 16), 5.0).astype(np.int16), AFFINE)
    for value in (np.float32(8), np.float64(8), np.int64(8), np.uint8(8), 8):
        assert type(Mode("max-error", value).value) is float
        assert compress(volume, Mode("max-error", value)) == compress(volume, Mode("max-error", 8.0))


def test_what_a_ratio_of_one_cannot_reach_is_stored_without_loss():
    volume = Volume(np.random.default_rng(0).integers(0, 256, (1, 2, 2, 2), np.uint8), AFFINE)
    for wanted, less in ((1, False), (1.5, True)):
        with pytest.raises(BadInput, match="A ratio of") as told:
            compress(volume, Mode("ratio", wanted))
        assert "leave --ratio out" in told.value.next_step and ("Ask for less" in told.value.next_step) == less
    assert decompress(compress(volume)).array.tobytes() == volume.array.tobytes()


@pytest.mark.filterwarnings("ignore:overflow")
def test_a_volume_too_far_away_to_compute_with_is_told():
    affine = np.diag([1.0, 1.0, 1e200, 1.0])
    with pytest.raises(BadInput, match="too far to compute with"):
        compress(Volume(np.zeros((1, 4, 4, 4), np.int16), affine))


@pytest.mark.parametrize("dtype", ["int16", "uint64", "float32", "float64"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_figures_do_not_depend_on_the_pieces_that_are_compared(monkeypatch, dtype, order):
    before = np.asarray(whole().astype(dtype), order=order)
    after = np.asarray(before + np.random.default_rng(3).integers(0, 5, before.shape).astype(dtype), order=order)
    told = []
    for piece in (1, 70, 10**6):
        monkeypatch.setattr(values, "_PIECE", piece)
        assert kept(Mode(), before, 1, before.copy()) and not kept(Mode(), before, 1, after)
        told.append((largest_error(before, after), decibels(before, after)))
    assert told[0] == pytest.approx(told[2], rel=1e-12) and told[1] == pytest.approx(told[2], rel=1e-12)
    assert told[2][0] == np.abs(before.astype(float) - after).max()
    assert told[2][1] == pytest.approx(psnr(before, after, float(np.ptp(before.astype(float)))), rel=1e-12)


@pytest.mark.parametrize("mode", [Mode(), Mode("max-error", 3), Mode("psnr", 10)], ids=lambda mode: mode.kind)
def test_a_promise_is_checked_in_little_memory(mode):
    """Whole arrays as 64-bit numbers would take ten times what the voxels do."""
    before = np.arange(4_000_000, dtype=np.int16).reshape(1, 200, 200, 100)
    after = before.copy()
    tracemalloc.start()
    try:
        assert kept(mode, before, 1, after)
        assert tracemalloc.get_traced_memory()[1] < 20e6
    finally:
        tracemalloc.stop()
