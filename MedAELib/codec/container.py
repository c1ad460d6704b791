"""The .maez container: a bounded JSON header, then parts that each carry a checksum; the specification is docs/maez.md.

Nothing is trusted: sizes are compared with the file and with limits before anything is allocated.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..atomic import whole_file
from ..errors import BadInput, unwritable
from .header_words import COMMON

MAGIC = b"\x8bMAEZ\r\n\x1a"
# 5 of files with a chunk of wavelets whose base tells its bits; before them 4 with a restored chunk and 3 with one of
# wavelets; 2 with one of a wave front; others are of 1
VERSION = 5
_DEFLATED, _SHORT = 3, 5  # since these versions headers are, and with a dictionary
BASE_NUMBERS = 5  # of the base of a chunk of wavelets, since version 5
CODER = "lattice"
FRONT = "front"  # the second model that a header may name, and the order of chunks that need it
WAVES = "waves"  # the third model, and the order of chunks that need it
RESTORATION = "restoration"  # the fourth one
_PRELUDE = struct.Struct("<8sHHI32s")  # magic, version, zero, bytes of the header, its SHA-256
LARGEST_HEADER = 1 << 24
LARGEST_AXIS = 1 << 16
LARGEST_CHANNELS = 1 << 12
_FLATTEST = 1e-12  # determinant of an affine, as in `Volume`
_DAMAGED = "Copy the file again from its source; if it is damaged there too, its content is lost."


@dataclass(frozen=True)
class Block:
    """A piece of the payload: where it begins after the header, its bytes, and their CRC-32."""

    start: int
    size: int
    crc: int

    def to_json(self) -> list[int]:
        """As it stands in the header."""
        return [self.start, self.size, self.crc]


@dataclass(frozen=True, eq=False)
class Container:
    """An opened file: its header as checked JSON, its name for messages, and what is there of its payload.

    `payload` may be shorter than declared: a prefix of a file holds the coarse parts.
    """

    header: Mapping[str, Any]
    payload: memoryview
    name: str

    @property
    def complete(self) -> bool:
        """Whether the whole payload is there."""
        return len(self.payload) == int(self.header["payload_bytes"])

    def has(self, block: Block) -> bool:
        """Whether the block lies in what is there of the payload."""
        return block.start + block.size <= len(self.payload)

    def read(self, block: Block) -> bytes:
        """The bytes of a block. Raises BadInput when they are missing or do not fit their checksum."""
        if not self.has(block):
            raise BadInput(f"{self.name} is cut short: it ends before its declared size.", _DAMAGED)
        data = bytes(self.payload[block.start : block.start + block.size])
        if zlib.crc32(data) != block.crc:
            raise BadInput(f"{self.name} is damaged: a part differs from its checksum.", _DAMAGED)
        return data

    def check_whole(self) -> None:
        """Raise BadInput unless the payload is complete and has the declared SHA-256."""
        if not self.complete:
            raise BadInput(f"{self.name} is cut short: it ends before its declared size.", _DAMAGED)
        if hashlib.sha256(self.payload).hexdigest() != self.header["payload_sha256"]:
            raise BadInput(f"{self.name} is damaged: its content differs from its SHA-256.", _DAMAGED)


def write_container(header: Mapping[str, Any], blocks: Iterable[bytes]) -> bytes:
    """A whole file; `blocks` in the order of the payload. The header gets the payload's size and hash."""
    payload = b"".join(blocks)
    full = {**header, "payload_bytes": len(payload), "payload_sha256": hashlib.sha256(payload).hexdigest()}
    text = json.dumps(full, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > LARGEST_HEADER:
        raise BadInput("The header of the compressed volume would be too large.")
    version = _version(full)
    text = _deflated(text, version)
    return _PRELUDE.pack(MAGIC, version, 0, len(text), hashlib.sha256(text).digest()) + text + payload


def _deflated(text: bytes, version: int) -> bytes:
    """A header as a version stores it."""
    if version < _SHORT:
        return zlib.compress(text, 9) if version >= _DEFLATED else text
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY, COMMON)
    return packer.compress(text) + packer.flush()


def _inflated(text: bytes, version: int) -> bytes:
    """A header as JSON. Raises ValueError when it is cut short or larger than a header may be."""
    if version < _DEFLATED:
        return text
    unpacker = zlib.decompressobj() if version < _SHORT else zlib.decompressobj(-zlib.MAX_WBITS, COMMON)
    found = unpacker.decompress(text, LARGEST_HEADER + 1)
    if len(found) > LARGEST_HEADER or not unpacker.eof or unpacker.unused_data:
        raise ValueError("no header")
    return found


def _version(header: Mapping[str, Any]) -> int:
    """The version that a file with this header has."""
    bases = [chunk.get("base") for chunk in header["chunks"]]
    if WAVES in header and any(isinstance(base, list) and len(base) == BASE_NUMBERS for base in bases):
        return _SHORT
    return 4 if RESTORATION in header else 3 if WAVES in header else 2 if FRONT in header else 1


