"""Cut, changed or forged .maez files: one plain sentence each, never wrong voxels, never more memory than declared."""

import hashlib
import json
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from codec_tools import check_forged_damage, scan
from hypothesis import given, settings
from hypothesis import strategies as st

from MedAELib.codec import chunk_threads, reader
from MedAELib.codec.container import MAGIC, open_container, write_container
from MedAELib.codec.reader import decompress
from MedAELib.codec.volumes import compress
from MedAELib.errors import BadInput, BadModel, MedAEError, OutOfMemory

VOLUME = scan((12, 11, 10))


@pytest.fixture(scope="module")
def whole() -> bytes:
    return compress(VOLUME)


def right_or_told(data: bytes) -> None:
    """Either the very voxels come back or one sentence that names the file."""
    try:
        again = decompress(data, "broken.maez")
    except MedAEError as error:
        assert "broken.maez" in str(error) and "\n" not in str(error)
    else:
        assert np.array_equal(again.array, VOLUME.array)


@settings(max_examples=150)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_changed_byte_is_told(whole, place, change):
    data = bytearray(whole)
    data[int(place * len(data))] ^= change
    with pytest.raises(MedAEError, match=r"broken\.maez"):
        decompress(bytes(data), "broken.maez")


@pytest.mark.parametrize("change", range(1, 16))
def test_another_version_is_told(whole, change):
    data = bytearray(whole)
    data[8] ^= change
    with pytest.raises(MedAEError, match=r"broken\.maez"):
        decompress(bytes(data), "broken.maez")


@settings(max_examples=100)
@given(size=st.floats(0, 1, exclude_max=True))
def test_a_cut_file_is_told(whole, size):
    with pytest.raises(BadInput, match=r"broken\.maez"):
        decompress(whole[: int(size * len(whole))], "broken.maez")


@settings(max_examples=100)
@given(data=st.binary(max_size=300), tail=st.booleans())
def test_anything_else_is_told(data, tail):
    with pytest.raises(BadInput, match=r"broken\.maez"):
        decompress(MAGIC + data if tail else data, "broken.maez")


def forged(whole: bytes, change, payload=None) -> bytes:
    """The file with another header (and payload) that carries the right hashes: what only a forger would write."""
    container = open_container(whole, "it")
    header = json.loads(json.dumps({**container.header}))  # all of it, as version 1 stores it
    del header["format"]
    payload = bytes(container.payload) if payload is None else payload
    change(header)
    header["payload_sha256"] = hashlib.sha256(payload).hexdigest()
    text = json.dumps(header).encode()
    return struct.pack("<8sHHI32s", MAGIC, 1, 0, len(text), hashlib.sha256(text).digest()) + text + payload


def test_a_faithful_forgery_is_the_file(whole):
    assert np.array_equal(decompress(forged(whole, lambda header: None)).array, VOLUME.array)


