"""Models of the codec go into one folder: publishing one leaves the others usable."""

import shutil
from argparse import Namespace

from MedAELib.bundle import CARD, LICENCE, models_folder
from MedAELib.codec.model_file import (
    BUNDLED,
    FRONT,
    RESTORATION,
    SUBBAND,
    WEIGHTS,
    load_codec_model,
    load_front_model,
    load_restoration_model,
    load_subband_model,
    weights_of,
)
from MedAELib.training.codec import keep_further, publish


def test_each_model_is_published_without_harm_to_the_others(tmp_path):
    bundled, folder = models_folder() / BUNDLED, tmp_path / BUNDLED
    for name in (CARD, LICENCE):  # written by hand
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(bundled / name, folder / name)
    options = Namespace(output=tmp_path, publish=folder)
    for _ in range(2):  # the second time all are there already
        publish((bundled / WEIGHTS).read_bytes(), folder)
        for entry in (FRONT, SUBBAND, RESTORATION):
            keep_further((bundled / weights_of(entry)).read_bytes(), options, entry)
    publish((bundled / WEIGHTS).read_bytes(), folder)
    for load in (load_codec_model, load_front_model, load_subband_model, load_restoration_model):
        assert load(folder).sha256 == load(bundled).sha256
        assert load(folder).name == load(bundled).name
