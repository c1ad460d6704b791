"""Files of version 5: what all headers share stands in a dictionary, and small low bands take few bytes."""

import hashlib
import json
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
from codec_tools import code_by_waves_alone, squares

from MedAELib.codec.container import MAGIC, open_container, write_container
from MedAELib.codec.header_words import COMMON
from MedAELib.codec.model_file import load_codec_model
from MedAELib.codec.predictive import ChunkDecoder, Grid, encode_chunk
from MedAELib.codec.reader import decompress
from MedAELib.codec.volumes import Mode, compress
from MedAELib.errors import BadInput

SPECIFICATION = Path(__file__).parents[1] / "docs" / "maez.md"


@pytest.fixture(scope="module")
def whole() -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        code_by_waves_alone(patch)
        return compress(squares((24, 22, 20)), Mode("psnr", 32))


def test_the_dictionary_is_the_one_of_the_specification_and_never_changes():
    chapter = SPECIFICATION.read_text(encoding="utf-8").split("## 10.")[1]
    block = re.findall("```\n(.*?)```", chapter, re.DOTALL)[0]
    assert block.replace("\n", "").encode("ascii") == COMMON
    assert hashlib.sha256(COMMON).hexdigest() == "3ad0c07223386ba3d2674d85f69faa8fa7bda5b3e4eef41095b88d0870633a93"


def test_a_header_is_inflated_as_the_specification_says(whole):
    size = int.from_bytes(whole[12:16], "little")
    inflated = zlib.decompressobj(-15, COMMON).decompress(whole[48 : 48 + size])
    assert whole[8] == 5 and json.loads(inflated) == open_container(whole, "it").header
    assert size < len(zlib.compress(inflated, 9)) - 300


def test_a_header_of_another_version_is_told(whole):
    for version in (1, 2, 3, 4, 6):
        forged = whole[: len(MAGIC)] + bytes([version]) + whole[len(MAGIC) + 1 :]
        with pytest.raises(BadInput, match="damaged"):
            open_container(forged, "it")
    header = dict(open_container(whole, "it").header)
    header["chunks"] = [{**chunk, "base": chunk["base"][:4]} for chunk in header["chunks"]]
    earlier = write_container(header, [bytes(open_container(whole, "it").payload)])
    assert earlier[8] == 4
    with pytest.raises(BadInput):  # the low band of that version lies in several parts
        decompress(earlier, "it")


@pytest.mark.parametrize("shape", [(1, 1, 1), (4, 4, 4), (7, 8, 9), (3, 1, 20)])
def test_a_low_band_in_one_part_comes_back_and_is_smaller(shape):
    values = np.random.default_rng(3).integers(0, 20, shape)
    sizes = []
    for bits in (5, 0):
        grid = Grid(shape, (700, 700, 2000), 0, 19, 19, base_bits=bits)
        parts, _ = encode_chunk(values, grid, load_codec_model().context)
        decoder = ChunkDecoder(grid, load_codec_model().context)
        for number, part in enumerate(parts):
            decoder.decode_part(part, number)
        assert len(parts) == len(grid.parts()) and np.array_equal(decoder.voxels, values)
        sizes.append(sum(map(len, parts)))
    assert len(parts) >= 1 and sizes[0] < sizes[1]
