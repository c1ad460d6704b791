"""A chunk of voxels as wavelet coefficients: quantised where that is cheap, and coded as a small network expects them.

The encoder takes the decoder's own steps, so what it restores is what will be decoded.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from ..errors import BadInput
from ..threads import ALONE, Helpers
from . import residuals
from .bits import pack
from .network import ContextModel
from .parts import pack_part
from .predictive import encode_chunk
from .rans import PRECISION, Tables, encode
from .residuals import Distribution
from .restoration import NOT_RESTORED
from .subband import Coefficients
from .subband_decoder import LARGEST_VALUE, LowGrid
from .subband_known import Seen, cut
from .subband_levels import LARGEST_SHIFT, SHIFTS, Cascade, Indices, OpenBand, WaveGrid
from .subband_network import ZERO, SubbandModel
from .subband_symbols import BLOCK, flag_rows, flag_tables, zero_frequency
from .wavelet import FRACTION_BITS, Axes, Doubles, analyse

_BYTES_A_LANE = 600  # more cost less than a percent, fewer cost time
_MOST_LANES = 8192
TRADE = 0.11  # squared steps that a bit is worth
_FEWEST = 200  # coefficients of a band whose scales are moved
_SAMPLES = 10_000  # of each parity, on which the move is sought


Restore = Callable[[Cascade, dict[Axes, Coefficients], Doubles], bytes]
Watch = Callable[[int, Seen, Indices], None]


@dataclass(frozen=True, eq=False)
class CodedWaves:
    """How the low band is coded, the parts of a chunk, coarse to fine, whether they tell of a restoration, and the
    chunk's voxels as they will be decoded."""

    low: LowGrid
    parts: list[bytes]
    restored: bool
    decoded: Indices


def encode_waves(
    voxels: Indices, grid: WaveGrid, model: SubbandModel, lattice: ContextModel, restore: Restore | None = None,
    watch: Watch | None = None, helpers: Helpers = ALONE,
) -> CodedWaves:  # fmt: skip
    """Code a chunk of voxels [i, j, k] within 0..grid.largest < 2^16.

    `restore` is given each low band that a level has restored, with the level's bands and the true low band; it may
    change it and returns the side information. `watch` is shown the case of each parity, what is seen of its
    coefficients, and their quantised values. Raises BadInput when the step is too small for the chunk's range.
    """
    low, bands, lows = voxels.astype(np.float64) * 2**FRACTION_BITS, [], []
    for level in grid.levels:
        lows.append(low)
        bands.append(analyse(low, level.axes))
        low = bands[-1].pop(())
    quantised = np.rint(low / grid.low_step).astype(np.int64)
    start = int(quantised.min())
    whole = quantised - start
    steps = [{high: grid.step_of(place, high) for high in band} for place, band in enumerate(bands)]
    sizes = [np.abs(values).max() / steps[n][high] for n, band in enumerate(bands) for high, values in band.items()]
    if int(whole.max()) > LARGEST_VALUE or max(sizes) > ZERO - 2:
        raise BadInput("The step is too small for this volume.")
    near, far = (int(value) for value in np.percentile(whole, [1, 99]))
    largest = int(whole.max())
    told = LowGrid.of(grid, start, near, far, largest, max(largest.bit_length(), 1))
    parts, _ = encode_chunk(whole, told.grid, lattice, helpers=helpers)
    cascade, levels = Cascade(grid, quantised * float(grid.low_step)), []
    while cascade.place:
        made = _Level(bands[cascade.place - 1], steps[cascade.place - 1], model, watch, helpers)
        found = cascade.next(made.encode)
        made.shift(found)
        cascade.join(found, made.shifts)
        if restore is not None:
            made.layer = restore(cascade, found, lows[cascade.place])
        levels.append(made)
    restored = any(made.layer != NOT_RESTORED for made in levels)
    return CodedWaves(told, parts + [made.to_bytes(restored) for made in levels], restored, cascade.voxels())


