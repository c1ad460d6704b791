"""Is an image file whole? For the formats whose ITK reader fills what is missing without a word; see also nifti.py.

And for the formats that MedAE writes: ITK's writers may leave a cut file where the disk is full, without a word.
"""

from __future__ import annotations

import gzip
import os
import re
import struct
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from .errors import BadInput
from .nifti import check_complete

# ITK's readers that refuse a truncated file themselves, and NIfTI's, whose files nifti.py looks at.
_REFUSING = ("GDCMImageIO", "HDF5ImageIO", "MetaImageIO", "MINCImageIO", "NiftiImageIO", "NrrdImageIO", "PNGImageIO")
_VTK_DATA = re.compile(rb"\n(LOOKUP_TABLE|VECTORS|TENSORS|COLOR_SCALARS)[^\n]*\n", re.IGNORECASE)
_GIPL_HEADER = 256
_TIFF_SIZES = {3: "H", 4: "I", 16: "Q"}  # types of the numbers in a TIFF's directory
_TIFF_PLACES = {273: 279, 324: 325}  # the offsets of strips and tiles, and their lengths
_LARGEST_DIRECTORY = 1 << 24
_LARGEST_HEADER = 1 << 24
_BLOCK = 1 << 20
_NIFTI_HEADER = 352
_HEADER_ENDS = {".nrrd": b"\n\n", ".mha": b"\nElementDataFile = LOCAL\n"}
_PNG_END = b"\0\0\0\0IEND\xaeB`\x82"


def check_whole(path: Path, reader: str, nbytes: float) -> None:
    """Raise BadInput when the file lacks some of its `nbytes` of voxels, or is of a format that never shows it.

    `reader` is the name of ITK's reader for it, such as "TIFFImageIO".
    """
    if reader in _REFUSING:
        return
    test = _TESTS.get(reader)
    if test is None:
        raise BadInput(
            f"{path} is of a format that does not show whether a file is whole.",
            "Convert it to NIfTI, NRRD or MHA, then open that.",
        )
    try:
        with path.open("rb") as file:
            whole = test(file, nbytes)
    except (OSError, EOFError, struct.error, zlib.error):
        whole = False
    if not whole:
        raise BadInput(f"{path} is damaged or truncated.", "Copy the file again, or convert it to NIfTI, NRRD or MHA.")


def is_written(path: Path, suffix: str, nbytes: int) -> bool:
    """Whether a file that was just written as `suffix` holds all of its `nbytes` of voxels, to the end of the file."""
    try:
        if suffix == ".nii":
            check_complete(path)
            return True
        with path.open("rb") as file:
            if suffix == ".nii.gz":
                return _inflates(file, _NIFTI_HEADER + nbytes)
            if suffix in _HEADER_ENDS:
                head, end = file.read(_LARGEST_HEADER), _HEADER_ENDS[suffix]
                file.seek(head.index(end) + len(end))
                return _inflates(file, nbytes)
            if suffix == ".png":
                file.seek(-len(_PNG_END), os.SEEK_END)
                return file.read() == _PNG_END
            return _tiff(file, nbytes)
    except (BadInput, OSError, EOFError, ValueError, struct.error, zlib.error):
        return False


def _inflates(file: BinaryIO, nbytes: int) -> bool:
    """Whether a stream of zlib or gzip from here on ends as it should, and holds so many bytes."""
    stream, found = zlib.decompressobj(zlib.MAX_WBITS | 32), 0
    while not stream.eof and (block := stream.unconsumed_tail or file.read(_BLOCK)):
        found += len(stream.decompress(block, _BLOCK))
    return stream.eof and found >= nbytes


def _gipl(file: BinaryIO, nbytes: float) -> bool:
    packed = file.read(2) == b"\x1f\x8b"
    file.seek(0)
    if not packed:
        return _length(file) >= _GIPL_HEADER + nbytes
    found = 0
    with gzip.open(file) as unpacked:
        while block := unpacked.read(1 << 22):
            found += len(block)
    return found >= _GIPL_HEADER + nbytes


