"""The training as a task: from volumes of the scene, or a folder, to a model folder; the session of the command."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..bundle import find_bundle, read_bundle
from ..errors import BadInput
from ..training.command import checked, default_options
from ..training.recipes import RECIPES
from ..training.session import run_session
from ..volume import Volume
from ..worker.live import Live
from ..worker.runs import WORK, is_resumable
from .common import TaskResult, parameters_of, versions

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True)
class Parameters:
    """What a user can set: as the options of `python -m MedAELib train`; `name` is the new model's.

    `task` is "anomaly", or empty where a `network` or a model to start from says what is learned.

    `folder` is empty where the volumes are the run's inputs; then `names` and `subjects` tell of each input, by its
    name, what it is called and whom it shows. `modalities` and `translate` are texts in the names of the volumes;
    `objective` takes the place of the mean squared error in what the network makes small.
    """

    name: str = "model"
    folder: str = ""
    task: str = ""
    network: str = ""
    dims: int = 3
    size: str = "medium"
    start: str = ""
    learn_from: str = "clean"
    modalities: list[str] = field(default_factory=list)
    translate: list[str] = field(default_factory=list)
    objective: str = ""
    minutes: float = 10.0
    steps: int = 0
    seed: int = 0
    device: str = "auto"
    precision: str = "float32"
    names: dict[str, str] = field(default_factory=dict)
    subjects: dict[str, str] = field(default_factory=dict)


def run_train(
    inputs: Mapping[str, Volume], parameters: Mapping[str, Any], progress: Progress, live: Live
) -> TaskResult:
    """Train on the inputs, or on a folder without any; the model is in `live.model`, the report tells of it.

    A run in which a training was interrupted goes on from its last checkpoint.
    `parameters` are those of `Parameters`, by name. Raises MedAEError and Cancelled; then there is no model.
    """
    wanted, started = parameters_of(Parameters, parameters), time.monotonic()
    if bool(wanted.folder) == bool(inputs):
        raise BadInput("A training needs either volumes or a folder.", "Choose volumes of the scene, or a folder.")
    options = default_options()
    options.folder = Path(wanted.folder) if wanted.folder else None
    options.output, options.work, options.name = live.model, live.run / WORK, wanted.name
    options.resume = is_resumable(live.run)
    for name in ("task", "start", "learn_from", "modalities", "translate", "seed", "device", "precision"):
        setattr(options, name, getattr(wanted, name))
    if not wanted.start and not wanted.task:
        options.network, options.dims, options.size = wanted.network, wanted.dims, wanted.size
    options.minutes, options.steps = (None, wanted.steps) if wanted.steps else (wanted.minutes, None)
    options.objective = _objective(wanted)
    volumes = _named(inputs, wanted.names)
    subjects = {wanted.names.get(name, name): person for name, person in wanted.subjects.items()}
    run_session(checked(options), progress, volumes=volumes or None, subjects=subjects, live=live)
    bundle = read_bundle(live.model)
    report = {
        "task": "train", "model": bundle.name, "model_sha256": bundle.sha256, "figures": dict(bundle.figures),
        "limits": list(bundle.limits), "seconds": round(time.monotonic() - started, 3), "versions": versions(),
        "model_task": bundle.spec.task, "warnings": [],
    }  # fmt: skip
    return TaskResult({}, report)


def _objective(wanted: Parameters) -> str:
    """The objective with the network's own further terms, such as those that keep its code sparse or normal."""
    if not wanted.objective:
        return ""
    name = wanted.network or find_bundle(wanted.start).spec.network
    own = RECIPES[name].terms if name in RECIPES else {}
    return ",".join([wanted.objective, *(f"{term}={weight:g}" for term, weight in own.items() if term != "mse")])


def _named(inputs: Mapping[str, Volume], names: Mapping[str, str]) -> dict[str, Volume]:
    """The inputs by the names that people know them by; two of the same name get numbers."""
    found: dict[str, Volume] = {}
    for key, volume in inputs.items():
        name, number = names.get(key, key), 2
        while name in found:
            name, number = f"{names.get(key, key)} ({number})", number + 1
        found[name] = volume
    return found
