"""Threads that help to decode: the same voxels whatever their number, and a cancel that does not wait for the chunk."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import pytest
from codec_tools import code_by_waves_alone, scan, squares

from MedAELib import Volume
from MedAELib.codec import chunk_threads, reader, residuals, subband_network, volumes
from MedAELib.codec.model_file import load_codec_model, load_restoration_model, load_subband_model
from MedAELib.codec.reader import decompress
from MedAELib.codec.restoration_fit import restore_level
from MedAELib.codec.subband_encoder import encode_waves
from MedAELib.codec.subband_levels import WaveGrid
from MedAELib.codec.volumes import Mode, compress
from MedAELib.codec.wavelet import choose_axes
from MedAELib.errors import Cancelled, OutOfMemory
from MedAELib.threads import ALONE, Helpers


@pytest.fixture(scope="module")
def noisy() -> Volume:
    """Enough of everything for several pieces of each kind."""
    edges = squares((72, 64, 40))
    noise = np.random.default_rng(0).normal(0, 30, edges.array.shape)
    return Volume(np.rint(edges.array + noise).astype(np.int16), edges.affine, {"name": "noisy"})


@pytest.fixture(scope="module")
def data(noisy) -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        code_by_waves_alone(patch)
        return compress(noisy, Mode("psnr", 38))


def test_voxels_are_the_same_by_any_number_of_threads(data, monkeypatch):
    asked, each = [], Helpers.each

    def watched(self, work, items):
        asked.append((self.count, len(items)))
        return each(self, work, items)

    monkeypatch.setattr(Helpers, "each", watched)
    found = {}
    for count in (1, 2, 4, 7):
        monkeypatch.setattr(chunk_threads, "processors", lambda count=count: count)
        found[count] = decompress(data).array
        assert max(pieces for helpers, pieces in asked if helpers == count) >= count
    assert all(np.array_equal(found[1], other) for other in found.values())


def test_bytes_are_the_same_by_any_number_of_threads(noisy):
    values, spacing = noisy.array[0].astype(np.int64) + 200, (1000, 1000, 2000)
    grid = WaveGrid(values.shape, spacing, tuple(choose_axes(values.shape, spacing)), 3000, int(values.max()))
    models = load_subband_model().subband, load_codec_model().context
    found = []
    with ThreadPoolExecutor(3) as pool:
        for helpers in (ALONE, Helpers(pool, 3)):
            restore = partial(restore_level, model=load_restoration_model().restoration, helpers=helpers)
            found.append(encode_waves(values.clip(0), grid, *models, restore, helpers=helpers).parts)
    assert found[0] == found[1]


@pytest.mark.parametrize("mode", [Mode(), Mode("psnr", 40)], ids=lambda mode: mode.kind)
def test_no_more_chunks_are_encoded_at_once_than_fit_the_memory_and_the_file_is_the_same(monkeypatch, mode):
    code_by_waves_alone(monkeypatch)
    monkeypatch.setattr(volumes, "_CHUNK_VOXELS", 16 * 16 * 32)
    monkeypatch.setattr(chunk_threads, "processors", lambda: 8)
    volume = Volume(scan((16, 16, 96)).array, np.eye(4), {})
    encode, running, seen, lock = volumes._encode, [], [], threading.Lock()

    def counted(voxels, *arguments):
        with lock:
            running.append(1)
            seen.append(len(running))
        time.sleep(0.02)
        try:
            return encode(voxels, *arguments)
        finally:
            with lock:
                running.pop()

    monkeypatch.setattr(volumes, "_encode", counted)
    each, files = 16 * 16 * 32 * (140 if mode.kind == "psnr" else 120), set()
    for room, most in ((2.5, 2), (0, 1)):
        seen.clear()
        free = int(volume.array.size * 16 + room * each)
        monkeypatch.setattr(chunk_threads, "free_system_memory", lambda free=free: free)
        files.add(compress(volume, mode))
        assert max(seen) == most
    assert len(files) == 1


@pytest.mark.parametrize("mode", [Mode(), Mode("max-error", 2), Mode("psnr", 40), Mode("ratio", 8)])
def test_a_volume_that_could_not_be_decoded_is_refused_before_it_is_encoded(monkeypatch, mode):
    volume, stages = scan((40, 36, 20), "float32"), []
    monkeypatch.setattr(reader, "free_system_memory", lambda: 50 * volume.array.size)
    with pytest.raises(OutOfMemory, match=r"^ball needs 3 MB of memory, more than is free"):
        compress(volume, mode, lambda stage, done, total: stages.append(stage))
    assert not {"Compressing", "Decoding", "Tuning the model"} & set(stages)


def test_wide_voxels_take_more_memory():
    free, slabs = 10 * 140 * 2000, [(0, 2 * n, 2 * n + 2) for n in range(8)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(chunk_threads, "free_system_memory", lambda: free)
        patch.setattr(chunk_threads, "processors", lambda: 8)
        arrays = [np.zeros((1, 25, 40, 16), dtype) for dtype in ("int16", "float32", "float64")]
        counts = [chunk_threads.encoders(array, slabs, False) for array in arrays]
    assert counts == sorted(counts, reverse=True) and counts[0] > counts[2] >= 1
    whole, each = reader._memory((1, 25, 40, 16), np.dtype("float64"), 2)
    assert whole == 8 * 16_000 and each >= 109 * 2000  # measured


def slowly(work, begun):
    """The same, half a second slower, and noted when it begins."""

    def slow(*arguments):
        begun.append(time.monotonic())
        time.sleep(0.5)
        return work(*arguments)

    return slow


@pytest.mark.parametrize("processors", [1, 2])
@pytest.mark.parametrize("mode", ["waves", "front"])
def test_a_cancel_does_not_wait_for_the_end_of_a_chunk(noisy, data, mode, processors, monkeypatch):
    coded = data if mode == "waves" else compress(noisy.slab(2, 0, 4))
    begun, stopped = [], []
    monkeypatch.setattr(subband_network, "evaluate", slowly(subband_network.evaluate, begun))
    monkeypatch.setattr(residuals, "decode", slowly(residuals.decode, begun))
    monkeypatch.setattr(chunk_threads, "processors", lambda: processors)

    def stop(*_):
        if begun:
            stopped.append(time.monotonic())
            raise Cancelled

    with pytest.raises(Cancelled):
        decompress(coded, progress=stop)
    assert time.monotonic() - stopped[0] < 5  # seconds, on a busy computer; to the end it would be a minute
    assert len([when for when in begun if when > stopped[0]]) <= 3


@pytest.mark.parametrize("size", [0, 1, 63, 64, 65, 1000])
@pytest.mark.parametrize("count", [1, 3, 7])
def test_pieces_are_cut_without_a_gap(size, count):
    pieces = Helpers(None, count).pieces(size, 16, 128)
    assert [place for piece in pieces for place in range(size)[piece]] == list(range(size))
    assert all(16 <= piece.stop - piece.start <= 128 for piece in pieces[:-1])


def test_helpers_tell_what_fails_and_alone_there_are_none():
    with ThreadPoolExecutor(2) as pool:
        assert Helpers(pool, 2).each(str, [1, 2, 3]) == ALONE.each(str, [1, 2, 3]) == ["1", "2", "3"]
        with pytest.raises(ZeroDivisionError):
            Helpers(pool, 2).each(lambda n: 1 // n, [1, 0])
