"""The anomaly task from plain values to plain values: map, regions, nearest typical scan, residual, report."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..anomaly.choice import fitting
from ..anomaly.names import MAP, POPULATION, SCAN, STEP
from ..anomaly.prepare import Prepared, prepared_for
from ..anomaly.steps import steps_of
from ..bundle import bundled_models
from ..engine.run import Engine
from ..model import Model
from ..volume import Volume
from .anomaly import LEAST_ML, anomaly
from .common import RunParameters, TaskResult, check_values, load_named, parameters_of, versions
from .denoise import Allocate, Progress

NO_MODEL = "none"


@dataclass(frozen=True)
class Parameters(RunParameters):
    """What a user can set besides; `model` may be "none" (plain brightness), and empty is the bundled one that fits,
    else none. `rate` the share of normal tissue above the threshold, `least_ml` the smallest region, `calibration`
    in whose unit scores become z ("scan" or "population"),
    `typical`, `others` and `steps` whether to make the typical scan with the residual, the other maps, and what became
    of the scan before it was compared, too."""

    rate: float = 0.01
    least_ml: float = LEAST_ML
    typical: bool = False
    others: bool = False
    steps: bool = False
    calibration: str = SCAN


def run_anomaly(volume: Volume, parameters: Mapping[str, Any], progress: Progress, allocate: Allocate) -> TaskResult:
    """Find where a volume is unlike normal ones; `parameters` are those of `Parameters`, by name.

    Outputs: "anomaly" (z), "regions" (labels), "typical" and "residual" (scan minus typical, signed) where there is a
    model, the other maps (z) by their names with "map_" before them, and the steps with "step_". The regions' table is
    "found" in the report.
    """
    wanted, started = parameters_of(Parameters, parameters), time.monotonic()
    check_values(volume)
    progress("Preparing the scan", 0, 1)
    model, prepared, notes = _model(wanted.model, volume)
    calibration = wanted.calibration
    if calibration == POPULATION and model is None and not wanted.model:
        calibration, told = SCAN, "Without a model no normal scans are known: scores are in this scan's own unit."
        notes = [*notes, told]
    engine = Engine(wanted.device, wanted.precision, wanted.tile)
    made = anomaly(
        volume, model, rate=wanted.rate, least_ml=wanted.least_ml, calibration=calibration, engine=engine,
        progress=progress, prepared=prepared,
    )  # fmt: skip
    outputs = {"anomaly": made.map, "regions": made.labels}
    if wanted.typical and made.typical is not None and made.residual is not None:
        outputs |= {"typical": made.typical, "residual": made.residual}
    if wanted.others:
        outputs |= {f"{MAP}{name}": z for name, z in made.others.items()}
    if wanted.steps:
        outputs |= {f"{STEP}{name}": step for name, step in steps_of(prepared, volume).items()}
    report = {
        **made.report, **engine.used, "versions": versions(), "seconds": round(time.monotonic() - started, 3),
        "warnings": notes + made.report["warnings"], "found": [region.row() for region in made.regions],
    }  # fmt: skip
    # Every output carries how it was made; the table of regions is the report's alone.
    provenance = {name: value for name, value in report.items() if name != "found"}
    placed = {name: volume.like(_room(made, name, allocate), provenance=provenance) for name, made in outputs.items()}
    return TaskResult(placed, report)


def _room(volume: Volume, name: str, allocate: Allocate) -> Any:
    room = allocate(name, volume.array.shape, volume.array.dtype)
    room[...] = volume.array
    return room


def _model(named: str, volume: Volume) -> tuple[Model | None, Prepared, list[str]]:
    """The named model, and the scan as it sees it; without a name the bundled one that fits, or none, and then a
    sentence on why."""
    if named and named != NO_MODEL:
        model = load_named(named)
        return model, prepared_for(volume, model), []
    prepared = prepared_for(volume, None)
    if named:
        return None, prepared, []
    bundle, reason = fitting(prepared, volume.name or "the volume", bundled_models("anomaly"))
    return (load_named(str(bundle.folder)), prepared, []) if bundle else (None, prepared, [reason])
