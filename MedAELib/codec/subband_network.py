"""The integer networks of wavelet coefficients: from what is known around a coefficient to its distribution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..threads import ALONE, Helpers
from .context import CLIP, CORRECTION_FACTOR, FRACTION, OCTAVE, UNIT_LOG, Floats
from .network import check_layers, check_tails, evaluate, folded
from .residuals import Distribution
from .subband import CASES, SUBBAND_INPUTS
from .subband_known import Seen
from .tables import ResidualTables, tables_of

Indices = npt.NDArray[np.int64]
ZERO = 1 << 15  # what is coded is a quantised coefficient plus this, so that it is never negative
_LEAST, _BLOCK = 1 << 12, 1 << 15  # coefficients of a piece that a thread takes


@dataclass(frozen=True, eq=False)
class SubbandModel:
    """Weights w1 [12, h, 37], w2 [12, g, h], w3 [12, 3, g] with biases b1, b2, b3, integers in float32, by case
    (`subband.case_of`); and `tails` [4, 2049]. Raises BadModel when a shape is wrong or a sum could be inexact."""

    weights: dict[str, Floats]
    tails: npt.NDArray[np.int64]

    def __post_init__(self) -> None:
        check_layers(self.weights, (CASES,), SUBBAND_INPUTS, CLIP)
        check_tails(self.tails)

    @cached_property
    def residuals(self) -> ResidualTables:
        """The tables for entropy coding."""
        return tables_of(self.tails)

    def distribution(self, seen: Seen, case: int, helpers: Helpers = ALONE) -> Distribution:
        """Where each kind of coefficient that was seen is expected."""
        layers, count = {name: value[case] for name, value in self.weights.items()}, seen.made.shape[1]
        few = folded(layers, seen.varying, seen.others)

        def expected(block: slice) -> Distribution:
            return _distribution(*evaluate(few, seen.made[:, block]), seen.unit[block])

        busy = helpers.each(expected, helpers.pieces(count, _LEAST, _BLOCK))
        return Distribution.joined([*busy, _distribution(*evaluate(layers, seen.still), seen.unit[count:])])


def _distribution(correction: Floats, log_scale: Floats, shape: Floats, unit: Indices) -> Distribution:
    """What the outputs of the network say; the first of them is used up."""
    correction *= CORRECTION_FACTOR.take(unit)
    np.rint(correction, out=correction)
    moved = correction.astype(np.int64)
    moved += FRACTION * ZERO + FRACTION // 2
    moved.clip(FRACTION, 2 * FRACTION * ZERO - FRACTION, out=moved)
    scale = log_scale.astype(np.int64)
    scale += UNIT_LOG.take(unit)
    scale -= 6 * OCTAVE
    fraction = moved & (FRACTION - 1)
    moved >>= FRACTION.bit_length() - 1
    return Distribution(moved, scale, shape.astype(np.int64), fraction)
