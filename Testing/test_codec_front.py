"""Chunks in the order of a wave front: only known voxels are looked at, and files of version 2 keep every promise."""

import zlib
from pathlib import Path

import numpy as np
import pytest
from codec_tools import check_forged_damage, numbers, scan, take_model_away
from hypothesis import given, settings
from hypothesis import strategies as st

from MedAELib import Volume
from MedAELib.codec import tuning, volumes
from MedAELib.codec.container import open_container
from MedAELib.codec.front import OFFSETS, Field, Front
from MedAELib.codec.front_coder import decode_front, encode_front
from MedAELib.codec.model_file import load_front_model
from MedAELib.codec.predictive import Grid
from MedAELib.codec.reader import decompress, read_volume
from MedAELib.codec.tuning import apply_tuning, tune
from MedAELib.codec.volumes import Mode, compress
from MedAELib.errors import BadInput, BadModel

SHAPES = [(3, 5, 7), (1, 6, 9), (4, 1, 8), (2, 3, 1), (6, 9, 12)]


@pytest.fixture
def fronts(monkeypatch):
    """Small volumes take the order of a wave front too."""
    monkeypatch.setattr(volumes, "_FRONT_VOXELS", 0)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_a_voxel_looks_at_is_known_when_its_step_comes(shape):
    front = Front((0, 1, 2), shape)
    values = np.random.default_rng(0).integers(1, 1000, shape).astype(np.float32)
    whole, growing = Field(front, 5), Field(front, 5)
    whole.fill(values)
    done = 0
    for count in front.counts:
        voxels = front.order[done : done + count]
        places = growing.places(voxels)
        for offset in OFFSETS:
            shift = whole.shift(offset)
            assert (growing.line[places + shift] == whole.line[places + shift]).all()
        growing.enter(voxels, places, values.reshape(-1)[voxels])
        done += count
    assert done == values.size and sorted(front.order) == list(range(values.size))
    assert (growing.room == whole.room).all()


def test_slices_lie_across_the_coarsest_spacing():
    assert Front.of((40, 30, 20), (700, 700, 5000)) == Front((2, 1, 0), (20, 30, 40))
    assert Front.of((20, 30, 40), (3000, 500, 500)) == Front((0, 1, 2), (20, 30, 40))
    assert not Front.of((1, 1, 5000), (1, 1, 1)).parallel


@settings(max_examples=15)
@given(
    shape=st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 14)),
    step=st.sampled_from([1, 1, 3, 7]),
    content=st.sampled_from(["noise", "constant", "extremes", "smooth"]),
    seed=st.integers(0, 99),
)
def test_every_chunk_comes_back_within_its_step(shape, step, content, seed):
    values = numbers(content, shape, seed)
    low, high = (int(value) for value in np.percentile(values, [1, 99]))
    grid = Grid(shape, (700, 700, 2000), low, high, int(values.max()), step)
    data, decoded = encode_front(values, grid, load_front_model().front)
    assert np.abs(decoded - values).max() <= step // 2
    assert np.array_equal(decode_front(data, grid, load_front_model().front), decoded)


@pytest.mark.parametrize("mode", [Mode(), Mode("max-error", 2)])
def test_a_volume_of_several_chunks(fronts, monkeypatch, mode):
    monkeypatch.setattr(volumes, "_CHUNK_VOXELS", 5000)
    volume = scan((18, 17, 40), channels=2)
    data = compress(volume, mode)
    container = open_container(data, "it")
    assert data[8] == 8 and {chunk["order"] for chunk in container.header["chunks"]} == {"front"}
    again = decompress(data)
    assert np.abs(again.array.astype(int) - volume.array).max() <= mode.value
    assert np.array_equal(read_volume(container, slices=(15, 22)).array, again.array[..., 15:22])


