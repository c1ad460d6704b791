"""The small integer network that turns a voxel's context into the distribution of its residual; data, not code.

Weights, sums and activations are integers held in float32. The bounds that keep every sum below 2^24, and so exact in
any order of summation, are checked when a model is read.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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
    return Network(layers)(made)


def hidden(layers: Mapping[str, Floats], made: Floats) -> Floats:
    """The activations of the second layer [g, n], 0..255, of inputs [inputs, n]."""
    found, hidden_layers = np.empty((len(layers["w2"]), made.shape[1]), np.float32), HiddenLayers(layers)
    for columns in _blocks(made.shape[1]):
        tiles(found[:, columns])[...] = hidden_layers(tiles(made[:, columns]))
    return found


def _blocks(count: int) -> Iterator[slice]:
    """Columns that are looked at together: whole tiles, then what is left."""
    whole = count // TILE * TILE
    for start, stop in pairwise([*range(0, whole, _BLOCK), whole, count]):
        if start < stop:
            yield slice(start, stop)


def folded(layers: Mapping[str, Floats], varying: Sequence[int], others: Floats) -> dict[str, Floats]:
    """The same layers for inputs of which only those that are `varying` differ from place to place, and a last one that
    is always 1: its weights stand for the first bias and for what all inputs `others` [inputs] give, 0 where they vary.
    """
    always = layers["b1"] + layers["w1"] @ others
    few = np.concatenate([layers["w1"][:, list(varying)], always[:, None]], axis=1)
    return {"w1": few, **{name: layers[name] for name in ("w2", "b2", "w3", "b3")}}


def _with_bias(layers: Mapping[str, Floats], number: int) -> Floats:
    """The scaled weights of a layer, the bias as one more column: that of an input that is always 1."""
    return np.concatenate([layers[f"w{number}"], layers[f"b{number}"][:, None]], axis=1) * _SCALE


class HiddenLayers:
    """The first two layers of a network, perhaps `folded`, for inputs in tiles. It keeps its arrays: each thread needs
    its own.

    Products of tiles stay in the cache, and are so small that no library for linear algebra shares one among threads:
    chunks are decoded in threads already, and those would wait for each other.
    """

    def __init__(self, layers: Mapping[str, Floats]) -> None:
        self._weights = layers["w1"] * _SCALE
        self._bias = layers["b1"][:, None] * _SCALE if "b1" in layers else None  # None: the last input's weights
        self._second = _with_bias(layers, 2)
        self._kept: list[Floats] = []

    def __call__(self, inputs: Floats) -> Floats:
        """The activations [tiles, g, columns] for inputs [tiles, k, columns]; the next call overwrites them."""
        return self.and_one(inputs)[:, :-1]

    def and_one(self, inputs: Floats) -> Floats:
        """The same with one more that is always 1, as `_with_bias` wants it."""
        count, _, columns = inputs.shape
        if not self._kept or len(self._kept[0]) < count:
            heights = len(self._weights) + 1, len(self._second) + 1
            self._kept = [np.ones((count, height, TILE), np.float32) for height in heights]
        first, second = (kept[:count, :, :columns] for kept in self._kept)
        np.matmul(self._weights, inputs, out=first[:, :-1])
        if self._bias is not None:
            first[:, :-1] += self._bias
        _activated(first[:, :-1])
        np.matmul(self._second, first, out=second[:, :-1])
        _activated(second[:, :-1])
        return second


def _activated(sums: Floats) -> None:
    """Turn sums into activations, in place."""
    np.rint(sums, out=sums)
    sums.clip(0, 255, out=sums)


class Network:
    """All three layers of a network. It keeps its arrays: each thread needs its own."""

    def __init__(self, layers: Mapping[str, Floats]) -> None:
        self._hidden, self._last = HiddenLayers(layers), _with_bias(layers, 3)

    def __call__(self, made: Floats) -> tuple[Floats, Floats, Floats]:
        """The outputs [n] of inputs [inputs, n], as `evaluate` has them."""
        outputs = np.empty((_OUTPUTS, made.shape[1]), np.float32)
        for columns in _blocks(made.shape[1]):
            np.matmul(self._last, self._hidden.and_one(tiles(made[:, columns])), out=tiles(outputs[:, columns]))
        np.rint(outputs, out=outputs)
        correction, log_scale, shape = outputs
        shape *= np.float32(1 / 32)
        np.rint(shape, out=shape)
        limit = STEP * SCALES + OCTAVE * LARGEST_SHIFT - SMALLEST
        for some, low, high in ((correction, -511, 511), (log_scale, -limit, limit), (shape, 0, SHAPES - 1)):
            some.clip(low, high, out=some)
        return correction, log_scale, shape


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
