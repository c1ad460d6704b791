"""CRC-32 of much data: that of its parts, found side by side, and put together."""

from __future__ import annotations

import zlib
from functools import cache

from ..threads import side_by_side

_PART = 8 << 20  # bytes


def crc32(data: memoryview) -> int:
    """What `zlib.crc32` says of bytes."""
    parts = [data[start : start + _PART] for start in range(0, len(data), _PART)]
    value = 0
    for part, own in zip(parts, side_by_side(zlib.crc32, parts), strict=True):
        value = own ^ _sum(_carried_on(len(part)), value)
    return value


@cache
def _carried_on(count: int) -> list[int]:
    """What each bit of a CRC-32 becomes when `count` more bytes follow, apart from what those bytes add.

    A CRC is linear over bits that are added without carry: that of two parts is the second's, with the first's so
    carried on added to it.
    """
    made = [1 << bit for bit in range(32)]
    further = [zlib.crc32(b"\0", bit) ^ zlib.crc32(b"\0") for bit in made]  # by 1, 2, 4, ... bytes
    while count:
        if count & 1:
            made = [_sum(further, bits) for bits in made]
        further, count = [_sum(further, bits) for bits in further], count >> 1
    return made


def _sum(columns: list[int], bits: int) -> int:
    value = 0
    for bit, column in enumerate(columns):
        if bits >> bit & 1:
            value ^= column
    return value
