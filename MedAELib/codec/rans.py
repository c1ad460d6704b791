"""Entropy coding: many interleaved range coders (rANS) that step together, so that numpy codes whole rows of symbols.

After J. Duda, "Asymmetric numeral systems" (2013), and F. Giesen, "Interleaved entropy coders" (2014). Integers only.
"""

from __future__ import annotations

from bisect import bisect
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from .rans_together import Batch, Together

PRECISION = 16  # the frequencies of one row of a table add up to 2 to this power
_LOW = 24  # a lane's state stays in [2^24, 2^40)
_WORD = 16  # bits that a lane writes or reads at a time
_STATE_BYTES = 5
_MASK = np.uint64((1 << PRECISION) - 1)
_BUCKET = 8  # bits of a row's 2^16 slots that share an entry of the guide
# the decoder's constants as arrays: numpy converts a number anew in every call, which takes as long as the call
_ZERO, _LOWEST, _WHOLE_MASK, _BUCKET_BITS, _TURN_BITS, _WORD_BITS = (
    np.array(value, np.int64) for value in (0, 1 << _LOW, (1 << PRECISION) - 1, _BUCKET, PRECISION + 1, _WORD)
)
_LARGEST_LANES = 1 << 16
_FEW_LANES, _MANY_ROWS = 1024, 16  # with which threads decode together
_ARRAYS_PAY = 16  # lanes; a row of fewer is coded in less time symbol by symbol than calls on arrays take

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
        frequencies = np.concatenate([np.asarray(row, np.int64) for row in rows])
        offsets = np.cumsum([0, *map(len, rows)]).astype(np.int64)
        if frequencies.min() < 1 or (np.add.reduceat(frequencies, offsets[:-1]) != 1 << PRECISION).any():
            raise ValueError("the frequencies of a row do not fill it")
        return Tables(np.cumsum(frequencies) - frequencies, frequencies.astype(np.uint64), offsets)

    @cached_property
    def whole_frequencies(self) -> npt.NDArray[np.int64]:
        """The frequencies in the decoder's type."""
        return self.frequencies.astype(np.int64)

    @cached_property
    def guide(self) -> npt.NDArray[np.int64]:
        """By bucket of 2^8 slots, row after row: what gives the entry of a slot within 0..65535 when the slot is added
        and 17 bits are dropped. Negative where more than two entries share a bucket: that must be searched.
        """
        first = np.arange(0, (len(self.offsets) - 1) << PRECISION, 1 << _BUCKET)
        holds = self.keys.searchsorted(first, side="right") - 1
        others = self.keys.searchsorted(first + (1 << _BUCKET)) - 1 - holds
        following = self.keys[np.minimum(holds + 1, len(self.keys) - 1)] - (first >> PRECISION << PRECISION)
        turn = np.where(others > 0, following, 1 << PRECISION)  # the slot from which it is the next entry
        guess = (holds << (PRECISION + 1)) + (2 << PRECISION) - turn
        return np.where(others > 1, np.int64(-1) << 62, guess)

    @cached_property
    def likeliest(self) -> npt.NDArray[np.int64]:
        """The most frequent entry of each row."""
        pairs = zip(self.offsets.tolist(), self.offsets[1:].tolist(), strict=False)
        return np.array([first + int(self.frequencies[first:end].argmax()) for first, end in pairs], np.int64)

    @cached_property
    def plain(self) -> tuple[list[int], list[int], list[int]]:
        """Keys, frequencies and guide as lists, which are quicker for single symbols."""
        return self.keys.tolist(), self.whole_frequencies.tolist(), self.guide.tolist()

    @cached_property
    def together(self) -> Together:
        """Where threads meet that decode by these tables."""
        return Together(lambda state, slots, entries, words: step_lanes(state, slots, entries, self, words))

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
        if lanes < _ARRAYS_PAY:
            words.append(_encoded_singly(state, frequencies, starts))
            continue
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


def _encoded_singly(
    state: npt.NDArray[np.uint64], frequencies: npt.NDArray[np.uint64], starts: npt.NDArray[np.uint64]
) -> npt.NDArray[np.uint16]:
    """The words of a batch, coded symbol by symbol from its end; the states of all lanes move on."""
    states, lanes, words = state.tolist(), len(state), []
    lane, room = (len(starts) - 1) % lanes, _LOW + _WORD - PRECISION
    for frequency, start in zip(reversed(frequencies.tolist()), reversed(starts.tolist()), strict=True):
        live = states[lane]
        if live >= frequency << room:
            words.append(live & 0xFFFF)
            live >>= _WORD
        quotient, rest = divmod(live, frequency)
        states[lane] = (quotient << PRECISION) + rest + start
        lane = lane - 1 if lane else lanes - 1
    state[:] = states
    return np.array(words[::-1], np.uint16)


class Words:
    """The coded words of a stream in the order of reading. When they run out zeros follow, and `short` says so."""

    def __init__(self, words: npt.NDArray[np.int64]) -> None:
        self._words, self._place, self.short = words, 0, False

    def next(self, count: int) -> npt.NDArray[np.int64]:
        """So many more words."""
        found = self._words[self._place : self._place + count]
        self._place += count
        if len(found) < count:
            self.short = True
            found = np.append(found, np.zeros(count - len(found), np.int64))
        return found

    def finished(self) -> bool:
        """Whether every word was read."""
        return self._place == len(self._words)


