"""Headers since version 6: what they leave out comes back, forged ones are told, the words are the specification's."""

import hashlib
import json
import re
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from codec_tools import AFFINE, scan
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from MedAELib import Volume
from MedAELib.codec.affine_bytes import NORMALISED, pack_normalised, unpack_normalised
from MedAELib.codec.container import MAGIC, VERSION, open_container
from MedAELib.codec.header_words import COMMON, SHORT
from MedAELib.codec.reader import decompress
from MedAELib.codec.volumes import Mode, compress
from MedAELib.errors import BadInput, OutOfMemory

SPECIFICATION = Path(__file__).parents[1] / "docs" / "maez.md"
VOLUME = scan((12, 11, 10))
TURNED = np.array([[0.56, -0.66, 0, 7.3], [0.42, 0.88, 0, -21.7], [0, 0, 3.3, 44.1], [0, 0, 0, 1]])


@pytest.fixture(scope="module")
def whole() -> bytes:
    return compress(VOLUME)


def stored(whole: bytes) -> dict:
    size = int.from_bytes(whole[12:16], "little")
    return json.loads(zlib.decompressobj(-15, SHORT).decompress(whole[32 : 32 + size]))


def forged(whole: bytes, header: object, more: bytes = b"", version: int = VERSION) -> bytes:
    """The file with another header, and bytes after it, that carries the right hashes of a version."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15, 8, 0, SHORT)
    text = packer.compress(json.dumps(header, separators=(",", ":")).encode()) + packer.flush() + more
    payload = bytes(open_container(whole, "it").payload)
    prelude = whole[:8] + bytes([version]) + whole[9:12] + len(text).to_bytes(4, "little")
    hashes = (hashlib.sha256(part).digest()[:8] for part in (prelude * (version >= 8) + text, payload))
    return prelude + b"".join(hashes) + text + payload


def test_the_words_are_those_of_the_specification_and_never_change():
    chapter = SPECIFICATION.read_text(encoding="utf-8").split("## 11.")[1]
    blocks = re.findall("```\n(.*?)```", chapter, re.DOTALL)
    assert COMMON + blocks[-1].replace("\n", "").encode("ascii") == SHORT
    assert hashlib.sha256(SHORT).hexdigest() == "63efc717541650e1ba4ed9ff67eb9d23a45f3e62adf23aa7ac00139d7e5ec7d4"


def test_files_without_wavelets_are_short(whole):
    assert whole[8] == VERSION == 8
    for mode in (Mode("max-error", 2), Mode("psnr", 70)):
        assert compress(VOLUME, mode)[8] == 8
    short = stored(whole)
    assert not {"coder", "mode", "model", "writer", "spacing_um", "payload_sha256"} & set(short)
    assert "start" not in short["chunks"][0] and "meta" in short["volume"]
    assert forged(whole, short) == whole


@settings(max_examples=60)
@given(
    shape=st.tuples(*[st.integers(1, 6)] * 4),
    name=st.text(max_size=8).filter(lambda text: text.isprintable()),
    modality=st.sampled_from(["", "CT", "MR"]),
    numbers=st.lists(st.one_of(st.integers(-3, 3), st.floats(-300, 300)), min_size=12, max_size=12),
    header=st.dictionaries(st.sampled_from(["nifti_type", "dim[1]", "srow_x", "bitpix", "odd"]), st.text()),
)
def test_all_that_a_header_says_comes_back(shape, name, modality, numbers, header):
    affine = np.vstack([np.array(numbers, np.float64).reshape(3, 4), [0, 0, 0, 1]])
    if abs(np.linalg.det(affine)) < 1e-6:
        affine = AFFINE
    meta = {"name": name, "modality": modality, "header": header}
    volume = Volume(np.arange(np.prod(shape), dtype=np.int16).reshape(shape), affine, meta)
    again = decompress(compress(volume))
    assert np.array_equal(again.affine, volume.affine) and again.meta == volume.meta
    assert np.array_equal(again.array, volume.array)


def test_an_affine_with_a_last_row_of_its_own_is_kept():
    affine = AFFINE.copy()
    affine[3, 0] = 0.25
    data = compress(Volume(VOLUME.array, affine))
    assert data[8] in (1, 2) and np.array_equal(decompress(data).affine, affine)


CHANGES = {
    "no volume": lambda h: h.pop("volume"),
    "a list": lambda h: h.update(volume=[1]),
    "no affine": lambda h: h["volume"].pop("affine"),
    "short affine": lambda h: h["volume"].update(affine=[1.0] * 11),
    "huge affine": lambda h: h["volume"].update(affine=[1e308] * 12),
    "no numbers": lambda h: h["volume"].update(affine=["a"] * 12),
    "no shape": lambda h: h["volume"].update(shape=[]),
    "shape of texts": lambda h: h["volume"].update(shape=["1", "12", "11", "10"]),
    "meta": lambda h: h["volume"].update(meta=[3]),
    "nifti": lambda h: h["volume"].update(meta={"nifti": 3}),
    "frames": lambda h: h["volume"].update(meta={"nifti": {}, "frames": True, "frame_spacing": []}),
    "chunks": lambda h: h.update(chunks={"a": 1}),
    "no chunks": lambda h: h.pop("chunks"),
    "chunk": lambda h: h.update(chunks=[5]),
    "channel": lambda h: h["chunks"][0].update(channel="0"),
    "stop": lambda h: h["chunks"][0].update(stop=[]),
    "twice": lambda h: h.update(chunks=h["chunks"] * 2),
    "no parts": lambda h: h["chunks"][0].update(parts=[]),
    "packed": lambda h: h.update(coder="packed"),
    "packed alone": lambda h: (h.update(coder="packed"), h.pop("chunks")),
    "planes": lambda h: (h.update(coder="packed", planes=True), h.pop("chunks")),
    "huge": lambda h: (h.update(coder="packed"), h.pop("chunks"), h["volume"].update(shape=[4096, 65536, 65536, 9])),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES.keys())
def test_a_forged_header_is_told(whole, change):
    header = stored(whole)
    change(header)
    with pytest.raises((BadInput, OutOfMemory), match=r"broken\.maez") as fault:
        decompress(forged(whole, header), "broken.maez")
    assert "\n" not in str(fault.value)


ENDLESS = struct.pack("<9f", *[1e38] * 9) + bytes(15)


@pytest.mark.parametrize("more", [b"", b"1", b"\xff" * 84, b"\0" * 96, bytes(97), bytes(51), b"\xff" * 51, ENDLESS])
def test_a_forged_affine_is_told(whole, more):
    header = stored(whole)
    del header["volume"]["affine"]
    with pytest.raises(BadInput, match=r"broken\.maez is damaged"):
        decompress(forged(whole, header, more), "broken.maez")
    with pytest.raises(BadInput, match=r"broken\.maez is damaged"):
        decompress(forged(whole, stored(whole), b"1"), "broken.maez")


@settings(max_examples=60)
@given(
    numbers=st.lists(st.floats(-2, 2, width=32), min_size=9, max_size=9),
    place=st.lists(st.floats(-500, 500, width=32), min_size=3, max_size=3),
    apart=st.lists(st.integers(-3, 3), min_size=3, max_size=3),
)
def test_an_affine_as_a_nifti_file_holds_it_takes_51_bytes(numbers, place, apart):
    x, y, z = columns = np.reshape(numbers, (3, 3))
    lengths = np.sqrt(x * x + y * y + z * z)
    assume(lengths.min() > 1e-3)
    spacings = (np.float32(lengths).view(np.int32) + np.int32(apart)).view(np.float32).astype(np.float64)
    affine = np.column_stack([columns / lengths * spacings, place]).ravel().tolist()
    packed = pack_normalised(affine)
    assert len(packed) == NORMALISED and unpack_normalised(packed) == affine


@pytest.mark.parametrize("shape", [(3, 4, 5), (24, 20, 18)])
def test_the_signs_of_zeros_come_back(shape):
    affine = np.array([[-0.0, 2, 0, -0.0], [3, -0.0, 0, 1], [0, 0, -4, -0.0], [0, 0, 0, 1]])
    for array in (scan(shape).array, np.full((1, *shape), 7, np.int16)):
        assert decompress(compress(Volume(array, affine))).affine.tobytes() == affine.tobytes()


@pytest.mark.parametrize("kind", [".nii", ".nii.gz"])
def test_a_turned_volume_of_a_nifti_file_has_a_short_header(tmp_path, kind):
    Volume(VOLUME.array, TURNED).save(tmp_path / f"turned{kind}")
    read = Volume.load(tmp_path / f"turned{kind}")
    data = compress(read)
    assert "affine" not in stored(data)["volume"] and np.array_equal(decompress(data).affine, read.affine)
    beside = read.affine.copy()
    beside[0, 1] = np.nextafter(beside[0, 1], 1)  # no longer one of such a file
    more = compress(Volume(read.array, beside, read.meta))
    assert np.array_equal(decompress(more).affine, beside) and len(more) > len(data) + 20


def test_the_short_form_of_an_affine_in_version_6_is_told():
    whole = compress(Volume(VOLUME.array, np.array([[0, -3, 0, 7], [4, 0, 0, 8], [0, 0, 2, 9], [0, 0, 0, 1]])))
    header = stored(whole)
    del header["volume"]["affine"]
    affine = struct.pack("<9f3b3f", 0, -3, 0, 4, 0, 0, 0, 0, 2, 0, 0, 0, 7, 8, 9)
    for version in (7, 8):
        data = forged(whole, header, affine, version)
        assert np.array_equal(decompress(data).affine[:3], [[0, -3, 0, 7], [4, 0, 0, 8], [0, 0, 2, 9]])
    with pytest.raises(BadInput, match="damaged"):
        decompress(forged(whole, header, affine, 6))


def test_an_entry_of_the_form_in_an_earlier_version_is_told(whole):
    text = json.dumps({**open_container(whole, "it").header, "payload_sha256": ""}).encode()
    head = MAGIC + b"\1\0\0\0" + len(text).to_bytes(4, "little") + hashlib.sha256(text).digest()
    with pytest.raises(BadInput, match="its version"):
        decompress(head + text, "it")


@settings(max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), change=st.integers(1, 255))
def test_a_changed_byte_of_packed_voxels_is_told(place, change):
    voxels = np.frombuffer(np.random.default_rng(0).bytes(600), np.int16).reshape(1, 10, 6, 5)
    data = bytearray(compress(Volume(voxels, AFFINE)))
    data[int(place * len(data))] ^= change
    with pytest.raises(BadInput, match=r"broken\.maez"):
        decompress(bytes(data), "broken.maez")
