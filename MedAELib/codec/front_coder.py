"""One chunk of voxels, coded as a wave front: losslessly, or so that no voxel differs by more than a bound."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from ..threads import ALONE, Helpers
from . import residuals
from .bits import BitReader, pack
from .context import OCTAVE, UNITS, Doubles, Floats
from .front import OFFSETS, Front, Indices
from .front_context import FrontSetting, FrontWeights, Known, Predicted, predict_all
from .front_fit import blocks, fit_front
from .front_network import FrontExpectation, FrontModel
from .lattice import half_octaves
from .parts import pack_part, split_part
from .predictive import Grid
from .rans import Decoder, encode, lanes_for
from .residuals import CodedPass, Distribution

_MOST_CLASSES = 16


@dataclass(frozen=True, eq=False)
class FrontSide:
    """What is sent along with a chunk: its linear predictions (None: the default first one, and no classes), and by
    how much the scales of each class move, for the first slice and for all others."""

    weights: FrontWeights
    own: tuple[bool, bool]
    offsets: tuple[Indices, Indices]

    def to_bytes(self) -> bytes:
        """As stored: per group how many classes and whether the first prediction is its own; then all numbers."""
        made = b""
        for group in (0, 1):
            classes, final = self.weights.classes[group], self.weights.final[group]
            made += bytes([len(final), self.own[group]])
            made += self.weights.first[group].astype("<i2").tobytes() if self.own[group] else b""
            made += np.searchsorted(classes, np.arange(1, len(final))).astype(np.uint8).tobytes()
            made += final.astype("<i2").tobytes() if len(final) > 1 else b""
            made += self.offsets[group].astype(np.int8).tobytes()
        return made

    @staticmethod
    def read(data: bytes, default: tuple[Doubles, Doubles]) -> FrontSide:
        """What `to_bytes` wrote. Raises BadInput when it is damaged."""
        groups, place, size = [], 0, len(OFFSETS)

        def take(count: int, kind: str) -> Doubles:
            nonlocal place
            width = np.dtype(kind).itemsize * count
            if place + width > len(data):
                raise BadInput("the side information is damaged")
            place += width
            return np.frombuffer(data[place - width : place], kind).astype(np.float64)

        for before in default:
            count, own = (int(value) for value in take(2, "u1"))
            if not 1 <= count <= _MOST_CLASSES or own > 1:
                raise BadInput("the side information is damaged")
            first = take(size, "<i2") if own else before
            edges = take(count - 1, "u1")
            final = take(count * size, "<i2").reshape(count, size) if count > 1 else first[None]
            classes = np.minimum(np.searchsorted(np.sort(edges), np.arange(UNITS), side="right"), count - 1)
            groups.append((first, classes, final, take(count, "i1").astype(np.int64), bool(own)))
        if place != len(data):
            raise BadInput("the side information is damaged")
        (first, classes, final, offsets, own), second = groups
        weights = FrontWeights((first, second[0]), (classes, second[1]), (final, second[2]))
        return FrontSide(weights, (own, second[4]), (offsets, second[3]))


def front_setting(grid: Grid, front: Front) -> FrontSetting:
    """What all contexts of a chunk share."""
    across, *plane = (grid.spacing[axis] for axis in front.axes)
    step_log = int(grid.step**OCTAVE).bit_length() - 1
    return FrontSetting(half_octaves(across, min(plane)), grid.low, grid.high, grid.largest, grid.step, step_log)


class _Written(NamedTuple):
    """What is written of voxels, in few bytes each, since a whole chunk of them is held: entries for the entropy coder,
    and plain bits with their counts."""

    entries: npt.NDArray[np.int32]
    plain: npt.NDArray[np.uint16]
    counts: npt.NDArray[np.int8]

    @staticmethod
    def of(coded: CodedPass) -> _Written:
        """Of some voxels; values have 16 bits."""
        return _Written(coded.entries.astype(np.int32), coded.plain.astype(np.uint16), coded.counts.astype(np.int8))

    @staticmethod
    def joined(pieces: list[_Written]) -> _Written:
        """The pieces, one after the other."""
        entries, plain, counts = zip(*pieces, strict=True)
        return _Written(np.concatenate(entries), np.concatenate(plain), np.concatenate(counts))


class _Coder:
    """The steps that encoder and decoder share."""

    def __init__(self, grid: Grid, model: FrontModel) -> None:
        self.grid, self.model = grid, model
        self.front = Front.of(grid.shape, grid.spacing)
        self.setting = front_setting(grid, self.front)
        self.known = Known(self.front, grid.low)
        self._expectation = FrontExpectation(model, self.setting)

    def expected(self, voxels: Indices, places: Indices, side: FrontSide) -> tuple[Distribution, Predicted]:
        """Where some voxels are expected, in ascending order."""
        seen = self.known.seen(voxels, places, self._expectation.room)
        predicted = predict_all(seen, side.weights, self._expectation.room)
        found = self._expectation.distribution(seen, predicted)
        for group, some in seen.groups():
            found.scale[some] += side.offsets[group].take(predicted.place[some])
        return found, predicted

    def steps(self) -> Iterator[tuple[Indices, Indices]]:
        """The voxels of each step, and their places in the line."""
        counts = self.front.counts[self.front.counts > 0]
        places = self.known.values.places(self.front.order)
        ends = np.cumsum(counts)
        for first, end in zip((ends - counts).tolist(), ends.tolist(), strict=True):
            yield self.front.order[first:end], places[first:end]

    def voxels(self) -> Indices:
        """All voxels in the chunk's own order of axes."""
        found = self.known.values.inside.transpose(np.argsort(self.front.axes))
        return np.ascontiguousarray(found).astype(np.int64)


