"""A chunk of wavelet coefficients, decoded level by level: what `subband_encoder` wrote."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from ..threads import ALONE, Helpers
from . import residuals
from .bits import BitReader
from .network import ContextModel
from .parts import split_part
from .predictive import ChunkDecoder, Grid
from .rans import Decoder
from .residuals import Distribution
from .restoration import RestorationModel, unpack_layer
from .subband_known import Seen
from .subband_levels import LARGEST_SHIFT, SHIFTS, Cascade, Indices, OpenBand, WaveGrid
from .subband_network import ZERO, SubbandModel
from .subband_symbols import BLOCK, flag_rows, flag_tables, zero_frequency

LARGEST_VALUE = 2 * ZERO - 1  # that is coded


@dataclass(frozen=True)
class LowGrid:
    """How the last low band is coded: its lowest quantised value, and what the lattice coder must know of the rest."""

    start: int
    grid: Grid

    @staticmethod
    def of(wave: WaveGrid, start: int, low: int, high: int, largest: int, base_bits: int = 0) -> LowGrid:
        """From the numbers in a chunk's entry."""
        return LowGrid(start, Grid(wave.low_shape, wave.low_spacing, low, high, largest, base_bits=base_bits))


class WaveDecoder:
    """Decodes a chunk part by part; after the low band's parts and after each level, `cascade` shows a finer volume."""

    def __init__(
        self, grid: WaveGrid, low: LowGrid, model: SubbandModel, lattice: ContextModel,
        restoration: RestorationModel | None = None, helpers: Helpers = ALONE,
    ) -> None:  # fmt: skip
        self.grid, self._low, self.model, self._restoration = grid, low, model, restoration
        self._helpers = helpers
        self._base = ChunkDecoder(low.grid, lattice)
        self._bases = len(low.grid.parts())
        self.cascade: Cascade | None = None

    def decode_part(self, data: bytes, number: int) -> None:
        """Take in the next part. Raises BadInput for damage."""
        if number < self._bases:
            self._base.decode_part(data, number)
            if number == self._bases - 1:
                values = self._base.voxels.astype(np.float64) + self._low.start
                self.cascade = Cascade(self.grid, values * float(self.grid.low_step))
            return
        if self.cascade is None:
            raise BadInput("a part is missing")
        lanes, side, coded, bits = split_part(data)
        count = SHIFTS + len(self.grid.levels[self.cascade.place - 1].bands())
        numbers, last = np.frombuffer(side[:count], np.int8).astype(np.int64), side[count:]
        if len(numbers) != count or (np.abs(numbers[:SHIFTS]) > LARGEST_SHIFT).any():
            raise BadInput("the side information is damaged")
        if self._restoration is None and last:
            raise BadInput("the side information is damaged")
        layer = None if self._restoration is None else unpack_layer(last, self._restoration)
        if not coded:
            raise BadInput("a part is too short")
        decoder, plain, offsets = Decoder(coded, lanes), BitReader(bits), iter(numbers[SHIFTS:])
        found = self.cascade.next(lambda opened: self._decode_band(opened, int(next(offsets)), decoder, plain))
        if not plain.finished() or not decoder.finished():
            raise BadInput("a part does not end where it should")
        self.cascade.join(found, numbers[:SHIFTS])
        if layer is not None and self._restoration is not None:
            self.cascade.low = self.cascade.around(found).restored(self._restoration, layer, self._helpers)

    def voxels(self) -> Indices:
        """The chunk, as fine as it is known by now."""
        if self.cascade is None:
            raise BadInput("a part is missing")
        return self.cascade.voxels()

    def _decode_band(self, opened: OpenBand, offset: int, decoder: Decoder, plain: BitReader) -> None:
        for case, parities in opened.passes():
            found = []
            for parity in parities:
                seen = opened.seen(parity)
                kinds = self.model.distribution(seen, case, self._helpers).moved(offset)
                found.append((parity, self._decode_pass(kinds, seen, decoder, plain)))
            for parity, values in found:
                opened.enter(parity, values)

    def _decode_pass(self, kinds: Distribution, seen: Seen, decoder: Decoder, plain: BitReader) -> Indices:
        tables, values = self.model.residuals, np.zeros(len(seen.busy) + len(seen.quiet), np.int64)
        single, expected = seen.busy, kinds.of(slice(len(seen.busy)))
        if len(seen.quiet):
            shared = kinds.of(slice(len(seen.busy), None))
            kind = seen.kinds[seen.order].astype(np.int64)
            rows = flag_rows(zero_frequency(shared, ZERO, tables))[kind[::BLOCK]]
            some = decoder.decode(rows, flag_tables()) - flag_tables().offsets[rows] > 0
            if some.any():
                inside = np.repeat(some, BLOCK)[: len(kind)]
                single = np.concatenate([single, seen.quiet[seen.order[inside]]])
                expected = Distribution.joined([expected, shared.of(kind[inside])])
        values[single] = residuals.decode(expected, 0, 1, LARGEST_VALUE, tables, decoder, plain) - ZERO
        return values
