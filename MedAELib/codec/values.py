"""Voxels of any type as whole numbers that the model can code, and back, bit for bit.

Four ways, the first that fits: evenly spaced integers; floats on an even grid, as after a rescale; a table of the
values that occur; and the high bits of the value's place in the order of its type, with the low bits kept as they are.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from .context import LARGEST

TYPES = (
    "bool",
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float16",
    "float32",
    "float64",
)

_PIECE = 1 << 18  # values that are compared at a time

Voxels = npt.NDArray[np.int64]
Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Mapped:
    """Whole numbers 0 .. 2^16 - 1 in the array's shape, how they became so (plain JSON values), and the packed bytes
    that belong to it: a table, or the low bits of all values."""

    whole: Voxels
    how: dict[str, Any]
    extra: bytes = b""


def to_whole(array: Array) -> Mapped:
    """Map an array of any of `TYPES` to whole numbers, reversibly to the bit."""
    if array.dtype.kind == "b":
        return Mapped(array.astype(np.int64), {"kind": "even", "start": 0, "step": 1})
    if array.dtype.kind == "f":
        return _grid(array) or _table(array, ordered(array)) or _split(array, ordered(array))
    low = int(array.min())
    span = int(array.max()) - low
    above = shifted(array, low)
    step = int(np.gcd.reduce(above, axis=None)) or 1
    if span // step < LARGEST:
        return Mapped((above // np.uint64(step)).astype(np.int64), {"kind": "even", "start": low, "step": step})
    return _table(array, ordered(array)) or _split(array, ordered(array))


def from_whole(whole: Voxels, how: Mapping[str, Any], extra: bytes, dtype: np.dtype[Any]) -> Array:
    """The array that `to_whole` mapped. Raises BadInput when the description and the numbers do not belong together."""
    try:
        kind = how["kind"]
        if kind == "even":
            start, step = int(how["start"]), int(how["step"])
            return _unsigned_sum(start, step, whole).view(_signed_or_not(dtype)).astype(dtype, copy=False)
        if kind == "grid":
            return _on_grid(whole, float(how["start"]), float(how["step"]), float(how["divisor"]), dtype)
        if kind == "table":
            places = _unpack_table(extra, int(how["size"]))
            if int(whole.max()) >= len(places):
                raise BadInput("its table of values is too short")
            return unordered(places[whole], dtype)
        if kind == "split":
            return _joined(whole, how, extra, dtype)
    except (KeyError, TypeError, ValueError, OverflowError, zlib.error):
        pass
    raise BadInput("its description of the voxel values is damaged")


def ordered(array: Array) -> npt.NDArray[np.uint64]:
    """Each value's place in the order of its type: for floats, the bit pattern with the negatives turned round."""
    bits = 8 * array.dtype.itemsize
    pattern = np.ascontiguousarray(array).view(f"u{array.dtype.itemsize}").astype(np.uint64)
    top = np.uint64(1 << (bits - 1))
    if array.dtype.kind == "u":
        return pattern
    if array.dtype.kind == "i":
        return pattern ^ top
    everything = np.uint64((1 << bits) - 1)
    return np.where(pattern & top, pattern ^ everything, pattern | top)


def unordered(places: npt.NDArray[np.uint64], dtype: np.dtype[Any]) -> Array:
    """The values at these places of the order."""
    bits = 8 * dtype.itemsize
    top, everything = np.uint64(1 << (bits - 1)), np.uint64((1 << bits) - 1)
    if dtype.kind == "u":
        pattern = places
    elif dtype.kind == "i":
        pattern = places ^ top
    else:
        pattern = np.where(places & top, places ^ top, places ^ everything)
    return pattern.astype(f"u{dtype.itemsize}").view(dtype)


def shifted(array: Array, low: int) -> npt.NDArray[np.uint64]:
    """How far each integer lies above `low`, without overflow."""
    return array.astype(np.int64 if array.dtype.kind == "i" else np.uint64).view(np.uint64) - np.uint64(low % 2**64)


def _unsigned_sum(start: int, step: int, whole: Voxels) -> npt.NDArray[np.uint64]:
    return whole.astype(np.uint64) * np.uint64(step) + np.uint64(start % 2**64)