def step_lanes(
    state: npt.NDArray[np.int64], slots: npt.NDArray[np.int64], entries: npt.NDArray[np.int64], tables: Tables,
    words: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]],
) -> None:  # fmt: skip
    """Decode row after row of one symbol a lane; the states [lanes] move on.

    `slots` [rows, lanes], the first key of each symbol's row of the table, are used up; `entries` [rows, lanes] are
    filled; `words` are those for the lanes that ask, ascending.
    """
    if len(state) < _ARRAYS_PAY:
        _step_singly(state, slots, entries, tables, words)
        return
    keys, frequencies, guide = tables.keys, tables.whole_frequencies, tables.guide
    slot = np.empty_like(state)
    for key, found in zip(slots, entries, strict=True):
        np.bitwise_and(state, _WHOLE_MASK, slot)
        np.add(key, slot, key)
        guess = guide[key >> _BUCKET_BITS]
        crowded = (guess < _ZERO).nonzero()[0]
        np.add(guess, slot, guess)
        np.right_shift(guess, _TURN_BITS, found)
        if crowded.size:
            found[crowded] = keys.searchsorted(key[crowded], "right") - 1
        np.right_shift(state, _WORD_BITS, state)
        np.multiply(state, frequencies[found], state)
        np.subtract(key, keys[found], key)
        np.add(state, key, state)
        empty = (state < _LOWEST).nonzero()[0]
        if empty.size:
            state[empty] = (state[empty] << _WORD_BITS) | words(empty)


def _step_singly(
    state: npt.NDArray[np.int64], slots: npt.NDArray[np.int64], entries: npt.NDArray[np.int64], tables: Tables,
    words: Callable[[npt.NDArray[np.int64]], npt.NDArray[np.int64]],
) -> None:  # fmt: skip
    """The same, symbol by symbol."""
    keys, frequencies, guide = tables.plain
    likely = tables.likeliest.take(slots >> PRECISION)
    first, mass = tables.keys.take(likely) - slots, tables.whole_frequencies.take(likely)
    states, found, count, lane = state.tolist(), [], len(state), 0
    lanes = [np.array([lane]) for lane in range(count)]
    for key, start, frequency in zip(*(some.reshape(-1).tolist() for some in (slots, first, mass)), strict=True):
        live = states[lane]
        slot = live & 0xFFFF
        if start <= slot < start + frequency:
            live = frequency * (live >> PRECISION) + slot - start
            found.append(-1)
        else:
            key += slot
            guess = guide[key >> _BUCKET]
            entry = (guess + slot) >> (PRECISION + 1) if guess >= 0 else bisect(keys, key) - 1
            live = frequencies[entry] * (live >> PRECISION) + key - keys[entry]
            found.append(entry)
        states[lane] = live if live >> _LOW else live << _WORD | int(words(lanes[lane])[0])
        lane = lane + 1 if lane + 1 < count else 0
    rare = np.array(found, np.int64).reshape(slots.shape)
    state[:], entries[...] = states, np.where(rare < 0, likely, rare)


class Decoder:
    """Reads back, batch after batch, what `encode` wrote. Raises BadInput when the bytes are too few for the lanes."""

    def __init__(self, data: bytes | memoryview, lanes: int) -> None:
        head = lanes * _STATE_BYTES
        if not 0 < lanes <= _LARGEST_LANES or len(data) < head:
            raise BadInput("the coded part is too short")
        states = np.zeros((lanes, 8), np.uint8)
        states[:, :_STATE_BYTES] = np.frombuffer(data[:head], np.uint8).reshape(lanes, _STATE_BYTES)
        self.state = states.view("<i8")[:, 0].astype(np.int64)
        self.words = Words(np.frombuffer(data[head : head + (len(data) - head) // 2 * 2], "<u2").astype(np.int64))

    def decode(self, rows: Integers, tables: Tables) -> npt.NDArray[np.int64]:
        """The entry that was coded for each of these rows. Raises BadInput when the coded words run out."""
        entries = np.empty(len(rows), np.int64)
        slots = np.asarray(rows, np.int64) << PRECISION
        lanes, whole = len(self.state), len(rows) // len(self.state) * len(self.state)
        first, found = slots[:whole].reshape(-1, lanes), entries[:whole].reshape(-1, lanes)
        if lanes <= _FEW_LANES and len(first) >= _MANY_ROWS:
            tables.together.decode(Batch(self.state, first, found, self.words.next))
        elif whole:
            step_lanes(self.state, first, found, tables, self._for)
        rest = len(rows) - whole
        if rest:
            step_lanes(self.state[:rest], slots[None, whole:], entries[None, whole:], tables, self._for)
        if self.words.short:
            raise BadInput("the coded part ends too early")
        return entries

    def _for(self, lanes: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        return self.words.next(lanes.size)

    def finished(self) -> bool:
        """Whether every word was read and every lane is back where the encoder began: what damage rarely leaves."""
        return self.words.finished() and bool((self.state == 1 << _LOW).all())
