"""The quantisation step for a wanted quality or size: where an estimate says, moved by what was measured there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from .context import LARGEST
from .subband_levels import WaveGrid
from .wavelet import FRACTION_BITS, Shape, analyse, choose_axes

_TRIES = 9
_HALVINGS = 40  # of an interval of steps
_MARGIN = 0.4  # of what is close enough: where to aim
_SAMPLES = 400_000
_DEAD = 0.62  # steps below which a coefficient becomes zero, roughly
_UNIT = 1 << 14
HEADER = 700  # bytes, roughly
LARGEST_STEP = LARGEST << FRACTION_BITS
_BITS = (5.0, 2.0)  # of a coefficient that is not zero, and for each doubling of it, roughly

Doubles = npt.NDArray[np.float64]
Expected = Callable[[float], float]  # the figure at log2 of a step


class Estimate(Protocol):
    """What steps should give, and which there are."""

    @property
    def steps(self) -> tuple[int, int]:
        """The finest and the coarsest step."""

    @property
    def odd(self) -> bool:
        """Whether only odd steps are possible."""

    def decibels(self, place: float) -> float:
        """The PSNR with a step whose log2 is `place`; it may be wrong by a constant."""

    def log_bytes(self, place: float) -> float:
        """Log2 of the bytes; it may be wrong by a constant."""


@dataclass(frozen=True)
class Goal:
    """A figure that falls as the step grows, and how near to it is near enough: at least so many decibels, or at most
    log2 of so many bytes."""

    value: float
    floor: bool
    close: float

    @staticmethod
    def of(kind: str, wanted: float, nbytes: int) -> Goal:
        """For a PSNR, or for a ratio to `nbytes` in memory."""
        return Goal(wanted, True, 0.04) if kind == "psnr" else Goal(math.log2(nbytes / wanted), False, 0.006)

    def over(self, figure: float) -> float:
        """By how much better than wanted a figure is; below 0 the promise is broken."""
        return figure - self.value if self.floor else self.value - figure


def first_step(estimate: Estimate, goal: Goal, offset: float = 0.0) -> int:
    """The step that the estimate alone finds, where true figures lie so much above those of the estimate."""
    expected = estimate.decibels if goal.floor else estimate.log_bytes
    return _whole(_next_place({}, expected, goal, offset, estimate.steps), estimate)


def find_step(measure: Callable[[int], float], estimate: Estimate, goal: Goal, first: int | None = None) -> int | None:
    """A step that reaches the goal, and hardly more; None when none of those tried does.

    `measure` gives the true figure of a step, and the first tries by how much the estimate is wrong.
    """
    tried: dict[int, float] = {}
    offset, expected = 0.0, estimate.decibels if goal.floor else estimate.log_bytes
    for _ in range(_TRIES):
        place = _next_place(tried, expected, goal, offset, estimate.steps)
        step = _whole(place, estimate) if first is None or tried else first
        if step in tried:  # where steps are few, the next one may still be better
            step += (2 if estimate.odd else 1) * (1 if (goal.over(tried[step]) >= 0) == goal.floor else -1)
        if step in tried or not estimate.steps[0] <= step <= estimate.steps[1]:
            break
        tried[step] = measure(step)
        if 0 <= goal.over(tried[step]) <= goal.close:
            return step
        nearest = min(tried, key=lambda some: abs(goal.over(tried[some])))
        offset = tried[nearest] - expected(math.log2(nearest))
        offset = offset if math.isfinite(offset) else 0.0
    kept = [step for step, figure in tried.items() if goal.over(figure) >= 0]
    if not kept:
        last = estimate.steps[0 if goal.floor else 1]
        return last if last not in tried and goal.over(measure(last)) >= 0 else None
    return max(kept) if goal.floor else min(kept)


def _whole(place: float, estimate: Estimate) -> int:
    step = 2 * round((2**place - 1) / 2) + 1 if estimate.odd else round(2**place)
    return min(max(step, estimate.steps[0]), estimate.steps[1])


def _next_place(
    tried: dict[int, float], expected: Expected, goal: Goal, offset: float, steps: tuple[int, int]
) -> float:
    """Where the goal should lie: as expected, moved by the offset; once it lies between two tries, as both of them
    say, and not too near to either."""
    target = goal.value + (_MARGIN if goal.floor else -_MARGIN) * goal.close
    finer = [step for step, figure in tried.items() if figure > target]
    coarser = [step for step, figure in tried.items() if figure <= target]
    first, last = math.log2(max(finer, default=steps[0])), math.log2(min(coarser, default=steps[1]))
    wanted, margin = target - offset, 0.0
    if finer and coarser:
        above, below = tried[max(finer)], tried[min(coarser)]
        share = (above - target) / (above - below) if math.isfinite(above) else 0.5
        wanted, margin = expected(first) + share * (expected(last) - expected(first)), 0.1 * (last - first)
    elif tried:  # the estimate is too flat or too steep: go further each time, until the goal lies between two tries
        wanted += (len(tried) - 1) * (target - min(tried.values(), key=lambda figure: abs(figure - target)))
    low, high = first, last
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if expected(middle) > wanted else (low, middle)
    return min(max((low + high) / 2, first + margin), last - margin)


@dataclass(frozen=True)
class LatticeEstimate:
    """For a volume of so many bytes in memory, whose range is `span` whole numbers, coded by lattices."""

    nbytes: int
    span: float
    odd = True

    @property
    def steps(self) -> tuple[int, int]:
        """The finest and the coarsest step."""
        return 1, 2 * max(int(self.span) // 2, 1) + 1

    def decibels(self, place: float) -> float:
        """The PSNR of errors that are uniform within a step."""
        return 20 * math.log10(self.span * 12**0.5) - 6.02 * place

    def log_bytes(self, place: float) -> float:
        """Most volumes have a third of their bytes without loss."""
        return math.log2(self.nbytes / 3) - 0.8 * place


class WaveEstimate:
    """What quantising the wavelet coefficients of a volume should give, from a sample of them."""

    steps = (1, LARGEST_STEP)
    odd = False

    def __init__(self, chunks: Iterable[npt.NDArray[np.int64]], voxels: int, spacing: Shape, span: float) -> None:
        """`chunks` [i, j, k] of whole numbers whose range is `span`, so many `voxels` in all."""
        self._span, self._every = span, max(voxels // _SAMPLES, 1)
        self._size = np.concatenate([self._sampled(some, spacing) for some in chunks])

    def _sampled(self, chunk: npt.NDArray[np.int64], spacing: Shape) -> Doubles:
        """Magnitudes in whole numbers, as an orthonormal transform would have them."""
        i, j, k = chunk.shape
        grid = WaveGrid((i, j, k), spacing, tuple(choose_axes((i, j, k), spacing)), _UNIT, 1)
        low, found = chunk.astype(np.float64) * 2**FRACTION_BITS, []
        for place, level in enumerate(grid.levels):
            bands = analyse(low, level.axes)
            low = bands.pop(())
            found += [band.reshape(-1) * (_UNIT / grid.step_of(place, high)) for high, band in bands.items()]
        found.append((low * (_UNIT / grid.low_step)).reshape(-1))
        return np.concatenate([np.abs(band[:: self._every]) for band in found]) / 2**FRACTION_BITS

    def decibels(self, place: float) -> float:
        """The PSNR with a step whose log2 in 2^-6 whole numbers is `place`."""
        step = 2.0 ** (place - FRACTION_BITS)
        error = np.where(self._size < _DEAD * step, self._size, step / 12**0.5)
        return 20 * math.log10(self._span) - 10 * math.log10(float(np.mean(error**2)) + 1e-12)

    def log_bytes(self, place: float) -> float:
        """Log2 of the bytes with a step."""
        size = self._size / 2.0 ** (place - FRACTION_BITS)
        some = size[size >= _DEAD]
        bits = (_BITS[0] * len(some) + _BITS[1] * float(np.log2(some / _DEAD).sum())) * self._every
        return math.log2(bits / 8 + HEADER)
