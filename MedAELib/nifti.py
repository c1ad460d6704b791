"""Guards around ITK's NIfTI reader, which fills what is missing of a truncated file with zeros, without a word.

It also reads the voxels of `scan.nii` when asked for `scan.nii.gz` and both stand in one folder.
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
from pathlib import Path
from tempfile import TemporaryDirectory

from .errors import BadInput

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
        with gzip.open(header) if _is_gzip(header) else header.open("rb") as file:
            wanted = _expected_bytes(file.read(540))
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


def _expected_bytes(header: bytes) -> int | None:
    """Header and voxels together, from a NIfTI-1 or -2 header; None when it is neither (ITK then decides)."""
    for order in "<>":
        if len(header) < 348:
            raise EOFError
        size = struct.unpack_from(f"{order}i", header)[0]
        if size == 348:
            dims, bits = struct.unpack_from(f"{order}8h", header, 40), struct.unpack_from(f"{order}h", header, 72)[0]
            offset = struct.unpack_from(f"{order}f", header, 108)[0]
        elif size == 540 and len(header) >= 540:
            dims, bits = struct.unpack_from(f"{order}8q", header, 16), struct.unpack_from(f"{order}h", header, 14)[0]
            offset = struct.unpack_from(f"{order}q", header, 168)[0]
        else:
            continue
        if not 1 <= dims[0] <= 7 or not math.isfinite(offset):
            raise EOFError
        return max(int(offset), 0) + (math.prod(max(d, 1) for d in dims[1 : dims[0] + 1]) * bits + 7) // 8
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
