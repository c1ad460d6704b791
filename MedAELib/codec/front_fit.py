"""The linear predictions of a chunk's wave front, fitted to its voxels while it is encoded, and sent along."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from .context import FRACTION, UNITS, WEIGHT_BITS, Doubles, Floats
from .front import OFFSETS, Indices
from .front_context import FrontWeights, Known, error_unit, predict_front

_MOST_SAMPLES = 120_000
_VOXELS_PER_CLASS = 40_000
_MOST_CLASSES = 12
_TOWARDS_LARGE = 0.7  # below 1, there are more classes for large errors, which cost most
_RIDGE = 0.001  # of the mean squared deviation, towards what is known already
_ROUNDS = 3  # of weighing large deviations less, as an absolute error does
_BLOCK = 32768
_NO_ERROR = 4  # the unit where all errors around are zero
LARGEST_WEIGHT = 2**15 - 1


def blocks(count: int) -> Iterator[Indices]:
    """All voxels of a chunk in pieces that fit a processor's cache."""
    for first in range(0, count, _BLOCK):
        yield np.arange(first, min(first + _BLOCK, count))


def fit_front(
    known: Known, values: Floats, default: tuple[Doubles, Doubles], between: Callable[[], None] = lambda: None
) -> FrontWeights:
    """Weights for the voxels [z, y, x], which `known` holds already; its errors become those of the first prediction.

    A first slice or a volume that is too small for its own weights keeps the default ones. `between` is called several
    times a second; it may raise.
    """
    plane, count = values[0].size, values.size
    groups = np.arange(0, plane), np.arange(plane, count)
    samples = [group[:: max(len(group) // _MOST_SAMPLES, 1)] for group in groups]
    first = []
    for chosen, before in zip(samples, default, strict=True):
        between()
        first.append(_fitted_first(known, values, chosen, before))
    none = np.zeros(UNITS, np.int64)
    weights = FrontWeights((first[0], first[1]), (none, none), (first[0][None], first[1][None]))
    enter_errors(known, weights, between)
    found = [
        _fitted_classes(known, values, chosen, first[place], len(groups[place]), between)
        for place, chosen in enumerate(samples)
    ]
    return FrontWeights(weights.first, (found[0][0], found[1][0]), (found[0][1], found[1][1]))


def enter_errors(known: Known, weights: FrontWeights, between: Callable[[], None] = lambda: None) -> None:
    """Let `known` hold the errors of the first prediction of all its voxels."""
    values = known.values.inside
    start = np.empty(values.size, np.float32)
    for voxels in blocks(values.size):
        between()
        reference, differences, inside = known.neighbours(voxels, known.values.places(voxels))
        found = predict_front(reference, differences, np.stack(weights.first))
        start[voxels] = np.where(inside, found[0], found[1])
    known.errors.fill(values * np.float32(FRACTION) - start.reshape(values.shape))


def _fitted_first(known: Known, values: Floats, chosen: Indices, default: Doubles) -> Doubles:
    """The first prediction of a group of voxels."""
    if len(chosen) < 1000:
        return default
    reference, differences, inside = known.neighbours(chosen, known.values.places(chosen))
    target = values.reshape(-1)[chosen] - reference
    spread = np.abs(differences[:10]).sum(axis=0) / 10 + 0.5
    return _solved(differences, target, spread, default, bool(inside[0]))


def _fitted_classes(
    known: Known, values: Floats, chosen: Indices, first: Doubles, count: int, between: Callable[[], None]
) -> tuple[Indices, Doubles]:
    """The class of each unit [96], and the final predictions [classes, 40] of a group of voxels."""
    classes = min(count // _VOXELS_PER_CLASS, _MOST_CLASSES)
    if classes < 2:
        return np.zeros(UNITS, np.int64), first[None]
    places = known.values.places(chosen)
    reference, differences, inside = known.neighbours(chosen, places)
    unit = error_unit(known.seen(chosen, places))
    some = unit[unit > _NO_ERROR] if (unit > _NO_ERROR).any() else unit
    shares = (np.arange(1, classes) / classes) ** _TOWARDS_LARGE
    edges = np.unique(np.append(np.quantile(some, shares).astype(np.int64), _NO_ERROR + 1))
    place = np.searchsorted(edges, np.arange(UNITS), side="right")
    target = values.reshape(-1)[chosen] - reference
    spread = (np.exp2(unit / 4) / (10 * FRACTION) + 0.3).astype(np.float32)
    weights = []
    for number in range(len(edges) + 1):
        between()
        mine = np.flatnonzero(place[unit] == number)
        few = len(mine) < 500
        made = first if few else _solved(
            differences[:, mine], target[mine], spread[mine], first, bool(inside[0])
        )  # fmt: skip
        weights.append(made)
    return place, np.stack(weights)


def _solved(differences: Floats, target: Floats, spread: Floats, start: Doubles, flat: bool) -> Doubles:
    """Integer weights that lean a little towards the starting ones; only those of the slice if `flat`."""
    used = np.array([offset[0] == 0 for offset in OFFSETS]) if flat else np.ones(len(OFFSETS), bool)
    before = np.where(used, start, 0) / 2**WEIGHT_BITS
    x = np.empty((int(used.sum()), differences.shape[1]))
    np.copyto(x, differences if used.all() else differences[used])
    weights, weigh = before, 1 / spread.astype(np.float64)
    for _ in range(_ROUNDS):
        scaled = x * weigh
        gram = scaled @ scaled.T
        ridge = (_RIDGE * np.trace(gram) / len(gram) + 1e-9) * np.eye(len(gram))
        right = scaled @ ((target - before[used] @ x) * weigh)
        weights = before.copy()
        weights[used] += np.linalg.solve(gram + ridge, right)
        error = np.abs(target - weights[used] @ x) / spread
        weigh = 1 / (spread * np.sqrt(error + 0.3))
    return np.clip(np.rint(weights * 2**WEIGHT_BITS), -LARGEST_WEIGHT, LARGEST_WEIGHT)
