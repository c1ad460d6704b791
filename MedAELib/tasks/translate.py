"""Translate: what a scan of one kind would look like as another kind, and how sure the model is of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..bundle import Kind, Spec, fuses
from ..channels import own_name
from ..engine.run import Engine
from ..engine.tiles import Box
from ..errors import BadInput, BadModel
from ..model import Model
from ..networks import Network, Wrapped
from ..networks.ensemble import Ensemble
from ..networks.mirrored import Mirrored
from ..quality import limits
from ..translation.domain import spread, to_standard
from ..translation.intensities import Intensities
from ..volume import Volume
from .denoise import Allocate, Floats, Progress, in_memory

Limits = tuple[float, float]
_PASSES = 4  # over mirror images: the result is their mean


@dataclass(frozen=True, eq=False)
class Direction:
    """From which of a model's kinds of scan to which, as their numbers."""

    source: int
    target: int


class Translator(Wrapped):
    """A network as the engine runs it: which modalities are there is fixed, and deviations may follow the channels.

    x [b, m, ...] -> [b, m, ...], or with `deviations` [b, 2 m, ...]: the mean of the members of an ensemble and their
    standard deviation. Fixed inputs, so tiles are as exact as before.
    """

    def __init__(self, network: Network, present: Tensor | None, deviations: bool) -> None:
        super().__init__(network)
        self.deviations = deviations
        self.register_buffer("present", present)

    def forward(self, x: Tensor) -> Tensor:
        """What the network makes of x, and how much its members deviate."""
        given = self.present
        second = () if given is None else (given.expand(len(x), -1),)  # type: ignore[operator]
        if not self.deviations:
            made: Tensor = self.network(x, *second)
            return made
        each = self.network.each(x, *second)  # type: ignore[operator]
        return torch.cat([each.mean(0), each.std(0)], 1)


def direction(spec: Spec, source: str = "", target: str = "") -> Direction:
    """The kinds of scan by name; without names from the model's first to its last.

    Raises BadModel for a model that does not translate, BadInput for a name or a direction that it does not know.
    """
    if spec.task != "translate" or not spec.kinds:
        raise BadModel(f"The model was made for the task '{spec.task}', not to translate.", "Choose one that does.")
    names = [kind.name for kind in spec.kinds]
    source, target = own_name(source, names), own_name(target, names)
    for name in filter(None, (source, target)):
        if name not in names:
            raise BadInput(f"The model does not know {name!r:.60}.", f"It knows {', '.join(names)}.")
    found = Direction(names.index(source) if source else 0, names.index(target) if target else len(names) - 1)
    if found.source == found.target:
        raise BadInput(f"{names[found.source]} is what would be made, too.", "Name two kinds of scan.")
    if not fuses(spec) and (found.source, found.target) != (0, len(names) - 1):
        raise BadInput(f"The model makes {names[-1]} from {names[0]} only.", "Choose another model.")
    return found


def tells_uncertainty(model: Model) -> bool:
    """Whether the model is an ensemble whose members may disagree."""
    return isinstance(model.network, Ensemble)


def translate(
    volume: Volume,
    model: Model,
    *,
    source: str = "",
    target: str = "",
    uncertainty: bool = False,
    engine: Engine | None = None,
    progress: Progress = lambda stage, done, total: None,
    allocate: Allocate = in_memory,
    known: Mapping[str, Any] | None = None,
) -> dict[str, Volume]:
    """The volume as another kind of scan, "translated", at its own voxels, float32, in the target's units.

    `source` and `target` name kinds that the model knows (default: its first and last). Every frame is translated on
    its own; but for a model that fuses several kinds, a volume of as many channels holds one of each, without finite
    numbers where it is missing, and the target's is not looked at. The result is the mean over four mirror images,
    moved towards what intensities alone tell as far as the training found best. `known` is what it found, instead of
    the calibration in the model's folder.
    Where the source is not finite the result is not either (of several, where `source` is not, or without it where none
    is). With `uncertainty` a second volume tells the deviation of
    the ensemble's members, the mean over the mirror images, scaled to the errors on held-out subjects, in the same
    units. The same input gives the same bits each time.
    Raises BadInput and BadModel.
    """
    way, engine = direction(model.spec, source, target), engine or Engine()
    if uncertainty and not tells_uncertainty(model):
        raise BadInput("The model is no ensemble, so it cannot tell how sure it is.", "Choose another model.")
    kinds = model.spec.kinds
    several = fuses(model.spec) and volume.channels == len(kinds)
    frames = 1 if several else volume.channels
    outputs = {"translated": allocate("translated", (frames, *volume.shape), np.dtype(np.float32))}
    if uncertainty:
        outputs["uncertainty"] = allocate("uncertainty", (frames, *volume.shape), np.dtype(np.float32))
    windows = source_windows(volume, model, way)
    if known is None:
        known = model.bundle.calibration if model.bundle else {}
    voxels = int(np.prod(volume.shape))
    for frame in range(frames):
        given = volume.array if several else volume.array[frame : frame + 1]
        rooms = {name: room[frame] for name, room in outputs.items()}
        report = partial(_reported, progress, frame * voxels, frames * voxels)
        _one(given, windows, way, model, known, engine, rooms, report)
    kind = kinds[way.target]
    meta: dict[str, Any] = {"modality": kind.modality if kind.modality in ("CT", "MR") else ""}
    meta |= {} if frames > 1 else {"frames": False}
    names = {"translated": kind.name, "uncertainty": f"{kind.name} uncertainty"}
    return {
        name: volume.like(room, name=f"{volume.name} {names[name]}".strip(), **meta) for name, room in outputs.items()
    }


