"""Voxels that no model makes smaller, noise and tiny volumes: deflated as a whole, as a .nii.gz file holds them."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine.memory import amount, free_system_memory
from ..errors import BadInput, OutOfMemory
from ..volume import Volume
from .container import DAMAGED, Container
from .lattice import halvings
from .placing import Steps, placed
from .values import TYPES

PLANES = "planes"  # whether all lowest bytes come first, then all that are one higher
_AT_ONCE = 3  # times the voxels: deflated or sorted into planes, and in their order

Array = npt.NDArray[Any]


def pack(array: Array) -> tuple[bytes, bool]:
    """Voxels [c, i, j, k] in the fewest bytes of three ways, and whether plane by plane: as they are, or deflated."""
    voxels = np.ascontiguousarray(array.transpose(0, 3, 2, 1)).astype(array.dtype.newbyteorder("<"), copy=False)
    plain = voxels.tobytes()
    ways = [(plain, False), (_deflated(plain), False)]
    if array.dtype.itemsize > 1:
        ways.append((_deflated(voxels.reshape(-1).view(np.uint8).reshape(-1, array.dtype.itemsize).T.tobytes()), True))
    return min(ways, key=lambda way: len(way[0]))


def read_packed(container: Container, coarser: int, slices: tuple[int, int] | None) -> Volume:
    """The volume of a file of this kind, or a coarser one, or some of its slices. Raises BadInput, OutOfMemory."""
    steps = _steps(container, coarser)
    if steps is None:
        raise BadInput(f"{container.name} holds no volume that is {coarser} halvings coarser.")
    i, j, k = steps
    return placed(container, _unpack(container)[:, ::i, ::j, ::k], 0, steps, slices)


def _unpack(container: Container) -> Array:
    """The voxels [c, i, j, k]."""
    told, name = container.header["volume"], container.name
    if told["dtype"] not in TYPES:
        raise BadInput(f"{name} is damaged: it names no type of voxels.")
    container.check_whole()
    dtype, (channels, i, j, k) = np.dtype(told["dtype"]), told["shape"]
    size = channels * i * j * k * dtype.itemsize
    if _AT_ONCE * size > free_system_memory():
        raise OutOfMemory(f"{name} needs {amount(_AT_ONCE * size)} of memory, more than is free.")
    plain = bytes(container.payload) if len(container.payload) == size else _inflated(container.payload, size)
    if len(plain) != size:
        raise BadInput(f"{name} is damaged: its voxels have the wrong size.")
    flat = np.frombuffer(plain, np.uint8)
    if container.header.get(PLANES) is True and len(container.payload) != size:
        flat = np.ascontiguousarray(flat.reshape(dtype.itemsize, -1).T).reshape(-1)
    voxels = flat.view(dtype.newbyteorder("<")).astype(dtype, copy=False).reshape(channels, k, j, i)
    return np.ascontiguousarray(voxels.transpose(0, 3, 2, 1))


def _steps(container: Container, coarser: int) -> Steps | None:
    """How far apart the voxels of a coarser volume are; None if there is none."""
    if not coarser:
        return 1, 1, 1
    i, j, k = container.header["volume"]["shape"][1:]
    axes = halvings((i, j, k), _spacing(container))
    if coarser > len(axes):
        return None
    first, second, third = (2 ** axes[:coarser].count(axis) for axis in range(3))
    return first, second, third


def _spacing(container: Container) -> Steps:
    """Micrometres from voxel to voxel. Raises BadInput where the header does not tell them."""
    told = container.header.get("spacing_um")
    if not isinstance(told, list) or len(told) != 3 or not all(type(along) is int and along >= 1 for along in told):
        raise BadInput(f"{container.name} is damaged: it does not tell the spacing of its voxels.", DAMAGED)
    x, y, z = told
    return x, y, z


def _deflated(plain: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    return packer.compress(plain) + packer.flush()


def _inflated(data: memoryview, size: int) -> bytes:
    """So many bytes at most; none where the data are cut short or not deflated."""
    unpacker = zlib.decompressobj(-zlib.MAX_WBITS)
    try:
        found = unpacker.decompress(data, size + 1)
    except zlib.error:
        return b""
    return found if unpacker.eof and not unpacker.unused_data else b""
