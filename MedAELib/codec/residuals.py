"""What is left of a pass after its prediction, as entries of the tables and plain bits, and back."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .bits import BitReader
from .context import LARGEST
from .rans import PRECISION, Decoder
from .tables import ResidualTables, row_and_shift

VALUE_BITS = 16
_MOST_SAMPLES = 40_000

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Distribution:
    """Of each voxel of a pass [n]: the centre in whole grey values, the logarithm of the scale in 24ths of an octave
    (in quantisation steps), the shape 0..3, and the fraction of the centre 0..7 (4: none)."""

    centre: Integers
    scale: Integers
    shape: Integers
    fraction: Integers

    @staticmethod
    def joined(blocks: list[Distribution]) -> Distribution:
        """The blocks of a pass, one after the other."""
        if len(blocks) == 1:
            return blocks[0]
        names = ("centre", "scale", "shape", "fraction")
        return Distribution(*(np.concatenate([getattr(block, name) for block in blocks]) for name in names))

    def moved(self, offset: int) -> Distribution:
        """The same with all scales moved."""
        return Distribution(self.centre, self.scale + offset, self.shape, self.fraction)

    def of(self, chosen: slice | Integers) -> Distribution:
        """Some of the voxels."""
        return Distribution(self.centre[chosen], self.scale[chosen], self.shape[chosen], self.fraction[chosen])


@dataclass(frozen=True)
class CodedPass:
    """Entries for the entropy coder, plain bits with their counts, and the values as they will be decoded."""

    entries: Integers
    plain: Integers
    counts: Integers
    decoded: Integers

    @staticmethod
    def joined(pieces: list[CodedPass]) -> CodedPass:
        """The pieces of a pass, one after the other."""
        names = ("entries", "plain", "counts", "decoded")
        return CodedPass(*(np.concatenate([getattr(piece, name) for piece in pieces]) for name in names))

    def of(self, chosen: Integers) -> CodedPass:
        """Some of the voxels, in this order."""
        return CodedPass(self.entries[chosen], self.plain[chosen], self.counts[chosen], self.decoded[chosen])


def code(
    values: Integers, expected: Distribution, offset: int, step: int, largest: int, tables: ResidualTables
) -> CodedPass:
    """Code a pass; `offset` moves all scales. No decoded value differs by more than (step - 1) // 2."""
    rows, shift = row_and_shift(expected.scale + offset, expected.shape, expected.fraction)
    quantised = (values - expected.centre + step // 2) // step
    half = (1 << shift) >> 1
    symbol = (quantised + half) >> shift
    low = (quantised + half) & ((1 << shift) - 1)
    reach = tables.reaches[rows]
    escaped = np.abs(symbol) > reach
    offsets = tables.tables.offsets
    entries = np.where(escaped, offsets[rows + 1] - 1, offsets[rows] + reach + symbol)
    decoded = np.where(escaped, values, np.clip(expected.centre + quantised * step, 0, largest))
    return CodedPass(entries, np.where(escaped, values, low), np.where(escaped, VALUE_BITS, shift), decoded)


def decode(
    expected: Distribution,
    offset: int,
    step: int,
    largest: int,
    tables: ResidualTables,
    coded: Decoder,
    plain: BitReader,
) -> Integers:
    """The values of a pass. Raises BadInput when the coded part or the plain bits run out."""
    rows, shift = row_and_shift(expected.scale + offset, expected.shape, expected.fraction)
    entries = coded.decode(rows, tables.tables)
    found = entries - tables.zeros.take(rows)
    escaped = entries == tables.escapes.take(rows)
    more = np.flatnonzero(escaped | (shift > 0))
    octaves, gone = shift[more], escaped[more]
    low = plain.read(np.where(gone, VALUE_BITS, octaves))
    found[more] = (found[more] << octaves) - ((1 << octaves) >> 1) + low
    if step > 1:
        found *= step
    found += expected.centre
    found.clip(0, largest, out=found)
    found[more[gone]] = np.minimum(low[gone], largest)
    return found


def cost_bits(coded: CodedPass, tables: ResidualTables) -> float:
    """The ideal length of a coded pass."""
    frequencies = tables.tables.frequencies[coded.entries].astype(np.float32)
    return float((PRECISION - np.log2(frequencies)).sum() + coded.counts.sum())


def best_offset(values: Integers, expected: Distribution, step: int, largest: int, tables: ResidualTables) -> int:
    """The offset of the scales, in -127..127, that makes a pass shortest, as far as a sample tells."""
    every = max(1, len(values) // _MOST_SAMPLES)
    sample, thinned = values[::every], expected.of(slice(None, None, every))

    def cost(offset: int) -> float:
        return cost_bits(code(sample, thinned, offset, step, largest, tables), tables)

    costs = {offset: cost(offset) for offset in (-12, -4, 0, 4, 12)}
    best = min(costs, key=lambda offset: costs[offset])
    while abs(best) >= 12 and abs(best) < 100:  # follow the slope where the best one is at the edge
        further = best + (8 if best > 0 else -8)
        costs[further] = cost(further)
        if costs[further] >= costs[best]:
            break
        best = further
    return best


assert LARGEST == 1 << VALUE_BITS
