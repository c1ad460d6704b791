"""A large place that a single map shows and the shown map hardly does: large lesions fade where maps are combined."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.ndimage import distance_transform_edt, gaussian_filter, label

from .asymmetry import ASYMMETRY
from .average import AVERAGE
from .grid import Floats
from .masks import Mask, box_around
from .prepare import Prepared

_WIDTH = 4.0  # mm, of the Gaussian: thin edges, folds and veins fade, what is large does not
# z of the mean around, and the millilitres that lie above it: of 14 right scans of eleven people at most 8 and 25, with
# uneven brightness besides 12.
_LARGE = ((2.5, 15.0), (2.0, 30.0))
_SHOWN = 0.1  # of the place lies in regions: it is not hidden
_EDGE = 4.0  # mm around a hidden place, which smoothing makes unlike, too


def hidden_place(maps: Mapping[str, Floats], labels: npt.NDArray[Any], prepared: Prepared) -> str:
    """A sentence on the largest place of a brain that stands out in one of the single maps of z (by name), and of which
    hardly any lies in the regions `labels` `[i, j, k]` of the shown map; empty where there is none.

    `average` is not asked: it knows places too roughly, and in right brains of other scanners large ones stand out.
    """
    found = _hidden(maps, labels, prepared)
    if not found:
        return ""
    name, place = max(found, key=lambda one: int(one[1].sum()))
    ml = float(place.sum()) * prepared.grid.cell_ml
    middle = prepared.grid.affine[:3, :3] @ np.argwhere(place).mean(axis=0) + prepared.grid.affine[:3, 3]
    right, front, head = (f"{round(float(mm))}" for mm in middle)
    return (
        f"In the map {name} a place of {ml:.0f} ml stands out (R {right} mm, A {front} mm, S {head} mm) that the shown "
        "map hardly shows: large lesions can hide in it. Look at that map, too."
    )


def quiet_part(maps: Mapping[str, Floats], labels: npt.NDArray[Any], prepared: Prepared) -> Mask | None:
    """The brain `[i, j, k]` without its hidden places and what lies close around, in which the scan's own units are
    those of its normal tissue; None where nothing is hidden.

    `asymmetry` is not asked, either, as it shows a place on the other side, too.
    """
    hidden = [place for name, place in _hidden(maps, labels, prepared) if name != ASYMMETRY]
    if not hidden:
        return None
    far = distance_transform_edt(~np.logical_or.reduce(hidden)) * float(prepared.grid.affine[0, 0]) > _EDGE
    return np.asarray(prepared.mask & far)


def _hidden(maps: Mapping[str, Floats], labels: npt.NDArray[Any], prepared: Prepared) -> list[tuple[str, Mask]]:
    """The large places of a brain that single maps (by name) show and the regions hardly do, with those names."""
    if prepared.dims != 3 or not prepared.brain:
        return []
    return [
        (name, place)
        for name, z in maps.items()
        if name != AVERAGE
        for place in _places(z, prepared)
        if (labels[place] > 0).mean() < _SHOWN
    ]


def _places(z: Floats, prepared: Prepared) -> list[Mask]:
    """The large places `[i, j, k]` of a map."""
    box, found = box_around(prepared.mask), []
    inside, width = prepared.mask[box], _WIDTH / float(prepared.grid.affine[0, 0])
    soft = gaussian_filter(np.where(inside, z[box], 0).astype(np.float32), width)
    for above, least_ml in _LARGE:
        pieces, count = label(inside & (soft > above))
        sizes = np.bincount(pieces.ravel(), minlength=count + 1) * prepared.grid.cell_ml
        for number in 1 + np.flatnonzero(sizes[1:] >= least_ml):
            place = np.zeros(z.shape, bool)
            place[box] = pieces == number
            found.append(place)
    return found
