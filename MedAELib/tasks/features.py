"""Features: what a model's code says of a scan, as a row of numbers for the volume, each slice or each segment."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..channels import names_of, told_order
from ..engine.run import Engine
from ..errors import BadInput
from ..features.code import Code, code_of, resampled, seen_by
from ..features.intensity import unit_of
from ..features.pooling import Item, names, segments, slices, whole_volume
from ..model import Model
from ..volume import Volume
from .denoise import Progress

# The model whose code tells hippocampus parts, CT regions and MR sequences apart best: docs/features.md. Its scan comes
# in units of its own noise, so scanners with other scales of intensity give comparable codes.
DEFAULT_MODEL = "ct-denoise"
PER = ("volume", "slice", "segment")


@dataclass
class FeaturesResult:
    """The rows, the names of their numbers in order, the spatial code, and plain figures for the report."""

    items: list[Item]
    names: list[str]
    code: Code
    report: dict[str, Any] = field(default_factory=dict)


def features(
    volume: Volume,
    model: Model,
    *,
    per: str = "volume",
    labels: Volume | None = None,
    spacing: float = 0.0,
    air: bool = False,
    engine: Engine | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> FeaturesResult:
    """The features of a volume, per "volume", "slice" (along its third axis) or "segment" (of the map `labels`).

    Their count depends on the model alone: those of the code, then those of the intensities (`features.intensity`).
    With a `spacing` in millimetres the scan is first resampled to it, along the patient's axes. `air` counts what is
    outside of the body, too: for pieces from inside a body. Of several frames the first is looked at. Raises BadInput,
    BadModel, OutOfMemory; `progress` may raise Cancelled.
    """
    if per not in PER:
        raise BadInput(f"Features per {per!r} are not known.", f"Known: {', '.join(PER)}.")
    if (per == "segment") != (labels is not None):
        if labels is None:
            raise BadInput("Features per segment need a label map.", "Give one, or ask for features of the volume.")
        raise BadInput("A label map is given, but features per segment are not wanted.", "Ask for them, or give none.")
    engine = engine or Engine()
    source = resampled(volume, spacing) if spacing else volume
    seen = seen_by(model, source)
    code = code_of(model.network, seen, engine, partial(progress, "Encoding"))
    progress("Pooling", 0, 1)
    unit = unit_of(volume)
    if labels is not None:
        items = segments(code, seen, unit, labels)
    else:
        items = (whole_volume if per == "volume" else slices)(code, seen, unit, air)
    warnings = []
    if volume.channels > 1 and model.network.in_channels == 1:
        warnings.append(f"{volume.name or 'The volume'} has {volume.channels} frames; only the first is looked at.")
    if kinds := names_of(model.spec):
        warnings.append(f"The channels are read as {', '.join(kinds)}, in this order.")
        warnings.extend(filter(None, [told_order(volume.name, kinds)]))
    if labels is not None:
        warnings.extend(_left_out(labels, items))
    elif per == "slice" and len(items) < seen.voxels.shape[3]:
        told = f"{seen.voxels.shape[3] - len(items)} of {seen.voxels.shape[3]} slices hold nothing but air"
        warnings.append(f"{volume.name or 'The volume'}: {told}, and are left out.")
    called = names(len(code.cells), code.spatial, len(seen.voxels))
    return FeaturesResult(items, called, code, {"warnings": warnings})


def _left_out(labels: Volume, items: list[Item]) -> list[str]:
    """Which labels of a map have no row, and why, as plain sentences."""
    values, told = np.unique(labels.array[0]), []
    values = values[np.isfinite(values)].astype(np.int64)
    made = {int(item.item) for item in items}
    name = labels.name or "The label map"
    for kind, why in (
        ([n for n in values if n > 0 and int(n) not in made], "lie outside of the volume"),
        ([n for n in values if n < 0], "are negative"),
    ):
        if kind:
            told.append(f"{name}: the labels {', '.join(map(str, kind))} {why}, and are left out.")
    return told
