"""Files of every version of the format open for ever, to the very same bits."""

import hashlib
import json
from pathlib import Path

import pytest
from codec_tools import AFFINE

from MedAELib.codec.container import read_container
from MedAELib.codec.model_file import (
    BUNDLED,
    EARLIER_RESTORATION,
    EARLIER_SUBBAND,
    load_codec_model,
    load_front_model,
    load_restoration_model,
    load_subband_model,
)
from MedAELib.codec.reader import read_volume

FOLDER = Path(__file__).parent / "fixtures"
EXPECTED = {
    name: told for version in "12345678" for name, told in json.loads((FOLDER / f"v{version}.json").read_text()).items()
}


@pytest.mark.parametrize("name", EXPECTED)
def test_a_file_opens_to_the_same_bits(name):
    assert (FOLDER / name).read_bytes()[8] == int(name[1])
    container = read_container(FOLDER / name)
    container.check_whole()
    volume = read_volume(container)
    assert volume.array.dtype.name == EXPECTED[name]["dtype"] and list(volume.array.shape) == EXPECTED[name]["shape"]
    assert hashlib.sha256(volume.array.tobytes()).hexdigest() == EXPECTED[name]["sha256"]
    assert (volume.affine == EXPECTED[name].get("affine", AFFINE)).all()
    assert volume.meta["header"] == EXPECTED[name].get("header", volume.meta["header"])


def test_every_way_of_storing_is_among_the_fixtures():
    kinds = {chunk["how"]["kind"] for name in EXPECTED for chunk in read_container(FOLDER / name).header["chunks"]}
    assert kinds == {"even", "grid", "table", "split", "deflated"}
    assert sum(read_container(FOLDER / name).header["coder"] == "packed" for name in EXPECTED) == 4


def test_the_bundled_model_is_small_and_the_one_that_the_fixtures_need():
    model = load_codec_model()
    assert model.name == BUNDLED
    headers = [read_container(FOLDER / name).header for name in EXPECTED]
    assert all(header["model"]["sha256"] == model.sha256 for header in headers)
    fronts = [header["front"] for header in headers if "front" in header]
    assert all(told["sha256"] == load_front_model().sha256 for told in fronts)
    waves = [header["waves"] for header in headers if "waves" in header]
    needed = [told["sha256"] for told in waves]
    earlier, newest = load_subband_model(None, EARLIER_SUBBAND), load_subband_model()
    assert needed.count(earlier.sha256) == 6 and needed.count(newest.sha256) == len(needed) - 6 == 4
    restored = [header["restoration"] for header in headers if "restoration" in header]
    needed = [told["sha256"] for told in restored]
    before, now = load_restoration_model(None, EARLIER_RESTORATION), load_restoration_model()
    assert needed.count(before.sha256) == 4 and needed.count(now.sha256) == len(needed) - 4 == 3
    assert sum("tuning" in told for told in fronts) == 1 and len(fronts) == 4
