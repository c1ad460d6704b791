"""Reconstruct: what an autoencoder makes of a volume through its code, in the volume's own place, type and units."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..conditions import condition as condition_of
from ..engine.run import Engine
from ..engine.tiles import Box
from ..errors import BadInput
from ..model import Model, check_modalities
from ..networks import Given, Network
from ..quality import limits
from ..volume import Volume
from .denoise import Floats, _blend
from .seen import see

Progress = Callable[[str, int, int], None]


def reconstruct(
    volume: Volume,
    model: Model,
    *,
    engine: Engine | None = None,
    progress: Progress = lambda stage, done, total: None,
    condition: Sequence[float] | None = None,
) -> Volume:
    """The volume through encoder and decoder: same place, same type, same units.

    Every channel (frame) is processed on its own, but the channels of a network that fuses several are its modalities:
    a channel without any finite voxel is a missing modality, and is decoded too (the result is then float32).
    ``condition`` replaces what a conditional network reads from the volume (see `conditions.condition`).
    Raises BadInput for channels that are not the network's, or a condition of another length.
    """
    engine, network = engine or Engine(), model.network
    name = f"{volume.name} reconstructed".strip()
    if network.in_channels > 1:
        return volume.like(_fused(volume, model, engine, partial(progress, "Reconstructing")), name=name)
    if hasattr(network, "fields"):
        network = _conditioned(network, volume, condition)
    seen, result = see(volume, model), np.empty(volume.array.shape, volume.array.dtype)
    total = volume.array.size
    for channel, source in enumerate(seen.volume.array):

        def write(core: Box, before: npt.NDArray[Any], after: Floats, channel: int = channel) -> None:
            _blend(before, after, 1.0, result[channel][core])

        def report(part: int, whole: int, done: int = channel * volume.array[0].size) -> None:
            progress("Reconstructing", done + part, total)

        engine.run(network, source, seen.window, write, report)
    seen.restore(result)
    return volume.like(result, name=name)


def _conditioned(network: Any, volume: Volume, given: Sequence[float] | None) -> Network:
    numbers = condition_of(volume, network.fields) if given is None else list(given)
    if len(numbers) != network.condition_size:
        raise BadInput(f"The network's condition has {network.condition_size} numbers, not {len(numbers)}.")
    return Given(network, torch.tensor(numbers, dtype=torch.float32))


def _fused(
    volume: Volume, model: Model, engine: Engine, progress: Callable[[int, int], None]
) -> npt.NDArray[np.float32]:
    """All modalities [m, i, j, k] from those that are there, float32, each in the window that it came in."""
    network = model.network
    check_modalities(model, volume)
    there = [bool(np.isfinite(channel).any()) for channel in volume.array]
    if not any(there):
        raise BadInput(f"{volume.name or 'The volume'} holds no finite value.")
    windows = [limits(model.spec.window, c) if known else (0.0, 1.0) for c, known in zip(volume.array, there)]
    seen, result = np.empty(volume.array.shape, np.float32), np.empty(volume.array.shape, np.float32)
    for n, (low, high) in enumerate(windows):
        seen[n] = np.nan_to_num((volume.array[n] - np.float32(low)) / np.float32(high - low), nan=0, posinf=0, neginf=0)

    def write(core: Box, before: Floats, *made: Floats) -> None:
        for n, (low, high) in enumerate(windows):
            result[n][core] = made[n] * np.float32(high - low) + np.float32(low)

    engine.run(Given(network, torch.tensor(there, dtype=torch.float32)), seen, (0.0, 1.0), write, progress)
    return result
