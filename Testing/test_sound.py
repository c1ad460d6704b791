"""Whether a model is sound, told without torch, when it is imported: one sentence, and nothing is left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from hypothesis import given
from hypothesis import strategies as st
from panel_tools import NO_NUMBERS, ROOT, safetensors_file, write_model, write_with_arguments

from MedAELib import library, sound
from MedAELib.bundle import METADATA, WEIGHTS, Bundle, bundled_folders, fused_number, identity, read_bundle, read_spec
from MedAELib.channels import fused_names
from MedAELib.errors import BadModel
from MedAELib.networks import NETWORKS, build

HALF = np.float16([1, 2]).tobytes()
ARGUMENTS = [(name, dims, {}) for name in NETWORKS for dims in (2, 3) if (name, dims) != ("dense", 3)]
ARGUMENTS += [("variational", 3, {"code": "vector"}), ("ensemble", 2, {"network": "fusion", "members": 2})]


def with_weights(folder: Path, weights: bytes, **values: object) -> Bundle:
    """A model with these weights and something else in its specification, which its hash agrees with."""
    write_model(folder, "MR")
    (folder / WEIGHTS).write_bytes(weights)
    metadata = json.loads((folder / METADATA).read_text())
    metadata["medae"] |= values
    metadata["medae"]["sha256"] = identity(read_spec(metadata["medae"]), weights)
    (folder / METADATA).write_text(json.dumps(metadata))
    return read_bundle(folder)


def raw(header: object, data: bytes = b"", size: int | None = None) -> bytes:
    """A safetensors file with any header."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if size is None else size).to_bytes(8, "little") + text + data


def entry(kind: object = "F16", shape: object = (2,), offsets: object = (0, 4)) -> dict[str, object]:
    return {"dtype": kind, "shape": shape, "data_offsets": offsets}


DAMAGED = {
    "nothing": (b"", "cut short"),
    "a short header": (raw({}, size=1 << 40), "cut short"),
    "no text": (raw(b"\xff\xfe"), "no JSON"),
    "deep": (raw(b"[" * 200_000), "no JSON"),
    "no table": (raw([1]), "no table"),
    "notes": (raw({"__metadata__": {"a": 1}, "w": entry()}, HALF), "notes"),
    "no weights": (raw({}), "holds no weights"),
    "twice": (raw(b'{"w": 1, "w": 2}'), "twice"),
    "no entry": (raw({"w": 5}), "does not say what 'w' is"),
    "a negative size": (raw({"w": entry(shape=[-2])}, HALF), "does not say"),
    "a truth as a size": (raw({"w": entry(shape=[True, 2])}, HALF), "does not say"),
    "three offsets": (raw({"w": entry(offsets=[0, 4, 4])}, HALF), "does not say"),
    "no type": (raw({"w": entry(kind=16)}, HALF), "does not say"),
    "another shape": (raw({"w": entry(shape=[3])}, HALF), "not as many bytes"),
    "backwards": (raw({"w": entry(kind="I8", offsets=[4, 0])}, HALF), "not as many bytes"),
    "a gap": (raw({"v": entry(), "w": entry(offsets=[5, 9])}, HALF + HALF + b"0"), "gaps"),
    "an overlap": (raw({"v": entry(), "w": entry(offsets=[2, 6])}, HALF + b"00"), "overlap"),
    "cut short": (raw({"w": entry()}, HALF[:-1]), "cut short"),
    "more": (raw({"w": entry()}, HALF + b"0"), "more follows"),
}
UNFIT = {
    "whole numbers": ({"w": ("I16", [2], HALF)}, "wrong shape or type"),
    "an unheard type": ({"w": ("X7", [2], HALF)}, "wrong shape or type"),
    "too many axes": ({"w": ("F16", [1, 1, 1, 1, 1, 2], HALF)}, "wrong shape or type"),
    "a bias of another layer": (
        {"a.weight": ("F16", [1, 1], HALF[:2]), "a.bias": ("F16", [2], HALF)}, "does not fit the layer",
    ),
    "half": ({"w": ("F16", [2], np.float16([1, np.nan]).tobytes())}, "not finite"),
    "brain float": ({"w": ("BF16", [2], np.uint16([0x3F80, 0xFF80]).tobytes())}, "not finite"),
    "single": ({"w": ("F32", [2], np.float32([-np.inf, 1]).tobytes())}, "not finite"),
    "double": ({"w": ("F64", [1], np.float64([np.nan]).tobytes())}, "not finite"),
}  # fmt: skip


def refused(folder: Path, said: str, **options: object) -> None:
    """See that a model is refused in a sentence that names it, and that nothing of it is left."""
    with pytest.raises(BadModel) as found:
        library.import_model(folder, folder.parent / "own", **options)
    assert said in str(found.value) and ".medae" not in str(found.value) and "\n" not in str(found.value)
    assert not list((folder.parent / "own").iterdir())


