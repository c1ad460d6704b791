"""The integer network of wave fronts: from what lies before a voxel to the distribution of its residual."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..errors import BadModel
from .context import CLIP, CORRECTION_FACTOR, FRACTION, OCTAVE, UNIT_LOG, Doubles, Floats
from .front import OFFSETS
from .front_context import FRONT_INPUTS, FrontSetting, Predicted, Seen, front_inputs
from .network import Network, check_layers, check_tails
from .residuals import Distribution
from .room import Room
from .tables import ResidualTables, tables_of

SPACINGS = 3  # classes of the ratio of spacings, each with its default predictions


@dataclass(frozen=True, eq=False)
class FrontModel:
    """Weights w1 [h, 52], w2 [g, h], w3 [3, g] with biases b1, b2, b3, integers in float32; `tails` [4, 2049]; and
    default first predictions [3, 2, 40]: by spacing, for the first slice of a chunk and for all others.

    Raises BadModel when a shape is wrong or a sum could be inexact.
    """

    weights: dict[str, Floats]
    tails: npt.NDArray[np.int64]
    predictions: Doubles

    def __post_init__(self) -> None:
        check_layers(self.weights, (), FRONT_INPUTS, CLIP)
        check_tails(self.tails)
        if self.predictions.shape != (SPACINGS, 2, len(OFFSETS)):
            raise BadModel("The codec's default predictions have the wrong shape.")

    @cached_property
    def residuals(self) -> ResidualTables:
        """The tables for entropy coding."""
        return tables_of(self.tails)

    def default(self, ratio: int) -> tuple[Doubles, Doubles]:
        """The first predictions of a chunk whose own are not sent."""
        first, others = self.predictions[spacing_class(ratio)]
        return first, others


class FrontExpectation:
    """Where a model expects the voxels of a chunk, step by step. It keeps its arrays: each thread needs its own."""

    def __init__(self, model: FrontModel, setting: FrontSetting) -> None:
        self._setting, self._network, self.room = setting, Network(model.weights), Room()

    def distribution(self, seen: Seen, predicted: Predicted) -> Distribution:
        """Where each voxel is expected."""
        setting, unit = self._setting, predicted.unit
        moved, log_scale, shape = self._network(front_inputs(seen, predicted, setting, self.room))
        moved *= CORRECTION_FACTOR.take(unit)
        np.rint(moved, out=moved)
        moved += predicted.final  # exact, but where it is far beyond what follows
        moved.clip(0, FRACTION * setting.largest, out=moved)
        eighths = moved.astype(np.int64)
        eighths += FRACTION // 2
        centre = eighths // FRACTION
        fraction = eighths & (FRACTION - 1) if setting.step == 1 else np.full_like(centre, FRACTION // 2)
        scale = log_scale.astype(np.int64)
        scale += UNIT_LOG.take(unit)
        scale -= 6 * OCTAVE + setting.step_log
        return Distribution(centre, scale, shape.astype(np.int64), fraction)


def spacing_class(ratio: int) -> int:
    """Which default predictions fit a ratio of spacings."""
    return 0 if ratio <= 1 else 1 if ratio <= 3 else 2
