"""A task from plain values to plain values: what the worker and the command line both call."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import BadInput
from ..volume import Volume
from ..worker.live import Live
from .common import TaskResult
from .denoise import Allocate, Progress, in_memory
from .run_anomaly import run_anomaly
from .run_compress import run_compress, run_decompress
from .run_denoise import run_denoise
from .run_explain import run_explain
from .run_features import run_features
from .run_translate import run_translate

_OF_ONE_VOLUME: dict[str, Callable[..., TaskResult]] = {
    "denoise": run_denoise,
    "anomaly": run_anomaly,
    "compress": run_compress,
    "features": run_features,
    "explain": run_explain,
    "translate": run_translate,
}
_OF_ONE_FILE: dict[str, Callable[[bytes, Mapping[str, Any], Progress, Allocate], TaskResult]] = {
    "decompress": run_decompress,
}
# Tasks that may be given more inputs than the volume: further scans, named by their parameter `others`.
_OF_SEVERAL = {"translate", "explain", "features"}


def run_task(
    task: str,
    inputs: Mapping[str, Volume | bytes],
    parameters: Mapping[str, Any],
    *,
    progress: Progress,
    allocate: Allocate = in_memory,
    live: Live | None = None,
) -> TaskResult:
    """Run a task on its inputs; `parameters` are those of the task, by name.

    `progress(stage, done, total)` may raise Cancelled; `allocate` gives the room for each output. A training takes any
    number of volumes, tells `live` how it goes and leaves its model there; "onnx" takes none and leaves its file there.
    Raises BadInput, BadModel, DriverFault, OutOfMemory.
    """
    if task == "train" and live is not None:
        from .run_train import run_train  # which brings what no other task needs

        return run_train(_volumes(inputs), parameters, progress, live)
    if task == "onnx" and live is not None and not inputs:
        from .run_onnx import run_onnx

        return run_onnx(parameters, progress, live)
    if task not in _OF_ONE_VOLUME and task not in _OF_ONE_FILE:
        known = ", ".join((*_OF_ONE_VOLUME, *_OF_ONE_FILE))
        raise BadInput(f"The task {task!r} is not known.", f"Known tasks: {known}.")
    given = inputs.get("input")
    further = {name: found for name, found in inputs.items() if name != "input"}
    fits = task in _OF_SEVERAL or not further
    if fits and task in _OF_ONE_VOLUME and isinstance(given, Volume):
        return _OF_ONE_VOLUME[task](given, parameters, progress, allocate, **further)
    if fits and task in _OF_ONE_FILE and isinstance(given, bytes):
        return _OF_ONE_FILE[task](given, parameters, progress, allocate)
    raise BadInput(f"The task {task} needs exactly one {'volume' if task in _OF_ONE_VOLUME else 'file'}.")


def _volumes(inputs: Mapping[str, Volume | bytes]) -> dict[str, Volume]:
    """Inputs that are all volumes. Raises BadInput."""
    volumes = {name: given for name, given in inputs.items() if isinstance(given, Volume)}
    if len(volumes) < len(inputs):
        raise BadInput("A training learns from volumes, not from compressed files.", "Decode them first.")
    return volumes
