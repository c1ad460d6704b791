"""How coarsely to quantise so that a file has a wanted quality or a wanted size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from .context import LARGEST
from .values import Mapped, shifted, span_of

LEVELS = LARGEST // 2  # of floats
_SPANS = 1e-100, 1e100  # of floats whose squared errors are numbers, however small the errors are

Array = npt.NDArray[Any]


def lossy_unit(array: Array) -> tuple[float, float]:
    """The lowest value of a volume and the grey values that a whole number stands for: 1 for integers.

    Raises BadInput when values are not finite or spread over more than 2^16 whole numbers, or so far, or so little,
    that their squares are no numbers.
    """
    low, high, span = array.min(), array.max(), span_of(array)
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BadInput("A volume with values that are not finite can only be compressed losslessly.")
    if span != 0 and not _SPANS[0] <= span <= _SPANS[1]:
        raise BadInput(f"A volume whose values spread over {span:.3g} can only be compressed losslessly.")
    if array.dtype.kind == "f":
        return float(low), span / (LEVELS - 1) or 1.0
    if span >= LARGEST:
        raise BadInput("A volume of more than 65536 grey values can only be compressed losslessly.")
    return float(low), 1.0


def lossy_whole(voxels: Array, start: float, unit: float) -> Mapped:
    """Voxels as whole numbers of units above the start."""
    if voxels.dtype.kind == "f":
        whole = np.rint((voxels.astype(np.float64) - start) / unit).astype(np.int64)
        return Mapped(whole, {"kind": "grid", "start": start, "step": unit, "divisor": 1.0})
    low = int(voxels.min())
    return Mapped(shifted(voxels, low).astype(np.int64), {"kind": "even", "start": low, "step": 1})
