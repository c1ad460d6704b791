"""What quantisation took from a low band is restored alike everywhere, and only where that is worth its bytes."""

import hashlib

import numpy as np
import pytest
from codec_tools import AFFINE, check_forged_damage, code_by_waves_alone, numbers, squares, take_model_away
from hypothesis import given, settings
from hypothesis import strategies as st

from MedAELib import Volume
from MedAELib.codec import restoration
from MedAELib.codec.container import open_container
from MedAELib.codec.model_file import load_codec_model, load_restoration_model, load_subband_model
from MedAELib.codec.reader import decompress
from MedAELib.codec.restoration import BY_MODEL, NOT_RESTORED, RESTORATION_INPUTS, pack_layer, unpack_layer
from MedAELib.codec.restoration_fit import restore_level
from MedAELib.codec.subband_decoder import WaveDecoder
from MedAELib.codec.subband_encoder import encode_waves
from MedAELib.codec.subband_levels import WaveGrid
from MedAELib.codec.volumes import Mode, compress
from MedAELib.codec.wavelet import choose_axes
from MedAELib.errors import BadInput, BadModel
from MedAELib.quality import psnr

SPACING = (700, 700, 2000)
MODEL = load_restoration_model().restoration


@pytest.fixture
def waves(monkeypatch):
    """Small volumes are coded by wavelets too, and by nothing else."""
    code_by_waves_alone(monkeypatch)


def grid_of(values: np.ndarray, step: int) -> WaveGrid:
    axes = tuple(choose_axes(values.shape, SPACING)) or ((0,),)
    return WaveGrid(values.shape, SPACING, axes, step, int(values.max()))


def coded(values: np.ndarray, step: int, restored: bool = True):
    def restore(cascade, bands, truth):
        return restore_level(cascade, bands, truth, MODEL)

    model, lattice = load_subband_model().subband, load_codec_model().context
    return encode_waves(values, grid_of(values, step), model, lattice, restore if restored else None)


@settings(max_examples=12)
@given(
    shape=st.tuples(st.integers(4, 16), st.integers(1, 20), st.integers(1, 24)),
    step=st.sampled_from([64, 700, 20_000, 4_000_000]),
    content=st.sampled_from(["noise", "constant", "extremes", "edges"]),
    seed=st.integers(0, 99),
)
def test_every_restored_chunk_decodes_to_what_the_encoder_saw(shape, step, content, seed):
    values = numbers(content, shape, seed)
    try:
        made = coded(values, step)
    except BadInput as error:
        assert "too small" in str(error) and step < 700
        return
    decoder = WaveDecoder(
        grid_of(values, step),
        made.low,
        load_subband_model().subband,
        load_codec_model().context,
        MODEL if made.restored else None,
    )
    for number, part in enumerate(made.parts):
        decoder.decode_part(part, number)
    assert np.array_equal(decoder.voxels(), made.decoded)
    assert made.decoded.min() >= 0 and made.decoded.max() <= values.max()


def test_what_rings_is_restored_at_no_more_bytes():
    values = squares().array[0].astype(np.int64)
    plain, made = coded(values, 9000, restored=False), coded(values, 9000)
    assert made.restored and not plain.restored
    assert psnr(values, made.decoded, 1000) > psnr(values, plain.decoded, 1000) + 0.3
    assert sum(map(len, made.parts)) < sum(map(len, plain.parts)) + 60 * len(grid_of(values, 9000).levels)


def test_the_inputs_are_whole_and_blocks_do_not_change_the_result(monkeypatch):
    values, found = squares().array[0].astype(np.int64), []

    def look(cascade, bands, truth):
        around = cascade.around(bands)
        made = around.inputs(around.voxels)
        assert made.shape == (RESTORATION_INPUTS, len(around.voxels))
        assert np.array_equal(made, np.rint(made)) and np.abs(made).max() <= 127
        whole = around.restored(MODEL, MODEL.layer)
        assert np.array_equal(whole, np.rint(whole)) and whole.shape == truth.shape
        monkeypatch.setattr(restoration, "_TILES", 3)
        found.append(np.array_equal(whole, around.restored(MODEL, MODEL.layer)))
        monkeypatch.undo()
        return NOT_RESTORED

    encode_waves(values, grid_of(values, 5000), load_subband_model().subband, load_codec_model().context, look)
    assert found and all(found)


def test_a_constant_needs_no_restoration():
    made = coded(np.full((16, 16, 16), 7), 640)
    assert not made.restored


def test_a_layer_comes_back_and_a_damaged_one_is_refused():
    layer = MODEL.layer + 3
    assert np.array_equal(unpack_layer(pack_layer(layer), MODEL), layer)
    assert unpack_layer(NOT_RESTORED, MODEL) is None
    assert np.array_equal(unpack_layer(BY_MODEL, MODEL), MODEL.layer)
    for bad in (b"", b"\3", b"\1\0", b"\2\0\0", pack_layer(np.full_like(layer, 32767))):
        with pytest.raises(BadInput, match="damaged"):
            unpack_layer(bad, MODEL)


@pytest.mark.slow
@pytest.mark.usefixtures("waves")
def test_only_files_that_need_it_name_the_restoration():
    data = compress(squares(), Mode("psnr", 30))
    header = open_container(data, "squares").header
    assert data[8] == 5 and header["restoration"]["sha256"] == load_restoration_model().sha256
    assert header["chunks"][0]["restored"] is True
    assert psnr(squares().array, decompress(data).array, 1000.0) >= 30
    flat = Volume(np.full((1, 20, 20, 20), 9, np.int16), AFFINE)
    assert "restoration" not in open_container(compress(flat, Mode("ratio", 2)), "flat").header


@pytest.mark.slow
@pytest.mark.usefixtures("waves")
def test_a_file_asks_for_the_model_by_name_unless_it_holds_it(monkeypatch):
    volume = squares((28, 26, 24))
    plain, whole = (compress(volume, Mode("psnr", 30), with_model=some) for some in (False, True))
    expected = hashlib.sha256(decompress(plain).array.tobytes()).hexdigest()

    take_model_away(monkeypatch, "load_restoration_model")
    with pytest.raises(BadModel):
        decompress(plain)
    assert hashlib.sha256(decompress(whole).array.tobytes()).hexdigest() == expected


@pytest.mark.usefixtures("waves")
def test_a_coarser_volume_is_restored_too():
    data = compress(squares((32, 32, 32)), Mode("psnr", 32))
    assert decompress(data, "squares", 2).array.size < 32**3 / 2


@pytest.fixture(scope="module")
def whole() -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        code_by_waves_alone(patch)
        return compress(squares((20, 18, 16)), Mode("psnr", 30))


@settings(max_examples=30)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_forged_damage_ends_with_one_sentence(whole, place, change):
    check_forged_damage(whole, place, change, (20, 18, 16))