def _signed_or_not(dtype: np.dtype[Any]) -> type[np.generic]:
    return np.int64 if dtype.kind == "i" else np.uint64


@np.errstate(over="ignore")  # a guess that overflows is no grid, and is left out
def _grid(array: Array) -> Mapped | None:
    """Floats that are start + n * step / divisor, computed in double precision, to the bit."""
    finite = bool(np.isfinite(array).all())
    if not finite or (np.signbit(array) & (array == 0)).any():
        return None
    known = np.unique(array)
    if len(known) == 1:
        return Mapped(
            np.zeros(array.shape, np.int64), {"kind": "grid", "start": float(known[0]), "step": 0.0, "divisor": 1.0}
        )
    values = known.astype(np.float64)
    for start, step, divisor in _guesses(values):
        count = np.rint((values - start) * divisor / step) if step else values
        if not np.isfinite(count).all() or count.min() < 0 or count.max() >= LARGEST:
            continue
        if np.array_equal(_on_grid(count.astype(np.int64), start, step, divisor, array.dtype), known):
            whole = count.astype(np.int64)[np.searchsorted(known, array)]
            return Mapped(whole, {"kind": "grid", "start": start, "step": step, "divisor": divisor})
    return None


def _guesses(values: npt.NDArray[np.float64]) -> list[tuple[float, float, float]]:
    """Start, step and divisor of grids that rising values may lie on; whole numbers first."""
    low = float(np.floor(values[0]))
    gap = float(np.diff(values).min())
    span = float(values[-1] - values[0])
    guesses = [(low, 1.0, 1.0)]
    guesses += [(float(np.floor(values[0] * d) / d), 1.0, d) for d in (2.0, 4.0, 8.0, 16.0, 256.0, 10.0, 100.0, 1000.0)]
    if span / gap < LARGEST:
        steps = round(span / gap)
        guesses += [(float(values[0]), span, float(n)) for n in range(max(steps - 2, 1), steps + 3)]
        guesses += [(float(values[0]), gap, 1.0), (0.0, float(values[-1]), round(values[-1] / gap) or 1.0)]
    return guesses


def _on_grid(whole: Voxels, start: float, step: float, divisor: float, dtype: np.dtype[Any]) -> Array:
    if dtype.kind != "f" or not divisor > 0:
        raise ValueError("no grid")
    with np.errstate(over="ignore"):
        return (start + whole * step / divisor).astype(dtype)


def to_table(array: Array) -> Mapped | None:
    """An array by the ranks of its values, if there are less than 2^16."""
    return _table(array, ordered(array), fewer=False)


def _table(array: Array, places: npt.NDArray[np.uint64], fewer: bool = True) -> Mapped | None:
    """The values that occur, by their rank, if they are few enough, or `fewer`: so few that a table pays."""
    known, rank = np.unique(places, return_inverse=True)
    if len(known) >= LARGEST or len(known) * (4 if fewer else 1) > array.size + 64:
        return None
    steps = np.diff(known, prepend=np.uint64(0)).astype("<u8")
    packed = zlib.compress(steps.view(np.uint8).reshape(-1, 8).T.tobytes(), 9)
    return Mapped(rank.reshape(array.shape).astype(np.int64), {"kind": "table", "size": len(known)}, packed)


def _unpack_table(extra: bytes, size: int) -> npt.NDArray[np.uint64]:
    if not 0 < size < LARGEST:
        raise ValueError("no table")
    planes = _inflated(extra, 8 * size)
    steps = np.frombuffer(planes, np.uint8).reshape(8, size).T.copy().view("<u8")[:, 0]
    return np.cumsum(steps.astype(np.uint64), dtype=np.uint64)


