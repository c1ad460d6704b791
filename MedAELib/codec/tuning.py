"""A volume's own model: the network of wave fronts, moved towards a volume while it is encoded, as small differences.

The decoder adds the differences to the installed model's integers; how they were found is the encoder's business.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput, BadModel
from ..threads import Helpers
from .chunk_threads import beside
from .context import FRACTION, Doubles, Floats
from .front import Front
from .front_coder import front_setting
from .front_context import Known, front_inputs, predict_all
from .front_fit import enter_errors, fit_front
from .front_network import FrontModel
from .one_thread import torch_alone
from .predictive import Grid

if TYPE_CHECKING:
    from .differentiable import CodecNetwork

LAYERS = ("w1", "b1", "w2", "b2", "w3", "b3")
_STEPS = {"w": 4, "b": 128}  # what a difference of 1 means; an activation of 1 is worth 2^5 steps of a weight
_LARGEST = 1 << 16
_SAMPLES = 160_000
_BATCH = 4096
_ROUNDS = 600
_TOLD_EVERY = 5  # rounds; a few times a second
_RATE = 3e-3
_WORTH_VOXELS = 200_000  # in smaller volumes the differences take more than they save

Columns = list[npt.NDArray[Any]]
Told = Callable[[int, int], None]  # rounds done, of how many; it may raise


@dataclass(frozen=True, eq=False)
class Tuned:
    """A model that fits a volume better, and its differences as they are stored."""

    front: FrontModel
    data: bytes


def apply_tuning(model: FrontModel, data: bytes) -> FrontModel:
    """The model with stored differences added. Raises BadInput when they are damaged."""
    unpacker = zlib.decompressobj()
    try:
        found = np.frombuffer(unpacker.decompress(data, _LARGEST), np.int8)
        weights, place = dict(model.weights), 0
        for name in LAYERS:
            layer = weights[name]
            moved = found[place : place + layer.size].reshape(layer.shape)
            weights[name] = layer + moved.astype(np.float32) * np.float32(_STEPS[name[0]])
            place += layer.size
        if place != len(found):
            raise ValueError("not its size")
        return FrontModel(weights, model.tails, model.predictions)
    except (zlib.error, ValueError, BadModel):
        raise BadInput("its tuning of the model is damaged") from None


def sampled(
    values: Floats, grid: Grid, default: tuple[Doubles, Doubles], count: int, generator: np.random.Generator,
    between: Callable[[], None] = lambda: None,
) -> tuple[Columns, tuple[Doubles, Doubles]]:  # fmt: skip
    """Inputs [n, 52], unit, residual in eighths and step of some voxels of a chunk [i, j, k], and its fitted first
    predictions. Quantisation is imitated by uniform noise around the true values, which the decoder would not know.
    `between` is called several times a second.
    """
    front = Front.of(grid.shape, grid.spacing)
    setting = front_setting(grid, front)
    truth = np.ascontiguousarray(values.transpose(front.axes)).astype(np.float32)
    known = Known(front, grid.low)
    known.values.fill(truth)
    weights = fit_front(known, truth, default, between)
    if grid.step > 1:
        noise = generator.integers(-(grid.step // 2), grid.step // 2 + 1, truth.shape)
        known.values.fill(np.clip(truth + noise, 0, setting.largest).astype(np.float32))
        enter_errors(known, weights, between)
    chosen = np.sort(generator.choice(truth.size, min(count, truth.size), replace=False))
    parts = []
    for voxels in np.array_split(chosen, max(len(chosen) // 30_000, 1)):
        between()
        seen = known.seen(voxels, known.values.places(voxels))
        predicted = predict_all(seen, weights)
        made = front_inputs(seen, predicted, setting).T.astype(np.int8)
        parts.append((made, predicted.unit.astype(np.uint8), FRACTION * truth.reshape(-1)[voxels] - predicted.final))
    columns = [np.concatenate(column) for column in zip(*parts, strict=True)]
    return [*columns, np.full(len(chosen), grid.step, np.float32)], weights.first


def tune(
    model: FrontModel, chunks: Sequence[tuple[Floats, Grid]], voxels: int, told: Told = lambda done, total: None
) -> Tuned | None:
    """The model tuned to some chunks of a volume of so many voxels; None where that saves less than it takes.

    `told(done, total)` counts rounds, a few times a second. Torch computes with one thread meanwhile.
    """
    if voxels < _WORTH_VOXELS:
        return None
    told(0, _ROUNDS)
    generator = np.random.default_rng(0)
    columns = beside(partial(_samples, model, chunks, generator), "", lambda *_: told(0, _ROUNDS))
    with torch_alone():
        return _tuned(model, columns, voxels, generator, told)


def _samples(
    model: FrontModel, chunks: Sequence[tuple[Floats, Grid]], generator: np.random.Generator, helpers: Helpers
) -> list[Columns]:
    """What is seen of some voxels of each chunk; torch, which takes seconds to load, is loaded here as well."""
    from . import differentiable  # noqa: F401

    columns = []
    for values, grid in chunks:
        default = model.default(front_setting(grid, Front.of(grid.shape, grid.spacing)).ratio)
        columns.append(sampled(values, grid, default, _SAMPLES // len(chunks), generator, helpers.look)[0])
    return columns


def _tuned(
    model: FrontModel, columns: list[Columns], voxels: int, generator: np.random.Generator, told: Told
) -> Tuned | None:
    import torch

    from .differentiable import code_length

    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    order = generator.permutation(len(joined[0]))
    inputs, unit, residual, step = (torch.from_numpy(np.ascontiguousarray(column[order])) for column in joined)
    whole = inputs.float()[None], unit.long()[None], residual[None], step[None]
    checks = tuple(column[:, : len(order) // 8] for column in whole)
    network = _from_integers(model)
    before = float(code_length(network, checks).detach())
    _train(network, tuple(column[:, len(order) // 8 :] for column in whole), generator, told)
    tuned = _as_differences(model, network)
    if tuned is None:
        return None
    after = float(code_length(_from_integers(tuned.front), checks).detach())
    return tuned if (before - after) * voxels > 8 * len(tuned.data) else None


def _train(network: CodecNetwork, columns: tuple[Any, ...], generator: np.random.Generator, told: Told) -> None:
    """Move the layers towards the samples; the shapes stay."""
    import torch

    from .differentiable import code_length

    moving = [parameter for name, parameter in network.named_parameters() if name != "shapes"]
    optimizer = torch.optim.Adam(moving, lr=_RATE)
    for number in range(_ROUNDS):
        if number % _TOLD_EVERY == 0:
            told(number, _ROUNDS)
        for group in optimizer.param_groups:
            group["lr"] = _RATE * 0.5 * (1 + math.cos(math.pi * number / _ROUNDS))
        drawn = torch.from_numpy(generator.integers(0, columns[0].shape[1], _BATCH))
        loss = code_length(network, tuple(column[:, drawn] for column in columns))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    told(_ROUNDS, _ROUNDS)


def _as_differences(model: FrontModel, network: CodecNetwork) -> Tuned | None:
    """The trained layers as whole steps from the model's; None where their sums could be inexact."""
    from .differentiable import exported

    layers, _ = exported(network)
    moved = []
    for name in LAYERS:
        away = (layers[name][0] - model.weights[name]) / _STEPS[name[0]]
        moved.append(np.clip(np.rint(away), -127, 127).astype(np.int8).reshape(-1))
    data = zlib.compress(np.concatenate(moved).tobytes(), 9)
    try:
        return Tuned(apply_tuning(model, data), data)
    except BadInput:
        return None


def _from_integers(model: FrontModel) -> CodecNetwork:
    """The network in real numbers that computes what a stored model does."""
    import torch

    from .differentiable import ONE, SCALES, CodecNetwork

    hidden = len(model.weights["b1"]), len(model.weights["b2"])
    network = CodecNetwork(1, model.weights["w1"].shape[1], hidden)
    distance = np.arange(model.tails.shape[1]) / 64
    basis = np.stack([[0.5 * math.erfc(d / (scale * math.sqrt(2))) for d in distance] for scale in SCALES], axis=1)
    mixture = np.linalg.lstsq(basis, model.tails.T / 2**30, rcond=None)[0].T
    with torch.no_grad():
        for layer in "123":
            gain = network.gain if layer == "3" else torch.ones(1)
            weight, bias = (torch.from_numpy(model.weights[f"{kind}{layer}"]) for kind in "wb")
            start = network.start * ONE if layer == "3" else torch.zeros(1)
            getattr(network, f"w{layer}").copy_(weight.T / (ONE * gain))
            getattr(network, f"b{layer}").copy_((bias - start) / (ONE * 32 * gain))
        network.shapes.copy_(torch.from_numpy(np.log(np.maximum(mixture, 1e-9))))
    return network
