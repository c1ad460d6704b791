"""The translate task from plain values to plain values: the translated volume, its uncertainty, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ..bundle import fuses
from ..channels import check_kinds, told_order
from ..engine.run import Engine
from ..errors import BadInput, BadModel
from ..modality import check_domain
from ..model import Model
from ..quality import all_finite
from ..translation.domain import doubts, spread
from ..translation.together import by_kind, together
from ..volume import Volume
from .common import RunParameters, TaskResult, check_values, load_model, parameters_of, versions
from .denoise import Allocate, Progress
from .translate import Direction, direction, source_windows, translate


@dataclass(frozen=True)
class Parameters(RunParameters):
    """What a user can set besides: `source` and `target`, kinds of scan that the model knows (empty: its first and
    last), and `uncertainty`, whether to make the second volume; `others` names the kinds of further inputs, by the
    names of these."""

    source: str = ""
    target: str = ""
    uncertainty: bool = False
    others: dict[str, str] = field(default_factory=dict)


def run_translate(
    volume: Volume, parameters: Mapping[str, Any], progress: Progress, allocate: Allocate, **further: Volume
) -> TaskResult:
    """Make another kind of scan of a volume; `parameters` are those of `Parameters`, by name.

    `further` scans of the same place go with a model that fuses several; those on another grid are resampled.

    Outputs: "translated", and "uncertainty" where it is wanted. A volume of several channels holds one of each kind
    for a model that fuses them, else frames.
    """
    wanted, started = parameters_of(Parameters, parameters), time.monotonic()
    for scan in (volume, *further.values()):
        check_values(scan)
    progress("Loading the model", 0, 1)
    model = load_model(wanted.model, volume, "translate")
    way = direction(model.spec, wanted.source, wanted.target)
    several = not further and fuses(model.spec) and volume.channels == len(model.spec.kinds)
    notes = [] if several else check_kinds({model.spec.kinds[way.source].name: volume}, model.spec)
    scans: dict[str, Volume] = {}
    if further or wanted.others:
        others = by_kind(wanted.others, further, model.spec)
        scans = {model.spec.kinds[way.source].name: volume, **others}
        volume, resampled = together(volume, wanted.source, others, model.spec)
        _check_target(others, model.spec.kinds[way.target].name)
        notes += check_kinds(others, model.spec) + resampled
    engine = Engine(wanted.device, wanted.precision, wanted.tile)
    outputs = translate(
        volume, model, source=wanted.source, target=wanted.target, uncertainty=wanted.uncertainty, engine=engine,
        progress=progress, allocate=allocate,
    )  # fmt: skip
    report = {
        "task": "translate", **_told(volume, model, way, scans), **engine.used, "versions": versions(),
        "seconds": round(time.monotonic() - started, 3),
    }  # fmt: skip
    report["warnings"] = notes + report["warnings"] + engine.remarks()
    return TaskResult({name: made.like(made.array, provenance=report) for name, made in outputs.items()}, report)


def _check_target(others: Mapping[str, Volume], target: str) -> None:
    """Raises BadInput where the kind that shall be made is given."""
    if target in others:
        raise BadInput(
            f"{others[target].name or 'A further scan'} is of the kind {target}, which would be made.",
            "Leave that scan out, or choose another kind to make.",
        )


def _told(volume: Volume, model: Model, way: Direction, scans: Mapping[str, Volume]) -> dict[str, Any]:
    """What a report says of input and model; `scans` by their kind are what the volume was put together from."""
    if model.bundle is None:
        raise BadModel("The model has no folder yet.", "Save it first.")
    kinds = model.spec.kinds
    windows = source_windows(volume, model, way)
    return {
        "input": volume.name,
        "model": model.bundle.name,
        "model_version": model.bundle.version,
        "model_sha256": model.bundle.sha256,
        "source": " + ".join(kinds[number].name for number in windows),
        "target": kinds[way.target].name,
        "units": "HU" if kinds[way.target].modality == "CT" else "",
        "warnings": _warnings(volume, model, way, windows, scans),
    }


def _warnings(
    volume: Volume, model: Model, way: Direction, windows: Mapping[int, tuple[float, float]],
    scans: Mapping[str, Volume],
) -> list[str]:  # fmt: skip
    """Why the model may not suit the scans, as plain sentences."""
    several, told = fuses(model.spec) and volume.channels == len(model.spec.kinds), []
    known = model.bundle.calibration.get("domain", {}) if model.bundle else {}
    if several and not scans:
        names = [kind.name for kind in model.spec.kinds]
        told.append(
            f"The {volume.channels} {'frames' if volume.meta.get('frames') else 'components'} of "
            f"{volume.name or 'the volume'} are taken as {', '.join(names[:-1])} and {names[-1]} of one place, in this "
            "order; moments in time are translated one at a time."
        )
        told += filter(None, [told_order(volume.name, names)])
    for number, window in windows.items():
        kind = model.spec.kinds[number]
        seen = volume.like(volume.array[number : number + 1], frames=False) if several else volume
        scan = scans.get(kind.name, seen)
        name = f"{scan.name or 'the volume'}{f' ({kind.name})' if several else ''}"
        scan = scan.like(scan.array, name=name) if several and not scans else scan
        if number != way.source and way.source in windows:
            scan = _without_gaps(scan, told)
        told += check_domain(scan, model.spec)
        if kind.name in known:
            told += doubts(spread(seen.array[0], window), seen.spacing, known[kind.name], name, kind.name)
    return list(dict.fromkeys(told))


def _without_gaps(scan: Volume, told: list[str]) -> Volume:
    """A scan beside the source, dark where it is not finite, which `told` then says."""
    if all_finite(scan.array):
        return scan
    told.append(f"{scan.name or 'A further scan'} holds voxels that are not finite; they count as dark.")
    known = np.isfinite(scan.array)
    return scan.like(np.where(known, scan.array, scan.array[known].min()))
