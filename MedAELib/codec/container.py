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
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from ..atomic import whole_file
from ..engine.memory import amount
from ..errors import BadInput, OutOfMemory, unwritable
from .header_words import COMMON, SHORT
from .short_header import FORMAT, NEWEST, SHORTEST, shorten, spelled_out

MAGIC = b"\x8bMAEZ\r\n\x1a"
# 7 of files without a chunk of wavelets, before them 6, and 2 of those with one of a wave front and 1 of others; 5 of
# files with a chunk of wavelets whose base tells its bits, before them 4 with a restored chunk and 3 with another one
VERSION = NEWEST
_DEFLATED, _SHORT = 3, 5  # since these versions headers are, and with a dictionary
BASE_NUMBERS = 5  # of the base of a chunk of wavelets, since version 5
CODER = "lattice"
PACKED = "packed"  # the coder of files without chunks, since version 6: the voxels themselves, deflated
FRONT = "front"  # the second model that a header may name, and the order of chunks that need it
WAVES = "waves"  # the third model, and the order of chunks that need it
RESTORATION = "restoration"  # the fourth one
_PRELUDE = struct.Struct("<8sHHI")  # magic, version, zero, bytes of the header
_HASH, _SHORT_HASH = 32, 8  # bytes of a SHA-256 that follow: of the header; since version 6 also of the payload
_LARGEST_PRELUDE = _PRELUDE.size + _HASH
LARGEST_HEADER = 1 << 24
LARGEST_AXIS = 1 << 16
LARGEST_CHANNELS = 1 << 12
_FLATTEST = 1e-12  # determinant of an affine, as in `Volume`
DAMAGED = "Copy the file again from its source; if it is damaged there too, its content is lost."


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
            raise BadInput(f"{self.name} is cut short: it ends before its declared size.", DAMAGED)
        data = bytes(self.payload[block.start : block.start + block.size])
        if zlib.crc32(data) != block.crc:
            raise BadInput(f"{self.name} is damaged: a part differs from its checksum.", DAMAGED)
        return data

    def check_whole(self) -> None:
        """Raise BadInput unless the payload is complete and has the declared SHA-256."""
        if not self.complete:
            raise BadInput(f"{self.name} is cut short: it ends before its declared size.", DAMAGED)
        found, told = hashlib.sha256(self.payload).hexdigest(), self.header["payload_sha256"]
        if told != (found[: 2 * _SHORT_HASH] if FORMAT in self.header else found):
            raise BadInput(f"{self.name} is damaged: its content differs from its SHA-256.", DAMAGED)


def write_container(header: Mapping[str, Any], blocks: Iterable[bytes]) -> bytes:
    """A whole file; `blocks` in the order of the payload. The header gets the payload's size and hash."""
    payload = b"".join(blocks)
    full = {**header, "payload_bytes": len(payload), "payload_sha256": hashlib.sha256(payload).hexdigest()}
    version = _version(full)
    ways = shorten(full) if version >= SHORTEST else [(full, b"")]
    text = min((_stored(header, version) + affine for header, affine in ways), key=len)
    prelude = _PRELUDE.pack(MAGIC, version, 0, len(text))
    hashes = hashlib.sha256(_hashed(prelude, version) + text).digest()
    if version >= SHORTEST:
        hashes = hashes[:_SHORT_HASH] + hashlib.sha256(payload).digest()[:_SHORT_HASH]
    return prelude + hashes + text + payload


def _hashed(prelude: bytes, version: int) -> bytes:
    """What the hash of a header covers before it: since version 8 the version too, which tells how to read it."""
    return prelude[: _PRELUDE.size] if version >= NEWEST else b""


def _stored(header: Mapping[str, Any], version: int) -> bytes:
    """The text of a header, deflated as a version stores it. Raises BadInput when it is too large."""
    text = json.dumps(header, separators=(",", ":"), allow_nan=False).encode()
    if len(text) > LARGEST_HEADER:
        raise BadInput("The header of the compressed volume would be too large.")
    return _deflated(text, version)


def _words(version: int) -> bytes:
    """The dictionary of a version's headers."""
    return COMMON if version < SHORTEST else SHORT


def _deflated(text: bytes, version: int) -> bytes:
    """A header as a version stores it."""
    if version < _SHORT:
        return zlib.compress(text, 9) if version >= _DEFLATED else text
    how = 9, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_DEFAULT_STRATEGY
    packer = zlib.compressobj(*how, _words(version))
    return packer.compress(text) + packer.flush()


def _inflated(text: bytes, version: int) -> tuple[bytes, bytes]:
    """A header as JSON, and the bytes after it, which versions before 6 may not have. Raises ValueError when it is cut
    short or larger than a header may be."""
    if version < _DEFLATED:
        return text, b""
    unpacker = zlib.decompressobj() if version < _SHORT else zlib.decompressobj(-zlib.MAX_WBITS, _words(version))
    found = unpacker.decompress(text, LARGEST_HEADER + 1)
    if len(found) > LARGEST_HEADER or not unpacker.eof or (unpacker.unused_data and version < SHORTEST):
        raise ValueError("no header")
    return found, unpacker.unused_data


def _version(header: Mapping[str, Any]) -> int:
    """The version that a file with this header has."""
    if FORMAT in header:
        return int(header[FORMAT]) if header[FORMAT] in range(SHORTEST, NEWEST + 1) else 0
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
    prelude = _prelude(bytes(data[:_LARGEST_PRELUDE]), name)
    header = _header(bytes(data[: prelude.end]), prelude, name)
    payload = memoryview(data)[prelude.end :]
    _check_length(len(payload), header, name)
    return Container(header, payload, name)


