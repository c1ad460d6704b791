"""Quantised coefficients as symbols: one by one where something is around them, else in blocks that are mostly zero."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt

from .rans import PRECISION, Tables
from .residuals import Distribution
from .tables import ResidualTables, row_and_shift

BLOCK = 32  # quiet coefficients that share a flag
_BLOCK_BITS = 5
_CHANCES = 64  # rows of the flags' table: 1/4 octave of the chance each

Indices = npt.NDArray[np.int64]


@cache
def flag_tables() -> Tables:
    """Rows of two frequencies: of a block of nothing but zeros, and of one with something in it.

    The second one of row n is 2^16 * 2^(-n/4), rounded down to whole numbers within 1 .. 2^16 - 1.
    """
    quarters = (65536, 55109, 46341, 38968)  # 2^16 * 2^(-n/4)
    some = [min(max(quarters[n % 4] >> (n // 4), 1), (1 << PRECISION) - 1) for n in range(_CHANCES)]
    return Tables.of([np.array([(1 << PRECISION) - value, value]) for value in some])


def flag_rows(zero: Indices) -> Indices:
    """The row of the flags for blocks whose coefficients are zero with these frequencies of 2^16."""
    all_zero = zero.astype(np.int64)
    for _ in range(_BLOCK_BITS):
        all_zero = (all_zero * all_zero) >> PRECISION
    some = (1 << PRECISION) - np.minimum(all_zero, (1 << PRECISION) - 1)
    bits = some.astype(np.float32).view(np.int32)
    return np.clip(4 * (PRECISION + 127) - (bits >> 21) - 1, 0, _CHANCES - 1).astype(np.int64)


def zero_frequency(expected: Distribution, zero: int, tables: ResidualTables) -> Indices:
    """How often of 2^16 each coefficient is the quantised zero."""
    rows, shift = row_and_shift(expected.scale, expected.shape, expected.fraction)
    symbol = zero - expected.centre
    inside = (np.abs(symbol) <= tables.reaches[rows]) & (shift == 0)
    entries = tables.tables.offsets[rows] + tables.reaches[rows] + np.where(inside, symbol, 0)
    return np.where(inside, tables.tables.frequencies[entries].astype(np.int64), 0)
