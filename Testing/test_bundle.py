"""Model folders: read as data, checked by hash, refused when hostile or damaged, and readable by MONAI's own tools."""

import json
import os
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import save_small_model, small_model

from MedAELib.bundle import (
    METADATA,
    WEIGHTS,
    Kind,
    Spec,
    Window,
    bundled_models,
    find_bundle,
    identity,
    read_bundle,
    read_spec,
)
from MedAELib.errors import BadInput, BadModel
from MedAELib.model import Model


@pytest.fixture(scope="module")
def pristine(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_small_model(folder)
    return folder


@pytest.fixture
def folder(pristine, tmp_path) -> Path:
    return Path(shutil.copytree(pristine, tmp_path / "small"))


def edit(folder: Path, resign: bool = True, **changes) -> None:
    """Change the 'medae' section; `resign` makes the hash fit again, as a hostile author would."""
    path = folder / METADATA
    metadata = json.loads(path.read_text())
    metadata["medae"].update(changes)
    if resign:
        metadata["medae"]["sha256"] = identity(read_spec(metadata["medae"]), (folder / WEIGHTS).read_bytes())
    path.write_text(json.dumps(metadata))


def replace_weights(folder: Path, weights: bytes) -> None:
    (folder / WEIGHTS).write_bytes(weights)
    edit(folder)


@pytest.mark.parametrize("network, dims", [("denoising", 3), ("denoising", 2), ("plain", 3), ("plain", 2)])
def test_a_saved_model_loads_with_the_same_bits(tmp_path, network, dims):
    saved = save_small_model(tmp_path / "m", network=network, dims=dims)
    loaded = Model.load(tmp_path / "m")
    x = torch.randn((1, 1) + (16,) * dims)
    with torch.inference_mode():
        assert torch.equal(saved.network(x), loaded.network(x))
    assert loaded.spec == saved.spec
    assert loaded.bundle.sha256 == saved.bundle.sha256
    assert loaded.bundle.figures == {"psnr_db": 30.0}


def test_loading_needs_no_pickle_and_no_configuration(folder):
    (folder / "configs" / "inference.json").write_text('{"network_def": "$__import__(\'os\').abort()"}')
    (folder / "models" / "model.pt").write_bytes(b"not a pickle")
    Model.load(folder)


def test_saving_again_replaces_the_folder_and_leaves_nothing_beside_it(tmp_path):
    first = save_small_model(tmp_path / "m", seed=1)
    (tmp_path / "m" / "mine").touch()
    with pytest.raises(BadInput, match="holds mine besides the model"):
        save_small_model(tmp_path / "m", seed=2)
    assert read_bundle(tmp_path / "m").sha256 == first.bundle.sha256
    (tmp_path / "m" / "mine").rename(tmp_path / "m" / ".DS_Store")
    second = save_small_model(tmp_path / "m", seed=2)
    assert [p.name for p in tmp_path.iterdir()] == ["m"]
    assert not (tmp_path / "m" / ".DS_Store").exists()
    assert read_bundle(tmp_path / "m").sha256 == second.bundle.sha256


def test_whole_numbers_in_windows_and_kinds_are_hashed_as_they_are_read_back(tmp_path):
    window = Window("percentile", 0, 99)
    kinds = tuple(Kind(name, "MR", window, 0, 400, (1, 50, 98)) for name in ("T1", "T2"))
    arguments = {"network": "fusion", "arguments": {"modalities": 2, "channels": [4], "strides": [2]}, "members": 2}
    for spec in (
        Spec("plain", {"channels": [4], "strides": [2]}, 3, "reconstruct", "MR", window),
        Spec("ensemble", arguments, 3, "translate", "MR", window, kinds),
    ):
        told = {"description": "For tests.", "card": "# x", "licence": "x", "figures": {}, "limits": []}
        Model.create(spec).save(tmp_path / spec.network, name="whole", training_data=[], **told)
        assert Model.load(tmp_path / spec.network).spec == spec


def test_a_fusion_with_more_names_than_channels_is_refused():
    arguments = {"modalities": 2, "channels": [4], "strides": [2]}
    with pytest.raises(BadModel, match="names 3 modalities"):
        Spec("fusion", arguments, 3, "reconstruct", "MR", Window("percentile", 0, 99), modalities=("A", "B", "C"))


def test_the_hash_covers_weights_window_and_arguments(tmp_path):
    hashes = {
        save_small_model(tmp_path / str(n), **options).bundle.sha256
        for n, options in enumerate([{}, {"seed": 1}, {"modality": "MR"}, {"blocks": 1}])
    }
    assert len(hashes) == 4


@pytest.mark.parametrize(
    "changes",
    [
        {"window": {"kind": "fixed", "low": 0.0, "high": 999.0}},
        {"arguments": {"channels": 8, "blocks": 3}},
        {"sha256": "0" * 64},
        {"modality": "MR"},
    ],
)
def test_metadata_that_differs_from_its_hash_is_refused(folder, changes):
    edit(folder, resign=False, **changes)
    with pytest.raises(BadModel, match="SHA-256"):
        Model.load(folder)


def test_weights_with_one_flipped_bit_are_refused(folder):
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-3] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(BadModel, match="SHA-256"):
        Model.load(folder)


