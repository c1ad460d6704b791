"""What all tasks share: plain parameters, a result with its report, the model that is used, the versions."""

from __future__ import annotations

import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .. import __version__
from ..bundle import bundled_models, find_bundle
from ..errors import BadInput, BadModel
from ..modality import added_to_hounsfield, fitting_model, told_added, told_constant
from ..model import Model
from ..quality import ends
from ..volume import Volume

Wanted = TypeVar("Wanted")


@dataclass
class TaskResult:
    """The volumes that a task made, by output name, its report (plain JSON values, in domain words), and files."""

    outputs: dict[str, Volume] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class RunParameters:
    """What a user can set for every task: `model` is a bundled name or a folder (empty: the one that fits), `tile` an
    edge in voxels (0: automatic)."""

    model: str = ""
    device: str = "auto"
    precision: str = "auto"
    tile: int = 0


LARGEST, SMALLEST = 1e18, 1e-18  # magnitudes whose squares float32 still holds


def parameters_of(kind: type[Wanted], values: Mapping[str, Any]) -> Wanted:
    """The parameters of a task, a dataclass with defaults, from plain JSON values.

    Raises BadInput for an unknown name or a value of another type.
    """
    known = {name: type(default) for name, default in asdict(kind()).items()}  # type: ignore[call-overload]
    for name, value in values.items():
        if name not in known:
            raise BadInput(f"The parameter {name!r} is not known.", f"Known: {', '.join(known)}.")
        if type(value) is not known[name] and not (known[name] is float and type(value) is int):
            raise BadInput(f"The parameter {name!r} cannot be {value!r}.")
    return kind(**values)


def load_model(name_or_folder: str, volume: Volume, task: str) -> Model:
    """The named model, or the bundled one that fits the volume, kept for the next run. Raises BadModel."""
    if name_or_folder:
        return load_named(name_or_folder)
    fitting = fitting_model(volume, bundled_models(task))
    if fitting is None and added_to_hounsfield(volume):
        raise BadModel(f"{told_added(volume)}, or like MRI, so no model was chosen.", "If it is a CT, name one for CT.")
    if fitting is None and (told := told_constant(volume)):
        raise BadInput(told, "Choose a volume that holds a scan.")
    if fitting is None:
        known = ", ".join(b.name for b in bundled_models(task))
        step = f"Name one: {known}." if known else "Train one, and name it."
        raise BadModel(f"No bundled model was made for {volume.name or 'this volume'}.", step)
    return _kept_model(fitting.folder, fitting.sha256)


def load_named(name_or_folder: str) -> Model:
    """The bundled model of this name, or the one in this folder, kept for the next run. Raises BadModel."""
    bundle = find_bundle(name_or_folder)
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


def check_values(volume: Volume) -> None:
    """Refuse a volume without a finite voxel, or with values whose squares single precision cannot hold.

    Integers of up to 32 bits always fit.
    """
    kind, name = volume.array.dtype.kind, volume.name or "The volume"
    if kind == "b" or (kind in "iu" and volume.array.dtype.itemsize <= 4):
        return
    largest = max(map(abs, ends(volume.array)))
    if math.isnan(largest):
        raise BadInput(f"{name} holds no finite value.")
    if largest > LARGEST or 0 < largest < SMALLEST:
        raise BadInput(
            f"The values of {name} reach {largest:.3g}, too {'large' if largest > 1 else 'small'} to compute with.",
            "Replace fill values, or bring it to other units, first.",
        )
