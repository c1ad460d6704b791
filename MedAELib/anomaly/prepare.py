"""How a scan is made ready for a normative model: onto its grid, masked, and with its tissue at a fixed brightness."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from ..errors import BadInput, BadModel
from ..modality import added_to_hounsfield, guess_modality, told_added, told_ct, told_labels
from ..volume import Volume
from .bias_field import bias_field
from .calibration import pixel_of
from .gaps import missing_slices
from .grid import Floats, Grid, grid_around, onto_grid, plane_grid
from .masks import Mask, body_mask, brain_mask, deep_median

if TYPE_CHECKING:
    from ..model import Model

SPACING = 2.0  # mm, of brains
BODY_SPACING = 4.0  # mm, of bodies where no model says otherwise
MEDIAN = 0.5  # what the median of the tissue becomes
_PLANE = (1.0, 99.0)  # percentiles of an image that become 0 and twice MEDIAN
_WATER = 500.0  # HU: as much above -250 HU becomes twice MEDIAN, so that water lies at MEDIAN
_AIR = -1024.0  # HU
BODY_RANGE = (1e-3, 1.5)  # windowed: air in the body is a little above 0, which means outside; bone ends at 500 HU


@dataclass(frozen=True, eq=False)
class Prepared:
    """A scan on the grid `[i, j, k]`: windowed voxels (0 outside the mask), the mask, and how to come back.

    An intensity is `voxels * scale * field + offset`. `brain` says whether the mask is that of a brain, or of all that
    is not air. `dims` is 3, or 2 for images that are looked at one by one along k. `hounsfield`: brightness is
    absolute. `field` is the uneven brightness that was divided out, None where none was. With `places` voxels and mask
    are lists, of what lies there on the grid. `labels` and `missing` are sentences on the file: it looks like a label
    map, slices are missing in it; empty where not.
    """

    voxels: Floats
    mask: Mask
    grid: Grid
    scale: float
    brain: bool
    offset: float = 0.0
    dims: int = 3
    hounsfield: bool = False
    field: Floats | None = None
    places: Mask | None = None
    labels: str = ""
    missing: str = ""

    def differences(self, voxels: Floats) -> Floats:
        """Differences of windowed voxels `[i, j, k]` in the scan's own unit."""
        return np.asarray(voxels * np.float32(self.scale) * (np.float32(1) if self.field is None else self.field))

    def intensities(self, voxels: Floats) -> Floats:
        """Windowed voxels `[i, j, k]` in the scan's own unit; outside the mask air in a CT, else what 0 stands for."""
        found = self.differences(voxels) + np.float32(self.offset)
        return np.where(self.mask, found, np.float32(_AIR)) if self.hounsfield else found


def prepare(volume: Volume) -> Prepared:
    """The first channel of a volume as normative models see it: a brain with its brightness made even.

    Raises BadInput where there is nothing to look at.
    """
    grid = grid_around(volume, SPACING)
    voxels = _found(onto_grid(volume.array[0], volume.affine, grid), volume)
    mask, brain = brain_mask(voxels, SPACING)
    field = bias_field(voxels, mask) if brain else None
    even = voxels if field is None else voxels / field
    middle = float(np.median(even[mask])) if brain else deep_median(voxels, mask, SPACING)
    if not middle > 0:
        if told := told_ct(volume):
            raise BadInput(f"{told}, and the model was made for MRI.", "Choose a model for CT, or an MRI.")
        raise BadInput(
            f"The tissue of {volume.name or 'the volume'} is not brighter than 0.", "Choose an MRI magnitude image."
        )
    scale = middle / MEDIAN
    windowed = np.where(mask, even / np.float32(scale), 0).astype(np.float32)
    return Prepared(windowed, mask, grid, scale, brain, field=field)