HOSTILE_SECTIONS = {
    "a call in the arguments": {"arguments": {"channels": {"_target_": "os.system", "command": "true"}}},
    "a call as the arguments": {"arguments": {"_target_": "os.abort"}},
    "an expression": {"arguments": {"channels": "$__import__('os').abort()"}},
    "an expression in a list": {"network": "plain", "arguments": {"channels": ["$1"], "strides": [2]}},
    "a reference": {"arguments": {"channels": "@network_def"}},
    "a macro": {"arguments": {"channels": "%other.json"}},
    "arguments that are no table": {"arguments": [8, 2]},
    "an unknown argument": {"arguments": {"channels": 8, "blocks": 2, "surprise": 1}},
    "dims among the arguments": {"arguments": {"dims": 3}},
    "a huge network": {"arguments": {"channels": 10**9, "blocks": 2}},
    "a huge depth": {"arguments": {"channels": 8, "blocks": 10**9}},
    "a negative width": {"arguments": {"channels": -8}},
    "a width that is a text": {"arguments": {"channels": "8"}},
    "a width that is true": {"arguments": {"channels": True}},
    "a width that is a fraction": {"arguments": {"channels": 8.5}},
    "an unknown network": {"network": "transformer"},
    "a network by path": {"network": "os.system"},
    "a network that is a list": {"network": ["denoising"]},
    "four dimensions": {"dims": 4},
    "dimensions that are true": {"dims": True},
    "dimensions that are a text": {"dims": "3"},
    "an unknown modality": {"modality": "PET"},
    "an empty window": {"window": {"kind": "fixed", "low": 5, "high": 5}},
    "a window upside down": {"window": {"kind": "fixed", "low": 5, "high": 1}},
    "a window of an unknown kind": {"window": {"kind": "$eval", "low": 0, "high": 1}},
    "a window with more": {"window": {"kind": "fixed", "low": 0, "high": 1, "clip": True}},
    "a window of texts": {"window": {"kind": "fixed", "low": "0", "high": "1"}},
    "a percentile above 100": {"window": {"kind": "percentile", "low": 0, "high": 101}},
    "no window": {"window": None},
    "a name that is a path": {"name": "../../etc/passwd"},
    "an absolute name": {"name": "/tmp/model"},
    "an empty name": {"name": ""},
    "a name with a line break": {"name": "a\nb"},
    "figures that are no table": {"figures": [1]},
    "limits that are no texts": {"limits": [1]},
    "training data that is a text": {"training_data": "x"},
}


@pytest.mark.parametrize("changes", HOSTILE_SECTIONS.values(), ids=HOSTILE_SECTIONS)
def test_a_hostile_description_is_refused_even_with_a_fitting_hash(folder, changes):
    try:
        edit(folder, **changes)
    except BadModel:
        edit(folder, resign=False, **changes)
    with pytest.raises(BadModel) as error:
        Model.load(folder)
    assert "\n" not in str(error.value)


class _Bomb:
    def __reduce__(self):
        return os.abort, ()


