"""Denoise: what the autoencoder calls noise is taken out of a volume, in part or whole, and can be looked at."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine.pieces import in_pieces
from ..engine.run import Engine
from ..engine.tiles import Box
from ..errors import BadInput, BadModel
from ..model import Model
from ..networks import Network
from ..networks.mirrored import PASSES, Mirrored
from ..networks.refitted import Refitted
from ..networks.regrouped import Regrouped
from ..noise_band import WHOLE, Band
from ..quality import ends, varying_frames
from ..volume import Volume
from .background import constant
from .coarser import coarser_shape, run_coarser
from .noise_map import CALIBRATIONS, REACH, NoiseMap, WithNoise, check_tells_noise, deviation, tells_noise
from .seen import Seen, see, uneven_field
from .single_slice import run_slice, single_axis

Allocate = Callable[[str, tuple[int, ...], np.dtype[Any]], npt.NDArray[Any]]
Progress = Callable[[str, int, int], None]
Floats = npt.NDArray[np.float32]


# Voxels that several automatic passes may go through: half of a large CT, so that nothing smaller takes longer.
_WORK = 40_000_000


def in_memory(name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """The plainest way to give a task room for an output."""
    return np.empty(shape, dtype)


def denoise(
    volume: Volume,
    model: Model,
    *,
    strength: float = 1.0,
    engine: Engine | None = None,
    progress: Progress = lambda stage, done, total: None,
    allocate: Allocate = in_memory,
    seen: Seen | None = None,
    passes: int = 0,
) -> Volume:
    """The volume without (`strength` 1), or with part of (0..1), its noise: same place, same type, same units.

    Integers are rounded and stay within their type; voxels that are not finite stay as they are, and so do masked air
    and padding (blocks of 3 x 3 x 3 voxels of one value). No MRI gets values below 0 that has none. Every channel
    (frame) is processed on its own, or left where it is empty. `engine.used` tells afterwards how it ran. `progress`
    may raise Cancelled. `seen` is what the model sees of the volume, where `see` has been asked already; what that
    takes for no part of the scan stays. The result is the mean over 1, 2, 4 or 8 `passes`, each over another mirror
    image; 0 takes `automatic_passes`.
    Raises BadInput for a strength outside 0..1 or another number of passes, BadModel for a model of another task.
    """
    return _denoised(volume, model, strength, engine or Engine(), progress, allocate, seen, passes)


def denoise_and_map(
    volume: Volume,
    model: Model,
    *,
    strength: float = 1.0,
    engine: Engine | None = None,
    progress: Progress = lambda stage, done, total: None,
    allocate: Allocate = in_memory,
    seen: Seen | None = None,
    passes: int = 0,
) -> tuple[Volume, Volume]:
    """What `denoise` gives, and the noise map from the same passes: the deviation of the noise around each voxel.

    The map is float32, in the volume's units, of one channel whatever the strength: the root mean square over the
    frames that vary. It is 0 where the scan is constant. Raises BadModel also for a model that cannot tell how strong
    the noise is.
    """
    check_tells_noise(model.network, model.spec.modality)
    room = allocate("noise", (1, *volume.shape), np.dtype(np.float32))
    gathered = NoiseMap(room, varying_frames(volume.array))
    denoised = _denoised(volume, model, strength, engine or Engine(), progress, allocate, seen, passes, gathered)
    return denoised, volume.like(gathered.finish(), name=f"{volume.name} noise map".strip(), frames=False)


def _denoised(
    volume: Volume, model: Model, strength: float, engine: Engine, progress: Progress, allocate: Allocate,
    seen: Seen | None, passes: int, noise: NoiseMap | None = None,
) -> Volume:  # fmt: skip
    """The denoised volume, channel by channel; what the network tells of the noise goes into `noise`."""
    if not 0 <= strength <= 1:
        raise BadInput(f"The strength {strength:g} is not between 0 and 1.")
    if model.spec.task != "denoise":
        made_for = f"The model was made for the task '{model.spec.task}', not to denoise."
        raise BadModel(made_for, "Choose a denoising model.")
    network = WithNoise(model.network, model.spec.modality) if noise else model.network
    seen = seen or see(volume, model)
    mirrored = Mirrored(network, passes or automatic_passes(volume, model))
    network = completed(mirrored, model, _in_window(seen.cut_off, seen.window))
    result = allocate("denoised", volume.array.shape, volume.array.dtype)
    voxels, varying, floor = volume.array[0].size, varying_frames(volume.array), _floor(seen.volume, model)
    for channel, source in enumerate(seen.volume.array):
        if channel not in varying:  # an empty frame stays as it is
            result[channel] = source
            progress("Denoising", voxels * (channel + 1), voxels * volume.channels)
            continue

        def write(
            core: Box, before: npt.NDArray[Any], after: Floats, deviation: Floats | None = None,
            channel: int = channel, source: npt.NDArray[Any] = source,
        ) -> None:  # fmt: skip
            _blend(before, after, strength, result[channel][core], floor, constant(source, core))
            if noise and deviation is not None:
                noise.add(channel, core, deviation)

        def report(part: int, whole: int, done: int = channel * voxels) -> None:
            progress("Denoising", done + part, voxels * volume.channels)

        deviations = 1 if noise else 0
        _through(engine, network, model, source, seen.window, write, report, deviations, seen.field, seen.band)
    seen.restore(result)
    return volume.like(result, name=f"{volume.name} denoised".strip())


def _through(
    engine: Engine, network: Network, model: Model, source: npt.NDArray[Any], window: tuple[float, float],
    write: Callable[..., None], report: Callable[[int, int], None], deviations: int = 0, field: Floats | None = None,
    band: Band = WHOLE,
) -> None:  # fmt: skip
    """Send one channel [i, j, k] through the network: a volume as it is, a single slice with copies beside it.

    With a `field` each place is seen in the unit of its own noise, with a narrow `band` on the grid that it needs.
    """
    if field is not None:
        source, write = _in_own_units(source, window[0], field, write)

    def run(voxels: npt.NDArray[Any], sink: Callable[..., None], told: Callable[[int, int], None]) -> None:
        axis = single_axis(network, voxels.shape)
        if axis is None:
            engine.run(network, voxels, window, sink, told, deviations)
        else:
            run_slice(engine, network, voxels, axis, model.spec.modality, window, sink, told, deviations)

    grid = coarser_shape(source.shape, band)
    if grid == source.shape:
        run(source, write, report)
    else:
        run_coarser(run, source, grid, write, report, 1 + deviations, window[0])


def _in_own_units(
    source: npt.NDArray[Any], low: float, field: Floats, write: Callable[..., None]
) -> tuple[Floats, Callable[..., None]]:
    """A channel whose noise is as strong everywhere as in its quiet part, and what writes its result as it was."""
    seen = np.subtract(source, low, dtype=np.float32, casting="unsafe")
    seen /= field
    seen += np.float32(low)

    def restored(core: Box, before: npt.NDArray[Any], after: Floats, *deviation: Floats) -> None:
        times, shift = field[core], np.float32(low)
        write(core, source[core], (after - shift) * times + shift, *(one * times for one in deviation))

    return seen, restored


def automatic_passes(volume: Volume, model: Model) -> int:
    """Four passes up to ten million voxels, two up to twenty, one above, on any computer.

    Eight are hardly better than four, and nobody wants to wait twice as long for that without having asked. Nor are
    four better than two where the result is looked at again.
    """
    sensible = PASSES[:2] if _looked_at_again(model) else PASSES[:3]
    return max(passes for passes in sensible if passes == 1 or passes * volume.array.size <= _WORK)


def completed(network: Network, model: Model, cut_off: float = -math.inf) -> Network:
    """The network with what comes behind its passes, where a 3D model sees scans in units of their noise: further looks
    at the result of an MRI (`Regrouped`), of a CT the means and contrasts that were measured (`Refitted`).

    `cut_off` is the value that smaller ones were raised to, as the network sees it.
    """
    if _looked_at_again(model):
        return Regrouped(network, partial(deviation, told=CALIBRATIONS["MR"]), REACH)
    spec = model.spec
    fits = spec.modality == "CT" and spec.window.kind == "correlated noise" and spec.dims == 3 and network.tiles
    return Refitted(network, cut_off) if fits else network


def _in_window(value: float, window: tuple[float, float]) -> float:
    """An intensity as the network sees it."""
    return (value - window[0]) / (window[1] - window[0])


def _looked_at_again(model: Model) -> bool:
    spec = model.spec
    white = spec.modality == "MR" and spec.window.kind == "white noise"
    return white and spec.dims == 3 and tells_noise(model.network, "MR")


def denoised_again(
    model: Model, window: tuple[float, float], strength: float, passes: int, engine: Engine,
    progress: Progress = lambda stage, done, total: None, field: Floats | None = None, cut_off: float = -math.inf,
    band: Band = WHOLE,
) -> Callable[[Floats], Floats]:  # fmt: skip
    """The same denoising for other voxels [i, j, k] of the same scan, float32: for what a result must be tested with.

    `window` holds the intensities that the network saw as 0 and 1 in the whole volume, `field` its uneven noise, if it
    is; of a part of the volume that is found anew, once. `cut_off` is the value that smaller ones were raised to,
    `band` the frequencies that hold noise.
    """

    network = completed(Mirrored(model.network, passes), model, _in_window(cut_off, window))
    fields = {} if field is None else {field.shape: field}

    def again(voxels: Floats) -> Floats:
        if fields and voxels.shape not in fields:
            found = uneven_field(voxels, window[1] - window[0], window[0], band)
            fields[voxels.shape] = np.ones(voxels.shape, np.float32) if found is None else found
        result = np.empty(voxels.shape, np.float32)

        def write(core: Box, before: npt.NDArray[Any], after: Floats) -> None:
            _blend(before, after, strength, result[core])

        told = partial(progress, "Denoising a test")
        _through(engine, network, model, voxels, window, write, told, field=fields.get(voxels.shape), band=band)
        return result

    return again


def _floor(volume: Volume, model: Model) -> float:
    """What no voxel of a result goes below: in MRI 0, as magnitudes do not, or the scan's least where that is lower."""
    return min(0.0, ends(volume.array)[0]) if model.spec.modality == "MR" else -math.inf


