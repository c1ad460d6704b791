"""What became of a scan before it was compared: the mask, the uneven brightness, and the scan as the model sees it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..volume import Volume
from .grid import from_grid
from .prepare import Prepared


def steps_of(prepared: Prepared, volume: Volume) -> dict[str, Volume]:
    """The steps of the preparation by the names of `names.STEPS`, at the voxels of the volume that was prepared.

    `mask` is 1 where there is something to look at, uint8; `field` how many times too bright each place of it was,
    float32, 1 outside, only of brains; `seen` the masked, even scan in the model's own unit, float32, 0 outside.
    """
    grid = prepared.grid
    found: dict[str, npt.NDArray[Any]] = {
        "mask": from_grid(prepared.mask, grid, volume, nearest=True).astype(np.uint8)
    }
    if prepared.field is not None:
        found["field"] = from_grid(np.where(prepared.mask, prepared.field, 1), grid, volume)
    found["seen"] = from_grid(prepared.voxels, grid, volume)
    return {
        name: volume.like(voxels[None], name=f"{volume.name} {name}".strip(), frames=False)
        for name, voxels in found.items()
    }
