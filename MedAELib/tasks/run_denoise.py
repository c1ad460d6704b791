"""The denoise task from plain values to plain values: denoised volume, removed noise, noise map, trust, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..engine.run import Engine
from ..errors import BadInput
from ..modality import check_domain, guess_modality
from ..model import Model
from ..networks.mirrored import check_passes
from ..noise import interpolated
from ..quality import middle_frame, varying_frames
from ..training.adapt import ADAPTABLE, adapt
from ..volume import Volume
from .common import RunParameters, TaskResult, check_values, load_model, parameters_of, versions
from .denoise import (
    Allocate,
    Progress,
    automatic_passes,
    denoise,
    denoise_and_map,
    denoised_again,
    in_memory,
    removed_noise,
)
from .noise_levels import noise_levels
from .noise_map import tells_noise
from .seen import Seen, see
from .trust import conclusion, trust

_NOT_ADAPTED = (
    "Only models for MR can learn from the volume: the noise of a CT differs from place to place, more than the scan "
    "tells, and what a model learned from it made it worse. The model was used unchanged."
)


@dataclass(frozen=True)
class Parameters(RunParameters):
    """What a user can set besides: `strength` 0..1, `adapt` for how many seconds the model learns from the volume first
    (0: not), `passes` how many mirror images the result is the mean over (1, 2, 4, 8; 0: automatic), `removed`,
    `noise`, `trust` whether to make the removed noise, the noise map and the trust figures too, `slab` (axis, start,
    stop) the slices to which the results are restricted, as a preview is; none: the whole volume."""

    strength: float = 1.0
    adapt: int = 0
    passes: int = 0
    removed: bool = False
    noise: bool = False
    trust: bool = False
    slab: list[int] = field(default_factory=list)


def run_denoise(volume: Volume, parameters: Mapping[str, Any], progress: Progress, allocate: Allocate) -> TaskResult:
    """Denoise a volume; `parameters` are those of `Parameters`, by name."""
    wanted, started = parameters_of(Parameters, parameters), time.monotonic()
    check_values(volume)
    if wanted.passes:
        check_passes(wanted.passes)
    progress("Loading the model", 0, 1)
    model = load_model(wanted.model, volume, "denoise")
    wanted = replace(wanted, passes=wanted.passes or automatic_passes(volume, model))
    engine = Engine(wanted.device, wanted.precision, wanted.tile)
    seen = see(volume, model)
    if wanted.slab:  # in the unit of the whole volume: its own would be that of other blocks, and the result another
        seen = seen.slab(*_slices(volume, wanted.slab))
        volume = seen.original
    model, adapted = _adapted(model, seen, wanted.adapt, engine, progress)
    outputs = _outputs(volume, model, seen, wanted, engine, progress, allocate)
    used, remarks = dict(engine.used), engine.remarks()
    seconds = {"network_seconds": round(time.monotonic() - started, 3)}
    progress("Measuring the noise", 0, 1)
    result = seen.filled(outputs["denoised"])
    levels = noise_levels(seen.volume, result, seen.units, seen.counted_from)
    noise = {name: float(f"{level:.4g}") for name, level in zip(("noise_before", "noise_after"), levels, strict=True)}
    judged = {}
    if wanted.trust:
        judged = _judged(seen, result, outputs.get("noise"), model, wanted, engine, progress, levels)
    if not wanted.noise:
        outputs.pop("noise", None)
    seconds["seconds"] = round(time.monotonic() - started, 3)
    report = {"task": "denoise", **_told(volume, seen, model, wanted), **adapted, **used, **noise, **judged, **seconds}
    report["warnings"] += [*remarks, *_interpolated(seen, model)]
    return TaskResult({name: made.like(made.array, provenance=report) for name, made in outputs.items()}, report)


def _slices(volume: Volume, slab: list[int]) -> tuple[int, int, int]:
    """The axis, the first slice and the one after the last, as they were asked for. Raises BadInput."""
    if len(slab) == 3 and all(type(number) is int for number in slab) and 0 <= slab[0] <= 2:
        axis, start, stop = slab
        if 0 <= start < stop <= volume.shape[axis]:
            return axis, start, stop
    raise BadInput(f"{volume.name or 'The volume'} has no slices {slab}.", "Name an axis (0 to 2), a start and a stop.")


def _interpolated(seen: Seen, model: Model) -> list[str]:
    """What the user of a model for MRI is told of a scan whose noise was smoothed before; mostly nothing."""
    if model.spec.modality != "MR" or not interpolated(seen.on_grid(middle_frame(seen.volume.array)), seen.zero):
        return []
    return [
        "The finest detail of the scan is weak, as after interpolation to more voxels: of noise that was interpolated "
        "only a part is removed, and the noise figures tell too little of it. Denoise a scan before it is resampled."
    ]


def _adapted(
    model: Model, seen: Seen, seconds: int, engine: Engine, progress: Progress
) -> tuple[Model, dict[str, Any]]:
    """The model after it has learned from the middle frame for some seconds, if that made it better; what came of it.

    Models for other scans than MR stay as they are, and the report says why. Raises BadInput for a time below 0 or
    above an hour.
    """
    if not 0 <= seconds <= 3600:
        raise BadInput(f"The model cannot adapt for {seconds} seconds.", "Choose 0 (not at all) to 3600.")
    if seconds == 0:
        return model, {}
    if model.spec.modality not in ADAPTABLE:
        return model, {"left_out": {"adapting": _NOT_ADAPTED}}
    source, magnitude = seen.on_grid(middle_frame(seen.volume.array)), model.spec.modality == "MR"
    found = adapt(model.network, source, seen.window, seconds, engine, magnitude, progress)
    return replace(model, network=found.network), found.report()


def _outputs(
    volume: Volume, model: Model, seen: Seen, wanted: Parameters, engine: Engine, progress: Progress,
    allocate: Allocate,
) -> dict[str, Volume]:  # fmt: skip
    """The volumes that were asked for; the noise map also where only the trust figures need it."""
    options: dict[str, Any] = {"strength": wanted.strength, "passes": wanted.passes, "seen": seen}
    options |= {"engine": engine, "progress": progress}
    if wanted.noise or (wanted.trust and tells_noise(model.network, model.spec.modality)):
        room = allocate if wanted.noise else _apart(allocate)
        denoised, noise = denoise_and_map(volume, model, allocate=room, **options)
        outputs = {"denoised": denoised, "noise": noise}
    else:
        outputs = {"denoised": denoise(volume, model, allocate=allocate, **options)}
    if wanted.removed:
        outputs["removed"] = removed_noise(volume, outputs["denoised"], allocate)
    return outputs


def _apart(allocate: Allocate) -> Allocate:
    """Room for a noise map that is no output in memory, for everything else as `allocate` gives it."""
    return lambda name, shape, dtype: (in_memory if name == "noise" else allocate)(name, shape, dtype)


def _judged(
    seen: Seen, result: Volume, noise: Volume | None, model: Model, wanted: Parameters, engine: Engine,
    progress: Progress, levels: tuple[float, float],
) -> dict[str, Any]:  # fmt: skip
    """The trust figures and the verdict, as plain values; they count intensities from no signal, or 0 HU, on."""
    low, high, cut_off = (value - seen.counted_from for value in (*seen.window, seen.cut_off))
    again = denoised_again(
        model, (low, high), wanted.strength, wanted.passes, engine, progress, seen.field, cut_off, seen.band
    )
    figures = trust(seen.volume, result, again, noise, progress, levels, seen.counted_from)
    return {"trust": [figure.row() for figure in figures], "verdict": conclusion(figures)}


def _told(volume: Volume, seen: Seen, model: Model, wanted: Parameters) -> dict[str, Any]:
    """What a report says of the input, the model and the wish, before any figure."""
    assert model.bundle is not None  # every model of a task was loaded from a folder
    frames = wanted.noise and volume.channels > 1
    return {
        "input": volume.name,
        "model": model.bundle.name,
        "model_version": model.bundle.version,
        "model_sha256": model.bundle.sha256,
        "strength": wanted.strength,
        "passes": wanted.passes,
        **({"grid": list(seen.grid)} if seen.grid != seen.volume.shape else {}),
        "units": "HU" if guess_modality(seen.volume) == "CT" else "",
        "warnings": [*check_domain(volume, model.spec), *seen.notes],
        "versions": versions(),
        **({"noise_map": f"root mean square over {len(varying_frames(volume.array))} frames"} if frames else {}),
    }
