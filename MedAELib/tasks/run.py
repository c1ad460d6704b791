"""A task from plain values to plain values: what the worker and the command line both call."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from .. import __version__
from ..bundle import bundled_models, find_bundle
from ..engine.run import Engine
from ..errors import BadInput, BadModel
from ..modality import check_domain, fitting_model, guess_modality
from ..model import Model
from ..training.adapt import adapt
from ..volume import Volume
from . import TASKS
from .denoise import (
    Allocate,
    Progress,
    denoise,
    denoise_and_map,
    denoised_again,
    in_memory,
    removed_noise,
    shared_limits,
)
from .noise_map import noise_levels, tells_noise
from .trust import conclusion, trust

Limits = tuple[float, float]  # the intensities that the network sees as 0 and 1


@dataclass(frozen=True)
class Parameters:
    """What a user can set: `model` is a bundled name or a folder (empty: the one that fits), `tile` an edge in voxels
    (0: automatic), `strength` 0..1, `adapt` for how many seconds the model learns from the volume first (0: not),
    `removed`, `noise`, `trust` whether to make the removed noise, the noise map and the trust figures too."""

    model: str = ""
    device: str = "auto"
    precision: str = "auto"
    tile: int = 0
    strength: float = 1.0
    adapt: int = 0
    removed: bool = False
    noise: bool = False
    trust: bool = False

    @staticmethod
    def of(values: Mapping[str, Any]) -> Parameters:
        """The parameters from plain JSON values. Raises BadInput for an unknown name or a value of another type."""
        known = {name: type(default) for name, default in asdict(Parameters()).items()}
        for name, value in values.items():
            if name not in known:
                raise BadInput(f"The parameter {name!r} is not known.", f"Known: {', '.join(known)}.")
            if type(value) is not known[name] and not (known[name] is float and type(value) is int):
                raise BadInput(f"The parameter {name!r} cannot be {value!r}.")
        return Parameters(**values)


@dataclass
class TaskResult:
    """The volumes that a task made, by output name, and its report: plain JSON values, in domain words."""

    outputs: dict[str, Volume] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


def run_task(
    task: str,
    inputs: Mapping[str, Volume],
    parameters: Mapping[str, Any],
    *,
    progress: Progress,
    allocate: Allocate = in_memory,
) -> TaskResult:
    """Run a task on its inputs; `parameters` are those of `Parameters`, by name.

    `progress(stage, done, total)` may raise Cancelled; `allocate` gives the room for each output.
    Raises BadInput, BadModel, DriverFault, OutOfMemory.
    """
    if task not in TASKS:
        raise BadInput(f"The task {task!r} is not known.", f"Known tasks: {', '.join(TASKS)}.")
    if set(inputs) != {"input"}:
        raise BadInput(f"The task {task} needs exactly one volume.")
    wanted, volume, started = Parameters.of(parameters), inputs["input"], time.monotonic()
    _check_finite(volume)
    progress("Loading the model", 0, 1)
    model = load_model(wanted.model, volume, task)
    engine = Engine(wanted.device, wanted.precision, wanted.tile)
    window = shared_limits(volume, model)
    model, adapted = _adapted(model, volume, window, wanted.adapt, engine, progress)
    outputs = _outputs(volume, model, window, wanted, engine, progress, allocate)
    used = dict(engine.used)
    seconds = {"network_seconds": round(time.monotonic() - started, 3)}
    progress("Measuring the noise", 0, 1)
    before, after = noise_levels(volume, outputs["denoised"])
    noise = {"noise_before": float(f"{before:.4g}"), "noise_after": float(f"{after:.4g}")}
    judged = _judged(volume, outputs, model, window, wanted, engine, progress) if wanted.trust else {}
    if not wanted.noise:
        outputs.pop("noise", None)
    seconds["seconds"] = round(time.monotonic() - started, 3)
    report = {"task": task, **_told(volume, model, wanted), **adapted, **used, **noise, **judged, **seconds}
    if used["halvings"]:
        report["warnings"].append("Memory ran short, so the tile was halved. The result is the same.")
    return TaskResult({name: made.like(made.array, provenance=report) for name, made in outputs.items()}, report)


def _adapted(
    model: Model, volume: Volume, window: Limits, seconds: int, engine: Engine, progress: Progress
) -> tuple[Model, dict[str, Any]]:
    """The model after it has learned from the middle frame for some seconds, if that made it better; what came of it.

    Raises BadInput for a time below 0 or above an hour.
    """
    if not 0 <= seconds <= 3600:
        raise BadInput(f"The model cannot adapt for {seconds} seconds.", "Choose 0 (not at all) to 3600.")
    if seconds == 0:
        return model, {}
    source, magnitude = volume.array[volume.channels // 2], model.spec.modality == "MR"
    found = adapt(model.network, source, window, seconds, engine, magnitude, progress)
    return replace(model, network=found.network), found.report()


def _outputs(
    volume: Volume, model: Model, window: Limits, wanted: Parameters, engine: Engine, progress: Progress,
    allocate: Allocate,
) -> dict[str, Volume]:  # fmt: skip
    """The volumes that were asked for; the noise map also where only the trust figures need it."""
    options: dict[str, Any] = {"strength": wanted.strength, "engine": engine, "progress": progress, "window": window}
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
    volume: Volume, outputs: Mapping[str, Volume], model: Model, window: Limits, wanted: Parameters, engine: Engine,
    progress: Progress,
) -> dict[str, Any]:  # fmt: skip
    """The trust figures and the verdict, as plain values."""
    again = denoised_again(model, window, wanted.strength, engine, progress)
    figures = trust(volume, outputs["denoised"], again, outputs.get("noise"), progress)
    return {"trust": [figure.row() for figure in figures], "verdict": conclusion(figures)}


def _told(volume: Volume, model: Model, wanted: Parameters) -> dict[str, Any]:
    """What a report says of the input, the model and the wish, before any figure."""
    assert model.bundle is not None  # every model of a task was loaded from a folder
    frames = wanted.noise and volume.channels > 1
    return {
        "input": volume.name,
        "model": model.bundle.name,
        "model_version": model.bundle.version,
        "model_sha256": model.bundle.sha256,
        "strength": wanted.strength,
        "units": "HU" if guess_modality(volume) == "CT" else "",
        "warnings": check_domain(volume, model.spec),
        "versions": versions(),
        **({"noise_map": f"root mean square over {volume.channels} frames"} if frames else {}),
    }


def load_model(name_or_folder: str, volume: Volume, task: str) -> Model:
    """The named model, or the bundled one that fits the volume, kept for the next run. Raises BadModel."""
    if name_or_folder:
        bundle = find_bundle(name_or_folder)
    else:
        fitting = fitting_model(volume, bundled_models(task))
        if fitting is None:
            known = ", ".join(b.name for b in bundled_models(task))
            raise BadModel(f"No bundled model was made for {volume.name or 'this volume'}.", f"Name one: {known}.")
        bundle = fitting
    return _kept_model(bundle.folder, bundle.sha256)


@lru_cache(maxsize=4)
def _kept_model(folder: Path, sha256: str) -> Model:
    return Model.load(folder.resolve())


def versions() -> dict[str, str]:
    """The versions that a result depends on."""
    import monai
    import torch

    return {
        "medae": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "monai": monai.__version__,
        "numpy": np.__version__,
    }


def _check_finite(volume: Volume) -> None:
    """Refuse a volume without a single finite voxel; the slices are looked at one by one, so memory stays free."""
    if volume.array.dtype.kind == "f" and not any(
        np.isfinite(volume.array[..., k]).any() for k in range(volume.shape[2])
    ):
        raise BadInput(f"{volume.name or 'The volume'} holds no finite value.")
