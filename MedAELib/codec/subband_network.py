"""The integer networks of wavelet coefficients: from what is known around a coefficient to its distribution."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..threads import ALONE, Helpers
from .context import CLIP, CORRECTION_FACTOR, FRACTION, OCTAVE, UNIT_LOG, Floats
from .network import check_layers, check_tails, evaluate
from .residuals import Distribution
from .subband import CASES, SUBBAND_INPUTS
from .subband_known import Seen
from .tables import ResidualTables, tables_of

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
        layers = {name: value[case] for name, value in self.weights.items()}

        def expected(block: slice) -> Distribution:
            unit = seen.unit[block]
            correction, log_scale, shape = evaluate(layers, seen.made[:, block])
            moved = np.rint(correction * CORRECTION_FACTOR[unit]).astype(np.int64) + FRACTION * ZERO + FRACTION // 2
            moved = np.clip(moved, FRACTION, 2 * FRACTION * ZERO - FRACTION)
            scale = UNIT_LOG[unit] + log_scale.astype(np.int64) - 6 * OCTAVE
            centre = moved // FRACTION
            return Distribution(centre, scale, shape.astype(np.int64), moved - FRACTION * centre)

        return Distribution.joined(helpers.each(expected, helpers.pieces(seen.made.shape[1], _LEAST, _BLOCK)))