@settings(max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_forged_payload_ends_and_is_told_or_decodes_within_its_size(whole, place, change):
    check_forged_damage(whole, place, change, VOLUME.shape, BadInput)


CHANGES = {
    "huge": lambda h: h["volume"].update(shape=[1, 60000, 60000, 60000]),
    "negative": lambda h: h["volume"].update(shape=[1, -12, 11, 10]),
    "other shape": lambda h: h["volume"].update(shape=[1, 12, 11, 9]),
    "no number": lambda h: h["volume"].update(shape=[1, "12", 11, 10]),
    "type": lambda h: h["volume"].update(dtype="object"),
    "flat affine": lambda h: h["volume"].update(affine=[[0.0] * 4] * 4),
    "short affine": lambda h: h["volume"].update(affine=[[1.0]]),
    "no chunks": lambda h: h.update(chunks=[]),
    "twice": lambda h: h.update(chunks=h["chunks"] * 2),
    "outside": lambda h: h["chunks"][0]["parts"][1].__setitem__(1, 10**9),
    "before": lambda h: h["chunks"][0]["parts"][1].__setitem__(0, -5),
    "fewer parts": lambda h: h["chunks"][0]["parts"].pop(),
    "largest": lambda h: h["chunks"][0].update(largest=10**6),
    "step": lambda h: h["chunks"][0].update(step=0),
    "how": lambda h: h["chunks"][0].update(how={"kind": "table", "size": 5}),
    "how is a list": lambda h: h["chunks"][0].update(how=[1]),
    "spacing": lambda h: h.update(spacing_um=[0, 1, 1]),
    "nothing": lambda h: h.clear(),
    "deep": lambda h: h.update(mode=None),
    "coder": lambda h: h.update(coder="future"),
    "overflowing affine": lambda h: h["volume"]["affine"][2].__setitem__(2, 1e308),
    "overflowing spacing": lambda h: h["volume"]["affine"][1].__setitem__(0, 1e200),
    "meta": lambda h: h["volume"].update(meta={"frames": [[[]]], "header": 5}),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_forged_header_is_told(whole, change):
    try:
        again = decompress(forged(whole, change), "broken.maez")
    except (BadInput, OutOfMemory) as error:
        assert "broken.maez" in str(error) and "\n" not in str(error)
    else:
        assert np.array_equal(again.array, VOLUME.array)


@pytest.mark.parametrize("spacing", [[700, None, 900], [700, 0, 900], [700, 900], None, [700, "900", 900], 5])
def test_a_packed_file_without_a_spacing_is_told_where_it_is_needed(spacing):
    data = (Path(__file__).parent / "fixtures" / "v8-packed.maez").read_bytes()
    container = open_container(data, "it")
    broken = write_container({**container.header, "spacing_um": spacing}, [bytes(container.payload)])
    assert decompress(broken).array.tobytes() == decompress(data).array.tobytes()
    with pytest.raises(BadInput, match=r"^broken\.maez is damaged: it does not tell the spacing of its voxels"):
        decompress(broken, "broken.maez", coarser=1)


def test_a_missing_model_is_named_with_its_hash(whole):
    def other(header):
        header["model"] = {"name": "future-codec", "sha256": "ab" * 32}

    with pytest.raises(BadModel, match=r"broken\.maez .*future-codec \(SHA-256 abababababababab"):
        decompress(forged(whole, other), "broken.maez")


def test_a_later_version_is_told(whole):
    data = bytearray(whole)
    data[len(MAGIC)] = 9
    with pytest.raises(BadInput, match="version 9"):
        open_container(bytes(data), "broken.maez")


@pytest.mark.slow
@settings(max_examples=1000)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_thousand_broken_files(whole, seed):
    """Runs of random bytes, pieces moved and repeated."""
    generator = np.random.default_rng(seed)
    data = bytearray(whole)
    for _ in range(generator.integers(1, 4)):
        start, size = (int(n) for n in generator.integers(0, len(data), 2))
        other = int(generator.integers(0, len(data)))
        piece = [generator.bytes(min(size, 60)), bytes(data[other : other + size]), b"", bytes(size)]
        data[start : start + size] = piece[generator.integers(0, 4)]
    right_or_told(bytes(data))


@pytest.mark.parametrize(("chunks", "most"), [(1, 1), (2.5, 2)])
def test_no_more_chunks_are_decoded_at_once_than_fit_the_memory(monkeypatch, chunks, most):
    data = (Path(__file__).parent / "fixtures" / "v3-chunks.maez").read_bytes()
    expected = decompress(data)
    entries = reader.chunk_entries(open_container(data, "scan.maez"))
    largest = max(entry.grid.shape[0] * entry.grid.shape[1] * entry.grid.shape[2] for entry in entries)
    free, running, seen, lock = expected.array.nbytes + int(chunks * 70 * largest), [], [], threading.Lock()
    decode = reader.decode_chunk

    def counted(*arguments):
        with lock:
            running.append(1)
            seen.append(len(running))
        time.sleep(0.01)
        try:
            return decode(*arguments)
        finally:
            with lock:
                running.pop()

    monkeypatch.setattr(reader, "decode_chunk", counted)
    monkeypatch.setattr(reader, "free_system_memory", lambda: free)
    monkeypatch.setattr(chunk_threads, "processors", lambda: 8)
    assert np.array_equal(decompress(data).array, expected.array)
    assert len(entries) > most and max(seen) == most


@pytest.mark.parametrize("whole_volume", [True, False])
def test_very_many_chunks_and_channels_are_looked_at_once(whole, whole_volume):
    """A forger's header; the processor is free again soon."""

    def many(header):
        header["volume"]["shape"] = [4096, 12, 11, 20 if whole_volume else 21]
        same = {"how": {"kind": "deflated"}, "low": 0, "high": 0, "largest": 0, "step": 1, "parts": [[0, 0, 0]]}
        header["chunks"] = [
            {"channel": channel, "start": start, "stop": start + 1, **same, "extra": [0, 0, 0]}
            for channel in range(4096)
            for start in range(20)
        ]

    container = open_container(forged(whole, many), "broken.maez")
    began = time.process_time()
    if whole_volume:
        assert len(reader.chunk_entries(container)) == 20 * 4096
    else:
        with pytest.raises(BadInput, match=r"broken\.maez is damaged"):
            reader.chunk_entries(container)
    assert time.process_time() - began < 15  # seconds
