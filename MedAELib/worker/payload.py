"""Files in a run folder that are no voxels, such as a compressed volume: bytes with their size and CRC-32."""

from __future__ import annotations

import zlib
from pathlib import Path
from typing import Any

from ..errors import BadInput
from .arrays import FreeBytes, check_name, check_room, disk_full, free_bytes, to_json, write_file

KIND = "file"


def is_payload(description: Any) -> bool:
    """Whether a description (JSON) is that of a file, not of a volume."""
    return isinstance(description, dict) and description.get("kind") == KIND


def write_payload(folder: Path, name: str, data: bytes, free: FreeBytes = free_bytes) -> dict[str, Any]:
    """Write a file, wholly or not at all, into a folder of a run; its description. Raises DiskFull, BadInput."""
    path = _path(folder, name)
    check_room(folder, len(data), free)
    try:
        write_file(path, data, durable=True)
    except OSError as error:
        raise disk_full(error) or error from None
    return {"kind": KIND, "bytes": len(data), "crc32": zlib.crc32(data)}


def read_payload(folder: Path, name: str, description: Any) -> bytes:
    """The file that a description announces; BadInput when it is missing, a link, of another size or damaged."""
    path = _path(folder, name)
    try:
        size, crc = description["bytes"], description["crc32"]
        if type(size) is not int or path.is_symlink() or not path.is_file() or path.stat().st_size != size:
            raise ValueError("not of the announced size")  # seen before anything is read
        data = path.read_bytes()
        if len(data) != size or zlib.crc32(data) != crc:
            raise ValueError("its checksum is wrong")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInput(f"The file {path} is missing or damaged ({error}).", "Start the task again.") from None
    return data


class PayloadWriter:
    """Writes an input that is a file; used as `InputWriter` is, but done in one step: such files are small."""

    def __init__(self, run: Path, name: str, data: bytes, free: FreeBytes = free_bytes) -> None:
        self._folder, self._name, self._data, self._free = run / "inputs", check_name(name), data, free
        check_room(self._folder, len(data), free)
        self.fraction = 0.0

    def step(self, max_bytes: int = 0) -> bool:
        """Write all of it; True."""
        description = write_payload(self._folder, self._name, self._data, self._free)
        write_file(self._folder / f"{self._name}.json", to_json(description, "The file"))
        self.fraction = 1.0
        return True

    def close(self) -> None:
        """Give up; there is nothing to remove: the run folder goes as a whole."""


def _path(folder: Path, name: str) -> Path:
    return folder / f"{check_name(name)}.bin"
