"""Voxels in a run folder: one .npy and one .json (position, meta, size) per volume, complete or not there at all."""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput, DiskFull, MedAEError, is_disk_full
from . import strict
from .crc import crc32

if TYPE_CHECKING:
    import numpy as np

    from ..volume import Volume

PARTIAL = ".partial"
"""Ending of a file that is still being written."""
_NAME = re.compile(r"[a-z][a-z0-9_]{0,63}")
_DTYPE = re.compile(r"[<>|][biuf][1248]")
_FRAMES = "ckji"  # order of a file in which the frames lie one after another, each with i fastest as in VTK
_LARGEST_JSON = 16 << 20
_SPARE_BYTES = 16 << 20
_CHUNK = 8 << 20

FreeBytes = Callable[[Path], int]


def free_bytes(folder: Path) -> int:
    """Bytes that the disk under `folder` still takes."""
    return shutil.disk_usage(folder).free


def check_name(name: Any) -> str:
    """The name of an input or output, which is also a file name; BadInput when it is not a plain lower-case word."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise BadInput(f"{str(name)[:80]!r} is not a name for a volume in a run folder.")
    return name


def check_room(folder: Path, needed: int, free: FreeBytes = free_bytes) -> None:
    """DiskFull unless the disk under `folder` takes `needed` bytes and a little more."""
    there = free(folder)
    if there < needed + _SPARE_BYTES:
        raise DiskFull(f"The disk has no room: {needed / 1e6:,.0f} MB are needed and {there / 1e6:,.0f} MB are free.")


def disk_full(error: OSError) -> MedAEError | None:
    """DiskFull when the system refused to write for want of room, else None."""
    if is_disk_full(error):
        return DiskFull("The disk became full while voxels were written.")
    return None


def write_file(path: Path, data: bytes, durable: bool = False) -> None:
    """Write a small file so that it is either complete or not there; `durable` waits until it is on the disk.

    The panel does not wait: the disk would first take all voxels that were written just before.
    """
    partial = path.with_name(path.name + PARTIAL)
    with partial.open("wb") as file:
        file.write(data)
        file.flush()
        if durable:
            os.fsync(file.fileno())
    partial.replace(path)


def read_file(path: Path) -> dict[str, Any]:
    """The JSON object in a small file of a run folder; BadInput when it is missing, a link or damaged."""
    try:
        if path.is_symlink():
            raise ValueError("a link")
        with path.open("rb") as file:
            return strict.loads(file.read(_LARGEST_JSON + 1), _LARGEST_JSON)
    except (OSError, ValueError) as error:
        raise BadInput(f"{path} is missing or damaged ({error}).", "Start the task again.") from None


def to_json(value: Any, what: str) -> bytes:
    """Bytes of a JSON object for a run folder; BadInput when `value` is no plain JSON."""
    try:
        return strict.dumps(value, _LARGEST_JSON)
    except ValueError as error:
        raise BadInput(f"{what} cannot be handed to the worker ({error}).") from None


def describe(volume: Volume, **more: Any) -> dict[str, Any]:
    """Everything of a volume but its voxels, as plain JSON."""
    return {
        "shape": list(volume.array.shape),
        "dtype": volume.array.dtype.str,
        "affine": volume.affine.tolist(),
        "meta": dict(volume.meta),
        **more,
    }


def open_volume(folder: Path, name: str, description: Any, verify: bool = False) -> Volume:
    """The volume `name` in `folder`, its voxels mapped read-only; BadInput when it is not what `description` says.

    With `verify`, the checksum in the description is compared too, which reads all voxels.
    """
    import numpy as np

    from ..volume import Volume

    path = folder / f"{check_name(name)}.npy"
    try:
        order = description.get("order", "")  # results of earlier versions have none
        if not _DTYPE.fullmatch(description["dtype"]) or path.is_symlink() or not isinstance(description["meta"], dict):
            raise ValueError("not grey values")
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        if order == _FRAMES and array.ndim == 4:
            array = array.transpose(0, 3, 2, 1)
        if array.dtype.str != description["dtype"] or list(array.shape) != description["shape"]:
            raise ValueError("not of the announced size")
        if verify and checksum(array) != description["crc32"]:
            raise ValueError("its checksum is wrong")
        return Volume(array, np.array(description["affine"], dtype=np.float64), description["meta"])
    except MedAEError:
        raise
    except Exception as error:  # numpy's reader of headers lets many kinds through
        reason = str(error).partition("\n")[0][:200]
        raise BadInput(f"The voxels in {path} are missing or damaged ({reason}).", "Start the task again.") from None


def create_array(
    path: Path, shape: tuple[int, ...], dtype: np.dtype[Any], free: FreeBytes = free_bytes
) -> np.memmap[Any, np.dtype[Any]]:
    """A new writable memory-mapped .npy, i fastest as in VTK, several frames one after another: `order_of` tells.

    Raises DiskFull before anything is computed in vain.
    The room is taken from the disk at once: a sparse file would end the process with SIGBUS when the disk fills up.
    """
    import numpy as np

    dtype = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    check_room(path.parent, size, free)
    try:
        if shape[0] > 1:
            frames = (shape[0], *shape[:0:-1])
            array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=frames).transpose(0, 3, 2, 1)
        else:
            array = np.lib.format.open_memmap(path, mode="w+", dtype=dtype, shape=shape, fortran_order=True)
        with path.open("r+b") as file:
            _reserve(file.fileno(), path.stat().st_size - size, size)
    except OSError as error:
        path.unlink(missing_ok=True)
        raise disk_full(error) or error from None
    return array


def _reserve(descriptor: int, start: int, size: int) -> None:
    """Have the disk set aside `size` bytes from `start` on; OSError when it cannot."""
    if hasattr(os, "posix_fallocate"):
        try:
            os.posix_fallocate(descriptor, start, size)
            return
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV):
                raise
    os.lseek(descriptor, start, os.SEEK_SET)
    zeros = memoryview(bytes(min(_CHUNK, size)))
    while size > 0:
        size -= os.write(descriptor, zeros[:size])


def order_of(array: np.ndarray[Any, np.dtype[Any]]) -> str:
    """How the file of an array is to be read, for its description; empty where the .npy says all."""
    apart = array.shape[0] > 1 and array.transpose(0, 3, 2, 1).flags.c_contiguous
    return _FRAMES if apart else ""


def _line(array: np.ndarray[Any, np.dtype[Any]]) -> np.ndarray[Any, np.dtype[Any]]:
    """All voxels of an array without gaps as they lie in memory, in one line; nothing is copied."""
    return array.transpose(0, 3, 2, 1).reshape(-1) if order_of(array) else array.reshape(-1, order="A")


def checksum(array: np.ndarray[Any, np.dtype[Any]]) -> int:
    """CRC-32 of the voxels in the order in which they lie in the file."""
    return crc32(_line(array).view("u1").data)


class InputWriter:
    """Writes an input into a run folder, some megabytes at a time, so that the panel stays live while it exports.

    The input is a volume, or the frames of a sequence, one volume each, all of one size, type and place. They are read
    where they are and become the channels of one volume. Call `step` until it says True; `fraction` (0..1) tells how
    far it is. The input counts only when it is complete.
    Raises DiskFull, at the start or in a step, and BadInput for a name or meta that cannot be written.
    """

    def __init__(self, run: Path, name: str, volume: Volume | Sequence[Volume], free: FreeBytes = free_bytes) -> None:
        import numpy as np

        frames = list(volume) if isinstance(volume, Sequence) else [volume]
        first, folder = frames[0], run / "inputs"
        self._path = folder / f"{check_name(name)}.npy"
        self._description, header = _described(frames)
        if not _DTYPE.fullmatch(header["descr"]):
            raise BadInput(
                f"{first.name or 'The volume'} holds {first.array.dtype} values, which the worker does not read."
            )
        check_room(folder, sum(frame.array.nbytes for frame in frames), free)
        self._pieces = [
            _piece(frame.array, alone=len(frames) == 1) for frame in frames
        ]  # each is cut along its last axis
        self._piece = self._done = 0
        self._file = self._path.with_name(self._path.name + PARTIAL).open("wb")
        np.lib.format.write_array_header_1_0(self._file, header)

    @property
    def fraction(self) -> float:
        """The part that is written, 0 to 1."""
        return (self._piece + self._done / self._pieces[0].shape[-1]) / len(self._pieces)

    def step(self, max_bytes: int = 8 << 20) -> bool:
        """Write at most `max_bytes` (at least one voxel, or one scattered slice); True when all is written."""
        if self._piece == len(self._pieces):
            return True
        piece = self._pieces[self._piece]
        length = piece.shape[-1]
        count = max(1, max_bytes * length // piece.nbytes)
        slab = piece[..., self._done : self._done + count]
        try:
            self._file.write(slab.reshape(-1, order="F").view("u1").data)
            self._done += count
            if self._done >= length:
                self._piece, self._done = self._piece + 1, 0
            if self._piece == len(self._pieces):
                self._finish()
        except OSError as error:
            self.close()
            raise disk_full(error) or error from None
        return self._piece == len(self._pieces)

    def close(self) -> None:
        """Give up: what was written so far is removed. Does nothing once all is written."""
        if not self._file.closed:
            try:
                self._file.close()
            except OSError:
                pass  # the disk is full: the rest could not be written, and is not wanted any more
            Path(self._file.name).unlink(missing_ok=True)

    def _finish(self) -> None:
        self._file.close()
        Path(self._file.name).replace(self._path)
        write_file(self._path.with_suffix(".json"), self._description)


def _described(frames: Sequence[Volume]) -> tuple[bytes, dict[str, Any]]:
    """The description of an input and the header of its .npy."""
    first, order, more = frames[0], order_of(frames[0].array), {}
    shape = first.array.shape
    if len(frames) > 1:
        shape, order, more = (len(frames), *first.shape), _FRAMES, {"meta": {**first.meta, "frames": True}}
    description = to_json(describe(first, shape=list(shape), order=order, **more), first.name or "The volume")
    rows = first.array.flags.c_contiguous and not first.array.flags.f_contiguous
    header = {"descr": first.array.dtype.str, "fortran_order": not rows, "shape": shape}
    if order:
        header |= {"fortran_order": False, "shape": (shape[0], *shape[:0:-1])}
    return description, header


def _piece(array: np.ndarray[Any, np.dtype[Any]], alone: bool) -> np.ndarray[Any, np.dtype[Any]]:
    """What is written of an array slab by slab: one line of voxels, or slices of which each slab is copied."""
    flags = array.flags
    whole = flags.forc or bool(order_of(array)) if alone else flags.f_contiguous
    return _line(array) if whole else array
