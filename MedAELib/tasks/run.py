"""A task from plain values to plain values: what the worker and the command line both call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import BadInput
from ..volume import Volume
from .common import TaskResult
from .denoise import Allocate, Progress, in_memory
from .run_anomaly import run_anomaly
from .run_compress import run_compress, run_decompress
from .run_denoise import run_denoise
from .run_explain import run_explain
from .run_features import run_features

_RUNS: dict[str, Callable[..., TaskResult]] = {
    "denoise": run_denoise,
    "anomaly": run_anomaly,
    "compress": run_compress,
    "features": run_features,
    "explain": run_explain,
}
_OF_FILES: dict[str, Callable[[bytes, Mapping[str, Any], Progress, Allocate], TaskResult]] = {
    "decompress": run_decompress,
}
# Inputs that a task may be given besides the volume.
_FURTHER: dict[str, set[str]] = {"features": {"segments"}}


def run_task(
    task: str,
    inputs: Mapping[str, Volume | bytes],
    parameters: Mapping[str, Any],
    *,
    progress: Progress,
    allocate: Allocate = in_memory,
) -> TaskResult:
    """Run a task on its inputs; `parameters` are those of the task, by name.

    `progress(stage, done, total)` may raise Cancelled; `allocate` gives the room for each output.
    Raises BadInput, BadModel, DriverFault, OutOfMemory.
    """
    if task not in _RUNS and task not in _OF_FILES:
        raise BadInput(f"The task {task!r} is not known.", f"Known tasks: {', '.join((*_RUNS, *_OF_FILES))}.")
    given = inputs.get("input")
    further = {name: volume for name, volume in inputs.items() if name != "input"}
    fits = set(further) <= _FURTHER.get(task, set())
    if fits and task in _RUNS and isinstance(given, Volume):
        return _RUNS[task](given, parameters, progress, allocate, **further)
    if fits and task in _OF_FILES and isinstance(given, bytes):
        return _OF_FILES[task](given, parameters, progress, allocate)
    raise BadInput(f"The task {task} needs exactly one {'volume' if task in _RUNS else 'file'}.")
