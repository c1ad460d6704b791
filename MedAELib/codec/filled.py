"""What lies outside a scanner's field of view: columns of nothing but the lowest value, told by a mask, not by waves.

The rim of such a field is a sharp edge that means nothing. The mask takes it out of the wavelets' way.
"""

from __future__ import annotations

import zlib

import numpy as np
import numpy.typing as npt

from ..errors import BadInput

_SHARE = 0.03  # of the columns that must be filled for a mask to be worth a try
_FEWEST_SLICES = 2
_EDGE = 0.04  # of the largest value: how high the others must be at the rim

Mask = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]


def filled_columns(whole: Indices) -> Mask | None:
    """The columns along k [i, j] of a chunk [i, j, k] that are 0 throughout; None where they are few, all, or without
    an edge towards the others."""
    mask = (whole == 0).all(axis=2)
    if whole.shape[2] < _FEWEST_SLICES or not _SHARE <= mask.mean() < 1:
        return None
    rim = np.zeros_like(mask)
    rim[:, 1:] |= mask[:, :-1]
    rim[1:] |= mask[:-1]
    rim &= ~mask
    return mask if rim.any() and whole[rim].mean() > _EDGE * whole.max() else None


def extended(whole: Indices, mask: Mask) -> Indices:
    """The chunk with filled columns replaced by what continues the others smoothly: means on ever coarser grids."""
    known = np.where(mask, 0.0, 1.0)[:, :, None]
    return np.rint(_pulled(whole.astype(np.float64) * known, known)).astype(np.int64)


def _pulled(total: npt.NDArray[np.float64], weight: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Weighted means where there is any weight; elsewhere those of the grid that is half as fine."""
    means = total / np.maximum(weight, 1e-9)
    if (weight > 0).all() or max(weight.shape[:2]) == 1:
        return means
    coarse = _pulled(_halved(total), _halved(weight))
    finer = np.repeat(np.repeat(coarse, 2, axis=0), 2, axis=1)[: total.shape[0], : total.shape[1]]
    return np.where(weight > 0, means, _smoothed(finer))


def _halved(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    padded = np.pad(values, [(0, values.shape[0] % 2), (0, values.shape[1] % 2), (0, 0)])
    return padded[::2, ::2] + padded[1::2, ::2] + padded[::2, 1::2] + padded[1::2, 1::2]


def _smoothed(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    for axis in (0, 1):
        padded = np.pad(values, [(1, 1) if d == axis else (0, 0) for d in range(3)], mode="edge")
        before, after = (padded[:-2], padded[2:]) if axis == 0 else (padded[:, :-2], padded[:, 2:])
        values = (before + 2 * values + after) / 4
    return values


def pack_mask(mask: Mask) -> bytes:
    """A mask as it is stored: whether each column differs from the one before in its row, one bit each, deflated."""
    turns = mask.copy()
    turns[:, 1:] ^= mask[:, :-1]
    return zlib.compress(np.packbits(turns).tobytes(), 9)


def unpack_mask(data: bytes, shape: tuple[int, int]) -> Mask:
    """What `pack_mask` packed. Raises BadInput when it is not of that shape."""
    size = -(-shape[0] * shape[1] // 8)
    try:
        found = zlib.decompressobj().decompress(data, size + 1)
    except zlib.error:
        found = b""
    if len(found) != size:
        raise BadInput("its mask is damaged")
    turns = np.unpackbits(np.frombuffer(found, np.uint8), count=shape[0] * shape[1]).reshape(shape)
    return (np.cumsum(turns, axis=1) % 2).astype(bool)
