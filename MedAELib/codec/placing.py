"""Decoded voxels as a volume: where their lattice lies in the patient, and what the file says of it."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ..volume import Volume
from .container import Container

Steps = tuple[int, int, int]


def placed(
    container: Container, array: npt.NDArray[Any], first: int, steps: Steps, slices: tuple[int, int] | None
) -> Volume:
    """Voxels [c, i, j, k] that lie `steps` apart, from slice `first` on; of these the file's `slices` from .. to."""
    told = container.header["volume"]
    affine = np.array(told["affine"], np.float64)
    meta = {"name": told["name"], "modality": told["modality"], **_kept_meta(told.get("meta"))}
    if first or steps != (1, 1, 1):  # else it keeps its bits, those of -0.0 too
        shift = np.eye(4)
        shift[2, 3] = first
        affine = affine @ shift @ np.diag([*map(float, steps), 1.0])
    volume = Volume(array, affine, meta)
    if slices is None:
        return volume
    start = slices[0] - first
    return volume.slab(2, start // steps[2], -(-(start + slices[1] - slices[0]) // steps[2]))


def _kept_meta(value: Any) -> dict[str, Any]:
    """What the file says beside the voxels, as far as it is of the right type."""
    kinds = {"frames": bool, "frame_spacing": float, "header": dict}
    table = value if isinstance(value, dict) else {}
    return {key: table[key] for key, kind in kinds.items() if isinstance(table.get(key), kind)}
