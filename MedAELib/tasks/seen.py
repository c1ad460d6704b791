"""What a model for CT or MRI sees of a volume: from which intensity on, in which unit, and without fill values."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..modality import LARGEST_CT, LEAST_CT, added_to_hounsfield
from ..model import Model
from ..noise import Units, noise_unit, units_of
from ..noise_band import WHOLE, Band, noise_band
from ..quality import ends, limits, middle_frame, sample, varying_frames
from ..volume import Volume
from .coarser import coarser_shape, enlarged, resampled
from .uneven import noise_field

Array = npt.NDArray[Any]

_AIR = -1000  # HU
_RINGING = 0.05  # of the brightest: so far below 0 magnitudes may reach where they were interpolated
_ABSURD = 100  # times the brightest: no tissue, no vessel and no fat
# So many voxels, or this share of them, have a value exactly, and it is so many times the next largest: a fill value.
_SOME, _FAR, _MANY, _APART = 8, 5.0, 1e-3, 1.5
_FEWEST, _FEW_VALUES = 500, 20  # voxels that must be left, and different values among them
_MOST = 4  # fill values at either end
_WEAKENED, _FEW_SLICES = 1.1, 6


@dataclass(frozen=True)
class Seen:
    """A volume as its model sees it: `window` holds the intensities that are 0 and 1 to the network, in every frame.

    `zero` stands for no signal: 0 in MRI but where values are far below it (standardised, say). Intensities outside
    `least`..`largest` are no scan: they are seen as `filling`, and stay as they are. `units` tells `noise_unit` of each
    frame, found once; `notes` say in plain sentences what differs from an ordinary scan. `field` [i, j, k] is by how
    many times the noise is stronger than in the quiet part, where it is much stronger somewhere: the network sees each
    place in the unit of its own noise. `cut_off` is the value that smaller ones were raised to, minus infinite where
    none were; `added` what was added to the Hounsfield units of a CT. `band` is the share of the frequencies of each
    axis that hold noise: less than 1 in an MRI that was interpolated, which the network sees on a coarser grid; `units`
    and `field` are those of the noise on it.
    """

    original: Volume
    volume: Volume
    window: tuple[float, float]
    units: Units
    zero: float = 0.0
    least: float = -math.inf
    largest: float = math.inf
    filling: float = 0.0
    notes: tuple[str, ...] = ()
    field: npt.NDArray[np.float32] | None = None
    cut_off: float = -math.inf
    added: int = 0
    band: Band = WHOLE

    @property
    def counted_from(self) -> float:
        """The intensity from which on figures count: no signal of an MRI, 0 HU of a CT."""
        return self.zero + self.added

    @property
    def grid(self) -> tuple[int, ...]:
        """How many voxels along each axis the network sees."""
        return coarser_shape(self.volume.shape, self.band)

    def on_grid(self, frame: int) -> Array:
        """A frame `[i, j, k]` as the network sees it, in its own intensities."""
        return _on(self.volume.array[frame], self.grid, self.zero)

    def slab(self, axis: int, start: int, stop: int) -> Seen:
        """The slices start..stop-1 along an axis (0..2) as they are seen in the whole volume: in its unit."""
        original, seen = (each.slab(axis, start, stop) for each in (self.original, self.volume))
        if self.volume.array is self.original.array:
            seen = seen.like(original.array)
        field = None if self.field is None else self.field.take(range(start, stop), axis)
        return replace(self, original=original, volume=seen, field=field)

    def restore(self, result: Array) -> None:
        """Write what is no scan back into a result `[c, i, j, k]`, as it was."""
        if self.volume.array is not self.original.array:
            for k in range(result.shape[3]):
                before, after = self.original.array[..., k], result[..., k]
                np.copyto(after, before, where=_outside(before, self.least, self.largest))

    def filled(self, result: Volume) -> Volume:
        """A result as it would be seen: what is no scan is the filling in it too."""
        if self.volume.array is self.original.array:
            return result
        array = result.array.copy()
        _fill(self.original.array, array, self.least, self.largest, self.filling)
        return result.like(array)


def see(volume: Volume, model: Model) -> Seen:
    """What the model sees of the volume; of an ordinary scan, that is the volume itself."""
    modality, seen = model.spec.modality, volume
    added = added_to_hounsfield(volume) if modality == "CT" else 0
    zero, least, largest = _bounds(volume.array, modality, added)
    least, largest = _reached(volume.array, least, largest)
    filling, notes = float(_AIR + added if modality == "CT" else zero), _notes(volume, zero, least, largest)
    array = volume.array
    if least > -math.inf or largest < math.inf:
        array = array.copy()
        _fill(volume.array, array, least, largest, filling)
    if notes or added:
        seen = volume.like(array, modality=modality)
    band = _band(array, model)
    units = _units(array, zero, coarser_shape(volume.shape, band))
    window = _window(array, model, units, zero + added)
    field = _field(array, model, window, units, band)
    cut_off = _cut_off(array) if modality == "CT" else -math.inf  # magnitudes are not
    return Seen(volume, seen, window, units, zero, least, largest, filling, notes, field, cut_off, added, band)


def _window(array: Array, model: Model, units: Units, shift: float) -> tuple[float, float]:
    """The median of the limits of five frames at most, of those that vary: frames of one sequence do not flicker."""
    kind = model.spec.window
    found = np.array([limits(kind, array[frame], partial(units, frame)) for frame in _chosen(array)])
    low, high = np.median(found, axis=0)
    if kind.kind == "percentile" and model.spec.modality == "MR":  # its upper end is an intensity, not a distance
        return float(low) + shift, float(high)
    return float(low) + shift, float(high) + shift


def _band(array: Array, model: Model) -> Band:
    """The frequencies that hold noise, of the middle frame of an MRI; all for models that see no unit of noise."""
    spec = model.spec
    if spec.modality != "MR" or spec.window.kind != "white noise" or spec.dims != 3 or not varying_frames(array):
        return WHOLE
    return noise_band(array[middle_frame(array)])


def _units(array: Array, zero: float, grid: tuple[int, ...]) -> Units:
    """`noise_unit` of the channels of `[c, i, j, k]` on the grid that the network sees.

    A tenth more than that tells, as the edge of a band is weakened, but no more than its own grid tells: where noise is
    weak, anatomy is fine on the coarser grid. Few slices tell nothing on their own, whose finest detail alone counts.
    """
    own = units_of(array, zero)
    if grid == array.shape[1:]:
        return own
    on_grid = cache(lambda channel, correlated: noise_unit(_on(array[channel], grid, zero), correlated, zero))

    def both(channel: int, correlated: bool) -> float:
        told = _WEAKENED * on_grid(channel, correlated)
        return told if min(grid) < _FEW_SLICES else min(told, own(channel, correlated))

    return cache(both)


def _on(voxels: Array, grid: tuple[int, ...], zero: float) -> Array:
    return voxels if voxels.shape == grid else resampled(voxels, grid, empty=zero)


def uneven_field(voxels: Array, unit: float, zero: float, band: Band) -> npt.NDArray[np.float32] | None:
    """`noise_field` of `[i, j, k]`, told on the grid that its frequencies need."""
    found = noise_field(_on(voxels, coarser_shape(voxels.shape, band), zero), unit, zero)
    return None if found is None else enlarged(found, voxels.shape)


def _field(
    array: Array, model: Model, window: tuple[float, float], units: Units, band: Band
) -> npt.NDArray[np.float32] | None:
    """What the frames of an MRI share: by how many times its noise is stronger than in the quiet part.

    Found in the middle one, beside its own quiet part: a noisier frame is not one with uneven noise.
    """
    if model.spec.modality != "MR" or model.spec.window.kind != "white noise" or not varying_frames(array):
        return None
    frame, kind = middle_frame(array), model.spec.window
    low, high = limits(kind, array[frame], partial(units, frame))
    return uneven_field(array[frame], high - low, window[0], band)


def _cut_off(array: Array) -> float:
    """The least value, where many voxels have it exactly; minus infinite where few have, as where nothing was cut off.

    A scan in which much was set to one value, such as air, counts too.
    """
    low = ends(array)[0]
    return low if math.isfinite(low) and np.count_nonzero(array == low) >= _MANY * array.size else -math.inf


def _bounds(array: Array, modality: str, added: int) -> tuple[float, float, float]:
    """The intensity of no signal, and the least and the largest that belong to the scan."""
    nothing = 0.0, -math.inf, math.inf
    if array.dtype == bool or modality not in ("CT", "MR"):
        return nothing
    values, (low, high) = sample(array), ends(array)
    if modality == "CT":
        least, largest = float(LEAST_CT + added), float(LARGEST_CT + added)
        if low >= least and high <= largest:
            return nothing
        return (0.0, least, largest) if _is_scan(values[~_outside(values, least, largest)]) else nothing
    if not values.size:
        return nothing
    largest = _largest(array, values, high)
    least = _least(array, values[values <= largest], low)
    zero = _no_signal(array, least, largest) if low < 0 and _is_scan(values) else 0.0
    return zero, least, largest


def _largest(array: Array, values: Array, high: float) -> float:
    """The largest intensity of an MRI that is no fill value, infinite where all are none."""
    found = math.inf
    for _ in range(_MOST):
        rest = values[values < high]
        if not _is_scan(rest):
            break
        absurd, next_largest = _ABSURD * float(np.percentile(rest, 99.9)), float(rest.max())
        same = np.count_nonzero(values == high)
        apart = _APART if same >= _MANY * values.size else _FAR if same >= _SOME else math.inf
        fill = next_largest > 0 and high / next_largest > apart
        if not fill and not 0 < absurd < high:
            break
        high = found = ends(array, largest=np.nextafter(high, -math.inf) if fill else absurd)[1]
        values = values[values <= high]
    return found


def _least(array: Array, values: Array, low: float) -> float:
    """The least intensity of an MRI that is no fill value, minus infinite where all are none."""
    least = -math.inf
    for _ in range(_MOST):
        rest = values[values > low]
        if low >= 0 or not _is_scan(rest):
            break
        darkest, brightest = (float(end) for end in np.percentile(rest, [0.1, 99.9]))
        fill = np.mean(values == low) >= _MANY and not _negative(darkest, brightest)
        if not _negative(low, brightest) or not (fill or darkest - low > brightest - darkest):
            break
        low = least = ends(array, least=np.nextafter(low, math.inf))[0]
        values = values[values >= low]
    return least


def _no_signal(array: Array, least: float, largest: float) -> float:
    """The intensity of no signal in an MRI: nearly its least where that is far below 0, the median over frames."""
    found = []
    for frame in _chosen(array):
        values = sample(array[frame])
        found.append(np.percentile(values[~_outside(values, least, largest)], [0.3, 99.9]))
    zero, brightest = (float(end) for end in np.median(np.array(found), axis=0))
    return zero if _negative(zero, brightest) else 0.0


def _chosen(array: Array) -> list[int]:
    """Five frames at most, of those that vary."""
    frames = varying_frames(array)
    return [frames[n] for n in np.unique(np.linspace(0, len(frames) - 1, min(5, len(frames))).astype(int))]


def _negative(value: float, brightest: float) -> bool:
    """Whether a value is so far below 0 as ringing does not reach."""
    return value < -_RINGING * max(brightest, 0.0)


def _is_scan(values: Array) -> bool:
    """Whether these are enough and different enough to be a scan's intensities."""
    some = values.reshape(-1)[:: max(1, values.size // 10_000)]
    return values.size >= _FEWEST and len(np.unique(some)) > _FEW_VALUES


def _outside(values: Array, least: float, largest: float) -> npt.NDArray[np.bool_]:
    return np.asarray((values < least) | (values > largest))


def _reached(array: Array, least: float, largest: float) -> tuple[float, float]:
    """The bounds beyond which there are any values; no bound where there are none."""
    if least == -math.inf and largest == math.inf:
        return least, largest
    low, high = ends(array)
    return least if low < least else -math.inf, largest if high > largest else math.inf


def _fill(told: Array, array: Array, least: float, largest: float, filling: float) -> None:
    """Put the filling where what is told lies outside; slice by slice, so that little memory is needed."""
    value = filling if array.dtype.kind == "f" else max(round(filling), np.iinfo(array.dtype).min)
    for k in range(array.shape[3]):
        array[..., k][_outside(told[..., k], least, largest)] = value


def _notes(volume: Volume, zero: float, least: float, largest: float) -> tuple[str, ...]:
    name, notes = volume.name or "The volume", []
    if zero:
        notes.append(f"{name} has values far below 0, unlike MRI; {zero:.4g} was taken for no signal.")
    beyond = [f"below {least:.5g}"] * (least > -math.inf) + [f"above {largest:.5g}"] * (largest < math.inf)
    if beyond:
        notes.append(f"Values of {name} {' and '.join(beyond)} were taken for no part of the scan; they stay.")
    return tuple(notes)
