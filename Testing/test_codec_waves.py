"""Files of a wanted quality or size: wavelets in whole numbers, the same voxels everywhere, coarser from a prefix."""

import hashlib
import struct
import zlib

import numpy as np
import pytest
from codec_tools import AFFINE, check_forged_damage, code_by_waves_alone, numbers, scan, smooth, take_model_away
from hypothesis import given, settings
from hypothesis import strategies as st

from MedAELib import Volume
from MedAELib.codec import volumes
from MedAELib.codec.container import open_container, write_container
from MedAELib.codec.filled import pack_mask, unpack_mask
from MedAELib.codec.model_file import load_codec_model, load_subband_model
from MedAELib.codec.reader import decompress, read_volume
from MedAELib.codec.residuals import Distribution
from MedAELib.codec.subband import SUBBAND_INPUTS, Band, box, log_of
from MedAELib.codec.subband_decoder import WaveDecoder
from MedAELib.codec.subband_encoder import encode_waves
from MedAELib.codec.subband_levels import WaveGrid
from MedAELib.codec.subband_symbols import flag_rows, flag_tables, zero_frequency
from MedAELib.codec.volumes import Mode, compress
from MedAELib.codec.wavelet import analyse, brightness, choose_axes, levels_of, synthesise
from MedAELib.errors import BadInput, BadModel
from MedAELib.quality import psnr

SHAPES = st.tuples(*[st.integers(1, 20)] * 3)
AXES = st.sampled_from([(0,), (2,), (0, 1), (1, 2), (0, 1, 2)])


def span(volume: Volume) -> float:
    return float(np.ptp(volume.array.astype(np.float64)))


@settings(max_examples=60)
@given(shape=SHAPES, axes=AXES, seed=st.integers(0, 99))
def test_a_transform_comes_back_to_the_bit(shape, axes, seed):
    values = np.random.default_rng(seed).integers(-(2**27), 2**27, shape).astype(np.float64)
    bands = analyse(values, axes)
    assert all(np.array_equal(band, np.rint(band)) for band in bands.values())
    assert np.array_equal(synthesise(bands, shape, axes), values)


def test_a_flat_volume_is_the_low_band_alone_and_as_bright():
    bands = analyse(np.full((16, 16, 16), 6400.0), (0, 1, 2))
    assert all(np.abs(band).max() <= 4 for high, band in bands.items() if high)
    assert np.abs(bands[()] * brightness(3) / 2**16 - 6400).max() < 3


def test_axes_of_thick_slices_join_when_the_plane_is_as_coarse():
    axes = choose_axes((256, 256, 48), (900, 900, 3000))
    assert axes[0] == (0, 1) and axes[1] == (0, 1, 2)
    assert choose_axes((1, 1, 1), (1, 1, 1)) == []
    levels = levels_of((256, 256, 48), axes)
    assert levels[1].shape == (128, 128, 48) and levels[2].steps == (4, 4, 2)


def test_logarithms_are_those_of_the_values():
    values = np.arange(40_000)
    assert np.abs(log_of(values) - np.minimum(8 * np.log2(1 + values), 127)).max() < 2


def test_a_box_sums_what_is_near():
    values = np.random.default_rng(0).integers(0, 9, (5, 1, 7)).astype(np.int16)
    padded = np.pad(values, 2)
    expected = sum(
        padded[2 + a : 7 + a, 2 + b : 3 + b, 2 + c : 9 + c]
        for a in (-2, -1, 0, 1, 2)
        for b in (-1, 0, 1)
        for c in (-1, 0, 1)
    )
    assert np.array_equal(box(values, (2, 1, 1)), expected)


def test_the_network_has_all_inputs_of_a_band():
    level = levels_of((8, 8, 8), [(0, 1, 2)])[0]
    band = Band.of(level, (1,), (500, 500, 900), 0, 64)
    assert band.order == (1, 0, 2) and band.shape == (4, 4, 4)
    assert load_subband_model().subband.weights["w1"].shape[2] == SUBBAND_INPUTS


def test_flags_tell_the_chance_of_a_block_of_zeros():
    tables = flag_tables()
    for zero in (65535, 65500, 65000, 60000, 100):
        row = flag_rows(np.array([zero]))[0]
        something = tables.frequencies[tables.offsets[row] + 1] / 65536
        true = 1 - (zero / 65536) ** 32
        assert something == pytest.approx(true, rel=0.3)
    expected = Distribution(*(np.array([value]) for value in (100, -200, 0, 4)))
    assert zero_frequency(expected, 100, load_subband_model().subband.residuals)[0] > 65000


def coded(values: np.ndarray, step: int) -> tuple[WaveGrid, object, list[bytes], np.ndarray]:
    axes = tuple(choose_axes(values.shape, (700, 700, 2000))) or ((0,),)
    grid = WaveGrid(values.shape, (700, 700, 2000), axes, step, int(values.max()))
    made = encode_waves(values, grid, load_subband_model().subband, load_codec_model().context)
    return grid, made.low, made.parts, made.decoded


