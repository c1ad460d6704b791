"""A scan that was interpolated to more voxels, denoised on the grid that its frequencies need."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.fft import dct, idct

from ..engine.run import Progress, Sink
from ..noise_band import Band
from .single_slice import into
from .uneven import linear_along

Array = npt.NDArray[Any]
Floats = npt.NDArray[np.float32]
Run = Callable[[Floats, Sink, Progress], None]

_FEWEST = 4  # voxels that are left along an axis
_NEARLY = 0.9  # of the frequencies of an axis and more: it stays as it is
_PART = 2_000_000  # voxels that are transformed at once, so that a run can be cancelled between


def coarser_shape(shape: tuple[int, ...], band: Band) -> tuple[int, ...]:
    """How many voxels along each axis the frequencies of a band need; as many as there are where nearly all do."""
    sizes = (math.ceil(size * share) if share < _NEARLY else size for size, share in zip(shape, band, strict=True))
    return tuple(few if few >= _FEWEST else size for few, size in zip(sizes, shape, strict=True))


def resampled(
    array: Array, shape: tuple[int, ...], report: Callable[[], None] = lambda: None, empty: float = 0.0
) -> Floats:
    """`[i, j, k]` on a coarser or finer grid over the same place, float32: all frequencies that both grids hold.

    By discrete cosine transforms, which continue a scan as its mirror image, so nothing wraps around its ends. What is
    not finite counts as `empty`. `report` is called between parts, and may raise.
    """
    made: Floats = np.nan_to_num(array, nan=empty, posinf=empty, neginf=empty).astype(np.float32)
    for axis in sorted(range(3), key=lambda axis: shape[axis] / array.shape[axis]):
        before, after = made.shape[axis], shape[axis]
        if before == after:
            continue
        room = np.empty((*made.shape[:axis], after, *made.shape[axis + 1 :]), np.float32)
        along = 0 if axis else 1
        step = max(1, _PART * made.shape[along] // max(made.size, room.size))
        for start in range(0, made.shape[along], step):
            part = (slice(None),) * along + (slice(start, start + step),)
            room[part] = _along(made[part], axis, after)
            report()
        made = room
    return made


def _along(part: Floats, axis: int, size: int) -> Floats:
    """A part on `size` voxels along an axis."""
    waves = dct(part, axis=axis, norm="ortho")
    kept = waves.take(range(min(size, part.shape[axis])), axis)
    missing = [(0, size - kept.shape[axis] if other == axis else 0) for other in range(kept.ndim)]
    scale = np.float32((size / part.shape[axis]) ** 0.5)  # so that intensities stay
    return np.asarray(idct(np.pad(kept, missing), axis=axis, norm="ortho") * scale)


def run_coarser(
    run: Run, source: Array, shape: tuple[int, ...], sink: Sink, progress: Progress, outputs: int, empty: float = 0.0
) -> None:
    """What `run` does for a channel `[i, j, k]`, done on a grid of `shape`; the `sink` gets the whole channel at once.

    Taken away is what `run` takes away on that grid: what the scan holds beyond its frequencies stays as it is. Further
    `outputs` behind the first, such as the deviation of the noise, are only enlarged. `empty` is no signal.
    """
    total = source.size

    def waiting() -> None:
        progress(0, total)

    small = resampled(source, shape, waiting, empty)
    room = np.empty((outputs, *shape), np.float32)

    def report(done: int, whole: int) -> None:
        progress(total * done // whole, total)

    run(small, into(room), report)
    taken = resampled(small - room[0], source.shape, lambda: progress(total, total))
    result = np.subtract(source, taken, dtype=np.float32, casting="unsafe")
    whole = tuple(slice(0, size) for size in source.shape)
    sink(whole, source, result, *(enlarged(one, source.shape) for one in room[1:]))


def enlarged(field: Floats, shape: tuple[int, ...]) -> Floats:
    """A smooth field on a finer grid over the same place, linear between its voxels: none is below its least."""
    for axis, size in enumerate(shape):
        few = field.shape[axis]
        if few != size:
            field = linear_along(field, axis, np.clip((np.arange(size) + 0.5) * few / size - 0.5, 0, few - 1))
    return field
