"""What a scan lacks: slices of one value only, between slices that hold tissue, and voxels that hold no number."""

from __future__ import annotations

from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from ..noise import otsu_threshold
from ..quality import all_finite
from ..volume import Volume

AXES = ("first", "second", "third")
_FEW = 0.05  # of the slice with most tissue: with less, a slice shows stray voxels or the end of the body
_HOT = 99.5  # percentile of the voxels: a few beyond are no tissue
_SAMPLE = 200_000  # voxels that part tissue from air
_SHOWN = 4  # runs of slices that are named


def missing_slices(volume: Volume) -> str:
    """A sentence that names the slices, counted from 0, that are missing in the first channel; empty of a whole scan.

    Of the next slices that show something, those on both sides must hold tissue: air of one value may lie between a
    head and stray voxels. Of slices that were taken out, the rest moved together, `odd_slices` tells.
    """
    voxels, found = volume.array[0], []
    for axis in range(3):
        across = tuple(other for other in range(3) if other != axis)
        low, high = np.fmin.reduce(voxels, across), np.fmax.reduce(voxels, across)
        empty = (~(high > low)).tolist()  # also where nothing is finite
        if all(empty):
            return ""
        runs = _inner_runs(empty)
        if runs:
            holds = _holds_tissue(voxels, axis, empty)
            runs = [run for run in runs if holds[run[0] - 1] and holds[run[-1] + 1]]
        if runs:
            lost = [number for run in runs for number in run]
            count = f"{len(lost)} {'slice' if len(lost) == 1 else 'slices'}"
            found.append(f"{count} along its {AXES[axis]} axis ({named(lost)})")
    if not found:
        return ""
    return (
        f"{volume.name or 'The volume'} lacks {' and '.join(found)}: all voxels there have the same value, between "
        "slices that hold tissue; the map is not to be believed there and beside it."
    )


def not_finite(volume: Volume, taken_as: str) -> str:
    """A sentence on how many voxels of the first channel are not finite, which are `taken_as` something; empty where
    all are finite."""
    voxels = volume.array[0]
    if all_finite(voxels):
        return ""
    count = sum(int(np.count_nonzero(~np.isfinite(voxels[..., k]))) for k in range(voxels.shape[-1]))
    told = "1 voxel that is" if count == 1 else f"{count} voxels that are"
    return (
        f"{volume.name or 'The volume'} holds {told} not finite, taken as {taken_as}; the map is not to be believed "
        "there and beside it."
    )


def _inner_runs(empty: list[bool]) -> list[list[int]]:
    """The runs of empty slices that have others on both sides."""
    first, last = empty.index(False), len(empty) - 1 - empty[::-1].index(False)
    return [list(run) for kind, run in groupby(range(first, last), key=empty.__getitem__) if kind]


def _holds_tissue(voxels: npt.NDArray[Any], axis: int, empty: list[bool]) -> npt.NDArray[np.bool_]:
    """Whether each slice across an axis holds more than a few voxels of tissue; the empty ones hold none."""
    shown = np.moveaxis(voxels, axis, 0)[~np.array(empty)]
    sample = shown.ravel()[:: max(1, shown.size // _SAMPLE)]
    sample = sample[np.isfinite(sample)]
    sample = np.minimum(sample, np.percentile(sample, _HOT))
    clear_of_air = (float(sample.min()) + otsu_threshold(sample)) / 2
    counts = np.count_nonzero(shown > clear_of_air, axis=(1, 2))
    found = np.zeros(len(empty), bool)
    found[~np.array(empty)] = counts >= max(1, _FEW * counts.max())
    return found


def named(numbers: list[int]) -> str:
    """Numbers in rising order as runs, such as "10 to 12, 20"; the first few of many."""
    runs = [[number for _, number in run] for _, run in groupby(enumerate(numbers), lambda pair: pair[1] - pair[0])]
    shown = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:_SHOWN]]
    return ", ".join(shown) + (" and more" if len(runs) > _SHOWN else "")
