"""A computer whose models of the codec are missing or damaged: a file says which ones it was compressed with."""

import json
import shutil

import pytest
from codec_tools import code_by_waves_alone, scan, squares

from MedAELib.__main__ import main
from MedAELib.bundle import models_folder
from MedAELib.codec import model_file, volumes
from MedAELib.codec.container import open_container
from MedAELib.codec.volumes import Mode, compress

LOADERS = ("load_codec_model", "load_front_model", "load_subband_model", "load_restoration_model")


@pytest.fixture(scope="module")
def coded() -> bytes:
    with pytest.MonkeyPatch.context() as patch:
        code_by_waves_alone(patch)
        return compress(squares((24, 22, 20)), Mode("psnr", 32))


def forget():
    """Let the models be read again."""
    for name in LOADERS:
        getattr(model_file, name).cache_clear()


@pytest.fixture
def models(tmp_path, monkeypatch):
    """A copy of the models, which may be damaged."""
    folder = shutil.copytree(models_folder() / model_file.BUNDLED, tmp_path / "models" / model_file.BUNDLED)
    monkeypatch.setattr(model_file, "models_folder", lambda: tmp_path / "models")
    forget()
    yield folder
    forget()


def break_models(folder, how):
    if how == "no folder":
        shutil.rmtree(folder)
    for path in sorted((folder / "models").glob("*.safetensors")):
        if how == "flipped":
            data = bytearray(path.read_bytes())
            data[-7] ^= 4
            path.write_bytes(data)
        elif how == path.stem:
            path.unlink()
    forget()


@pytest.mark.parametrize(
    ("how", "entry"),
    [("no folder", "model"), ("flipped", "model"), ("model", "model"), ("subband-2", "waves"),
     ("restoration-2", "restoration")],
)  # fmt: skip
def test_a_missing_or_damaged_model_is_named_with_its_hash(coded, models, how, entry, tmp_path, capsys):
    header = open_container(coded, "it").header
    (tmp_path / "it.maez").write_bytes(coded)
    break_models(models, how)
    assert main(["decompress", str(tmp_path / "it.maez"), str(tmp_path / "it.nii.gz")]) == 2
    told = capsys.readouterr().err
    assert f"{tmp_path / 'it.maez'} was compressed with the model {header[entry]['name']}" in told
    assert header[entry]["sha256"][:16] in told and str(models) in told and told.count("\n") == 1
    assert not (tmp_path / "it.nii.gz").exists()


def test_a_missing_model_of_wave_fronts_is_named_with_its_hash(models, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(volumes, "_FRONT_VOXELS", 0)
    data = compress(scan((20, 18, 16)))
    front = open_container(data, "it").header["front"]
    (tmp_path / "it.maez").write_bytes(data)
    break_models(models, "front")
    assert main(["decompress", str(tmp_path / "it.maez"), str(tmp_path / "it.nii.gz")]) == 2
    told = capsys.readouterr().err
    assert front["name"] in told and front["sha256"][:16] in told


def test_a_file_with_its_models_inside_opens_without_any(models, tmp_path, capsys):
    (tmp_path / "it.maez").write_bytes(compress(scan((9, 8, 7)), with_model=True))
    break_models(models, "no folder")
    assert main(["decompress", str(tmp_path / "it.maez"), str(tmp_path / "it.nii.gz")]) == 0
    assert json.loads(capsys.readouterr().out)["shape"] == [9, 8, 7]
