"""A context model in its folder: integers in safetensors, checked by SHA-256; data, never code."""

from __future__ import annotations

import functools
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ..bundle import CARD, LICENCE, models_folder
from ..errors import BadModel
from .context import Doubles, Floats
from .front_network import FrontModel
from .network import ContextModel
from .restoration import RestorationModel
from .subband_network import SubbandModel

METADATA = "configs/codec.json"  # not metadata.json: that would make it a network of `bundle.py`
WEIGHTS = "models/model.safetensors"
BUNDLED = "ct-mr-codec"
FRONT = "front"  # of the description: the second model of the folder
SUBBAND = "subband-2"  # the third one
EARLIER_SUBBAND = "subband"  # the one before it; some files are still smaller with it
RESTORATION = "restoration-2"  # the fourth one
EARLIER_RESTORATION = "restoration"  # the one before it, which earlier files need
_LARGEST = 4 << 20
Numbers = TypeVar("Numbers")
Kind = TypeVar("Kind", "CodecModel", "FrontCodec", "SubbandCodec", "RestorationCodec")
_LAYERS = ("w1", "w2", "w3", "b1", "b2", "b3")


@dataclass(frozen=True, eq=False)
class CodecModel:
    """A context model with its name and the SHA-256 of its numbers, by which a file asks for it."""

    name: str
    sha256: str
    context: ContextModel
    weights: bytes  # its safetensors file


@dataclass(frozen=True, eq=False)
class FrontCodec:
    """A model of wave fronts with its name and the SHA-256 of its numbers."""

    name: str
    sha256: str
    front: FrontModel
    weights: bytes


@dataclass(frozen=True, eq=False)
class SubbandCodec:
    """A model of wavelet coefficients with its name and the SHA-256 of its numbers."""

    name: str
    sha256: str
    subband: SubbandModel
    weights: bytes


@dataclass(frozen=True, eq=False)
class RestorationCodec:
    """A model of the restoration with its name and the SHA-256 of its numbers."""

    name: str
    sha256: str
    restoration: RestorationModel
    weights: bytes


def pack_model(model: ContextModel) -> dict[str, npt.NDArray[np.generic]]:
    """All numbers of a model in the smallest integer types that hold them."""
    return _packed(model.weights, model.tails) | {"predictions": model.predictions.astype(np.int16)}


def _packed(weights: Mapping[str, Floats], tails: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[np.generic]]:
    return _whole(weights) | {"tails": tails.astype(np.int32)}


def _whole(weights: Mapping[str, Floats]) -> dict[str, npt.NDArray[np.generic]]:
    packed: dict[str, npt.NDArray[np.generic]] = {}
    for name, value in weights.items():
        packed[name] = value.astype(np.int32 if name.startswith("b") else np.int16)
        if not np.array_equal(packed[name], value):
            raise ValueError(f"the layer {name} does not fit its integer type")
    return packed


def pack_front(model: FrontModel) -> dict[str, npt.NDArray[np.generic]]:
    """All numbers of a model of wave fronts in the smallest integer types that hold them."""
    return _packed(model.weights, model.tails) | {"predictions": model.predictions.astype(np.int16)}


def pack_subband(model: SubbandModel) -> dict[str, npt.NDArray[np.generic]]:
    """All numbers of a model of wavelet coefficients in the smallest integer types that hold them."""
    return _packed(model.weights, model.tails)


def pack_restoration(model: RestorationModel) -> dict[str, npt.NDArray[np.generic]]:
    """All numbers of a model of the restoration in the smallest integer types that hold them."""
    return _whole(model.weights)


def unpack_model(packed: Mapping[str, npt.NDArray[np.generic]]) -> ContextModel:
    """The model that `pack_model` packed. Raises BadModel when it is none."""
    return ContextModel(*_unpacked(packed, "predictions"), _predictions(packed))


def unpack_front(packed: Mapping[str, npt.NDArray[np.generic]]) -> FrontModel:
    """The model that `pack_front` packed. Raises BadModel when it is none."""
    return FrontModel(*_unpacked(packed, "predictions"), _predictions(packed))


def unpack_subband(packed: Mapping[str, npt.NDArray[np.generic]]) -> SubbandModel:
    """The model that `pack_subband` packed. Raises BadModel when it is none."""
    return SubbandModel(*_unpacked(packed))


