"""A .maez file from coded chunks: what its header says, and its blocks in the order that a prefix is worth most."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from .. import __version__
from ..dicom import without_persons
from ..volume import Volume
from .container import CODER, FRONT, PACKED, RESTORATION, WAVES, lay_out, write_container
from .model_file import CodecModel, SubbandCodec, load_front_model, load_restoration_model
from .short_header import FORMAT, NEWEST, fits_short
from .short_header import micrometres as rounded

_LARGEST_TEXT = 1 << 16

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Carried:
    """The model of lattices, whether all models that are needed go into the file, the tuning of wave fronts, and the
    model of wavelets."""

    lattice: CodecModel
    inside: bool = False
    tuning: bytes = b""
    waves: SubbandCodec | None = None


@dataclass(frozen=True, eq=False)
class Chunk:
    """A coded chunk: what its entry in the header says, its pieces, and what it decodes to."""

    entry: dict[str, Any]
    extra: bytes
    parts: list[bytes]
    decoded: Array
    deflated: int = 0  # bytes of what it decodes to, deflated


def joined(channels: int, slabs: Sequence[tuple[int, int, int]], chunks: Sequence[Chunk]) -> Array:
    """What coded chunks will decode to [c, i, j, k]; `slabs` tell the channel of each, and its slices from .. to."""
    found: list[list[Array]] = [[] for _ in range(channels)]
    for (channel, *_), chunk in zip(slabs, chunks, strict=True):
        found[channel].append(chunk.decoded)
    return np.stack([np.concatenate(some, axis=2) for some in found])


def assemble(
    volume: Volume, mode: Mapping[str, Any], models: Carried, slabs: list[tuple[int, int, int]], chunks: list[Chunk]
) -> bytes:
    """The file: model if wanted, small tables, then the coarse parts of all chunks, finer and finer; low bits last."""
    depth = max(len(chunk.parts) for chunk in chunks)
    pieces: list[tuple[int, int, bytes]] = []  # chunk (-1: a model), part (-1: what belongs to its values), bytes
    orders = {chunk.entry.get("order") for chunk in chunks}
    model, front = models.lattice, load_front_model() if FRONT in orders else None
    waves = models.waves if WAVES in orders else None
    restored = any(chunk.entry.get("restored") for chunk in chunks)
    restoration = load_restoration_model() if restored else None
    if models.inside:
        named = model, front, waves, None, restoration
        pieces += [(-1, place, some.weights) for place, some in enumerate(named) if some is not None]
    if models.tuning and front:
        pieces.append((-1, 3, models.tuning))
    small = [chunk.entry["how"]["kind"] != "split" for chunk in chunks]
    pieces += [(number, -1, chunk.extra) for number, chunk in enumerate(chunks) if small[number]]
    for part in range(depth):
        pieces += [(number, part, chunk.parts[part]) for number, chunk in enumerate(chunks) if part < len(chunk.parts)]
    pieces += [(number, -1, chunk.extra) for number, chunk in enumerate(chunks) if not small[number]]
    different = list(dict.fromkeys(piece for *_, piece in pieces))  # as those of channels that are alike are not
    known = dict(zip(different, lay_out(different), strict=True))
    blocks = {(number, part): known[piece] for number, part, piece in pieces}
    entries = []
    for number, ((channel, start, stop), chunk) in enumerate(zip(slabs, chunks, strict=True)):
        parts = [blocks[number, part].to_json() for part in range(len(chunk.parts))]
        place = {"channel": channel, "start": start, "stop": stop}
        entries.append({**place, **chunk.entry, "extra": blocks[number, -1].to_json(), "parts": parts})
    inside: list[dict[str, Any]] = [
        {name: blocks[-1, place].to_json()} if (-1, place) in blocks else {}
        for place, name in enumerate(("inside", "inside", "inside", "tuning", "inside"))
    ]
    header: dict[str, Any] = {
        **_begin(CODER, mode, model, inside[0]),
        **({FRONT: {"name": front.name, "sha256": front.sha256, **inside[1], **inside[3]}} if front else {}),
        **({WAVES: {"name": waves.name, "sha256": waves.sha256, **inside[2]}} if waves else {}),
        **({RESTORATION: {"name": restoration.name, "sha256": restoration.sha256, **inside[4]}} if restoration else {}),
        **_place(volume, short=not waves),
        "chunks": entries,
    }
    return write_container(header, different)


def assemble_packed(volume: Volume, mode: Mapping[str, Any], model: CodecModel, payload: bytes, planes: bool) -> bytes:
    """The file of a volume whose voxels were packed as a whole; b"" for a volume that no such file can hold."""
    place = _place(volume, short=True)
    if FORMAT not in place:
        return b""
    told = {"planes": True} if planes else {}
    return write_container({**_begin(PACKED, mode, model, {}), **told, **place, "chunks": []}, [payload])


def _begin(coder: str, mode: Mapping[str, Any], model: CodecModel, inside: Mapping[str, Any]) -> dict[str, Any]:
    """What a header begins with."""
    named = {"name": model.name, "sha256": model.sha256, **inside}
    return {"coder": coder, "mode": mode, "writer": f"MedAE {__version__}", "model": named}


def _place(volume: Volume, short: bool) -> dict[str, Any]:
    """What a header says of the volume itself, and whether it is stored in the short form, where it can be."""
    told = {"volume": _description(volume), "spacing_um": list(micrometres(volume))}
    return told | ({FORMAT: NEWEST} if short and fits_short(told) else {})


def _description(volume: Volume) -> dict[str, Any]:
    """What the header says of the volume."""
    told: dict[str, Any] = {"frames": True} if volume.meta.get("frames") is True else {}
    apart = volume.meta.get("frame_spacing")
    if isinstance(apart, int | float) and math.isfinite(apart):  # a header holds finite numbers alone
        told["frame_spacing"] = float(apart)
    header = without_persons({str(key): str(value) for key, value in dict(volume.meta.get("header", {})).items()})
    if sum(len(key) + len(value) for key, value in header.items()) > _LARGEST_TEXT:
        header = {}
    return {
        "shape": [volume.channels, *volume.shape],
        "dtype": volume.array.dtype.name,
        "affine": volume.affine.tolist(),
        "name": volume.name,
        "modality": str(volume.meta.get("modality", "")),
        "meta": {**told, "header": header},
    }


def micrometres(volume: Volume) -> tuple[int, int, int]:
    """The spacing in whole micrometres, at least 1: it decides the order of coding and nothing else."""
    i, j, k = rounded(volume.affine.tolist())
    return i, j, k