def encode_front(
    voxels: Indices, grid: Grid, model: FrontModel, helpers: Helpers = ALONE
) -> tuple[bytes, Indices]:
    """The coded chunk, and its voxels as they will be decoded.

    `voxels` [i, j, k] are within 0..grid.largest < 2^16; no decoded voxel differs by more than (grid.step - 1) // 2.
    Ends where `helpers` are stopped.
    """
    coder = _Coder(grid, model)
    truth = np.ascontiguousarray(voxels.transpose(coder.front.axes)).astype(np.float32)
    side = _fitted_side(coder, truth, helpers)
    coded = (_whole if grid.step == 1 else _closed_loop)(coder, truth, side, helpers)
    helpers.look()
    tables = model.residuals.tables
    frequencies = tables.frequencies[coded.entries].astype(np.float32)
    lanes = lanes_for(float((16 - np.log2(frequencies)).sum()) / 8)
    counts = coder.front.counts
    body = encode(np.split(coded.entries, np.cumsum(counts[counts > 0])[:-1]), tables, lanes)
    some = coded.counts > 0
    plain = pack(coded.plain[some].astype(np.int64), coded.counts[some].astype(np.int64))
    data = pack_part(lanes, side.to_bytes(), body, plain)
    return data, voxels if grid.step == 1 else coder.voxels()


def decode_front(data: bytes, grid: Grid, model: FrontModel, helpers: Helpers = ALONE) -> Indices:
    """The voxels [i, j, k] of a coded chunk; ends where `helpers` are stopped. Raises BadInput for damage."""
    lanes, told, body, bits = split_part(data)
    coder = _Coder(grid, model)
    side = FrontSide.read(told, model.default(coder.setting.ratio))
    decoder, plain = Decoder(body, lanes), BitReader(bits)
    for voxels, places in coder.steps():
        helpers.look()
        expected, predicted = coder.expected(voxels, places, side)
        found = residuals.decode(expected, 0, grid.step, grid.largest, model.residuals, decoder, plain)
        coder.known.enter(voxels, places, found.astype(np.float32), predicted.start)
    if not plain.finished() or not decoder.finished():
        raise BadInput("a part does not end where it should")
    return coder.voxels()


def _fitted_side(coder: _Coder, truth: Floats, helpers: Helpers) -> FrontSide:
    """Predictions and offsets for a chunk; where it is quantised, noise around the truth stands for what is decoded."""
    grid, default = coder.grid, coder.model.default(coder.setting.ratio)
    if grid.step > 1:
        noise = np.random.default_rng(0).integers(-(grid.step // 2), grid.step // 2 + 1, truth.shape)
        coder.known.values.fill(np.clip(truth + noise, 0, grid.largest).astype(np.float32))
    else:
        coder.known.values.fill(truth)
    weights = fit_front(coder.known, truth, default, helpers.look)
    own = [weights.first[group] is not default[group] for group in (0, 1)]
    none = [np.zeros(len(weights.final[group]), np.int64) for group in (0, 1)]
    side = FrontSide(weights, (own[0], own[1]), (none[0], none[1]))
    chosen = np.arange(0, truth.size, max(truth.size // 200_000, 1))
    pieces = [coder.expected(voxels, coder.known.values.places(voxels), side) for voxels in
              np.array_split(chosen, max(len(chosen) // 32768, 1))]  # fmt: skip
    expected = Distribution.joined([piece[0] for piece in pieces])
    place = np.concatenate([piece[1].place for piece in pieces])
    first = chosen < truth[0].size
    values = truth.reshape(-1)[chosen].astype(np.int64)
    offsets = []
    for group in (0, 1):
        found = none[group].copy()
        for number in range(len(found)):
            helpers.look()
            mine = np.flatnonzero((first == (group == 0)) & (place == number))
            if len(mine) >= 200:
                args = values[mine], expected.of(mine), grid.step, grid.largest, coder.model.residuals
                found[number] = residuals.best_offset(*args)
        offsets.append(found)
    return FrontSide(weights, side.own, (offsets[0], offsets[1]))


def _whole(coder: _Coder, truth: Floats, side: FrontSide, helpers: Helpers) -> _Written:
    """All voxels at once, since the decoder will know their neighbours exactly; then in the order of the steps."""
    values, pieces = truth.reshape(-1), []
    for voxels in blocks(truth.size):
        helpers.look()
        expected, _ = coder.expected(voxels, coder.known.values.places(voxels), side)
        whole = values[voxels].astype(np.int64)
        pieces.append(_Written.of(residuals.code(whole, expected, 0, 1, coder.grid.largest, coder.model.residuals)))
    joined, order = _Written.joined(pieces), coder.front.order
    return _Written(joined.entries[order], joined.plain[order], joined.counts[order])


def _closed_loop(coder: _Coder, truth: Floats, side: FrontSide, helpers: Helpers) -> _Written:
    """Step by step from what was decoded, as the decoder will."""
    grid, values = coder.grid, truth.reshape(-1)
    coder.known = Known(coder.front, grid.low)
    pieces = []
    for voxels, places in coder.steps():
        helpers.look()
        expected, predicted = coder.expected(voxels, places, side)
        whole = values[voxels].astype(np.int64)
        coded = residuals.code(whole, expected, 0, grid.step, grid.largest, coder.model.residuals)
        coder.known.enter(voxels, places, coded.decoded.astype(np.float32), predicted.start)
        pieces.append(_Written.of(coded))
    return _Written.joined(pieces)
