"""A quality or a size that is asked of trivial volumes, and of integers that spread over more than 2^16 values."""

import numpy as np
import pytest
from codec_tools import smooth

from MedAELib import Volume
from MedAELib.codec.container import open_container
from MedAELib.codec.reader import decompress, read_volume
from MedAELib.codec.volumes import Mode, compress
from MedAELib.errors import BadInput

LOSSLESS = {"kind": "lossless"}


def trivial(name: str) -> Volume:
    """Content of which nothing is lost, or of which a header is the most."""
    made = {
        "constant": lambda: np.full((60, 50, 20), 7, np.int16),
        "constant floats": lambda: np.full((60, 50, 20), 0.1, np.float32),
        "voxel": lambda: np.full((1, 1, 1), 7, np.int16),
        "mask": lambda: np.random.default_rng(0).random((20, 20, 12)) > 0.5,
        "few voxels": lambda: np.random.default_rng(0).integers(-9, 900, (4, 5, 6), np.int16),
    }[name]()
    return Volume(made[None], np.eye(4))


@pytest.mark.parametrize("mode", [Mode("psnr", 45), Mode("ratio", 4)])
@pytest.mark.parametrize("name", ["constant", "constant floats", "voxel", "mask", "few voxels"])
def test_a_file_that_loses_nothing_is_one_without_loss_and_none_is_larger_than_that(name, mode):
    volume = trivial(name)
    try:
        data = compress(volume, mode)
    except BadInput as error:
        assert mode.kind == "ratio" and "cannot be reached" in str(error)
        return
    exact, told = compress(volume), open_container(data, "it").header["mode"]
    assert len(data) <= len(exact) or told == LOSSLESS
    if np.array_equal(decompress(data).array, volume.array) and len(exact) <= len(data):
        assert told == LOSSLESS


@pytest.mark.parametrize("mode", [Mode("psnr", 45), Mode("ratio", 8)])
def test_a_constant_volume_is_stored_without_loss(mode):
    data = compress(trivial("constant"), mode)
    assert data == compress(trivial("constant"))


def wide(dtype: str, content: str = "smooth") -> Volume:
    """Integers that spread over more than 2^16 values; "extremes": over all of their type."""
    if content == "smooth":
        made = np.rint((smooth((24, 20, 18)) + 1100) * 70).clip(0).astype(dtype)
    else:
        limits = np.iinfo(dtype)
        edges = (np.indices((20, 18, 12)).sum(axis=0) // 6) % 2
        made = np.where(edges, np.array(limits.max, dtype), np.array(limits.min, dtype))
    return Volume(made[None], np.eye(4))


@pytest.mark.parametrize("content", ["smooth", "extremes"])
@pytest.mark.parametrize("dtype", ["int32", "uint64"])
@pytest.mark.parametrize("mode", [Mode("psnr", 45), Mode("ratio", 12)])
def test_integers_of_many_values_keep_a_quality_and_a_ratio(dtype, content, mode):
    volume = wide(dtype, content)
    data = compress(volume, mode)
    after = decompress(data).array
    before, found = volume.array.astype(np.float64), after.astype(np.float64)
    span = before.max() - before.min()
    assert after.dtype == volume.array.dtype and span > 2**16
    if mode.kind == "psnr":
        assert 20 * np.log10(span / max(np.sqrt(np.mean((found - before) ** 2)), 1e-9 * span)) >= 45
    else:
        assert volume.array.nbytes / len(data) >= 12
    assert np.abs(found - before).max() < 0.5 * span  # no value turns round into the other end of its type


def test_a_quality_beyond_the_coarse_values_is_reached_without_loss():
    data = compress(wide("int32"), Mode("psnr", 108))
    assert open_container(data, "it").header["mode"] == LOSSLESS
    assert np.array_equal(decompress(data).array, wide("int32").array)


def test_a_fault_of_the_values_says_what_helps():
    array = np.full((1, 4, 4, 4), np.nan, np.float32)
    with pytest.raises(BadInput) as told:
        compress(Volume(array, np.eye(4)), Mode("psnr", 45))
    assert "largest error" in told.value.next_step


def test_slices_that_are_not_there_are_told_with_those_that_are():
    with pytest.raises(BadInput, match="has no slices 9 to 3") as told:
        read_volume(open_container(compress(trivial("few voxels")), "it"), 0, (9, 3))
    assert told.value.next_step == "Name slices from 0 to 6, the last one left out."