def _vtk(file: BinaryIO, nbytes: float) -> bool:
    """A legacy file; one of decimal texts is refused, for its last number may be cut short."""
    head = file.read(1 << 14)
    data = _VTK_DATA.search(head)
    return data is not None and b"\nBINARY" in head.upper()[: data.start()] and _length(file) >= data.end() + nbytes


def _bmp(file: BinaryIO, nbytes: float) -> bool:
    head = file.read(54)
    start, width, height = struct.unpack_from("<I", head, 10)[0], *struct.unpack_from("<ii", head, 18)
    bits, compression = struct.unpack_from("<HI", head, 28)
    return compression == 0 and _length(file) >= start + (width * bits + 31) // 32 * 4 * abs(height)


def _jpeg(file: BinaryIO, nbytes: float) -> bool:
    """It ends with the marker of its end, perhaps padded."""
    file.seek(-min(_length(file), 4096), os.SEEK_END)
    return file.read().rstrip(b"\0 \r\n").endswith(b"\xff\xd9")


def _tiff(file: BinaryIO, nbytes: float) -> bool:
    """All pages are there, with all their strips or tiles."""
    head = file.read(16)
    order = {b"II": "<", b"MM": ">"}[head[:2]] if head[:2] in (b"II", b"MM") else None
    if order is None:
        return False
    big = struct.unpack_from(f"{order}H", head, 2)[0] == 43
    page = struct.unpack_from(f"{order}Q", head, 8)[0] if big else struct.unpack_from(f"{order}I", head, 4)[0]
    seen: set[int] = set()
    while page and page not in seen:
        seen.add(page)
        numbers, page = _tiff_page(file, order, big, page)
        if not any(numbers.get(starts) for starts in _TIFF_PLACES):  # its directory was never written
            return False
        for starts, lengths in _TIFF_PLACES.items():
            ends = (a + b for a, b in zip(numbers.get(starts, ()), numbers.get(lengths, ())))
            if max(ends, default=0) > _length(file):
                return False
    return bool(seen)


def _tiff_page(file: BinaryIO, order: str, big: bool, at: int) -> tuple[dict[int, tuple[int, ...]], int]:
    """The places of a page's strips or tiles and their lengths, by tag, and where the next page begins (0: nowhere)."""
    wide, count_type = ("Q", "Q") if big else ("I", "H")
    entry = struct.Struct(f"{order}HH{wide}")
    inline = struct.calcsize(f"{order}{wide}")
    file.seek(at)
    (count,) = struct.unpack(f"{order}{count_type}", file.read(struct.calcsize(f"{order}{count_type}")))
    size = count * (entry.size + inline)
    if size > _LARGEST_DIRECTORY:
        raise EOFError
    entries = file.read(size)
    (following,) = struct.unpack(f"{order}{wide}", file.read(inline))
    numbers = {}
    for start in range(0, size, entry.size + inline):
        tag, kind, many = entry.unpack_from(entries, start)
        if kind not in _TIFF_SIZES or tag not in {*_TIFF_PLACES, *_TIFF_PLACES.values()}:
            continue
        form = struct.Struct(f"{order}{many}{_TIFF_SIZES[kind]}") if many <= _LARGEST_DIRECTORY else None
        if form is None:
            raise EOFError
        value = entries[start + entry.size : start + entry.size + inline]
        if form.size > inline:
            file.seek(struct.unpack(f"{order}{wide}", value)[0])
            value = file.read(form.size)
        numbers[tag] = form.unpack_from(value)
    return numbers, int(following)


def _length(file: BinaryIO) -> int:
    return os.fstat(file.fileno()).st_size


_TESTS: dict[str, Callable[[BinaryIO, float], bool]] = {
    "BMPImageIO": _bmp,
    "GiplImageIO": _gipl,
    "JPEGImageIO": _jpeg,
    "LSMImageIO": _tiff,
    "TIFFImageIO": _tiff,
    "VTKImageIO": _vtk,
}
