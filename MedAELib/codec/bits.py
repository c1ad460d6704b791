"""Plain bits, packed and read back in bulk: what no model can make shorter."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ..errors import BadInput

Integers = npt.NDArray[np.int64]
_BLOCK = 1 << 16  # values whose bits are told apart at a time: that takes dozens of bytes for each bit


def pack(values: Integers, counts: Integers) -> bytes:
    """The lowest `counts` bits (0..24 each) of the values, one after the other, the highest bit first."""
    some = range(0, len(values), _BLOCK)
    pieces = [_bits(values[first : first + _BLOCK], counts[first : first + _BLOCK]) for first in some]
    return np.packbits(np.concatenate(pieces)).tobytes() if pieces else b""


def _bits(values: Integers, counts: Integers) -> npt.NDArray[np.uint8]:
    """Bit after bit."""
    owner = np.repeat(np.arange(len(values)), counts)
    within = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    return ((values[owner] >> (counts[owner] - 1 - within)) & 1).astype(np.uint8)


class BitReader:
    """Reads in bulk what `pack` wrote, call after call. Raises BadInput when the bits run out."""

    def __init__(self, data: bytes | memoryview) -> None:
        octets = np.append(np.frombuffer(data, np.uint8), np.zeros(4, np.uint8)).astype(np.int64)
        self._windows = (octets[:-3] << 24) | (octets[1:-2] << 16) | (octets[2:-1] << 8) | octets[3:]  # from each byte
        self._size, self._place = 8 * len(data), 0

    def read(self, counts: Integers) -> Integers:
        """The next values, one for each count of bits."""
        ends = np.cumsum(counts)
        ends += self._place
        if len(ends) and ends[-1] > self._size:
            raise BadInput("the plain bits end too early")
        starts = ends - counts
        self._place = int(ends[-1]) if len(ends) else self._place
        window = self._windows.take(starts >> 3)
        return (window >> (32 - (starts & 7) - counts)) & ((1 << counts) - 1)

    def finished(self) -> bool:
        """Whether all but the last byte's filling was read."""
        return self._size - self._place < 8
