"""A model's network as an ONNX file, as a task: torch writes it, and it waits in the run folder until it is taken."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..bundle import find_bundle
from ..onnx_file import export_onnx
from ..worker.live import ONNX, Live
from .common import TaskResult, parameters_of, versions
from .denoise import Progress


@dataclass(frozen=True)
class Parameters:
    """What a user can set: the `model`, by name or folder, and the `size` of its input in voxels (0: see onnx_file)."""

    model: str = ""
    size: int = 0


def run_onnx(parameters: Mapping[str, Any], progress: Progress, live: Live) -> TaskResult:
    """Write the network of a model into the run; the report tells how the file was checked.

    Raises BadInput, BadModel, MissingPackage; then there is no file.
    """
    wanted, started = parameters_of(Parameters, parameters), time.monotonic()
    bundle = find_bundle(wanted.model)
    progress("Writing the network", 0, 1)
    said = export_onnx(bundle.folder, live.run / ONNX, [wanted.size] if wanted.size else None)
    progress("Writing the network", 1, 1)
    report = {
        "task": "onnx", "model": bundle.name, "model_sha256": bundle.sha256, "checked": said, "warnings": [],
        "seconds": round(time.monotonic() - started, 3), "versions": versions(),
    }  # fmt: skip
    return TaskResult({}, report)
