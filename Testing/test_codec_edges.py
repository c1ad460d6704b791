"""Volumes at the edges of what a .maez file holds: extreme numbers, other byte orders, sizes beyond its limits."""


from fractions import Fraction

import numpy as np
import pytest
from codec_tools import AFFINE, smooth

from MedAELib import Volume
from MedAELib.codec import volumes
from MedAELib.codec.reader import decompress
from MedAELib.codec.volumes import Mode, compress, compress_and_decode, largest_error
from MedAELib.errors import BadInput

SHAPE = (12, 11, 9)


def whole(shape=SHAPE, noise: float = 5.0) -> np.ndarray:
    """Whole numbers from 0 to about 1500 [1, i, j, k]."""
    voxels = np.rint(smooth(shape, 1, noise)).astype(np.int64)
    return (voxels - voxels.min())[None]


@pytest.mark.parametrize("mode", [Mode("psnr", 45), Mode("ratio", 6)], ids=lambda mode: mode.kind)
@pytest.mark.parametrize("dtype", ["int64", "uint64"])
def test_the_largest_numbers_lose_no_more_than_small_ones(dtype, mode):
    low, bounds = whole(), np.iinfo(dtype)
    for start in (bounds.min, bounds.max - int(low.max())):
        lifted = Volume(low.astype(dtype) + np.array(start, dtype), AFFINE)
        data, again = compress_and_decode(lifted, mode)
        plain_data, plain = compress_and_decode(Volume(low.astype(dtype), AFFINE), mode)
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
