"""The parts of a .maez chunk as bytes: rANS lanes, side information, coded entries, then plain bits (docs/maez.md)."""

from __future__ import annotations

import struct

from ..errors import BadInput

_HEAD = struct.Struct("<HII")  # lanes, bytes of side information, bytes of the coded part; plain bits fill the rest


def pack_part(lanes: int, side: bytes, coded: bytes, plain: bytes) -> bytes:
    """A part as it is stored."""
    return _HEAD.pack(lanes, len(side), len(coded)) + side + coded + plain


def split_part(data: bytes) -> tuple[int, bytes, bytes, bytes]:
    """The lanes, side information, coded entries and plain bits of a part. Raises BadInput when it is too short."""
    if len(data) < _HEAD.size:
        raise BadInput("a part is too short")
    lanes, side_bytes, coded_bytes = _HEAD.unpack_from(data)
    side_end, coded_end = _HEAD.size + side_bytes, _HEAD.size + side_bytes + coded_bytes
    if coded_end > len(data):
        raise BadInput("a part is too short")
    return lanes, data[_HEAD.size : side_end], data[side_end:coded_end], data[coded_end:]
