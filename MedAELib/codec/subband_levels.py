"""The order in which the bands of a chunk are coded: level by level, each from what is decoded of the coarser ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from .restoration import Surroundings
from .subband import Band, Bytes, Coefficients, LowBand, Relatives, Siblings, case_of, passes
from .subband_known import Known, Looker, Seen
from .wavelet import (
    FRACTION_BITS,
    GAIN_BITS,
    Axes,
    Doubles,
    Level,
    Shape,
    band_step,
    brightness,
    levels_of,
    synthesise,
)

LARGEST_SHIFT = 31
SHIFTS = 3  # magnitudes 1, 2 and more are each restored with a shift of their own, in 64ths of the step
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class WaveGrid:
    """What the reader must know of a chunk before its parts: size, spacing in micrometres, which axes each level
    halves (finest first), the quantisation step in 2^-6 grey values, and the largest value."""

    shape: Shape
    spacing: Shape
    axes: tuple[Axes, ...]
    step: int
    largest: int

    @cached_property
    def levels(self) -> list[Level]:
        """The levels, finest first."""
        return levels_of(self.shape, self.axes)

    @property
    def rate(self) -> int:
        """8 log2 of the range over the step, each rounded down; integers alone."""
        return ((max(self.largest, 1) << FRACTION_BITS) ** 8).bit_length() - (self.step**8).bit_length()

    def step_of(self, place: int, high: Axes) -> int:
        """The step of a band of a level; of its low band if `high` is empty."""
        before = sum(len(level.axes) for level in self.levels[:place])
        return band_step(self.step, before, len(self.levels[place].axes) - len(high), len(high))

    def joined_step(self, place: int) -> int:
        """The step of the low band that a level restores."""
        return band_step(self.step, sum(len(level.axes) for level in self.levels[:place]), 0, 0)

    @property
    def low_shape(self) -> Shape:
        """The size of the last low band."""
        return self.levels[-1].low if self.levels else self.shape

    @property
    def low_step(self) -> int:
        """The step of the last low band."""
        return self.step_of(len(self.levels) - 1, ()) if self.levels else self.step

    @property
    def low_spacing(self) -> Shape:
        """The spacing of the last low band in micrometres."""
        i, j, k = self.spacing
        for level in self.levels:
            i, j, k = (s * (2 if d in level.axes else 1) for d, s in enumerate((i, j, k)))
        return i, j, k


class OpenBand:
    """A band while its coefficients become known, pass by pass."""

    def __init__(self, band: Band, relatives: Relatives, low: list[Bytes]) -> None:
        self.band, self.known = band, Known(band)
        self._looker, self._begun = Looker(band, self.known, relatives, low), False

    def passes(self) -> Iterator[tuple[int, list[Shape]]]:
        """The case and the parities of each pass; what was entered before is looked at once more."""
        for number, parities in passes(self.band.shape):
            if self._begun:
                self.known.look()
            yield case_of(self.band, number), parities

    def seen(self, parity: Shape) -> Seen:
        """What is known of the coefficients of one parity."""
        return self._looker.seen(parity)

    def enter(self, parity: Shape, values: Indices) -> None:
        """Now these coefficients [n] are known, too."""
        view = self.known.parity(parity)
        view[...] = values.reshape(view.shape)
        self._begun = True

    @property
    def values(self) -> Coefficients:
        """All coefficients [i, j, k]."""
        return self.known.inside


class Cascade:
    """Levels that become known one after the other; `low` is the low band that is known so far, in 2^-6 grey values."""

    def __init__(self, grid: WaveGrid, low: Doubles) -> None:
        self.grid, self.low = grid, low
        self.place = len(grid.levels)
        self._above: dict[Axes, Coefficients] = {}
        self._halved: Axes = ()

    def next(self, code: Callable[[OpenBand], None]) -> dict[Axes, Coefficients]:
        """Let all bands of the next finer level become known; their quantised coefficients [i, j, k]."""
        self.place -= 1
        grid, level = self.grid, self.grid.levels[self.place]
        told = LowBand(self.low, grid.step_of(self.place, ()))
        found = Siblings()
        for high in level.bands():
            band = Band.of(level, high, grid.spacing, self.place, grid.rate)
            opened = OpenBand(band, Relatives(band, found, self._above.get(high), self._halved), told.told(band))
            code(opened)
            found.bands[high] = np.ascontiguousarray(opened.values)
        self._above, self._halved = found.bands, level.axes
        return found.bands

    def join(self, bands: dict[Axes, Coefficients], shifts: Indices) -> None:
        """Restore the next finer low band from the quantised coefficients of the level."""
        level = self.grid.levels[self.place]
        whole = {high: restored(band, self.grid.step_of(self.place, high), shifts) for high, band in bands.items()}
        self.low = synthesise({(): self.low, **whole}, level.shape, level.axes)

    def around(self, bands: dict[Axes, Coefficients]) -> Surroundings:
        """The low band that was just restored from the bands of its level, as the restoration sees it."""
        level, shared = self.grid.levels[self.place], (self.place, self.grid.rate)
        return Surroundings(self.low, bands, level, self.grid.spacing, self.grid.joined_step(self.place), shared)

    def voxels(self) -> Indices:
        """The volume of whole numbers that the low band shows."""
        halvings = sum(len(level.axes) for level in self.grid.levels[: self.place])
        scale = brightness(halvings) / 2 ** (GAIN_BITS + FRACTION_BITS)
        found = np.empty(self.low.shape, np.int64)
        for plane, low in zip(found, self.low, strict=True):
            grey = low * scale
            grey += 0.5
            plane[...] = np.clip(np.floor(grey, out=grey), 0, self.grid.largest, out=grey)
        return found


def restored(values: Coefficients, step: int, shifts: Indices) -> Doubles:
    """Coefficients from what was quantised: the shifts [3] are those of magnitudes 1, 2 and more."""
    found = np.zeros(values.shape)
    some = np.flatnonzero(values)
    value = values.reshape(-1)[some]
    size = np.abs(value)
    moved = size * 64.0
    moved += shifts.take(size - 1, mode="clip")
    moved *= step / 64
    moved += 0.5
    found.reshape(-1)[some] = np.copysign(np.floor(moved, out=moved), value)
    return found