@settings(max_examples=15)
@given(
    shape=st.tuples(st.integers(2, 16), st.integers(1, 20), st.integers(1, 24)),
    step=st.sampled_from([40, 64, 700, 20_000, 4_000_000]),
    content=st.sampled_from(["noise", "constant", "extremes", "smooth"]),
    seed=st.integers(0, 99),
)
def test_every_chunk_decodes_to_what_the_encoder_saw(shape, step, content, seed):
    values = numbers(content, shape, seed)
    try:
        grid, low, parts, decoded = coded(values, step)
    except BadInput as error:
        assert "too small" in str(error) and step < 700
        return
    decoder = WaveDecoder(grid, low, load_subband_model().subband, load_codec_model().context)
    for number, part in enumerate(parts):
        decoder.decode_part(part, number)
    assert np.array_equal(decoder.voxels(), decoded)
    assert decoded.min() >= 0 and decoded.max() <= values.max()


@pytest.fixture
def waves(monkeypatch):
    """Small volumes are coded by wavelets too, and by nothing else."""
    code_by_waves_alone(monkeypatch)


@pytest.mark.parametrize(
    ("dtype", "shape"),
    [("uint8", (24, 20, 18)), ("int16", (60, 50, 1)), ("int32", (3, 40, 30)), ("float32", (24, 20, 18))],
)
def test_a_wanted_quality_or_size_is_reached_for_every_type(waves, dtype, shape):
    voxels = smooth(shape)[None] / (8 if dtype == "uint8" else 1) + (150 if dtype == "uint8" else 1200)
    volume = Volume(voxels.astype(dtype), AFFINE, {"name": "ball"})
    data = compress(volume, Mode("psnr", 48))
    again = decompress(data)
    assert data[8] == 5 and again.array.dtype == volume.array.dtype
    assert 48 <= psnr(volume.array, again.array, span(volume)) < 49.5
    wanted = 1.1 * volume.array.nbytes / len(data)
    smaller = compress(volume, Mode("ratio", wanted))
    assert 0.8 * volume.array.nbytes / wanted < len(smaller) <= volume.array.nbytes / wanted


@pytest.mark.slow
def test_anatomy_becomes_much_smaller_than_by_lattices(monkeypatch):
    volume = scan((40, 40, 32))
    by_waves = compress(volume, Mode("psnr", 40))
    monkeypatch.setattr(volumes, "_WAVE_VOXELS", 1 << 40)
    by_lattices = compress(volume, Mode("psnr", 40))
    assert by_waves[8] == 5 and by_lattices[8] == 8
    assert len(by_waves) < 0.8 * len(by_lattices)


def test_a_volume_of_few_values_or_tiny_ones_take_what_is_shorter():
    labels = (smooth((36, 32, 28), noise=0) > -400).astype(np.uint8)[None]
    assert len(compress(Volume(labels, AFFINE), Mode("psnr", 60))) < 2150
    tiny = Volume(np.arange(60, dtype=np.int16).reshape(1, 3, 4, 5), AFFINE)
    assert compress(tiny, Mode("psnr", 40))[8] == 8
    constant = Volume(np.full((1, 18, 18, 18), 7, np.int16), AFFINE)
    assert np.array_equal(decompress(compress(constant, Mode("psnr", 40))).array, constant.array)


def test_chunks_channels_slabs_and_threads(waves, monkeypatch):
    monkeypatch.setattr(volumes, "_CHUNK_VOXELS", 2500)
    volume = scan((11, 10, 82), channels=2)
    data = compress(volume, Mode("psnr", 38))
    container = open_container(data, "it")
    assert [chunk["start"] for chunk in container.header["chunks"]] == [0, 32, 64, 0, 32, 64]
    whole = decompress(data).array
    assert decompress(data, coarser=5).shape == (3, 3, 41)
    assert np.array_equal(read_volume(container, slices=(20, 40)).array, whole[..., 20:40])
    monkeypatch.setattr(volumes, "encoders", lambda *_: 1)
    assert compress(volume, Mode("psnr", 38)) == data


def test_a_prefix_is_a_coarser_volume_that_looks_like_the_finer_one(waves):
    volume = scan((48, 44, 40))
    data = compress(volume, Mode("psnr", 56))
    whole = decompress(data)
    for coarser in (1, 2, 3, 5):
        thin = decompress(data, coarser=coarser)
        steps = np.rint(np.linalg.norm(thin.affine[:3, :3], axis=0) / volume.spacing).astype(int)
        assert steps.prod() == 2**coarser and np.allclose(thin.affine[:, 3], volume.affine[:, 3])
        there = whole.array[0][:: steps[0], :: steps[1], :: steps[2]].astype(float)
        assert thin.shape == there.shape and np.abs(thin.array[0] - there).mean() < 60
    sizes = [decompress(data[: int(len(data) * part)], "cut", None).array.size for part in (0.3, 0.6, 1.0)]
    assert sizes == sorted(sizes) and sizes[0] < sizes[-1] == volume.array.size
    with pytest.raises(BadInput, match="cut short"):
        decompress(data[:-1], "cut")