def with_more(data: bytes, **more: Any) -> bytes:
    """The same file with more in its header, which a reader may ignore ("figures", "display")."""
    container = open_container(data, "The file")
    return write_container({**container.header, **more}, [bytes(container.payload)])


def lay_out(pieces: Iterable[bytes]) -> list[Block]:
    """Blocks for pieces that are laid end to end."""
    blocks, start = [], 0
    for piece in pieces:
        blocks.append(Block(start, len(piece), zlib.crc32(piece)))
        start += len(piece)
    return blocks


def open_container(data: bytes | memoryview, name: str) -> Container:
    """Check prelude and header of a file or of a prefix of it. Raises BadInput."""
    if len(data) < _PRELUDE.size or bytes(data[: len(MAGIC)]) != MAGIC:
        raise BadInput(f"{name} is not a .maez file.", "Choose a file that MedAE compressed.")
    _, version, zero, size, digest = _PRELUDE.unpack_from(data)
    if not 1 <= version <= VERSION or zero != 0:
        raise BadInput(
            f"{name} is of version {version} of the format, which this MedAE does not know.", "Update MedAE."
        )
    if size > LARGEST_HEADER:
        raise BadInput(f"{name} is damaged: its header is too large.", _DAMAGED)
    text = bytes(data[_PRELUDE.size : _PRELUDE.size + size])
    if len(text) < size:
        raise BadInput(f"{name} is cut short: it ends within its header.", _DAMAGED)
    if hashlib.sha256(text).digest() != digest:
        raise BadInput(f"{name} is damaged: its header differs from its SHA-256.", _DAMAGED)
    try:
        header = json.loads(_inflated(text, version), parse_constant=_refuse)
        _check_header(header)
    except (zlib.error, ValueError, KeyError, TypeError, RecursionError, OverflowError):
        raise BadInput(f"{name} is damaged: its header is not one of a .maez file.", _DAMAGED) from None
    if _version(header) != version:
        raise BadInput(f"{name} is damaged: its header is not one of its version.", _DAMAGED)
    if header["coder"] != CODER:
        raise BadInput(f"{name} was coded in a way that this MedAE does not know.", "Update MedAE.")
    payload = memoryview(data)[_PRELUDE.size + size :]
    if len(payload) > header["payload_bytes"]:
        raise BadInput(f"{name} is damaged: it is longer than it should be.", _DAMAGED)
    return Container(header, payload, name)


def read_container(path: Path) -> Container:
    """Open a file. Raises BadInput when it is missing or is no .maez file."""
    try:
        return open_container(path.read_bytes(), str(path))
    except (OSError, ValueError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise BadInput(f"{path} {reason}.", "Check the path.") from None


def save_bytes(data: bytes, path: Path) -> None:
    """Write a file, wholly or not at all, to the disk itself. Raises DiskFull, BadInput."""
    try:
        with whole_file(path) as temporary, temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from None


def block_of(value: Any, payload_bytes: int) -> Block:
    """A block as the header states it. Raises ValueError when it is none or lies outside the payload."""
    if not isinstance(value, list) or len(value) != 3 or not all(type(number) is int for number in value):
        raise ValueError("no block")
    start, size, crc = value
    if not (0 <= start <= start + size <= payload_bytes and size >= 0 and 0 <= crc < 2**32):
        raise ValueError("the block lies outside")
    return Block(start, size, crc)


def _check_header(header: Mapping[str, Any]) -> None:
    """Raise ValueError, KeyError or TypeError unless all that is needed is there, of the right type and bounded."""
    volume, size = header["volume"], header["payload_bytes"]
    channels, *axes = volume["shape"]
    numbers = [channels, *axes, size]
    if len(axes) != 3 or not all(type(number) is int for number in numbers) or not 0 <= size < 2**50:
        raise ValueError("no shape")
    if not 1 <= channels <= LARGEST_CHANNELS or not all(1 <= axis <= LARGEST_AXIS for axis in axes):
        raise ValueError("the shape is out of bounds")
    affine = [float(number) for row in volume["affine"] for number in row]
    if len(affine) != 16 or not all(map(math.isfinite, affine)):
        raise ValueError("no affine")
    if abs(float(np.linalg.det(np.reshape(affine, (4, 4))))) < _FLATTEST:
        raise ValueError("the affine cannot be inverted")
    models = [header["model"], *(header[name] for name in (FRONT, WAVES, RESTORATION) if name in header)]
    texts = volume["dtype"], volume["name"], volume["modality"], header["payload_sha256"], header["coder"]
    named = [model[key] for model in models for key in ("name", "sha256")]
    if not all(isinstance(text, str) for text in (*texts, *named)):
        raise ValueError("no text")
    if not isinstance(header["chunks"], list) or not isinstance(header["mode"], dict):
        raise ValueError("no chunks")
    for chunk in header["chunks"]:
        for block in [chunk["extra"], *chunk["parts"]]:
            block_of(block, size)


def _refuse(text: str) -> float:
    raise ValueError(f"{text} is no JSON number")