@dataclass(frozen=True)
class _Prelude:
    """What comes before the header: the version, where the header begins and ends, and the first bytes of the SHA-256
    of the header and of the payload (none: the header tells)."""

    version: int
    start: int
    end: int
    header_hash: bytes
    payload_hash: bytes


def _prelude(data: bytes, name: str) -> _Prelude:
    """The prelude of a file that begins so. Raises BadInput."""
    if len(data) < _LARGEST_PRELUDE or data[: len(MAGIC)] != MAGIC:
        raise BadInput(f"{name} is not a .maez file.", "Choose a file that MedAE compressed.")
    _, version, zero, size = _PRELUDE.unpack_from(data)
    if not 1 <= version <= VERSION or zero != 0:
        raise BadInput(
            f"{name} is of version {version} of the format, which this MedAE does not know.", "Update MedAE."
        )
    if size > LARGEST_HEADER:
        raise BadInput(f"{name} is damaged: its header is too large.", DAMAGED)
    first, second = (_HASH, 0) if version < SHORTEST else (_SHORT_HASH, _SHORT_HASH)
    middle, start = _PRELUDE.size + first, _PRELUDE.size + first + second
    return _Prelude(version, start, start + size, data[_PRELUDE.size : middle], data[middle:start])


def _header(data: bytes, prelude: _Prelude, name: str) -> dict[str, Any]:
    """The header of a file that begins with these bytes, checked and spelled out. Raises BadInput."""
    text = data[prelude.start : prelude.end]
    if len(data) < prelude.end:
        raise BadInput(f"{name} is cut short: it ends within its header.", DAMAGED)
    hashed = hashlib.sha256(_hashed(data, prelude.version) + text).digest()
    if hashed[: len(prelude.header_hash)] != prelude.header_hash:
        raise BadInput(f"{name} is damaged: its header differs from its SHA-256.", DAMAGED)
    try:
        found, more = _inflated(text, prelude.version)
        header = json.loads(found, parse_constant=_refuse)
        if prelude.version >= SHORTEST:
            header = {**spelled_out(header, more, prelude.version), "payload_sha256": prelude.payload_hash.hex()}
        _check_header(header)
    except (zlib.error, ValueError, LookupError, TypeError, AttributeError, RecursionError, OverflowError):
        raise BadInput(f"{name} is damaged: its header is not one of a .maez file.", DAMAGED) from None
    if _version(header) != prelude.version:
        raise BadInput(f"{name} is damaged: its header is not one of its version.", DAMAGED)
    if header["coder"] not in (CODER, PACKED):
        raise BadInput(f"{name} was coded in a way that this MedAE does not know.", "Update MedAE.")
    return dict(header)


def _check_length(size: int, header: Mapping[str, Any], name: str) -> None:
    """Raise BadInput when there is more than the payload that a header declares."""
    if size > header["payload_bytes"]:
        raise BadInput(f"{name} is damaged: it is longer than it should be.", DAMAGED)


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a file and the bytes that the whole file should have; no more of it is read. Raises BadInput."""
    with _opened(path) as file:
        header, start = _read_header(file, path)
    return header, start + int(header["payload_bytes"])


def read_container(path: Path) -> Container:
    """Open a file; its header is looked at before the rest is read. Raises BadInput when it is missing or is no .maez
    file, OutOfMemory."""
    with _opened(path) as file:
        header, start = _read_header(file, path)
        try:
            return Container(header, memoryview(file.read()), str(path))
        except MemoryError:
            needed = amount(path.stat().st_size - start)
            raise OutOfMemory(f"{path} needs {needed} of memory to be read, more than is free.") from None


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    """A file to be read. Raises BadInput when that cannot be done."""
    try:
        with path.open("rb") as file:
            yield file
    except (OSError, ValueError) as error:
        reason = "does not exist" if isinstance(error, FileNotFoundError) else "cannot be read"
        raise BadInput(f"{path} {reason}.", "Check the path.") from None


def _read_header(file: BinaryIO, path: Path) -> tuple[dict[str, Any], int]:
    """The header of an opened file, and where its payload begins, up to which it is then read. Raises BadInput."""
    name, start = str(path), file.read(_LARGEST_PRELUDE)
    prelude = _prelude(start, name)
    header = _header(start + file.read(max(prelude.end - len(start), 0)), prelude, name)
    _check_length(os.fstat(file.fileno()).st_size - prelude.end, header, name)
    file.seek(prelude.end)
    return header, prelude.end


def save_bytes(data: bytes, path: Path) -> None:
    """Write a file, wholly or not at all, to the disk itself. Raises DiskFull, BadInput."""
    try:
        with whole_file(path) as temporary, temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise unwritable(path, error) from None


def usable_affine(affine: npt.NDArray[np.float64]) -> bool:
    """Whether a 4x4 affine can be inverted, and its spacing and determinant are numbers."""
    with np.errstate(over="ignore", invalid="ignore"):
        spacing, size = np.linalg.norm(affine[:3, :3], axis=0), np.linalg.det(affine)
    return bool(np.isfinite([*spacing, size]).all() and abs(size) >= _FLATTEST)


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
    if not usable_affine(np.reshape(affine, (4, 4))):
        raise ValueError("the affine cannot be inverted, or is too large to compute with")
    models = [header["model"], *(header[name] for name in (FRONT, WAVES, RESTORATION) if name in header)]
    texts = volume["dtype"], volume["name"], volume["modality"], header["payload_sha256"], header["coder"]
    if header["coder"] == PACKED and (FORMAT not in header or header["chunks"]):
        raise ValueError("no packed voxels")
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
