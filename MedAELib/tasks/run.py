"""A task from plain values to plain values: what the worker and the command line both call."""

from __future__ import annotations

import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
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
from ..quality import noise_level
from ..volume import Volume
from . import TASKS
from .denoise import Allocate, Progress, denoise, in_memory, removed_noise

_PARAMETERS: dict[str, tuple[type, ...]] = {
    "model": (str,),
    "device": (str,),
    "precision": (str,),
    "tile": (int,),
    "strength": (int, float),
    "removed": (bool,),
}


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
    """Run a task on its inputs.

    `parameters`: "model" (bundled name or folder; empty or absent takes the one that fits), "device", "precision",
    "tile" (voxels along an edge, 0 = automatic), "strength" (0..1), "removed" (whether to make that output too).
    `progress(stage, done, total)` may raise Cancelled; `allocate` gives the room for each output.
    Raises BadInput, BadModel, DriverFault, OutOfMemory.
    """
    if task not in TASKS:
        raise BadInput(f"The task {task!r} is not known.", f"Known tasks: {', '.join(TASKS)}.")
    _check(parameters)
    if set(inputs) != {"input"}:
        raise BadInput(f"The task {task} needs exactly one volume.")
    volume, started = inputs["input"], time.monotonic()
    _check_finite(volume)
    progress("Loading the model", 0, 1)
    model = load_model(str(parameters.get("model", "")), volume, task)
    engine = Engine(
        str(parameters.get("device", "auto")), str(parameters.get("precision", "auto")), parameters.get("tile", 0)
    )
    warnings = check_domain(volume, model.spec)
    denoised = denoise(
        volume,
        model,
        strength=float(parameters.get("strength", 1.0)),
        engine=engine,
        progress=progress,
        allocate=allocate,
    )
    network_seconds = time.monotonic() - started
    progress("Measuring the noise", 0, 1)
    outputs = {"denoised": denoised}
    if parameters.get("removed"):
        outputs["removed"] = removed_noise(volume, denoised, allocate)
    if engine.used["halvings"]:
        warnings.append(
            f"Memory ran short: the tile was halved {engine.used['halvings']} time(s). The result is the same."
        )
    assert model.bundle is not None
    report = {
        "task": task,
        "input": volume.name,
        "model": model.bundle.name,
        "model_version": model.bundle.version,
        "model_sha256": model.bundle.sha256,
        "strength": float(parameters.get("strength", 1.0)),
        **engine.used,
        "noise_before": _noise(volume),
        "noise_after": _noise(denoised),
        "units": "HU" if guess_modality(volume) == "CT" else "",
        "warnings": warnings,
        "versions": versions(),
        "network_seconds": round(network_seconds, 3),
        "seconds": round(time.monotonic() - started, 3),
    }
    outputs = {name: result.like(result.array, provenance=report) for name, result in outputs.items()}
    return TaskResult(outputs, report)


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


def _check(parameters: Mapping[str, Any]) -> None:
    for name, value in parameters.items():
        if name not in _PARAMETERS:
            raise BadInput(f"The parameter {name!r} is not known.", f"Known: {', '.join(_PARAMETERS)}.")
        if not isinstance(value, _PARAMETERS[name]) or (isinstance(value, bool) and bool not in _PARAMETERS[name]):
            raise BadInput(f"The parameter {name!r} cannot be {value!r}.")


def _check_finite(volume: Volume) -> None:
    """Refuse a volume without a single finite voxel; the slices are looked at one by one, so memory stays free."""
    if volume.array.dtype.kind == "f" and not any(
        np.isfinite(volume.array[..., k]).any() for k in range(volume.shape[2])
    ):
        raise BadInput(f"{volume.name or 'The volume'} holds no finite value.")


def _noise(volume: Volume) -> float:
    """The noise level of the middle channel (frame)."""
    return float(f"{noise_level(volume.array[volume.channels // 2]):.4g}")