def _tensors(folder: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load((folder / WEIGHTS).read_bytes())


def _changed(folder: Path, **changes) -> bytes:
    return safetensors.torch.save({**_tensors(folder), **changes})


HOSTILE_WEIGHTS = {
    "a pickle": lambda f: pickle.dumps(_Bomb()),
    "nothing": lambda f: b"",
    "noise": lambda f: bytes(range(256)) * 40,
    "a header of 2^63 bytes": lambda f: (2**63 - 1).to_bytes(8, "little") + b"{}",
    "a truncated file": lambda f: (f / WEIGHTS).read_bytes()[:-100],
    "half a file": lambda f: (f / WEIGHTS).read_bytes()[:3000],
    "a missing weight": lambda f: safetensors.torch.save(dict(list(_tensors(f).items())[1:])),
    "one weight too many": lambda f: _changed(f, extra=torch.zeros(1)),
    "a wrong shape": lambda f: _changed(f, **{next(iter(_tensors(f))): torch.zeros(3)}),
    "whole numbers": lambda f: safetensors.torch.save({k: v.to(torch.int8) for k, v in _tensors(f).items()}),
    "not a number": lambda f: _changed(f, **{k: v * np.nan for k, v in list(_tensors(f).items())[:1]}),
}


@pytest.mark.parametrize("make", HOSTILE_WEIGHTS.values(), ids=HOSTILE_WEIGHTS)
def test_hostile_or_damaged_weights_are_refused_even_with_a_fitting_hash(folder, make):
    replace_weights(folder, make(folder))
    with pytest.raises(BadModel) as error:
        Model.load(folder)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", [METADATA, WEIGHTS, "docs/README.md", "LICENSE"])
def test_a_missing_file_is_named(folder, name):
    (folder / name).unlink()
    with pytest.raises(BadModel, match=Path(name).name):
        Model.load(folder)


@pytest.mark.parametrize("name", [METADATA, WEIGHTS, "docs/README.md"])
def test_a_link_out_of_the_folder_is_refused(folder, tmp_path, name):
    outside = tmp_path / "outside"
    outside.write_bytes((folder / name).read_bytes())
    (folder / name).unlink()
    (folder / name).symlink_to(outside)
    with pytest.raises(BadModel, match="link"):
        Model.load(folder)


@pytest.mark.parametrize(
    "text", ["", "[]", "null", "{", '{"medae": NaN}', "\ufeff{}", '{"a":' * 5000, '{"medae": []}', "{}"]
)
def test_metadata_that_is_no_table_is_refused(folder, text):
    (folder / METADATA).write_text(text)
    with pytest.raises(BadModel):
        read_bundle(folder)


def test_metadata_of_many_megabytes_is_refused(folder):
    (folder / METADATA).write_text('{"a": "' + "x" * (2 << 20) + '"}')
    with pytest.raises(BadModel, match="larger"):
        read_bundle(folder)


@settings(max_examples=150)
@given(st.data())
def test_random_changes_of_the_metadata_never_raise_anything_else(pristine, tmp_path_factory, data):
    folder = Path(shutil.copytree(pristine, tmp_path_factory.mktemp("fuzz") / "m"))
    metadata = json.loads((folder / METADATA).read_text())
    json_values = st.recursive(
        st.none()
        | st.booleans()
        | st.integers()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(max_size=8),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
        max_leaves=6,
    )
    table = data.draw(
        st.sampled_from([metadata, metadata["medae"], metadata["medae"]["window"], metadata["medae"]["arguments"]])
    )
    key = data.draw(st.sampled_from(sorted(table)))
    table[key] = data.draw(json_values)
    (folder / METADATA).write_text(json.dumps(metadata))
    try:
        Model.load(folder)
    except BadModel as error:
        assert "\n" not in str(error)
    finally:
        shutil.rmtree(folder)


def test_a_model_is_found_by_folder_and_an_unknown_one_is_refused_with_those_there_are(folder):
    assert find_bundle(folder).name == "small"
    for name in ("absent", "../small", "/", "", "a" * 300):
        with pytest.raises(BadModel):
            find_bundle(name) if name != "/" else read_bundle(Path("/"))


def test_a_model_that_was_never_saved_cannot_be_exported(tmp_path):
    with pytest.raises(BadModel):
        small_model().export(tmp_path / "out")


def test_monai_itself_builds_and_runs_the_export(folder, tmp_path):
    Model.load(folder).export(tmp_path / "export")
    configs = tmp_path / "export" / "configs"
    command = [sys.executable, "-m", "monai.bundle", "verify_net_in_out", "network_def"]
    command += ["--meta_file", str(configs / "metadata.json"), "--config_file", str(configs / "inference.json")]
    command += ["--device", "cpu", "--n", "2", "--extra_forward_args", "{}"]
    root = str(Path(__file__).resolve().parents[1])
    done = subprocess.run(command, capture_output=True, text=True, timeout=200, env={**os.environ, "PYTHONPATH": root})
    assert done.returncode == 0, done.stderr[-2000:]
    weights = torch.load(tmp_path / "export" / "models" / "model.pt", weights_only=True)
    assert weights.keys() == Model.load(folder).network.state_dict().keys()


def test_the_bundled_models_are_whole_small_and_honest():
    bundles = bundled_models()
    assert {bundle.name for bundle in bundles} >= {"ct-denoise", "mr-denoise"}
    assert sum(path.stat().st_size for b in bundles for path in b.folder.rglob("*")) < 20 << 20
    for bundle in bundles:
        Model.load(bundle.folder)
        assert bundle.name == bundle.folder.name
        assert bundle.limits and bundle.training_data and bundle.figures
        assert "limit" in bundle.card.lower() and "held-out" in bundle.card.lower()