def _split(array: Array, places: npt.NDArray[np.uint64]) -> Mapped:
    """The high bits to be modelled; the low bits as bytes, plane by plane, deflated."""
    low = int(places.min())
    above = places - np.uint64(low)
    shift = max(int(above.max()).bit_length() - 16, 0)
    rest = above & np.uint64((1 << shift) - 1)
    planes = np.ascontiguousarray(rest.reshape(-1).astype("<u8")).view(np.uint8).reshape(-1, 8).T[: -(-shift // 8)]
    extra = zlib.compress(np.ascontiguousarray(planes).tobytes(), 6)
    return Mapped(
        (above >> np.uint64(shift)).astype(np.int64), {"kind": "split", "low": str(low), "shift": shift}, extra
    )


def _joined(whole: Voxels, how: Mapping[str, Any], extra: bytes, dtype: np.dtype[Any]) -> Array:
    shift, low = int(how["shift"]), int(how["low"])
    if not 0 <= shift <= 48 or not 0 <= low < 2**64:
        raise ValueError("no split")
    planes = 0 if how.get("coarse") else -(-shift // 8)  # a coarser lattice does without the low bits
    rest = np.zeros((whole.size, 8), np.uint8)
    rest[:, :planes] = np.frombuffer(_inflated(extra, planes * whole.size), np.uint8).reshape(planes, whole.size).T
    places = (whole.astype(np.uint64) << np.uint64(shift)) + rest.view("<u8")[:, 0].reshape(whole.shape).astype(
        np.uint64
    )
    return unordered(places + np.uint64(low), dtype)


def _inflated(extra: bytes, size: int) -> bytes:
    """Exactly so many bytes, never more than declared however small the packed form is."""
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(extra, size + 1) if size else b""
    if len(found) != size:
        raise ValueError("not the declared size")
    return found


def span_of(array: Array) -> float:
    """The largest value less the smallest; infinite where no number is so large."""
    low, high = array.min(), array.max()
    return float(int(high) - int(low)) if array.dtype.kind in "iub" else float(high) - float(low)


def difference(before: Array, after: Array) -> npt.NDArray[np.float64]:
    """After minus before, also where integers are so large that no float64 tells them apart."""
    if before.dtype.itemsize == 8 and before.dtype.kind in "iu":
        return (after.view(np.uint64) - before.view(np.uint64)).view(np.int64).astype(np.float64)
    return np.subtract(after, before, dtype=np.float64)


def in_pieces(*arrays: Array) -> Iterator[tuple[Array, ...]]:
    """The same pieces of arrays of one shape, of some values each: to compare them takes little memory."""
    shape, size = arrays[0].shape, arrays[0].size
    axis = int(np.argmax(shape)) if shape else 0
    thick = max(shape[axis] * _PIECE // size, 1) if size > _PIECE else 0
    for start in range(0, shape[axis], thick) if thick else ():
        yield tuple(array[(slice(None),) * axis + (slice(start, start + thick),)] for array in arrays)
    if not thick:
        yield arrays


def largest_error(before: Array, after: Array) -> float:
    """The largest difference between two arrays, never told too small; where both are not finite alike, none."""
    return max(_largest_error(*pair) for pair in in_pieces(before, after))


def _largest_error(before: Array, after: Array) -> float:
    before, after = (array.astype(array.dtype.newbyteorder("="), copy=False) for array in (before, after))
    if before.dtype.kind in "iub":
        wide = [array.astype(np.int64 if before.dtype != np.uint64 else np.uint64) for array in (before, after)]
        larger, smaller = np.maximum(*wide), np.minimum(*wide)
        exact = int((larger.view(np.uint64) - smaller.view(np.uint64)).max())
        return float(exact) if float(exact) >= exact else float(np.nextafter(float(exact), np.inf))
    with np.errstate(invalid="ignore", over="ignore"):
        apart = np.abs(before.astype(np.float64) - after)
    same = before.view(f"u{before.dtype.itemsize}") == after.view(f"u{after.dtype.itemsize}")
    apart = np.where(same, 0.0, np.where(np.isnan(apart), np.inf, apart))
    largest = float(apart.max())
    if not 0 < largest < np.inf:
        return largest
    ends = [array[apart == largest].astype(np.float64) for array in (before, after)]
    high, low = np.maximum(*ends), np.minimum(*ends)
    moved = largest - high
    lost = (high - (largest - moved)) - (low + moved)  # what rounding took from the difference, exact (Knuth's sum)
    return float(np.nextafter(largest, np.inf)) if (lost > 0).any() else largest