@pytest.mark.parametrize(("weights", "said"), DAMAGED.values(), ids=DAMAGED)
def test_weights_that_are_not_whole_do_not_come_in(tmp_path, weights, said):
    folder = with_weights(tmp_path / "m", weights).folder
    refused(folder, f"{folder / WEIGHTS} is damaged")
    with pytest.raises(ValueError, match=said):
        sound.read_header(weights)
    if said != "holds no weights":  # which is a whole file, but no model's
        with pytest.raises(safetensors.SafetensorError):
            safetensors.torch.load(weights)


@pytest.mark.parametrize(("weights", "said"), UNFIT.values(), ids=UNFIT)
def test_weights_that_no_network_can_have_do_not_come_in(tmp_path, weights, said):
    refused(with_weights(tmp_path / "m", safetensors_file(weights)).folder, said)


def test_a_network_that_nobody_knows_does_not_come_in(tmp_path):
    folder = write_model(tmp_path / "m")
    refused(with_weights(folder, (folder / WEIGHTS).read_bytes(), network="unheard").folder, "'unheard' is unknown")
    assert sorted(NETWORKS) == list(sound.NETWORKS)


@pytest.mark.parametrize("number", NO_NUMBERS)
def test_a_fusion_of_what_is_no_number_of_modalities_does_not_come_in(tmp_path, number):
    refused(write_with_arguments(tmp_path / "m", f'{{"modalities": {number}}}'), "fuses 1 to 8 modalities")
    held = f'{{"network": "fusion", "arguments": {{"modalities": {number}}}}}'
    refused(write_with_arguments(tmp_path / "n", held, "ensemble"), "fuses 1 to 8 modalities")


def test_a_fusion_fuses_what_its_arguments_say(tmp_path):
    for network in ("fusion", "ensemble"):
        for number in (1, 2, 8):
            own = {"modalities": number, "channels": [1], "strides": [1]}
            arguments = own if network == "fusion" else {"network": "fusion", "arguments": own, "members": 2}
            folder = write_with_arguments(tmp_path / f"{network}-{number}", json.dumps(arguments), network)
            made = library.import_model(folder, tmp_path / "own")
            assert fused_number(made.spec) == build(network, 3, arguments).in_channels == number
            assert len(fused_names(made.spec)) == (number if number > 1 else 0)
    for own in (None, {}):
        folder = write_with_arguments(tmp_path / "m", json.dumps({"network": "fusion", "arguments": own}), "ensemble")
        assert fused_names(read_bundle(folder).spec) == ()
    for own in ([], "x", 0):
        arguments = json.dumps({"network": "fusion", "arguments": own})
        with pytest.raises(BadModel, match="must be a table"):
            read_bundle(write_with_arguments(tmp_path / "m", arguments, "ensemble"))


@pytest.mark.parametrize(("name", "dims", "arguments"), ARGUMENTS)
def test_the_weights_of_every_network_are_sound_in_every_precision(tmp_path, name, dims, arguments):
    network = build(name, dims, arguments)
    kind = [torch.float32, torch.float16, torch.bfloat16][len(name) % 3]
    weights = {key: value.to(kind).contiguous() for key, value in network.state_dict().items()}
    made = with_weights(
        tmp_path / "m", safetensors.torch.save(weights, {"made": "by"}), network=name, dims=dims, arguments=arguments
    )
    sound.check_sound(made)


def test_the_models_that_come_with_medae_are_sound():
    for folder in bundled_folders():
        sound.check_sound(read_bundle(folder))


@given(data=st.data())
def test_what_is_found_whole_is_whole_for_torch_too(data):
    """Of damaged headers none passes that safetensors would not read."""
    content = bytearray(safetensors_file({"a.weight": ("F16", [2], HALF), "b": ("F32", [], b"0000")}))
    for at in data.draw(st.lists(st.integers(0, len(content) - 1), min_size=1, max_size=3)):
        content[at] = data.draw(st.sampled_from(b'0129-,:"[]{} abF\\\x00\xff'))
    try:
        _, weights = sound.read_header(bytes(content))
    except ValueError:
        return
    if all(weight.kind in ("F16", "F32") for weight in weights.values()):
        assert set(safetensors.torch.load(bytes(content))) == set(weights)


def test_a_model_is_imported_where_there_is_no_torch(tmp_path):
    write_model(tmp_path / "m")
    code = (
        "import sys; sys.modules |= dict.fromkeys(('torch', 'monai', 'safetensors'))\n"
        "from pathlib import Path; from MedAELib.library import import_model\n"
        "print(import_model(Path(sys.argv[1]), Path(sys.argv[2])).name)"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "m"), str(tmp_path / "own")]
    done = subprocess.run(command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True)
    assert done.stdout.strip() == "m", done.stderr