def prepare_body(volume: Volume, spacing: float = BODY_SPACING) -> Prepared:
    """The first channel of a CT in Hounsfield units as normative models see it: the body, on cells of `spacing` mm.

    0 HU becomes MEDIAN, 250 HU twice MEDIAN; below -250 HU and above 500 HU all is the same.
    Raises BadInput where there is nothing to look at.
    """
    grid = grid_around(volume, spacing)
    above = np.asarray(volume.array[0], np.float32) - np.float32(_AIR)  # what is not finite, or outside, becomes air
    voxels = _found(onto_grid(above, volume.affine, grid), volume) + np.float32(_AIR)
    mask, low = body_mask(voxels, spacing), -MEDIAN * _WATER
    windowed = np.clip((voxels - low) / _WATER, *BODY_RANGE)
    return Prepared(np.where(mask, windowed, 0).astype(np.float32), mask, grid, _WATER, False, low, hounsfield=True)


def prepare_images(volume: Volume, spacing: float) -> Prepared:
    """The first channel as normative models of single images see it: whole slices along k, on pixels of `spacing` mm.

    All of an image is looked at. Its 1st percentile becomes 0 and its 99th twice MEDIAN.
    Raises BadInput where there is nothing to look at.
    """
    grid = plane_grid(volume, spacing)
    voxels = _found(onto_grid(volume.array[0], volume.affine, grid), volume)
    low, high = (float(value) for value in np.percentile(voxels, _PLANE))
    if not high > low:  # a few bright pixels on an even ground
        low, high = float(voxels.min()), float(voxels.max())
    scale = (high - low) / (2 * MEDIAN)
    windowed = ((voxels - np.float32(low)) / np.float32(scale)).astype(np.float32)
    return Prepared(windowed, np.ones(grid.shape, bool), grid, scale, False, low, 2)


def prepared_for(volume: Volume, model: Model | None) -> Prepared:
    """The scan as the model sees it: the slices of images one by one, the body in a CT, the brain in anything else.

    Raises BadInput, also for what is no CT in Hounsfield units where the model needs one, and BadModel for a model of
    another task or one that does not tell the size of its cells.
    """
    if model is not None and model.spec.task != "anomaly":
        raise other_task(model)
    return replace(_prepared_for(volume, model), labels=told_labels(volume), missing=missing_slices(volume))


def other_task(model: Model) -> BadModel:
    """What is wrong with a model that was made for something else."""
    return BadModel(f"The model was made for the task '{model.spec.task}', not to find what is unlike normal scans.")


def _prepared_for(volume: Volume, model: Model | None) -> Prepared:
    """As `prepared_for`, of a model that finds what is unlike normal scans."""
    absolute = model is None or (model.spec.dims == 3 and model.spec.modality == "CT")
    if absolute and added_to_hounsfield(volume):
        step = "Subtract 1024, or load the original DICOM; if it is MRI, name a model for MRI."
        raise BadInput(f"{told_added(volume)}.", step)
    if model is None:
        return prepare_body(volume) if guess_modality(volume) == "CT" else prepare(volume)
    known = model.bundle.calibration if model.bundle else {}
    if model.spec.dims == 2:
        return prepare_images(volume, pixel_of(known))
    if model.spec.modality != "CT":
        return prepare(volume)
    if guess_modality(volume) != "CT":
        raise BadInput(f"{volume.name or 'The volume'} is no CT in Hounsfield units.", "Choose another model.")
    return prepare_body(volume, pixel_of(known))


def prepared_again(scan: Prepared, voxels: Floats) -> Prepared:
    """The scan with other windowed voxels `[i, j, k]`, as it would come back from a file: its mask is found anew."""
    if scan.dims == 2:
        return replace(scan, voxels=voxels)
    values = scan.intensities(np.where(scan.mask, voxels, 0).astype(np.float32))
    volume = Volume(values[None], scan.grid.affine, {"name": "scan"})
    return prepare_body(volume, float(scan.grid.affine[0, 0])) if scan.hounsfield else prepare(volume)


def _found(voxels: Floats, volume: Volume) -> Floats:
    """The voxels on the grid. Raises BadInput where all are the same, there or in the volume.

    On a grid that reaches beyond the volume there is air around, which makes two values of one.
    """
    given = volume.array[0][np.isfinite(volume.array[0])]
    if not (given.size and given.max() > given.min() and float(voxels.max()) > float(voxels.min())):
        raise BadInput(f"{volume.name or 'The volume'} has the same value everywhere.", "Choose another scan.")
    return voxels