@dataclass
class _Level:
    """The true coefficients of a level's bands, their steps, and what the passes have produced so far: batches of
    entries with their tables, plain bits, by how much the scales of each band move, how magnitudes are restored, and
    what is told of the restoration."""

    truth: dict[Axes, Doubles]
    steps: dict[Axes, int]
    model: SubbandModel
    watch: Watch | None = None
    helpers: Helpers = ALONE
    batches: list[tuple[Indices, Tables]] = field(default_factory=list)
    plain: list[Indices] = field(default_factory=list)
    counts: list[Indices] = field(default_factory=list)
    offsets: list[int] = field(default_factory=list)
    shifts: Indices = field(default_factory=lambda: np.zeros(SHIFTS, np.int64))
    layer: bytes = NOT_RESTORED

    def encode(self, opened: OpenBand) -> None:
        """Quantise and code a band; closed loop: contexts are what was quantised."""
        wanted = opened.band.ordered(self.truth[opened.band.high])
        step, passes = self.steps[opened.band.high], []
        for case, parities in opened.passes():
            chosen = []
            for parity in parities:
                seen = opened.seen(parity)
                kinds = self.model.distribution(seen, case, self.helpers)
                values = _quantised(cut(wanted, parity).reshape(-1) / step, kinds, seen, self.model)
                if self.watch is not None:
                    self.watch(case, seen, values)
                passes.append((kinds, seen, values))
                chosen.append((parity, values))
            for parity, values in chosen:
                opened.enter(parity, values)
        offset = _band_offset(passes, self.model)
        self.offsets.append(offset)
        for kinds, seen, values in passes:
            self._code(kinds.moved(offset), seen, values)

    def _code(self, kinds: Distribution, seen: Seen, values: Indices) -> None:
        """The coefficients of one parity: the flags of blocks of quiet ones, then what is coded one by one."""
        tables, single = self.model.residuals, seen.busy
        quiet = seen.quiet[seen.order]
        if len(quiet):
            rows = flag_rows(zero_frequency(kinds.of(seen.which[quiet[::BLOCK]]), ZERO, tables))
            some = np.logical_or.reduceat(values[quiet] != 0, np.arange(0, len(quiet), BLOCK))
            self.batches.append((flag_tables().offsets[rows] + some, flag_tables()))
            single = np.concatenate([single, quiet[np.repeat(some, BLOCK)[: len(quiet)]]])
        coded = residuals.code(values[single] + ZERO, kinds.of(seen.which[single]), 0, 1, LARGEST_VALUE, tables)
        self.batches.append((coded.entries, tables.tables))
        lower = coded.counts > 0
        self.plain.append(coded.plain[lower])
        self.counts.append(coded.counts[lower])

    def shift(self, found: dict[Axes, Coefficients]) -> None:
        """Find where in their interval magnitudes of 1, 2 and more lie in the mean, from its middle, in 64ths of it."""
        sums, counts = np.zeros(SHIFTS), np.zeros(SHIFTS)
        for high, values in found.items():
            size = np.abs(values).reshape(-1)
            some = np.flatnonzero(size)
            away = np.abs(self.truth[high].reshape(-1)[some]) / self.steps[high] - size[some]
            kind = np.minimum(size[some], SHIFTS) - 1
            sums += np.bincount(kind, away, SHIFTS)
            counts += np.bincount(kind, minlength=SHIFTS)
        moved = np.rint(64 * sums / np.maximum(counts, 1)).astype(np.int64)
        self.shifts = np.clip(moved, -LARGEST_SHIFT, LARGEST_SHIFT)

    def to_bytes(self, restored: bool) -> bytes:
        """The part as it is stored, with what is told of the restoration or without."""
        frequencies = [tables.frequencies[some].astype(np.float32) for some, tables in self.batches]
        bits = sum(float((PRECISION - np.log2(some)).sum()) for some in frequencies)
        lanes = int(min(max(bits / 8 / _BYTES_A_LANE, 1), _MOST_LANES))
        coded = encode([some for some, _ in self.batches], [tables for _, tables in self.batches], lanes)
        plain = pack(np.concatenate(self.plain), np.concatenate(self.counts))
        side = struct.pack(f"<{SHIFTS + len(self.offsets)}b", *self.shifts, *self.offsets)
        return pack_part(lanes, side + (self.layer if restored else b""), coded, plain)


def _quantised(scaled: Doubles, kinds: Distribution, seen: Seen, model: SubbandModel) -> Indices:
    """Whole numbers that are cheap and near: the nearest, or the next one towards zero where that saves enough bits."""
    size = np.abs(scaled)
    nearest = np.floor(size + 0.5)
    found = nearest.astype(np.int64)
    doubt = np.flatnonzero((nearest > 0) & (nearest - size > -0.35))
    if len(doubt):
        sign = np.sign(scaled[doubt]).astype(np.int64)
        expected = kinds.of(seen.which[doubt])
        more, less = found[doubt], found[doubt] - 1
        bits = [_bits(sign * value, expected, model) for value in (more, less)]
        away = [(size[doubt] - value) ** 2 for value in (more, less)]
        found[doubt] = np.where(away[1] + TRADE * bits[1] < away[0] + TRADE * bits[0], less, more)
    return (np.sign(scaled) * found).astype(np.int64)


def _bits(values: Indices, expected: Distribution, model: SubbandModel) -> Doubles:
    """The ideal length of each quantised coefficient."""
    coded = residuals.code(values + ZERO, expected, 0, 1, LARGEST_VALUE, model.residuals)
    frequencies = model.residuals.tables.frequencies[coded.entries].astype(np.float64)
    return PRECISION - np.log2(frequencies) + coded.counts


def _band_offset(passes: list[tuple[Distribution, Seen, Indices]], model: SubbandModel) -> int:
    """By how much the scales of a band move."""
    picked = []
    for kinds, seen, values in passes:
        busy = seen.busy
        some = busy[:: max(len(busy) // _SAMPLES, 1)]
        picked.append((kinds.of(seen.which[some]), values[some]))
    values = np.concatenate([some for _, some in picked])
    if len(values) < _FEWEST:
        return 0
    expected = Distribution.joined([kinds for kinds, _ in picked])
    return residuals.best_offset(values + ZERO, expected, 1, LARGEST_VALUE, model.residuals)