def source_windows(volume: Volume, model: Model, way: Direction) -> dict[int, Limits]:
    """By their numbers, the kinds of scan that are there, and the intensities of each that the network sees as 0 and 1.

    Raises BadInput where there is none.
    """
    kinds = model.spec.kinds
    if fuses(model.spec) and volume.channels == len(kinds):
        there = {n: channel for n, channel in enumerate(volume.array) if n != way.target and np.isfinite(channel).any()}
        if not there:
            raise BadInput(f"{volume.name or 'The volume'} holds no finite value.")
        return {n: limits(kinds[n].window, channel) for n, channel in there.items()}
    frames = volume.array[:: max(1, volume.channels // 5)]  # seen in one window, they do not flicker
    low, high = np.median([limits(kinds[way.source].window, frame) for frame in frames], axis=0)
    return {way.source: (float(low), float(high))}


def _reported(progress: Progress, done: int, total: int, part: int, _: int) -> None:
    progress("Translating", done + part, total)


def _one(
    given: npt.NDArray[Any], windows: Mapping[int, Limits], way: Direction, model: Model, known: Mapping[str, Any],
    engine: Engine, rooms: Mapping[str, npt.NDArray[Any]], report: Callable[[int, int], None],
) -> None:  # fmt: skip
    """Translate one frame [c, i, j, k]: its channels are all kinds, or the source alone."""
    network, kind, doubtful = model.network, model.spec.kinds[way.target], "uncertainty" in rooms
    fused = fuses(model.spec)
    present = torch.zeros(len(model.spec.kinds)) if fused else None
    seen = np.zeros((network.in_channels, *given.shape[1:]), np.float32)
    unknown = np.ones(given.shape[1:], bool)
    for number, (low, high) in windows.items():
        channel = given[number if len(given) > 1 else 0]
        if number == way.source or way.source not in windows:
            unknown &= ~np.isfinite(channel)
        place = number if fused else 0
        plain = np.nan_to_num((channel - np.float32(low)) / np.float32(high - low), nan=0, posinf=0, neginf=0)
        curve = to_standard(spread(channel, (low, high)), model.spec.kinds[number].standard)
        seen[place] = curve(plain) if curve else plain
        if present is not None:
            present[number] = 1
    translator, place = Mirrored(Translator(network, present, doubtful), _PASSES), way.target if fused else 0
    scale = np.float32(kind.high - kind.low)
    factor = scale * np.float32(_factor(known))
    names = [some.name for some in model.spec.kinds]
    alone = Intensities.from_json(known.get("intensities"), names, list(windows), way.target)

    def write(core: Box, before: Floats, *made: Floats) -> None:
        there = {number: seen[number if fused else 0][core] for number in windows}
        rooms["translated"][core] = _in_units(alone.blended(made[place], there), kind)
        rooms["translated"][core][unknown[core]] = np.nan
        if doubtful:
            rooms["uncertainty"][core] = np.where(unknown[core], np.nan, made[network.in_channels + place] * factor)

    engine.run(translator, seen, (0.0, 1.0), write, report, network.in_channels if doubtful else 0)


def _in_units(made: Floats, kind: Kind) -> Floats:
    """What a network made, in the target's intensities; magnitudes of MRI are not negative."""
    found = made * np.float32(kind.high - kind.low) + np.float32(kind.low)
    return np.maximum(found, np.float32(0)) if kind.modality == "MR" else found


def _factor(known: Mapping[str, Any]) -> float:
    """How many times larger errors on held-out subjects were than the members' deviation; 1 where it is not known."""
    factor = known.get("uncertainty", 1.0)
    if isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 1e6:
        raise BadModel("The model's scale of the uncertainty is no number above 0.")
    return float(factor)
