"""Slices that a scan lacks: of one value only, between slices that show something."""

from __future__ import annotations

from itertools import groupby

import numpy as np

from ..volume import Volume

_AXES = ("first", "second", "third")
_SHOWN = 4  # runs of slices that are named


def missing_slices(volume: Volume) -> str:
    """A sentence that names the slices, counted from 0, that are missing in the first channel; empty of a whole scan.

    A scan from which slices were taken out and the rest moved together cannot be told from a whole one.
    """
    voxels, found = volume.array[0], []
    for axis, size in enumerate(voxels.shape):
        across = tuple(other for other in range(3) if other != axis)
        low, high = np.fmin.reduce(voxels, across), np.fmax.reduce(voxels, across)
        empty = (~(high > low)).tolist()  # also where nothing is finite
        if all(empty):
            return ""
        first, last = empty.index(False), size - 1 - empty[::-1].index(False)
        runs = [list(run) for kind, run in groupby(range(first, last), key=empty.__getitem__) if kind]
        if runs:
            count = sum(map(len, runs))
            found.append(f"{count} {'slice' if count == 1 else 'slices'} along its {_AXES[axis]} axis ({_named(runs)})")
    if not found:
        return ""
    return (
        f"{volume.name or 'The volume'} lacks {' and '.join(found)}: all voxels there have the same value, between "
        "slices that show something; the map is not to be believed there and beside it."
    )


def _named(runs: list[list[int]]) -> str:
    """Runs of numbers, such as "10 to 12, 20"; the first few of many."""
    shown = [str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs[:_SHOWN]]
    return ", ".join(shown) + (" and more" if len(runs) > _SHOWN else "")
