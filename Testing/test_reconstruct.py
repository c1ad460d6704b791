"""Reconstruct: a volume through an autoencoder keeps its place, type and units; what does not fit is refused."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import CT_WINDOW, MR_WINDOW

from MedAELib import Model, Spec, Volume
from MedAELib.conditions import condition, read_table
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput


def _model(network: str, dims: int = 3, modality: str = "MR", **arguments: object) -> Model:
    torch.manual_seed(0)
    window = CT_WINDOW if modality == "CT" else MR_WINDOW
    return Model.create(Spec(network, arguments, dims, "reconstruct", modality, window))


def _scan(channels: int = 1, dtype: str = "int16") -> Volume:
    array = np.random.default_rng(0).integers(0, 900, (channels, 17, 14, 10)).astype(dtype)
    return Volume(array, np.diag([0.5, 0.7, 3.0, 1.0]), {"name": "scan", "header": {"0018|0060": "120"}})


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float32", "float64"])
@pytest.mark.parametrize("name", ["plain", "recurrent", "variational"])
def test_place_type_and_size_are_those_of_the_input(name, dtype):
    scan = _scan(2, dtype)
    before = scan.array.copy()
    made = _model(name, channels=[4, 6]).reconstruct(scan, engine=Engine("cpu", "float32"))
    assert made.array.dtype == scan.array.dtype and made.array.shape == scan.array.shape
    assert np.array_equal(made.affine, scan.affine) and made.name == "scan reconstructed"
    assert np.array_equal(scan.array, before)


def test_tiles_do_not_change_a_reconstruction():
    scan, model = _scan(dtype="float32"), _model("plain", channels=[4, 6])
    whole, tiled = (model.reconstruct(scan, engine=Engine("cpu", "float32", tile)).array for tile in (0, 8))
    assert np.abs(whole - tiled).max() < 1e-4 * np.abs(whole).max()


def test_progress_runs_to_its_end():
    told = []
    _model("plain", channels=[4, 6]).reconstruct(_scan(2), progress=lambda *step: told.append(step))
    assert told[-1][1] == told[-1][2] == _scan(2).array.size


def test_the_condition_is_read_from_the_volume_unless_told(tmp_path):
    scan = _scan()
    numbers = condition(scan, ["spacing", "0018|0060", "age"])
    assert numbers[:3] == pytest.approx(np.log([0.5, 0.7, 3.0])) and numbers[3] == 120 and np.isnan(numbers[4])
    assert condition(scan, ["age"], {"age": 40.0}) == [40.0]
    model = _model("conditional", channels=[4, 6], fields=["spacing"])
    read = model.reconstruct(scan).array
    assert np.array_equal(read, model.reconstruct(scan, condition=numbers[:3]).array)
    assert not np.array_equal(read, model.reconstruct(scan, condition=[3.0, 3.0, -3.0]).array)
    with pytest.raises(BadInput, match="3 numbers, not 2"):
        model.reconstruct(scan, condition=[1.0, 2.0])
    (tmp_path / "t.csv").write_text("file,age,dose\na.nrrd,40,\nb.nrrd,x,2\n")
    table = read_table(tmp_path / "t.csv")
    assert table["a.nrrd"]["age"] == 40 and np.isnan(table["b.nrrd"]["age"]) and table["b.nrrd"]["dose"] == 2
    for text in ("", "file\na", "file,age\n"):
        (tmp_path / "t.csv").write_text(text)
        with pytest.raises(BadInput):
            read_table(tmp_path / "t.csv")


def test_modalities_are_fused_in_their_own_units_and_others_are_refused():
    model = _model("fusion", channels=[4, 6], modalities=2)
    scan = _scan(2, "float32")
    scaled = Volume(scan.array * np.array([1, 1000], np.float32)[:, None, None, None], scan.affine)
    made, larger = model.reconstruct(scan).array, model.reconstruct(scaled).array
    assert np.allclose(1000 * made[1], larger[1], rtol=1e-3, atol=1e-2 * np.abs(larger[1]).max())
    with pytest.raises(BadInput, match="fuses 2 modalities"):
        model.reconstruct(_scan(3, "float32"))
    with pytest.raises(BadInput, match="no finite value"):
        model.reconstruct(Volume(np.full((2, 8, 8, 8), np.nan, np.float32), np.eye(4)))


def test_a_network_without_tiles_refuses_them_in_one_sentence():
    with pytest.raises(BadInput, match="only as a whole"):
        _model("recurrent", channels=[4, 6]).reconstruct(_scan(), engine=Engine("cpu", "float32", 4))