def test_coarser_volumes_are_thinned_and_a_prefix_is_the_preview(fronts):
    volume = scan((40, 36, 30))
    data = compress(volume)
    for coarser in (1, 3, 5):
        thin = decompress(data, coarser=coarser)
        steps = np.rint(np.linalg.norm(thin.affine[:3, :3], axis=0) / volume.spacing).astype(int)
        assert np.array_equal(thin.array[0], volume.array[0][:: steps[0], :: steps[1], :: steps[2]])
    preview = decompress(data[: len(data) // 3], "cut", None)
    steps = np.rint(np.linalg.norm(preview.affine[:3, :3], axis=0) / volume.spacing).astype(int)
    assert steps.prod() == 2**9
    assert np.array_equal(preview.array[0], volume.array[0][:: steps[0], :: steps[1], :: steps[2]])
    with pytest.raises(BadInput, match="cut"):
        decompress(data[:-1], "cut", 1)


@pytest.fixture(scope="module")
def unlike() -> Volume:
    """Correlated noise of a kind that the model was not trained on."""
    noise = np.random.default_rng(0).normal(0, 60, (64, 60, 30))
    for axis in (0, 1):
        noise = noise + np.roll(noise, 1, axis) - 0.7 * np.roll(noise, 3, axis)
    return Volume(np.rint(noise * 2).astype(np.int16)[None], np.diag([0.5, 0.5, 5.0, 1.0]), {"name": "unlike"})


@pytest.mark.slow
def test_a_tuned_model_travels_as_differences_and_makes_the_file_smaller(unlike, monkeypatch):
    plain = compress(unlike)
    monkeypatch.setattr(tuning, "_WORTH_VOXELS", 0)
    monkeypatch.setattr(tuning, "_ROUNDS", 100)
    tuned = compress(unlike)
    told = open_container(tuned, "it").header["front"]
    assert told["tuning"][1] < 5000 and "tuning" not in open_container(plain, "it").header["front"]
    assert len(tuned) < len(plain)
    assert np.array_equal(decompress(tuned).array, unlike.array)


def test_a_volume_that_gains_nothing_is_not_tuned(monkeypatch):
    monkeypatch.setattr(tuning, "_WORTH_VOXELS", 0)
    monkeypatch.setattr(tuning, "_ROUNDS", 3)
    flat = np.zeros((40, 40, 20), np.float32)
    grid = Grid((40, 40, 20), (1, 1, 1), 0, 0, 0)
    assert tune(load_front_model().front, [(flat, grid)], flat.size) is None


@pytest.mark.parametrize("data", [b"", b"no zlib", zlib.compress(b"\1" * 10), zlib.compress(b"\1" * 100_000)])
def test_a_damaged_tuning_is_told(data):
    with pytest.raises(BadInput, match="tuning"):
        apply_tuning(load_front_model().front, data)


def test_a_file_that_carries_its_models_decodes_where_they_are_missing(fronts, monkeypatch):
    volume = scan((24, 22, 20))
    data, plain = compress(volume, with_model=True), compress(volume)

    take_model_away(monkeypatch, "load_front_model")
    with pytest.raises(BadModel):
        decompress(plain)
    take_model_away(monkeypatch, "load_codec_model")
    assert np.array_equal(decompress(data).array, volume.array)


@pytest.fixture(scope="module")
def whole() -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(volumes, "_FRONT_VOXELS", 0)
        return compress(scan((16, 15, 14)))


@settings(max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_forged_damage_ends_and_is_told_or_decodes_within_its_size(whole, place, change):
    check_forged_damage(whole, place, change, (16, 15, 14))


def test_a_version_that_does_not_fit_its_header_is_told(whole):
    with pytest.raises(BadInput, match="damaged"):  # what comes before the header is of another length
        open_container(whole[:8] + b"\1" + whole[9:], "it")
    older = (Path(__file__).parent / "fixtures" / "v2-lossless.maez").read_bytes()
    with pytest.raises(BadInput, match="version"):
        open_container(older[:8] + b"\1" + older[9:], "it")
