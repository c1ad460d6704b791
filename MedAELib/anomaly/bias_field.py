"""The uneven brightness that receiving coils leave in an MRI: how much brighter each place is than it would be."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import SimpleITK as sitk

from .grid import Floats
from .masks import Mask, box_around

_COARSE = 4  # cells: what is finer than this says nothing about a field
_ITERATIONS = (50, 50)  # of a spline with one piece along each edge, then two: with more, large lesions would go, too
_ENOUGH = 1e-4  # when an iteration changes the field by less than this, it stands
_CONTROL_POINTS = 4  # of a cubic spline in one piece
_DARK = 0.3  # of the median: fluid, whose noise would count like brightness
_FEWEST = 200  # coarse cells: fewer tell nothing


def bias_field(voxels: Floats, mask: Mask) -> Floats:
    """The factor `[i, j, k]`, float32, by which a receiving coil made tissue brighter, smooth; 1 far from the mask.

    N4 (Tustison et al., IEEE Transactions on Medical Imaging, 2010) within the mask, on cells of four voxels. The mean
    of its logarithm within the mask is 0. Where there is too little tissue to tell, it is 1 everywhere. The same on
    any number of cores.
    """
    found = np.ones(voxels.shape, np.float32)
    box = box_around(mask, _COARSE)
    seen, inside = voxels[box], mask[box]
    middle = float(np.median(seen[inside])) if inside.any() else 0.0
    coarse, tissue = _means(seen, inside & (seen > _DARK * middle))
    if not middle > 0 or int(tissue.sum()) < _FEWEST or not float(np.ptp(coarse[tissue])) > 0:
        return found
    finder = sitk.N4BiasFieldCorrectionImageFilter()
    finder.SetMaximumNumberOfIterations(_ITERATIONS)
    finder.SetConvergenceThreshold(_ENOUGH)
    finder.SetNumberOfControlPoints([_CONTROL_POINTS] * 3)
    with _one_thread():
        finder.Execute(_image(coarse, _COARSE, -_COARSE), _image(tissue.astype(np.uint8), _COARSE, -_COARSE))
        log_field = sitk.GetArrayFromImage(finder.GetLogBiasFieldAsImage(_image(seen, 1, 0))).T
    found[box] = np.exp(log_field - log_field[inside].mean())
    return found


@contextmanager
def _one_thread() -> Iterator[None]:
    """Filters within filters take as many threads as there are cores, and with more of them add up in another order."""
    usual = sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(1)
    try:
        yield
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(usual)


def _means(voxels: Floats, tissue: Mask) -> tuple[Floats, Mask]:
    """The mean of the tissue in each coarse cell, and where at least half of a cell is tissue.

    There is one coarse cell more on each side: a field is not known beyond the middles of the outermost ones.
    """
    shape = tuple(-(-size // _COARSE) + 2 for size in voxels.shape)
    room = [(_COARSE, (cells - 1) * _COARSE - size) for cells, size in zip(shape, voxels.shape, strict=True)]
    split = [part for cells in shape for part in (cells, _COARSE)]
    weight = np.pad(tissue, room).reshape(split).sum(axis=(1, 3, 5))
    total = np.pad(np.where(tissue, voxels, 0), room).reshape(split).sum(axis=(1, 3, 5), dtype=np.float64)
    return (total / np.maximum(weight, 1)).astype(np.float32), weight >= _COARSE**3 / 2


def _image(voxels: np.ndarray, cell: int, begin: int) -> sitk.Image:
    """An image whose cells are so many voxels wide; the first one begins at this voxel."""
    image = sitk.GetImageFromArray(np.ascontiguousarray(voxels.T))
    image.SetSpacing([cell] * 3)
    image.SetOrigin([begin + (cell - 1) / 2] * 3)
    return image