def _blend(
    before: npt.NDArray[Any], after: Floats, strength: float, room: npt.NDArray[Any], floor: float = -math.inf,
    still: npt.NDArray[np.bool_] | None = None,
) -> None:  # fmt: skip
    """Write what one core becomes, in its own type, into its room: nothing below `floor`, and `still` voxels stay."""
    before, room = np.asarray(before), np.asarray(room)  # parts of a memory map are found in less time so

    def blend(box: Box) -> None:
        old = before[box].copy(order="K")
        change = np.empty_like(old, np.float32)
        change[...] = after[box].copy(order="K")  # first as it lies: its axes may be in another order
        if floor > -math.inf:
            np.maximum(change, np.float32(floor), out=change)
        np.subtract(change, old, out=change, dtype=np.float32, casting="unsafe")
        np.multiply(np.float32(strength), change, out=change)
        if still is not None:
            change[still[box]] = 0
        room[box] = _changed(old, change)

    in_pieces(before.shape, blend)


def removed_noise(volume: Volume, denoised: Volume, allocate: Allocate = in_memory) -> Volume:
    """What was taken away, input minus result, float32, in the input's units; made piece by piece."""
    result = allocate("removed", volume.array.shape, np.dtype(np.float32))
    for before, after, removed in zip(volume.array, denoised.array, result, strict=True):
        _subtract(np.asarray(before), np.asarray(after), np.asarray(removed))
    return volume.like(result, name=f"{volume.name} removed noise".strip())