def unpack_restoration(packed: Mapping[str, npt.NDArray[np.generic]]) -> RestorationModel:
    """The model that `pack_restoration` packed. Raises BadModel when it is none."""
    return RestorationModel(_layers(packed))


def _unpacked(
    packed: Mapping[str, npt.NDArray[np.generic]], *more: str
) -> tuple[dict[str, Floats], npt.NDArray[np.int64]]:
    return _layers(packed, "tails", *more), packed["tails"].astype(np.int64)


def _layers(packed: Mapping[str, npt.NDArray[np.generic]], *more: str) -> dict[str, Floats]:
    if set(packed) != {*_LAYERS, *more} or any(value.dtype.kind != "i" for value in packed.values()):
        raise BadModel("The codec's model does not hold the integers of one.")
    return {name: packed[name].astype(np.float32) for name in _LAYERS}


def _predictions(packed: Mapping[str, npt.NDArray[np.generic]]) -> Doubles:
    return packed["predictions"].astype(np.float64)


@functools.lru_cache(maxsize=4)
def load_codec_model(folder: Path | None = None) -> CodecModel:
    """The bundled model, or the one in a folder. Raises BadModel when a file is missing or differs from its SHA-256."""
    return read_codec_model(*_stored(folder or models_folder() / BUNDLED, WEIGHTS, None))


@functools.lru_cache(maxsize=4)
def load_front_model(folder: Path | None = None) -> FrontCodec:
    """The bundled model of wave fronts, or the one in a folder. Raises as `load_codec_model`."""
    return read_front_model(*_stored(folder or models_folder() / BUNDLED, weights_of(FRONT), FRONT))


@functools.lru_cache(maxsize=4)
def load_subband_model(folder: Path | None = None, entry: str = SUBBAND) -> SubbandCodec:
    """The bundled model of wavelet coefficients, or the one in a folder, by its entry; raises as `load_codec_model`."""
    return read_subband_model(*_stored(folder or models_folder() / BUNDLED, weights_of(entry), entry))


@functools.lru_cache(maxsize=4)
def load_restoration_model(folder: Path | None = None, entry: str = RESTORATION) -> RestorationCodec:
    """The bundled model of the restoration, or the one in a folder, by its entry; raises as `load_codec_model`."""
    return read_restoration_model(*_stored(folder or models_folder() / BUNDLED, weights_of(entry), entry))


def weights_of(entry: str) -> str:
    """Where a further model of the codec lies in its folder, by its entry in the description."""
    return f"models/{entry}.safetensors"


def _stored(folder: Path, file: str, part: str | None) -> tuple[bytes, str, str]:
    """The weights in a file of a model's folder, checked, with their name and path; `part` of the description."""
    for name in (METADATA, file, CARD, LICENCE):
        path = folder / name
        if not path.is_file() or path.stat().st_size > _LARGEST:
            raise BadModel(f"{path} is missing or too large, so the codec cannot be used.")
    try:
        metadata: dict[str, Any] = json.loads((folder / METADATA).read_text(encoding="utf-8"))
        told = metadata if part is None else metadata[part]
        name, sha256 = str(told["name"]), str(told["sha256"])
    except (ValueError, KeyError, TypeError, RecursionError):
        raise BadModel(f"{folder / METADATA} is not the description of a codec.") from None
    weights = (folder / file).read_bytes()
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise BadModel(f"The weights in {folder} differ from their SHA-256, so they are not used.")
    return weights, name, str(folder / file)


def read_codec_model(weights: bytes, name: str, file: str) -> CodecModel:
    """The model in the bytes of a safetensors file, read as data and checked. Raises BadModel when it is none."""
    return CodecModel(name, hashlib.sha256(weights).hexdigest(), _read(weights, file, unpack_model), weights)


def read_front_model(weights: bytes, name: str, file: str) -> FrontCodec:
    """The model of wave fronts in the bytes of a safetensors file. Raises as `read_codec_model`."""
    return FrontCodec(name, hashlib.sha256(weights).hexdigest(), _read(weights, file, unpack_front), weights)


def read_subband_model(weights: bytes, name: str, file: str) -> SubbandCodec:
    """The model of wavelet coefficients in the bytes of a safetensors file. Raises as `read_codec_model`."""
    return SubbandCodec(name, hashlib.sha256(weights).hexdigest(), _read(weights, file, unpack_subband), weights)


