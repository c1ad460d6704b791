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
from .run_denoise import run_denoise

_OF_ONE_VOLUME: dict[str, Callable[[Volume, Mapping[str, Any], Progress, Allocate], TaskResult]] = {
    "denoise": run_denoise,
    "anomaly": run_anomaly,
}


def run_task(
    task: str,
    inputs: Mapping[str, Volume],
    parameters: Mapping[str, Any],
    *,
    progress: Progress,
    allocate: Allocate = in_memory,
    live: Live | None = None,
) -> TaskResult:
    """Run a task on its inputs; `parameters` are those of the task, by name.

    `progress(stage, done, total)` may raise Cancelled; `allocate` gives the room for each output. A training takes any
    number of volumes, tells `live` how it goes and leaves its model there.
    Raises BadInput, BadModel, DriverFault, OutOfMemory.
    """
    if task == "train" and live is not None:
        from .run_train import run_train  # which brings what no other task needs

        return run_train(inputs, parameters, progress, live)
    if task not in _OF_ONE_VOLUME:
        raise BadInput(f"The task {task!r} is not known.", f"Known tasks: {', '.join(_OF_ONE_VOLUME)}.")
    if set(inputs) != {"input"}:
        raise BadInput(f"The task {task} needs exactly one volume.")
    return _OF_ONE_VOLUME[task](inputs["input"], parameters, progress, allocate)
