"""The header of a .maez file since version 6 as it is stored: without what can be told from the rest (docs/maez.md).

The defaults are part of the format and never change; what differs from them is stored.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from .affine_bytes import NORMALISED, pack_normalised, pack_plain, unpack_normalised, unpack_plain
from .nifti_fields import with_repeated, without_repeated

FORMAT = "format"  # 6 to 8 in a header that is spelled out; other versions have no such entry
# The first version of this form, the one with affines as NIfTI files hold them, and the one that hashes itself, too:
SHORTEST, _AS_IN_NIFTI, NEWEST = 6, 7, 8
_MODEL = {"name": "ct-mr-codec", "sha256": "92f66093c65ca0d465d173e85f9924b17642f8d3031db8f929a4c21d5f250b1d"}
_WHOLE: dict[str, Any] = {
    "coder": "lattice", "mode": {"kind": "lossless"}, "writer": "MedAE 0.1.0", "model": _MODEL, "chunks": [],
}  # fmt: skip
_VOLUME: dict[str, Any] = {"dtype": "int16", "name": "", "modality": "", "meta": {"header": {}}}
_CHUNK: dict[str, Any] = {
    "how": {"kind": "even", "start": 0, "step": 1}, "low": 0, "high": 0, "largest": 0, "step": 1, "extra": [0, 0, 0],
    "parts": [],
}  # fmt: skip
_DERIVED = FORMAT, "payload_sha256"  # told by the prelude
_NIFTI = "nifti"  # what a NIfTI header says beside what is repeated
_LAST = [0.0, 0.0, 0.0, 1.0]  # row of an affine
_EXACT = 2**53
_LARGEST_UM = 10**9

Json = dict[str, Any]


def shorten(header: Mapping[str, Any]) -> list[tuple[Json, bytes]]:
    """The ways to store a header: with the digits of its affine, or without them and the bytes that tell it."""
    volume = header["volume"]
    short = _without(header, {**_WHOLE, "spacing_um": micrometres(volume["affine"])})
    chunks: list[Json] = []
    place = 0, 0
    for chunk in header["chunks"]:
        following = _following(place, volume["shape"])
        chunks.append(_without(chunk, {**_CHUNK, **following}))
        place = chunk["channel"], chunk["stop"]
    told = {name: short[name] for name in short if name not in (*_DERIVED, "volume", "chunks")}
    numbers = [float(number) for row in volume["affine"][:3] for number in row]
    kept, listed = _short_volume(volume), {"chunks": chunks} if chunks else {}
    digits = {"affine": [_whole(number) for number in numbers]}
    ways = [({**told, "volume": {**kept, **digits}, **listed}, b"")]
    forms = [pack_plain(numbers), pack_normalised(numbers) if header[FORMAT] >= _AS_IN_NIFTI else b""]
    return ways + [({**told, "volume": kept, **listed}, packed) for packed in forms if packed]


def spelled_out(short: Mapping[str, Any], packed: bytes, version: int) -> Json:
    """The header with all that it leaves out. Raises LookupError, TypeError or ValueError when it is none."""
    told = dict(short["volume"])
    unpack = unpack_normalised if version >= _AS_IN_NIFTI and len(packed) == NORMALISED else unpack_plain
    numbers = [float(number) for number in told["affine"]] if "affine" in told else unpack(packed)
    if len(numbers) != 12 or ("affine" in told and packed):
        raise ValueError("no affine")
    volume = {**_VOLUME, **told, "affine": [numbers[:4], numbers[4:8], numbers[8:], [*_LAST]]}
    meta = dict(volume["meta"])
    if _NIFTI in meta:
        fields = dict(meta.pop(_NIFTI))
        meta["header"] = with_repeated(fields, {**volume, "meta": meta})
    header = {**_WHOLE, "spacing_um": micrometres(volume["affine"]), **short, "volume": {**volume, "meta": meta}}
    chunks: list[Json] = []
    for chunk in header["chunks"]:
        place = (chunks[-1]["channel"], chunks[-1]["stop"]) if chunks else (0, 0)
        chunks.append({**_following(place, volume["shape"]), **_CHUNK, **dict(chunk)})
    return {**header, "chunks": chunks, FORMAT: version}


def fits_short(header: Mapping[str, Any]) -> bool:
    """Whether a header can be stored so: its affine ends as every affine does."""
    return [float(number) for number in header["volume"]["affine"][3]] == _LAST


def micrometres(affine: Sequence[Sequence[float]]) -> list[int]:
    """The spacing in whole micrometres, at least 1: it decides the order of coding and nothing else.

    Of square roots and sums in this order, which are the same on every computer. Raises ValueError.
    """
    lengths = [math.sqrt(sum(affine[row][axis] ** 2 for row in range(3))) for axis in range(3)]
    if not all(map(math.isfinite, lengths)):
        raise ValueError("no spacing")
    return [min(max(round(1000 * length), 1), _LARGEST_UM) for length in lengths]


def _following(place: tuple[int, int], shape: Sequence[int]) -> Json:
    """Where the chunk after one of this channel that ends at this slice lies, if it is its channel's last."""
    channel, start = place
    return {"channel": channel + 1, "start": 0, "stop": shape[3]} if start == shape[3] else {
        "channel": channel, "start": start, "stop": shape[3],
    }  # fmt: skip


def _without(told: Mapping[str, Any], known: Mapping[str, Any]) -> Json:
    """What differs from what is known, in type too."""
    return {name: value for name, value in told.items() if name not in known or not _same(value, known[name])}


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and bool(one == other)


def _short_volume(volume: Mapping[str, Any]) -> Json:
    """The volume's entry without its affine, and of a NIfTI header only what is not repeated."""
    fields = without_repeated(volume["meta"]["header"], volume)
    meta = dict(volume["meta"])
    if fields is not None and with_repeated(fields, volume) == meta["header"]:
        del meta["header"]
        meta[_NIFTI] = fields
    rest = _without({**volume, "meta": meta}, _VOLUME)
    del rest["affine"]
    return ({"meta": rest.pop("meta")} if "meta" in rest else {}) | rest


def _whole(number: float) -> float | int:
    """A number as JSON writes it shortest."""
    plain = number.is_integer() and abs(number) < _EXACT and not (number == 0 and math.copysign(1, number) < 0)
    return int(number) if plain else number
