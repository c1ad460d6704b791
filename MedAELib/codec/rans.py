"""Entropy coding: many interleaved range coders (rANS) that step together, so that numpy codes whole rows of symbols.

After J. Duda, "Asymmetric numeral systems" (2013), and F. Giesen, "Interleaved entropy coders" (2014). Integers only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import BadInput

PRECISION = 16  # the frequencies of one row of a table add up to 2 to this power
_LOW = 24  # a lane's state stays in [2^24, 2^40)
_WORD = 16  # bits that a lane writes or reads at a time
_STATE_BYTES = 5
_MASK = np.uint64((1 << PRECISION) - 1)
_LOWEST, _SHIFT, _PRECISION = np.uint64(1 << _LOW), np.uint64(_WORD), np.uint64(PRECISION)
_LARGEST_LANES = 1 << 16

Integers = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class Tables:
    """Rows of cumulative frequencies, laid end to end; row r holds the symbols `offsets[r]` .. `offsets[r + 1] - 1`.

    `keys[s]` is r * 2^16 + the cumulative frequency of entry s in its row, so the keys rise through all rows.
    """

    keys: npt.NDArray[np.int64]
    frequencies: npt.NDArray[np.uint64]
    offsets: npt.NDArray[np.int64]

    @staticmethod
    def of(rows: Sequence[Integers]) -> Tables:
        """Tables from the rows' frequencies, each at least 1 and 2^16 together in every row; ValueError otherwise."""
        for row in rows:
            if int(row.min()) < 1 or int(row.sum()) != 1 << PRECISION:
                raise ValueError("the frequencies of a row do not fill it")
        frequencies = np.concatenate([np.asarray(row, np.int64) for row in rows])
        offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
        return Tables(np.cumsum(frequencies) - frequencies, frequencies.astype(np.uint64), offsets)

    def starts(self, entries: Integers) -> npt.NDArray[np.uint64]:
        """Cumulative frequency of each entry within its row."""
        return self.keys[entries].astype(np.uint64) & _MASK


def lanes_for(payload_bytes: float) -> int:
    """How many lanes to code with, so that their final states stay near 0.2 % of the payload."""
    return int(min(max(payload_bytes / 2500, 1), 8192))


def encode(batches: Sequence[Integers], tables: Tables | Sequence[Tables], lanes: int) -> bytes:
    """Code entries of the tables, batch after batch; the decoder must ask for batches of the same sizes.

    `tables` are those of all batches, or of each.
    Lanes' states come first, then 16-bit words in the order in which they are read: a prefix holds the first batches.
    """
    state = np.full(lanes, 1 << _LOW, np.uint64)
    words: list[npt.NDArray[np.uint16]] = []
    room = np.uint64(_LOW + _WORD - PRECISION)
    each = [tables] * len(batches) if isinstance(tables, Tables) else tables
    for batch, its in zip(reversed(batches), reversed(each), strict=True):
        starts, frequencies = its.starts(batch), its.frequencies[batch]
        for first in range((len(batch) - 1) // lanes * lanes, -1, -lanes) if len(batch) else ():
            frequency, start = frequencies[first : first + lanes], starts[first : first + lanes]
            live = state[: len(frequency)]
            full = live >= frequency << room
            if full.any():
                words.append(live[full].astype(np.uint16))
                live = np.where(full, live >> np.uint64(_WORD), live)
            quotient = live // frequency
            state[: len(frequency)] = (quotient << np.uint64(PRECISION)) + (live - quotient * frequency) + start
    states = np.ascontiguousarray(state.astype("<u8")).view(np.uint8).reshape(lanes, 8)[:, :_STATE_BYTES]
    body = np.concatenate(words[::-1]) if words else np.zeros(0, np.uint16)
    return states.tobytes() + body.astype("<u2").tobytes()


class Decoder:
    """Reads back, batch after batch, what `encode` wrote. Raises BadInput when the bytes are too few for the lanes."""

    def __init__(self, data: bytes | memoryview, lanes: int) -> None:
        head = lanes * _STATE_BYTES
        if not 0 < lanes <= _LARGEST_LANES or len(data) < head:
            raise BadInput("the coded part is too short")
        states = np.zeros((lanes, 8), np.uint8)
        states[:, :_STATE_BYTES] = np.frombuffer(data[:head], np.uint8).reshape(lanes, _STATE_BYTES)
        self._state = states.view("<u8")[:, 0].astype(np.uint64)
        self._words = np.frombuffer(data[head : head + (len(data) - head) // 2 * 2], "<u2").astype(np.uint64)
        self._place = 0

    def decode(self, rows: Integers, tables: Tables) -> npt.NDArray[np.int64]:
        """The entry that was coded for each of these rows. Raises BadInput when the coded words run out."""
        entries = np.empty(len(rows), np.int64)
        bases = np.asarray(rows, np.int64) << PRECISION
        lanes, state = len(self._state), self._state
        for first in range(0, len(rows), lanes):
            base = bases[first : first + lanes]
            live = state[: len(base)]
            slot = live & _MASK
            found = tables.keys.searchsorted(base + slot.view(np.int64), side="right") - 1
            entries[first : first + lanes] = found
            start = tables.keys[found].view(np.uint64) & _MASK
            live = tables.frequencies[found] * (live >> _PRECISION) + (slot - start)
            empty = (live < _LOWEST).nonzero()[0]
            words = self._words[self._place : self._place + len(empty)]
            if len(words) < len(empty):
                raise BadInput("the coded part ends too early")
            self._place += len(empty)
            live[empty] = (live[empty] << _SHIFT) | words
            state[: len(base)] = live
        return entries

    def finished(self) -> bool:
        """Whether every word was read and every lane is back where the encoder began: what damage rarely leaves."""
        return self._place == len(self._words) and bool((self._state == np.uint64(1 << _LOW)).all())
