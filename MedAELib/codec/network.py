"""The small integer network that turns a voxel's context into the distribution of its residual; data, not code.

Weights, sums and activations are integers held in float32. The bounds that keep every sum below 2^24, and so exact in
any order of summation, are checked when a model is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from ..errors import BadModel
from .context import (
    CLIP,
    CORRECTION_FACTOR,
    FRACTION,
    INPUTS,
    OCTAVE,
    TILE,
    UNIT_LOG,
    Doubles,
    Floats,
    Setting,
    inputs,
    predict,
    tiles,
)
from .lattice import CASES, NEIGHBOURS, Stage
from .residuals import Distribution
from .tables import LARGEST_SHIFT, POINTS, SCALES, SHAPES, SMALLEST, STEP, ResidualTables, tables_of

ACTIVATION_BITS = 8  # activations are 0 .. 255, weights of 1 are 2^8
EXACT = 1 << 24
_SCALE = np.float32(2**-ACTIVATION_BITS)  # a power of 2: scaled sums are as exact
_BLOCK = 16 * TILE
_OUTPUTS = 3  # correction of the prediction, logarithm of the scale, shape
RATIO_CLASSES = 3


@dataclass(frozen=True, eq=False)
class ContextModel:
    """All numbers of a context model, by case (`lattice.CASES`).

    They are weights and biases of three layers, the tails of the residuals' shapes, and the default linear
    predictions by class of spacing.

    `weights` holds w1 [8, h, 37], w2 [8, g, h], w3 [8, 3, g] and b1, b2, b3 without the last axis, all integers in
    float32; `tails` [4, 2049]; `predictions` [8, 9, 28]. Raises BadModel when a shape is wrong or a sum could be
    inexact.
    """

    weights: dict[str, Floats]
    tails: npt.NDArray[np.int64]
    predictions: Doubles

    def __post_init__(self) -> None:
        check_layers(self.weights, (len(CASES),), INPUTS, CLIP)
        check_tails(self.tails)
        if self.predictions.shape != (len(CASES), RATIO_CLASSES**2, NEIGHBOURS):
            raise BadModel("The codec's default predictions have the wrong shape.")

    @cached_property
    def residuals(self) -> ResidualTables:
        """The tables for entropy coding."""
        return tables_of(self.tails)

    def default_prediction(self, parity: tuple[int, int], stage: Stage) -> Doubles:
        """The weights [28] of a pass whose own are not sent."""
        return self.predictions[CASES.index((stage.flat, parity)), ratio_class(stage.ratios)]

    def distribution(
        self, reference: Floats, differences: Floats, weights: Doubles, parity: tuple[int, int], setting: Setting
    ) -> Distribution:  # fmt: skip
        """Where each voxel of a block is expected, from its neighbours and the pass's linear prediction."""
        predicted = predict(reference, differences, weights)
        made, unit = inputs(reference, differences, predicted, setting)
        place = CASES.index((setting.stage.flat, parity))
        layers = {name: value[place] for name, value in self.weights.items()}
        correction, log_scale, shape = evaluate(layers, made)
        moved = predicted.astype(np.int64) + np.rint(correction * CORRECTION_FACTOR[unit]).astype(np.int64)
        moved = np.clip(moved, 0, FRACTION * setting.largest) + FRACTION // 2
        centre = moved // FRACTION
        fraction = moved - FRACTION * centre if setting.step == 1 else np.full_like(centre, FRACTION // 2)
        scale = UNIT_LOG[unit] + log_scale.astype(np.int64) - (6 * OCTAVE + setting.step_log)
        return Distribution(centre, scale, shape.astype(np.int64), fraction)


def evaluate(layers: Mapping[str, Floats], made: Floats) -> tuple[Floats, Floats, Floats]:
    """The three outputs [n] of a network: the correction in 32nds of the unit, 24ths of an octave, 0..3."""
    outputs = apply(layers, made, layers["w3"])
    outputs += layers["b3"][:, None]
    outputs *= np.float32(2**-ACTIVATION_BITS)
    np.rint(outputs, out=outputs)
    limit = STEP * SCALES + OCTAVE * LARGEST_SHIFT - SMALLEST
    return (
        np.clip(outputs[0], -511, 511),
        np.clip(outputs[1], -limit, limit),
        np.clip(np.rint(outputs[2] / 32), 0, SHAPES - 1),
    )


def apply(layers: Mapping[str, Floats], made: Floats, last: Floats) -> Floats:
    """What a last layer [k, g] makes of the activations of the second one, without its bias [k, n]."""
    found = np.empty((len(last), made.shape[1]), np.float32)
    for columns, seen in _activations(layers, made):
        tiles(found[:, columns])[...] = np.matmul(last, seen)
    return found


def hidden(layers: Mapping[str, Floats], made: Floats) -> Floats:
    """The activations of the second layer [g, n], 0..255, of inputs [inputs, n]."""
    found = np.empty((len(layers["w2"]), made.shape[1]), np.float32)
    for columns, seen in _activations(layers, made):
        tiles(found[:, columns])[...] = seen
    return found


def _activations(layers: Mapping[str, Floats], made: Floats) -> Iterator[tuple[slice, Floats]]:
    """The activations of the second layer in tiles, block by block, with their columns; the next overwrites them."""
    whole, hidden_layers = made.shape[1] // TILE * TILE, HiddenLayers(layers)
    for start, stop in pairwise([*range(0, whole, _BLOCK), whole, made.shape[1]]):
        if start < stop:
            yield slice(start, stop), hidden_layers(tiles(made[:, start:stop]))


class HiddenLayers:
    """The first two layers of a network, for inputs in tiles.

    Products of tiles stay in the cache, and are so small that no library for linear algebra shares one among threads:
    chunks are decoded in threads already, and those would wait for each other.
    """

    def __init__(self, layers: Mapping[str, Floats]) -> None:
        self._scaled = [(layers[f"w{n}"] * _SCALE, layers[f"b{n}"][:, None] * _SCALE) for n in (1, 2)]
        self._kept: list[Floats] = []

    def __call__(self, inputs: Floats) -> Floats:
        """The activations [tiles, g, columns] for inputs [tiles, k, columns]; the next call overwrites them."""
        if not self._kept or self._kept[0].shape[::2] != inputs.shape[::2]:
            count, _, columns = inputs.shape
            self._kept = [np.empty((count, len(bias), columns), np.float32) for _, bias in self._scaled]
        current = inputs
        for (weights, bias), room in zip(self._scaled, self._kept, strict=True):
            current = np.matmul(weights, current, out=room)
            current += bias
            np.rint(current, out=current)
            np.clip(current, 0, 255, out=current)
        return current


def check_layers(
    weights: dict[str, Floats], cases: tuple[int, ...], inputs: int, largest: int, outputs: int = _OUTPUTS
) -> None:
    """Raise BadModel unless all layers [*cases, ...] are of integers of fitting shapes whose sums are always exact."""
    first, second = weights["b1"].shape[-1], weights["b2"].shape[-1]
    wanted: dict[str, tuple[int, ...]] = {"w1": (first, inputs), "w2": (second, first), "w3": (outputs, second)}
    wanted |= {"b1": (first,), "b2": (second,), "b3": (outputs,)}
    for name, shape in wanted.items():
        value = weights[name]
        if value.shape != (*cases, *shape) or not np.array_equal(value, np.rint(value)):
            raise BadModel(f"The codec's layer {name} is not of integers of the right shape.")
    for layer, most in (("1", largest), ("2", 255), ("3", 255)):
        sums = np.abs(weights[f"w{layer}"]).astype(np.float64).sum(axis=-1) * most
        if (sums + np.abs(weights[f"b{layer}"]) >= EXACT).any():
            raise BadModel(f"The codec's layer {layer} has weights so large that its sums would not be exact.")


def check_tails(tails: npt.NDArray[np.int64]) -> None:
    """Raise BadModel unless these are the tails of distributions."""
    falling = tails.shape == (SHAPES, POINTS) and (np.diff(tails) <= 0).all()
    if not falling or (tails[:, 0] != 1 << 29).any() or (tails < 0).any():
        raise BadModel("The codec's table of distributions is not one.")


def ratio_class(ratios: tuple[int, int]) -> int:
    """Which of the nine default predictions fits a stage's spacings."""
    first, second = (0 if ratio <= 1 else 1 if ratio <= 3 else 2 for ratio in ratios)
    return RATIO_CLASSES * first + second
