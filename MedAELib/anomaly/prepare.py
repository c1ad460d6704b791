"""How a scan is made ready for a normative model: onto its grid, masked, and with its tissue at a fixed brightness."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import BadInput
from ..volume import Volume
from .grid import Floats, Grid, grid_around, onto_grid
from .masks import Mask, brain_mask, deep_median

SPACING = 2.0  # mm
MEDIAN = 0.5  # what the median of the tissue becomes


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan on the grid `[i, j, k]`: windowed voxels (0 outside the mask), the mask, and how to come back.

    An intensity is `voxels * scale`. `brain` says whether the mask is that of a brain, or of all that is not air.
    """

    voxels: Floats
    mask: Mask
    grid: Grid
    scale: float
    brain: bool


def prepare(volume: Volume) -> Prepared:
    """The first channel of a volume as normative models see it. Raises BadInput where there is nothing to look at."""
    grid = grid_around(volume, SPACING)
    voxels = onto_grid(volume.array[0], volume.affine, grid)
    if not float(voxels.max()) > float(voxels.min()):
        raise BadInput(f"{volume.name or 'The volume'} has the same value everywhere.", "Choose another scan.")
    mask, brain = brain_mask(voxels, SPACING)
    middle = float(np.median(voxels[mask])) if brain else deep_median(voxels, mask, SPACING)
    if not middle > 0:
        raise BadInput(
            f"The tissue of {volume.name or 'the volume'} is not brighter than 0.", "Choose an MRI magnitude image."
        )
    scale = middle / MEDIAN
    return Prepared(np.where(mask, voxels / np.float32(scale), 0).astype(np.float32), mask, grid, scale, brain)
