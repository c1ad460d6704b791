"""How coarsely to quantise so that a file has a wanted quality or a wanted size."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from .context import LARGEST
from .values import Mapped

LEVELS = LARGEST // 2  # of floats

Array = npt.NDArray[Any]


def lossy_unit(array: Array) -> tuple[float, float]:
    """The lowest value of a volume and the grey values that a whole number stands for: 1 for integers.

    Raises BadInput when values are not finite or spread over more than 2^16 whole numbers.
    """
    low, high = array.min(), array.max()
    if not (np.isfinite(low) and np.isfinite(high)):
        raise BadInput("A volume with values that are not finite can only be compressed losslessly.")
    if array.dtype.kind == "f":
        return float(low), (float(high) - float(low)) / (LEVELS - 1) or 1.0
    if int(high) - int(low) >= LARGEST:
        raise BadInput("A volume of more than 65536 grey values can only be compressed losslessly.")
    return float(low), 1.0


def lossy_whole(voxels: Array, start: float, unit: float) -> Mapped:
    """Voxels as whole numbers of units above the start."""
    if voxels.dtype.kind == "f":
        whole = np.rint((voxels.astype(np.float64) - start) / unit).astype(np.int64)
        return Mapped(whole, {"kind": "grid", "start": start, "step": unit, "divisor": 1.0})
    low = int(voxels.min())
    return Mapped((voxels.astype(np.int64) - low), {"kind": "even", "start": low, "step": 1})
