"""Guards around ITK's NIfTI reader, which makes zeros of what is missing of a truncated file, without a word.

It also makes zeros of voxels that are not finite, and reads `scan.nii` when asked for `scan.nii.gz` beside it.
"""

from __future__ import annotations

import gzip
import math
import os
import shutil
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BadInput

_FLOATS = {16: "f4", 64: "f8"}  # NIfTI's numbers of the types that have values which are not finite
_BLOCK = 1 << 22  # bytes
_SUFFIXES = (".nii", ".nii.gz", ".hdr", ".img", ".img.gz", ".hdr.gz")


def is_nifti(path: Path) -> bool:
    """Whether the name is one that ITK gives to its NIfTI reader."""
    return path.name.lower().endswith(_SUFFIXES)


def check_complete(path: Path) -> None:
    """Raise BadInput when a NIfTI or Analyze file, single or in two halves, holds fewer voxels than its header says."""
    header, data = _halves(path)
    for half in (header, data):
        if not half.is_file():
            raise BadInput(f"{path} is one half of a pair, and {half.name} is missing.", "Copy it to the same folder.")
    compressed = _is_gzip(data)
    try:
        layout = _layout_of(header)
        wanted = layout.nbytes if layout else None
        found = _uncompressed_bytes(data, wanted) if compressed else data.stat().st_size
    except (OSError, EOFError, struct.error, zlib.error):
        raise BadInput(f"{path} is damaged or truncated.", "Copy the file again.") from None
    if wanted is not None and found < wanted:
        which = path if data == path else f"{path} is incomplete: {data.name}"
        raise BadInput(f"{which} is truncated: it holds {found} of {wanted} bytes.", "Copy the file again.")


def _halves(path: Path) -> tuple[Path, Path]:
    """Where the header and where the voxels are: both in a .nii file, else in .hdr and .img."""
    name = path.name.removesuffix(".gz") if path.name.lower().endswith(".gz") else path.name
    if name.lower().endswith(".nii"):
        return path, path
    stem, given = name[:-4], name[-4:]
    other = {".hdr": ".img", ".img": ".hdr", ".HDR": ".IMG", ".IMG": ".HDR"}.get(given, ".img")
    beside = [path.with_name(f"{stem}{other}{ending}") for ending in ("", ".gz")]
    half = next((half for half in beside if half.is_file()), beside[0])
    return (path, half) if given.lower() == ".hdr" else (half, path)


@contextmanager
def unambiguous(path: Path) -> Iterator[Path]:
    """The path, or, where another file of the same base name would be read in its place, a lone link to it."""
    base = path.name[: -len(".nii.gz")] if path.name.lower().endswith(".nii.gz") else None
    rivals = [path.with_name(f"{base}{suffix}") for suffix in _SUFFIXES] if base else []
    if not any(rival.exists() for rival in rivals if rival.name != path.name):
        yield path
        return
    with TemporaryDirectory(prefix="medae-") as folder:
        alone = Path(folder) / path.name
        try:
            alone.symlink_to(path.resolve())
        except OSError:
            shutil.copyfile(path, alone)
        yield alone


def not_finite(path: Path) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Where the voxels of a complete file are not finite, counted as they lie in it (i fastest), and what they are."""
    header, data = _halves(path)
    layout = _layout_of(header)
    places, values = [np.empty(0, np.int64)], [np.empty(0)]
    if layout is None or layout.kind not in _FLOATS:
        return places[0], values[0]
    kind, done = np.dtype(layout.order + _FLOATS[layout.kind]), 0
    with _opened(data) as file:
        file.seek(layout.offset)
        while done < layout.voxels:
            read = file.read(min(_BLOCK, (layout.voxels - done) * kind.itemsize))
            block = np.frombuffer(read, kind, len(read) // kind.itemsize)
            if not block.size:
                break
            (found,) = np.nonzero(~np.isfinite(block))
            places.append(found + done)
            values.append(block[found].astype(np.float64))
            done += block.size
    return np.concatenate(places), np.concatenate(values)


@dataclass(frozen=True)
class _Layout:
    """How voxels lie in a file: byte order, number of their type, how many, where they begin, and where they end."""

    order: str
    kind: int
    voxels: int
    offset: int
    nbytes: int


def _layout_of(header: Path) -> _Layout | None:
    with _opened(header) as file:
        return _layout(file.read(540))


def _opened(path: Path) -> Any:
    return gzip.open(path) if _is_gzip(path) else path.open("rb")


def _layout(header: bytes) -> _Layout | None:
    """What a NIfTI-1 or -2 header says; None when it is neither (ITK then decides)."""
    for order in "<>":
        if len(header) < 348:
            raise EOFError
        size = struct.unpack_from(f"{order}i", header)[0]
        if size == 348:
            dims = struct.unpack_from(f"{order}8h", header, 40)
            kind, bits = struct.unpack_from(f"{order}2h", header, 70)
            offset = struct.unpack_from(f"{order}f", header, 108)[0]
        elif size == 540 and len(header) >= 540:
            dims = struct.unpack_from(f"{order}8q", header, 16)
            kind, bits = struct.unpack_from(f"{order}2h", header, 12)
            offset = struct.unpack_from(f"{order}q", header, 168)[0]
        else:
            continue
        if not 1 <= dims[0] <= 7 or not math.isfinite(offset):
            raise EOFError
        voxels, start = math.prod(max(d, 1) for d in dims[1 : dims[0] + 1]), max(int(offset), 0)
        return _Layout(order, kind, voxels, start, start + (voxels * bits + 7) // 8)
    return None


def _is_gzip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"\x1f\x8b"


def _uncompressed_bytes(path: Path, wanted: int | None) -> int:
    """The length after decompression: from gzip's own trailer, or counted when the trailer says something else."""
    with path.open("rb") as file:
        file.seek(-4, os.SEEK_END)
        trailer = struct.unpack("<I", file.read(4))[0]
    if wanted is not None and trailer == wanted % 2**32:
        return wanted
    total = 0
    with gzip.open(path) as file:
        while block := file.read(1 << 22):
            total += len(block)
    return total
