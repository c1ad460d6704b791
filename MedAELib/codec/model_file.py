"""A context model in its folder: integers in safetensors, checked by SHA-256; data, never code."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ..bundle import CARD, LICENCE, models_folder
from ..errors import BadModel
from .context import Doubles, Floats
from .front_network import FrontModel
from .network import ContextModel

METADATA = "configs/codec.json"  # not metadata.json: that would make it a network of `bundle.py`
WEIGHTS = "models/model.safetensors"
BUNDLED = "ct-mr-codec"
_LARGEST = 4 << 20
_LAYERS = ("w1", "w2", "w3", "b1", "b2", "b3")


@dataclass(frozen=True, eq=False)
class CodecModel:
    """A context model with its name and the SHA-256 of its numbers, by which a file asks for it."""

    name: str
    sha256: str
    context: ContextModel
    weights: bytes  # its safetensors file


def pack_model(model: ContextModel) -> dict[str, npt.NDArray[np.generic]]:
    """All numbers of a model in the smallest integer types that hold them."""
    return _packed(model.weights, model.tails, model.predictions)


def _packed(
    weights: Mapping[str, Floats], tails: npt.NDArray[np.int64], predictions: Doubles
) -> dict[str, npt.NDArray[np.generic]]:
    packed: dict[str, npt.NDArray[np.generic]] = {}
    for name, value in weights.items():
        packed[name] = value.astype(np.int32 if name.startswith("b") else np.int16)
        if not np.array_equal(packed[name], value):
            raise ValueError(f"the layer {name} does not fit its integer type")
    return packed | {"tails": tails.astype(np.int32), "predictions": predictions.astype(np.int16)}


def pack_front(model: FrontModel) -> dict[str, npt.NDArray[np.generic]]:
    """All numbers of a model of wave fronts in the smallest integer types that hold them."""
    return _packed(model.weights, model.tails, model.predictions)


def unpack_model(packed: Mapping[str, npt.NDArray[np.generic]]) -> ContextModel:
    """The model that `pack_model` packed. Raises BadModel when it is none."""
    if set(packed) != {*_LAYERS, "tails", "predictions"} or any(value.dtype.kind != "i" for value in packed.values()):
        raise BadModel("The codec's model does not hold the integers of one.")
    weights = {name: packed[name].astype(np.float32) for name in _LAYERS}
    return ContextModel(weights, packed["tails"].astype(np.int64), packed["predictions"].astype(np.float64))


@functools.lru_cache(maxsize=4)
def load_codec_model(folder: Path | None = None) -> CodecModel:
    """The bundled model, or the one in a folder. Raises BadModel when a file is missing or differs from its SHA-256."""
    folder = folder or models_folder() / BUNDLED
    for name in (METADATA, WEIGHTS, CARD, LICENCE):
        path = folder / name
        if not path.is_file() or path.stat().st_size > _LARGEST:
            raise BadModel(f"{path} is missing or too large, so the codec cannot be used.")
    try:
        metadata: dict[str, Any] = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        name, sha256 = str(metadata["name"]), str(metadata["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadModel(f"{folder / METADATA} is not the description of a codec.") from None
    weights = (folder / WEIGHTS).read_bytes()
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise BadModel(f"The weights in {folder} differ from their SHA-256, so they are not used.")
    return read_codec_model(weights, name, str(folder / WEIGHTS))


def read_codec_model(weights: bytes, name: str, file: str) -> CodecModel:
    """The model in the bytes of a safetensors file, read as data and checked. Raises BadModel when it is none."""
    import safetensors
    import safetensors.numpy

    try:
        if len(weights) > _LARGEST:
            raise ValueError("too large")
        context = unpack_model(safetensors.numpy.load(weights))
    except (safetensors.SafetensorError, ValueError, KeyError, IndexError, TypeError):
        raise BadModel(f"{file} is damaged: it is not a complete safetensors file of a codec.") from None
    return CodecModel(name, hashlib.sha256(weights).hexdigest(), context, weights)


def find_codec_model(name: str, sha256: str, file: str, inside: Callable[[], bytes] | None = None) -> CodecModel:
    """The model that a file was coded with: the installed one, else the one that `inside` reads out of the file.

    Raises BadModel, naming it and its hash, when it is neither installed nor inside, or differs from its SHA-256.
    """
    found: CodecModel | None = None
    try:
        found = load_codec_model()
    except BadModel:
        if inside is None:
            raise
    if found is not None and found.sha256 == sha256:
        return found
    if inside is None:
        has = f"; it has {found.name} ({found.sha256[:16]}...)" if found is not None else ""
        raise BadModel(
            f"{file} was compressed with the model {name} (SHA-256 {sha256[:16]}...), which is not installed.",
            f"Install the MedAE that holds this model{has}.",
        )
    weights = inside()
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise BadModel(f"The model inside {file} differs from its SHA-256, so it is not used.")
    return read_codec_model(weights, name, f"The model inside {file}")
