"""The three rows of an affine in bytes, as a .maez file stores them without digits (docs/maez.md, chapters 11 and 12).

Every operation is one of IEEE 754 in the order that is written here, so that all computers find the same numbers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Iterator, Sequence

NORMALISED = 51  # bytes: nine numbers of 32 bits, three of 8, three of 32
_NEAR = 8  # how far, in last places of 32 bits, the largest number of a column is looked for
_MISSED = 1e-14  # of a number, that it may lie beside one of 32 bits before it is looked at no more


def pack_plain(numbers: Sequence[float]) -> bytes:
    """Twelve numbers, row by row: the first three columns in 64 bits, the last one in 32 where these hold it."""
    turned, place = [numbers[n] for n in range(12) if n % 4 < 3], numbers[3::4]
    return struct.pack("<9d", *turned) + (_short(place) or struct.pack("<3d", *place))


def unpack_plain(packed: bytes) -> list[float]:
    """The twelve numbers again. Raises ValueError."""
    if len(packed) not in (84, 96):
        raise ValueError("no affine")
    turned = struct.unpack_from("<9d", packed)
    place = struct.unpack_from("<3f" if len(packed) == 84 else "<3d", packed, 72)
    return [number for row in range(3) for number in (*turned[3 * row : 3 * row + 3], place[row])]


def pack_normalised(numbers: Sequence[float]) -> bytes:
    """Twelve numbers as a NIfTI file holds them, in 32 bits: each column a direction of any length and a spacing.

    b"" where these do not give the very same numbers again, as those of no NIfTI file do.
    """
    place = _short(numbers[3::4])
    columns = [_direction(list(numbers[axis::4])) for axis in range(3)]
    found = [column for column in columns if column is not None]
    if not place or len(found) < 3:
        return b""
    turned = [found[axis][0][row] for row in range(3) for axis in range(3)]
    packed = struct.pack("<9f3b", *turned, *(apart for _, apart in found)) + place
    return packed if _bits(unpack_normalised(packed)) == _bits(numbers) else b""


def unpack_normalised(packed: bytes) -> list[float]:
    """The twelve numbers again. Raises ValueError."""
    turned, apart = struct.unpack_from("<9f", packed), struct.unpack_from("<3b", packed, 36)
    columns = [_column(turned[axis::3], apart[axis]) for axis in range(3)]
    columns.append(list(struct.unpack_from("<3f", packed, 39)))
    return [column[row] for row in range(3) for column in columns]


def _column(direction: Sequence[float], apart: int) -> list[float]:
    """A direction made as long as the spacing, which lies so many last places from its length."""
    length = _length(direction)
    if not 0 < length < math.inf:
        raise ValueError("no direction")
    spacing = _moved(length, apart)
    return [number / length * spacing for number in direction]


def _direction(column: Sequence[float]) -> tuple[list[float], int] | None:
    """Numbers of 32 bits whose direction, at the spacing that many last places from their length, is a column's."""
    try:
        spacing = _moved(_length(column), 0)
        for direction in _candidates(column):
            length = _length(direction)
            apart = _place(spacing) - _place(_moved(length, 0))
            if -128 <= apart < 128 and _bits(_column(direction, apart)) == _bits(column):
                return direction, apart
    except (OverflowError, ValueError):
        pass  # beyond 32 bits, or no column
    return None


def _candidates(column: Sequence[float]) -> Iterator[list[float]]:
    """Numbers of 32 bits in the ratio of a column's: its largest one rounded, or some last places beside it."""
    largest = max(column, key=abs)
    if not largest:
        return
    for apart in sorted(range(-_NEAR, _NEAR + 1), key=abs):
        scale = _moved(largest, apart) / largest
        wanted = [number * scale for number in column]
        near = [_moved(number, 0) for number in wanted]
        if all(abs(a - b) <= _MISSED * abs(b) for a, b in zip(near, wanted, strict=True)):
            yield near


def _length(column: Sequence[float]) -> float:
    return math.sqrt(column[0] * column[0] + column[1] * column[1] + column[2] * column[2])


def _place(number: float) -> int:
    """A number of 32 bits as the whole number with the same bits: next ones are one apart."""
    return int(struct.unpack("<i", struct.pack("<f", number))[0])


def _moved(number: float, places: int) -> float:
    """A number rounded to 32 bits, and so many last places away from it. Raises OverflowError, ValueError."""
    try:
        (moved,) = struct.unpack("<f", struct.pack("<i", _place(number) + places))
    except struct.error:
        raise ValueError("no number of 32 bits") from None
    return float(moved)


def _short(place: Sequence[float]) -> bytes:
    """Three numbers in 32 bits; b"" where these do not hold them."""
    try:
        short = struct.pack("<3f", *place)
    except OverflowError:
        return b""
    return short if struct.unpack("<3f", short) == tuple(place) else b""


def _bits(numbers: Sequence[float]) -> bytes:
    """Numbers told apart by their signs too, that of 0 included."""
    return struct.pack(f"<{len(numbers)}d", *numbers)
