"""The probabilities of a residual, as tables of integer frequencies: by shape, scale and fraction of the prediction.

A row's symbols are the residuals -reach .. reach and, last, the escape. Rows of large scales count in 2^k grey values.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np
import numpy.typing as npt

from .context import FRACTION, OCTAVE
from .rans import PRECISION, Tables

STEP = 4  # of the scales: 1/6 octave, in 24ths
SMALLEST = -108  # log2 of the smallest standard scale in 24ths of an octave: 2^-4.5 grey values
SCALES = 48  # up to 2^3.33 = 10 grey values; beyond that, the low bits are sent as they are
SHAPES = 4
POINTS = 2049  # of a shape's stored distribution: scale * (0 .. 32) in steps of 1/64
_REACHES = (8, 10, 14, 24)  # of the shapes in scales; beyond that comes the escape
_OCTAVE_ROWS = OCTAVE // STEP
LARGEST_SHIFT = 12

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class ResidualTables:
    """All rows, for coding by `rans`; `tails` [4, 2049] are the shapes: 2^30 times the chance to lie beyond a distance
    of n/64 scales on one side, so each begins with 2^29 and falls."""

    tails: Indices

    @cached_property
    def tables(self) -> Tables:
        """The frequencies, row after row in the order shape, scale, fraction."""
        rows = [row for shape in range(SHAPES) for scale in range(SCALES) for row in self._rows(shape, scale)]
        return Tables.of(rows)

    @cached_property
    def reaches(self) -> Indices:
        """The largest residual of each row that is not an escape."""
        return np.repeat([reach_of(shape, scale) for shape in range(SHAPES) for scale in range(SCALES)], FRACTION)

    @cached_property
    def zeros(self) -> Indices:
        """The entry of each row that stands for no residual."""
        return self.tables.offsets[:-1] + self.reaches

    @cached_property
    def escapes(self) -> Indices:
        """The entry of each row that is the escape, its last one."""
        return self.tables.offsets[1:] - 1

    def _rows(self, shape: int, scale: int) -> Indices:
        """Frequencies of the rows of all fractions [8, symbols]: the shape's mass over each residual's interval, at
        least 1, 2^16 together."""
        reach, fractions = reach_of(shape, scale), np.arange(FRACTION)
        edges = FRACTION * np.arange(-reach, reach + 2) - FRACTION // 2 - (fractions[:, None] - FRACTION // 2)
        # distance in 2^-14 of the scale, whose inverse has 20 bits after the point; the stored points are 2^8 apart
        places = np.minimum((np.abs(edges) * inverse_scale(scale) * (2**14 // FRACTION)) >> 20, (POINTS - 1) << 8)
        point = np.minimum(places >> 8, POINTS - 2)
        rest = places - (point << 8)
        tail = (self.tails[shape][point] * (256 - rest) + self.tails[shape][point + 1] * rest) >> 8
        below = np.where(edges < 0, tail, (1 << 30) - tail)
        escape = below[:, :1] + (1 << 30) - below[:, -1:]
        mass = np.concatenate([np.maximum(np.diff(below), 0), escape], axis=1)
        spare = (1 << PRECISION) - mass.shape[1]
        frequencies = 1 + mass * spare // mass.sum(axis=1, keepdims=True)
        frequencies[fractions, frequencies.argmax(axis=1)] += (1 << PRECISION) - frequencies.sum(axis=1)
        return frequencies


@lru_cache(maxsize=8)
def _kept(tails: bytes) -> ResidualTables:
    return ResidualTables(np.frombuffer(tails, np.int64).reshape(SHAPES, POINTS))


def tables_of(tails: Indices) -> ResidualTables:
    """The tables of these shapes; models that share them, as tuned ones do, share their tables."""
    return _kept(tails.astype(np.int64).tobytes())


def reach_of(shape: int, scale: int) -> int:
    """The largest residual that a row holds, in its own unit of grey values."""
    return 2 + (_REACHES[shape] << 20) // inverse_scale(scale)


def inverse_scale(scale: int) -> int:
    """2^20 over the scale, whose logarithm is SMALLEST + STEP * index in 24ths of an octave; integers alone."""
    octaves, part = divmod(-(SMALLEST + STEP * scale), OCTAVE)
    sixths = (1048576, 1176978, 1321113, 1482910, 1664511, 1868350)  # 2^20 * 2^(n/6)
    value = sixths[part // STEP]
    return value << octaves if octaves >= 0 else value >> -octaves


def _scale_tables() -> tuple[Indices, Indices]:
    """By log2 of the scale over the smallest in 24ths: the first row of its scale in a shape, and how many low bits are
    sent as they are. Both are the same for all further scales."""
    scale = np.arange(STEP * (SCALES + _OCTAVE_ROWS * LARGEST_SHIFT)) // STEP
    octaves = np.clip(-(-(scale - (SCALES - 1)) // _OCTAVE_ROWS), 0, LARGEST_SHIFT)
    return np.minimum(scale - octaves * _OCTAVE_ROWS, SCALES - 1) * FRACTION, octaves


_SCALE_ROWS, _OCTAVES = _scale_tables()


def row_and_shift(scale_log: Indices, shape: Indices, fraction: Indices) -> tuple[Indices, Indices]:
    """The row of each voxel, and how many low bits are sent as they are, from log2 of the scale in 24ths."""
    place = scale_log - SMALLEST
    octaves = _OCTAVES.take(place, mode="clip")
    rows = _SCALE_ROWS.take(place, mode="clip")
    rows += shape * (SCALES * FRACTION)
    rows += np.where(octaves > 0, FRACTION // 2, fraction)
    return rows, octaves
