"""Whether a model that was read is sound, as far as that can be known without torch: its network and its weights."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt

from .bundle import Bundle
from .errors import BadModel

# The table in networks/ cannot be looked at without torch; a test compares the two.
NETWORKS = (
    "adversarial", "conditional", "denoising", "dense", "ensemble", "fusion", "normative", "plain", "quantised",
    "recurrent", "sparse", "translating", "variational",
)  # fmt: skip
# How each type of weight is stored; numpy has no bfloat16, whose exponent is all ones in what is not finite.
_TYPES = {"F16": "<f2", "BF16": "<u2", "F32": "<f4", "F64": "<f8"}
_EXPONENT = 0x7F80
_LARGEST_HEADER = 100 << 20  # bytes, as safetensors' own
_PART = 1 << 22  # weights that are looked at together


@dataclass(frozen=True)
class Weight:
    """Where one array of weights lies in the file, from the end of its header on, and what it is."""

    kind: str
    shape: tuple[int, ...]
    start: int
    stop: int


def check_sound(bundle: Bundle) -> None:
    """Raise BadModel for an unknown network, and for weights that are not whole, not finite or do not fit together.

    Whether the weights are those of the network only `Model.load` knows.
    """
    if bundle.spec.network not in NETWORKS:
        raise BadModel(f"The network {bundle.spec.network!r:.60} is unknown; known are {', '.join(NETWORKS)}.")
    data = bundle.weights.read_bytes()
    try:
        start, weights = read_header(data)
    except ValueError as error:
        raise BadModel(f"{bundle.weights} is damaged: it is not a complete safetensors file ({error}).") from None
    for name, weight in weights.items():
        told = f"The weight {name!r:.60} in {bundle.weights}"
        if weight.kind not in _TYPES or len(weight.shape) > bundle.spec.dims + 2:
            raise BadModel(f"{told} has the wrong shape or type for {bundle.spec.network}.")
        if not _fits(weight.shape, weights.get(f"{name.removesuffix('.bias')}.weight"), name):
            raise BadModel(f"{told} does not fit the layer that it belongs to.")
        if not _is_finite(np.frombuffer(data, _TYPES[weight.kind], math.prod(weight.shape), start + weight.start)):
            raise BadModel(f"{told} is not finite.")


def read_header(data: bytes) -> tuple[int, dict[str, Weight]]:
    """Where the weights of a safetensors file begin, and each by its name. Raises ValueError with what is wrong."""
    size = int.from_bytes(data[:8], "little")
    if len(data) < 8 or size > min(len(data) - 8, _LARGEST_HEADER):
        raise ValueError("its header is cut short")
    try:
        header = json.loads(data[8 : 8 + size], object_pairs_hook=_each_once)
    except RecursionError:
        raise ValueError("its header is no JSON") from None
    except ValueError as error:  # of JSON or UTF-8
        raise ValueError(str(error) if isinstance(error, _Twice) else "its header is no JSON") from None
    if not isinstance(header, dict):
        raise ValueError("its header is no table")
    notes = header.pop("__metadata__", {})
    if not isinstance(notes, dict) or not all(isinstance(text, str) for text in notes.values()):
        raise ValueError("its notes are no texts")
    weights = {name: _weight(name, entry) for name, entry in header.items()}
    if not weights:
        raise ValueError("it holds no weights")
    places = sorted((weight.start, weight.stop) for weight in weights.values())
    ends = [0, *(stop for _, stop in places)]
    if [start for start, _ in places] != ends[:-1]:
        raise ValueError("its weights overlap or leave gaps")
    if ends[-1] != len(data) - 8 - size:
        raise ValueError("its weights are cut short, or more follows them")
    return 8 + size, weights


class _Twice(ValueError):
    """A name that stands in the header twice."""


def _each_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise _Twice("its header names something twice")
    return found


def _weight(name: str, entry: object) -> Weight:
    """One entry of the header. Raises ValueError; a type that is not known is left to the caller."""
    fields: Mapping[str, Any] = entry if isinstance(entry, dict) else {}
    kind, shape, offsets = (fields.get(key) for key in ("dtype", "shape", "data_offsets"))
    if not isinstance(kind, str) or not _are_sizes(shape) or not _are_sizes(offsets) or len(offsets) != 2:
        raise ValueError(f"its header does not say what {name!r:.60} is")
    start, stop = offsets
    if start > stop or (kind in _TYPES and stop - start != math.prod(shape) * np.dtype(_TYPES[kind]).itemsize):
        raise ValueError(f"{name!r:.60} has not as many bytes as its shape says")
    return Weight(kind, tuple(shape), start, stop)


def _are_sizes(value: object) -> TypeGuard[list[int]]:
    return isinstance(value, list) and all(type(item) is int and item >= 0 for item in value)


def _fits(shape: tuple[int, ...], layer: Weight | None, name: str) -> bool:
    """Whether a bias has a number for each channel that its layer makes (of a transposed one its second axis)."""
    if not name.endswith(".bias") or layer is None:
        return True
    return len(shape) == 1 and shape[0] in layer.shape[:2]


def _is_finite(weights: npt.NDArray[Any]) -> bool:
    for at in range(0, weights.size, _PART):
        part = weights[at : at + _PART]
        finite = (part & _EXPONENT) != _EXPONENT if part.dtype.kind == "u" else np.isfinite(part)
        if not finite.all():
            return False
    return True