def read_restoration_model(weights: bytes, name: str, file: str) -> RestorationCodec:
    """The model of the restoration in the bytes of a safetensors file. Raises as `read_codec_model`."""
    found = _read(weights, file, unpack_restoration)
    return RestorationCodec(name, hashlib.sha256(weights).hexdigest(), found, weights)


def _read(weights: bytes, file: str, unpack: Callable[[Mapping[str, npt.NDArray[np.generic]]], Numbers]) -> Numbers:
    import safetensors
    import safetensors.numpy

    try:
        if len(weights) > _LARGEST:
            raise ValueError("too large")
        return unpack(safetensors.numpy.load(weights))
    except (safetensors.SafetensorError, ValueError, KeyError, IndexError, TypeError):
        raise BadModel(f"{file} is damaged: it is not a complete safetensors file of a codec.") from None


def find_codec_model(name: str, sha256: str, file: str, inside: Callable[[], bytes] | None = None) -> CodecModel:
    """The model that a file was coded with: the installed one, else the one that `inside` reads out of the file.

    Raises BadModel, naming it and its hash, when it is neither installed nor inside, or differs from its SHA-256.
    """
    return _found(name, sha256, file, inside, (load_codec_model,), read_codec_model)


def find_front_model(name: str, sha256: str, file: str, inside: Callable[[], bytes] | None = None) -> FrontCodec:
    """The model of wave fronts that a file was coded with. Raises as `find_codec_model`."""
    return _found(name, sha256, file, inside, (load_front_model,), read_front_model)


def find_subband_model(name: str, sha256: str, file: str, inside: Callable[[], bytes] | None = None) -> SubbandCodec:
    """The model of wavelet coefficients that a file was coded with. Raises as `find_codec_model`."""
    installed = (load_subband_model, lambda: load_subband_model(None, EARLIER_SUBBAND))
    return _found(name, sha256, file, inside, installed, read_subband_model)


def find_restoration_model(
    name: str, sha256: str, file: str, inside: Callable[[], bytes] | None = None
) -> RestorationCodec:
    """The model of the restoration that a file was coded with. Raises as `find_codec_model`."""
    installed = (load_restoration_model, lambda: load_restoration_model(None, EARLIER_RESTORATION))
    return _found(name, sha256, file, inside, installed, read_restoration_model)


def is_installed(kind: str, sha256: str) -> bool:
    """Whether a model that a file names is installed; `kind` is its entry in the header."""
    installed: dict[str, Sequence[Callable[[], CodecModel | FrontCodec | SubbandCodec | RestorationCodec]]] = {
        "model": (load_codec_model,),
        "front": (load_front_model,),
        "waves": (load_subband_model, lambda: load_subband_model(None, EARLIER_SUBBAND)),
        "restoration": (load_restoration_model, lambda: load_restoration_model(None, EARLIER_RESTORATION)),
    }
    for load in installed[kind]:
        with suppress(BadModel):
            if load().sha256 == sha256:
                return True
    return False


def _found(
    name: str, sha256: str, file: str, inside: Callable[[], bytes] | None,
    installed: Sequence[Callable[[], Kind]], read: Callable[[bytes, str, str], Kind],
) -> Kind:  # fmt: skip
    """The one of the installed models, the newest first, that has the hash; else the one inside the file."""
    newest, fault = None, None
    for load in installed:
        try:
            found = load()
        except BadModel as error:
            fault = fault or error
            continue
        if found.sha256 == sha256:
            return found
        newest = newest or found
    wanted = f"{file} was compressed with the model {name} (SHA-256 {sha256[:16]}...), which is not installed"
    if inside is None and fault is not None:
        told = "Install MedAE again, or the MedAE that holds this model."
        raise BadModel(f"{wanted} as it should be: {fault}", told)
    if inside is None:
        has = f"; it has {newest.name} ({newest.sha256[:16]}...)" if newest is not None else ""
        raise BadModel(f"{wanted}.", f"Install the MedAE that holds this model{has}.")
    weights = inside()
    if hashlib.sha256(weights).hexdigest() != sha256:
        raise BadModel(f"The model inside {file} differs from its SHA-256, so it is not used.")
    return read(weights, name, f"The model inside {file}")
