"""The explain task from plain values to plain values: typical scan, residuals, attribution, traversals, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ..bundle import bundled_models
from ..engine.run import Engine
from ..errors import BadInput, BadModel
from ..modality import check_domain, guess_modality
from ..model import Model
from ..translation.together import by_kind, taken
from ..volume import Volume
from .common import RunParameters, TaskResult, check_values, load_model, load_named, parameters_of, versions
from .denoise import Allocate, Progress
from .explain import PARTS, check_explainable, explain


@dataclass(frozen=True)
class Parameters(RunParameters):
    """What a user can set besides: `parts` of PARTS; `point` R A S in millimetres (empty: where the scan differs most);
    `directions` of the traversal, or one `channel` of the code (1, 2, ...; 0: none); `steps` of the attribution's
    path. For a model that fuses several modalities, `modality` is which of them the volume is (empty: what its name
    tells, or else the first that no further scan is) and `others` names those of the further inputs, by the names of
    these."""

    parts: list[str] = field(default_factory=lambda: list(PARTS))
    point: list[float] = field(default_factory=list)
    directions: int = 3
    channel: int = 0
    steps: int = 16
    modality: str = ""
    others: dict[str, str] = field(default_factory=dict)


def run_explain(
    volume: Volume, parameters: Mapping[str, Any], progress: Progress, allocate: Allocate, **further: Volume
) -> TaskResult:
    """Explain what a network makes of a volume; `parameters` are those of `Parameters`, by name.

    `further` scans of the same place go with a model that fuses several; those on another grid are resampled. A volume
    of as many channels as the model has modalities holds one of each.

    Without a `model`: the bundled anomaly model for MRI, the denoiser for CT. Outputs and report: `tasks.explain`.
    """
    wanted, started = parameters_of(Parameters, parameters), time.monotonic()
    numbers = all(type(x) in (int, float) for x in wanted.point)
    if not numbers or not all(type(part) is str for part in wanted.parts):
        raise BadInput("The parts are names, the point is three numbers.")
    for scan in (volume, *further.values()):
        check_values(scan)
    progress("Loading the model", 0, 1)
    model = _model(wanted.model, volume)
    assert model.bundle is not None  # it was loaded from a folder
    check_explainable(model)
    others = by_kind(wanted.others, further, model.spec)
    given, scans, notes = taken(volume, wanted.modality, others, model.spec, gaps=True)
    # Small differences are what is shown, so nothing is rounded to a shorter type unless asked.
    engine = Engine(wanted.device, "float32" if wanted.precision == "auto" else wanted.precision, wanted.tile)
    made = explain(
        given, model, modality=next(iter(scans)), parts=wanted.parts, point=wanted.point, directions=wanted.directions,
        channel=wanted.channel, steps=wanted.steps, engine=engine, progress=progress,
    )  # fmt: skip
    doubts = [told for scan in scans.values() for told in check_domain(scan, model.spec, each_channel=False)]
    units = {name: "HU" if guess_modality(scan) == "CT" else "" for name, scan in scans.items()}
    report = {
        "task": "explain", "input": volume.name, "model": model.bundle.name, "model_version": model.bundle.version,
        "model_sha256": model.bundle.sha256, "trained_on": list(model.bundle.training_data),
        "units": next(iter(units.values())), **engine.used, **made.report,
        "warnings": list(dict.fromkeys(notes + doubts + made.report["warnings"])), "versions": versions(),
        "seconds": round(time.monotonic() - started, 3),
    }  # fmt: skip
    if "modalities" in made.report:
        report["scans"] = {name: {"input": scan.name, "units": units[name]} for name, scan in scans.items()}
    outputs = {}
    for name, output in made.outputs.items():
        room = allocate(name, output.array.shape, output.array.dtype)
        room[...] = output.array
        outputs[name] = output.like(room, provenance=report)
    return TaskResult(outputs, report)


def _model(named: str, volume: Volume) -> Model:
    if named:
        return load_named(named)
    task = "anomaly" if guess_modality(volume) == "MR" and bundled_models("anomaly") else "denoise"
    try:
        return load_model("", volume, task)
    except BadModel as error:
        raise BadModel(f"{error}", "Name a model with the option model.") from None
