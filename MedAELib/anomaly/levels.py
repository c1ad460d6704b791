"""How bright the tissue of a scan is, and from where on a voxel is clear of the air: roughly, of any scan."""

from __future__ import annotations

import numpy as np

from ..noise import otsu_threshold
from ..volume import Volume

_HOT = 99.5  # percentile of the voxels: a few beyond are no tissue
_STEP = 3  # every third voxel along each axis tells enough


def levels_of(volume: Volume) -> tuple[float, float]:
    """The median of the tissue in the first channel, and half of what parts tissue from air; 0 where all is air."""
    values = np.asarray(volume.array[0][::_STEP, ::_STEP, ::_STEP], np.float32)
    values = np.nan_to_num(values, nan=0, posinf=0, neginf=0)
    values = np.minimum(values, np.percentile(values, _HOT))
    parts = otsu_threshold(values)
    tissue = values[values > parts]
    return (float(np.median(tissue)) if tissue.size else 0.0), parts / 2