def test_a_file_that_carries_its_models_decodes_where_they_are_missing(waves, monkeypatch):
    data, plain = (compress(scan(), Mode("psnr", 40), with_model=carried) for carried in (True, False))
    expected = decompress(data)

    take_model_away(monkeypatch, "load_subband_model")
    with pytest.raises(BadModel):
        decompress(plain)
    take_model_away(monkeypatch, "load_codec_model")
    assert np.array_equal(decompress(data).array, expected.array)


@pytest.fixture(scope="module")
def whole() -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        code_by_waves_alone(patch)
        return compress(scan((20, 18, 16)), Mode("psnr", 45))


@settings(max_examples=40)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_forged_damage_ends_and_is_told_or_decodes_within_its_size(whole, place, change):
    check_forged_damage(whole, place, change, (20, 18, 16))


@pytest.mark.parametrize(
    "forged",
    [
        {"axes": []},
        {"axes": [[]]},
        {"axes": [[0, 0]]},
        {"axes": [[3]]},
        {"axes": [[1, 0]]},
        {"axes": [[2]] * 30},
        {"axes": [[0], [0], [0], [0], [0], [0]]},
        {"axes": "ij"},
        {"step": 0},
        {"step": 1 << 40},
        {"step": 2.5},
        {"base": [0, 0, 0]},
        {"base": [0, 0, 0, 9, 0]},
        {"base": [0, 0, 0, 9, 17]},
        {"base": [0, 0, 0, 9, 4, 4]},
        {"base": [0, 5, 4, 9]},
        {"base": [1 << 50, 0, 0, 0]},
        {"base": [0, 0, 0, 1 << 20]},
        {"parts": []},
        {"order": "front"},
        {"how": {"kind": "deflated"}},
    ],
)
def test_an_entry_that_makes_no_sense_is_told(whole, forged):
    container = open_container(whole, "it")
    header = {**container.header, "chunks": [{**container.header["chunks"][0], **forged}]}
    with pytest.raises(BadInput, match=r"broken.maez"):
        decompress(write_container(header, [bytes(container.payload)]), "broken.maez")


def test_a_file_that_names_no_model_for_its_wavelets_is_told(whole):
    container = open_container(whole, "it")
    header = {name: value for name, value in container.header.items() if name != "waves"}
    with pytest.raises(BadInput, match="names no model"):
        decompress(write_container(header, [bytes(container.payload)]), "broken.maez")


@settings(max_examples=30)
@given(shape=st.tuples(st.integers(1, 19), st.integers(1, 19)), seed=st.integers(0, 99))
def test_a_mask_comes_back(shape, seed):
    mask = np.random.default_rng(seed).random(shape) < 0.5
    assert np.array_equal(unpack_mask(pack_mask(mask), shape), mask)
    for damaged in (b"", b"no zlib", pack_mask(np.zeros((40, 40), bool))):
        with pytest.raises(BadInput, match="mask"):
            unpack_mask(damaged, shape)


def test_a_filled_rim_of_the_field_of_view_costs_little_and_comes_back_exactly(waves):
    places = np.meshgrid(*[np.linspace(-1, 1, 36)] * 2, indexing="ij")
    outside = places[0] ** 2 + places[1] ** 2 > 0.9
    voxels = np.rint(smooth((36, 36, 16), noise=2)).astype(np.int16)
    plain = Volume(voxels[None], AFFINE)
    filled = Volume(np.where(outside[:, :, None], -3024, voxels)[None], AFFINE)
    bound = 30 + 20 * np.log10(span(filled) / span(plain))  # the same errors, in decibels of the wider range
    data = compress(filled, Mode("psnr", bound))
    assert len(data) < 1.2 * len(compress(plain, Mode("psnr", 30))) + 150
    assert (decompress(data).array[0][outside] == -3024).all()
    thin = decompress(data, coarser=2)
    assert (thin.array[0][outside[::2, ::2]] == -3024).all()


@pytest.mark.parametrize(
    "text", [b"not deflated", zlib.compress(b"[1]"), zlib.compress(b" " * (1 << 25)), zlib.compress(b"{}")[:-2]]
)
def test_a_header_that_does_not_inflate_to_one_is_told(whole, text):
    forged = whole[:12] + struct.pack("<I", len(text)) + hashlib.sha256(text).digest() + text
    with pytest.raises(BadInput, match="header is not one"):
        open_container(forged, "it")