def _subtract(before: npt.NDArray[Any], after: npt.NDArray[Any], removed: npt.NDArray[Any]) -> None:
    # A difference of two numbers that float32 holds is rounded by way of float64 as it is without.
    exact = np.can_cast(before.dtype, np.float32) and np.can_cast(after.dtype, np.float32)
    precision = np.float32 if exact else np.float64

    def subtract(box: Box) -> None:
        made = removed[box]
        with np.errstate(invalid="ignore"):  # where the input is not finite, so is the difference
            np.subtract(before[box], after[box], out=made, dtype=precision, casting="unsafe")
        if before.dtype.kind == "f":
            made[~np.isfinite(made)] = 0

    in_pieces(before.shape, subtract)


def _changed(source: npt.NDArray[Any], change: npt.NDArray[np.float32]) -> npt.NDArray[Any]:
    """The source's voxels plus a change, in the source's type; large integers are not rounded through float32."""
    if source.dtype.kind == "f":
        keep = np.isfinite(source)
        return np.where(keep, source + np.where(keep, change, 0), source).astype(source.dtype)
    if source.dtype.kind == "b":
        return source.astype(np.float32) + change > 0.5
    bounds = np.iinfo(source.dtype)
    if source.dtype.itemsize <= 2:  # float32 holds every value of these types
        return np.clip(np.rint(change) + source, bounds.min, bounds.max).astype(source.dtype)
    rounded = np.rint(np.clip(change, -(2.0**62), 2.0**62)).astype(np.int64)
    if source.dtype.itemsize < 8:
        return np.clip(source + rounded, bounds.min, bounds.max).astype(source.dtype)
    # A sum might leave 64 bits, so each change is first cut to the room there is, counted from the minimum.
    zero, size = np.uint64(bounds.min % 2**64), np.uint64(bounds.max - bounds.min)
    height = source.view(np.uint64) - zero
    room, amount = np.where(rounded < 0, height, size - height), np.abs(rounded).astype(np.uint64)
    amount = np.minimum(room, amount)
    return (np.where(rounded < 0, height - amount, height + amount) + zero).view(source.dtype)
