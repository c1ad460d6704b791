"""Files of version 1 of the format open for ever, to the very same bits."""

import hashlib
import json
from pathlib import Path

import pytest
from codec_tools import AFFINE

from MedAELib.codec.container import read_container
from MedAELib.codec.model_file import BUNDLED, load_codec_model
from MedAELib.codec.reader import read_volume

FOLDER = Path(__file__).parent / "fixtures"
EXPECTED = json.loads((FOLDER / "v1.json").read_text())


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_of_version_1_opens_to_the_same_bits(name):
    container = read_container(FOLDER / name)
    container.check_whole()
    volume = read_volume(container)
    assert volume.array.dtype.name == EXPECTED[name]["dtype"] and list(volume.array.shape) == EXPECTED[name]["shape"]
    assert hashlib.sha256(volume.array.tobytes()).hexdigest() == EXPECTED[name]["sha256"]
    assert (volume.affine == AFFINE).all()


def test_every_way_of_storing_is_among_the_fixtures():
    kinds = {chunk["how"]["kind"] for name in EXPECTED for chunk in read_container(FOLDER / name).header["chunks"]}
    assert kinds == {"even", "grid", "table", "split", "deflated"}


def test_the_bundled_model_is_small_and_the_one_that_the_fixtures_need():
    model = load_codec_model()
    assert model.name == BUNDLED
    assert all(read_container(FOLDER / name).header["model"]["sha256"] == model.sha256 for name in EXPECTED)
