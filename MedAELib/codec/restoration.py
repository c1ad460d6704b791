"""What quantisation took from a low band, estimated from the band around each voxel by a small integer network.

It follows the inverse transform of a level, as the loop filters of video codecs follow theirs; its last layer may be a
file's own. All numbers are whole and exact, so every computer finds the same voxels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from ..errors import BadInput, BadModel
from ..threads import ALONE, Helpers
from .context import CLIP, TILE, Floats
from .lattice import half_octaves
from .network import EXACT, HiddenLayers, check_layers, folded, hidden
from .subband import Bytes, Coefficients, box, fitted, log_of, magnitude, repeated
from .wavelet import Axes, Doubles, Level, Shape

_ACROSS, _PLANE = 1, 2  # how far a voxel sees along the coarsest axis, and along the two others
_ROOM = (_ACROSS, _PLANE, _PLANE)


def _offsets() -> tuple[Shape, ...]:
    """The 42 neighbours, nearest first: five by five in the plane, three by three in the planes beside it."""
    near = range(-_PLANE, _PLANE + 1)
    seen = [(z, y, x) for z in (-1, 0, 1) for y in near for x in near if z == 0 or max(abs(y), abs(x)) < _PLANE]
    return tuple(sorted((o for o in seen if any(o)), key=lambda o: (sum(n * n for n in o), o)))


OFFSETS = _offsets()
_VARYING = len(OFFSETS) + 5  # inputs that differ from voxel to voxel, the first ones
RESTORATION_INPUTS = _VARYING + 5
SIXTEENTHS = 16  # bits after the point of a correction in steps
_BIAS = 256  # what a stored bias of 1 is worth
_FINENESS = 32  # of a step: what the network sees
_LARGEST = 2.0**23
_TILES = 64  # at once
_BLOCK = 1 << 15

Indices = npt.NDArray[np.int64]
Whole = npt.NDArray[np.integer]


@dataclass(frozen=True, eq=False)
class RestorationModel:
    """Weights w1 [h, 52], w2 [g, h], w3 [1, g] with biases b1, b2, b3, integers in float32.

    Raises BadModel when a shape is wrong or a sum could be inexact.
    """

    weights: dict[str, Floats]

    def __post_init__(self) -> None:
        check_layers(self.weights, (), RESTORATION_INPUTS, CLIP, outputs=1)
        if not np.array_equal(self.weights["b3"] % _BIAS, [0]):
            raise BadModel("The codec's restoration has a bias that cannot be stored.")

    @property
    def layer(self) -> Indices:
        """The last layer that is used where a file brings none of its own [g + 1], the bias at the end, over 256."""
        return np.append(self.weights["w3"][0], self.weights["b3"] / _BIAS).astype(np.int64)

    def hidden(self, made: Floats) -> Floats:
        """What the last layer sees [g, n], 0..255."""
        return hidden(self.weights, made)


def corrections(seen: Floats, layer: Indices) -> Floats:
    """By how much voxels [..., n] are to be moved, in 2^-16 steps, from what the last layer sees [..., g, n]."""
    weights = layer[:-1].astype(np.float32)
    return weights @ seen + np.float32(_BIAS * layer[-1])


def exact(layer: Indices) -> bool:
    """Whether all sums of a last layer are exact."""
    return bool(255 * np.abs(layer[:-1]).sum() + _BIAS * abs(layer[-1]) < EXACT)


class Surroundings:
    """A low band that a level has just restored, as the network sees it; `voxels` are those that are not all alike.

    It lies in one line, with a margin that repeats its ends, so that a neighbour is a shift; the line is cut into
    tiles of 128, and tiles without a voxel to restore are left out.
    """

    def __init__(
        self, low: Doubles, bands: Mapping[Axes, Coefficients], level: Level, spacing: Shape, step: int,
        shared: tuple[int, int],
    ) -> None:  # fmt: skip
        """`shared`: how many finer levels there are, and 8 * log2 of the volume's range over the step."""
        extent = [along * far for along, far in zip(spacing, level.steps, strict=True)]
        first, second, third = self._order = sorted(range(3), key=lambda d: (-extent[d], d))
        self.low, self.step = low, step
        self._enter(low.transpose(self._order))
        self._halved = [d in level.axes for d in self._order]
        self._bands = [np.ascontiguousarray(some.transpose(self._order)) for some in _busy(bands, level)]
        ratios = half_octaves(extent[first], extent[second]), half_octaves(extent[second], extent[third])
        finer, rate = shared
        told = [*(16 * ratio for ratio in ratios), 16 * finer, 32 * (len(level.axes) - 1), max(rate, 0)]
        self._shared = [min(max(value, -CLIP), CLIP) for value in told]

    def _enter(self, low: Doubles) -> None:
        """Lay out the band: its line, and which places of it are to be restored."""
        self._shape, padded = low.shape, tuple(n + 2 * room for n, room in zip(low.shape, _ROOM, strict=True))
        self._strides = padded[1] * padded[2], padded[2], 1
        self._shifts = [sum(far * s for far, s in zip(offset, self._strides, strict=True)) for offset in OFFSETS]
        size, self._before = int(np.prod(padded)), max(self._shifts)
        count = -(-size // TILE)
        self._line = np.zeros(count * TILE + 2 * self._before, np.float32)
        shown = self._line[self._before : self._before + size].reshape(padded)
        inside = shown[tuple(slice(room, -room) for room in _ROOM)]
        for rows in _blocks(low.shape):
            fine = low[:, rows] * (_FINENESS / self.step)
            inside[:, rows] = np.rint(np.clip(fine, -_LARGEST, _LARGEST, out=fine), out=fine)
        for axis, room in reversed(list(enumerate(_ROOM))):
            along = np.moveaxis(shown, axis, 0)
            along[:room], along[-room:] = along[room : room + 1], along[-room - 1 : -room]
        self._varied = np.zeros((count, TILE), bool)
        varied = self._varied.reshape(-1)[:size]
        line = shown.reshape(-1)
        for stride in self._strides:
            turns = line[stride:] != line[:-stride]
            varied[stride:] |= turns
            varied[:-stride] |= turns
        for axis, room in enumerate(_ROOM):
            along = np.moveaxis(varied.reshape(padded), axis, 0)
            along[:room], along[-room:] = False, False
        self._padded = varied.reshape(padded)

    @cached_property
    def voxels(self) -> Indices:
        """Those that are not all alike, as they lie in the band in the network's order of axes."""
        return np.flatnonzero(self._padded[tuple(slice(room, -room) for room in _ROOM)])

    def inputs(self, voxels: Indices) -> Floats:
        """The network's inputs [52, n], whole numbers within -127..127, of some voxels."""
        made = np.empty((RESTORATION_INPUTS, len(voxels)), np.float32)
        where = np.unravel_index(voxels, self._shape)
        places = sum((index + room) * s for index, room, s in zip(where, _ROOM, self._strides, strict=True))
        places = places + self._before
        for row, shift in zip(made, self._shifts, strict=False):
            np.subtract(self._line.take(places + shift), self._line.take(places), out=row)
        self._rest(made, (where[0], where[1], where[2]))
        return made

    def _tiled(self, some: Indices, made: Floats) -> None:
        """Make those that vary of all places in some tiles [tiles, 47, 128]; at the margin they do not matter."""
        rows, first, size = made.transpose(1, 0, 2), int(some[0]) * TILE, (int(some[-1] - some[0]) + 1) * TILE
        gaps, around = size > len(some) * TILE, made[:, : len(OFFSETS)]

        def shifted(shift: int) -> Floats:
            start = self._before + first + shift
            found = self._line[start : start + size].reshape(-1, TILE)
            return found.take(some - some[0], axis=0) if gaps else found

        here = shifted(0)
        for row, shift in zip(rows, self._shifts, strict=False):
            np.subtract(shifted(shift), here, out=row)
        around.clip(-CLIP, CLIP, out=around)
        chosen = some if gaps else slice(some[0], some[-1] + 1)
        for row, beside in zip(rows[len(OFFSETS) :], self._beside, strict=True):
            row[...] = beside[chosen]

    @cached_property
    def _beside(self) -> Bytes:
        """The other inputs that vary [5, tiles, 128]: what the level's bands hold there, and the parities."""
        found = np.zeros((_VARYING - len(OFFSETS), self._varied.size), np.int8)
        inside = found[:, : self._padded.size].reshape(-1, *self._padded.shape)
        busy, parities = np.split(inside[(slice(None), *(slice(room, -room) for room in _ROOM))], [len(self._bands)])
        halved = tuple(axis for axis in (2, 1, 0) if self._halved[axis])
        for shown, band in zip(busy, self._bands, strict=True):
            shown[...] = repeated(band.astype(np.int8), halved, self._shape)
        for axis in halved:
            along = np.moveaxis(parities[axis], axis, -1)
            along[...] = ((np.arange(self._shape[axis]) & 1) << 7) - 64
        return found.reshape(-1, *self._varied.shape)

    def _rest(self, made: Floats, where: tuple[Whole, Whole, Whole]) -> None:
        """Complete inputs [52, n] of which the differences are there; `where` they are [n], along each axis."""
        around, extra = made[: len(OFFSETS)], made[len(OFFSETS) :]
        np.clip(around, -CLIP, CLIP, out=around)
        shape = self._bands[0].shape
        halved = [index >> half for index, half in zip(where, self._halved, strict=True)]
        places = (halved[0] * shape[1] + halved[1]) * shape[2] + halved[2]
        for row, band in zip(extra, self._bands, strict=False):
            row[...] = band.reshape(-1).take(places, mode="clip")
        for row, index, half in zip(extra[2:], where, self._halved, strict=False):
            row[...] = ((index & 1) << 7) - 64 if half else 0
        for row, value in zip(extra[5:], self._shared, strict=True):
            row[...] = value

    def restored(self, model: RestorationModel, layer: Indices, helpers: Helpers = ALONE) -> Doubles:
        """The low band with all corrections."""
        found = np.zeros(self._varied.shape, np.float32)
        chosen = np.flatnonzero(self._varied.any(axis=1))

        def correct(piece: slice) -> None:
            self._correct(chosen[piece], model, layer, found)

        helpers.each(correct, helpers.pieces(len(chosen), _TILES, max(len(chosen), 1)))
        inside = found.reshape(-1)[: self._padded.size].reshape(self._padded.shape)
        corrected = inside[tuple(slice(room, -room) for room in _ROOM)]
        again = self.low.copy()
        low = again.transpose(self._order)

        def move(rows: slice) -> None:
            moved_by = corrected[:, rows].astype(np.float64)
            moved_by *= self.step / 2**SIXTEENTHS
            moved_by += 0.5
            low[:, rows] += np.floor(moved_by, out=moved_by)

        helpers.each(move, list(_blocks(low.shape)))
        return again

    def _correct(self, chosen: Indices, model: RestorationModel, layer: Indices, found: Floats) -> None:
        """Enter the corrections of some tiles in `found` [tiles, 128]."""
        shared = np.append(np.zeros(_VARYING), self._shared).astype(np.float32)
        hidden_layers = HiddenLayers(folded(model.weights, range(_VARYING), shared))
        made = np.ones((min(_TILES, len(chosen)), _VARYING + 1, TILE), np.float32)
        for first in range(0, len(chosen), _TILES):
            some = chosen[first : first + _TILES]
            self._tiled(some, made[: len(some), :-1])
            moved = corrections(hidden_layers(made[: len(some)]), layer)
            moved *= self._varied[some]
            found[some] = moved

    def missing(self, truth: Doubles, voxels: Indices) -> Doubles:
        """What some voxels lack towards the true low band, in steps."""
        return (truth - self.low).transpose(self._order).reshape(-1)[voxels] / self.step


def _blocks(shape: Shape) -> Iterator[slice]:
    """Rows of a band in the network's order of axes, in blocks that fit a processor's cache in any order."""
    thick = max(_BLOCK // max(shape[0] * shape[2], 1), 1)
    for first in range(0, shape[1], thick):
        yield slice(first, first + thick)


def _busy(bands: Mapping[Axes, Coefficients], level: Level) -> list[Floats]:
    """How large the coefficients of all bands at a place of the coarser lattice are, and those around, as inputs."""
    total = np.zeros(level.low, np.int16)
    for values in bands.values():
        total += fitted(magnitude(values), level.low)
    logs = [2 * log_of(some).astype(np.float32) for some in (total, box(total, (1, 1, 1)))]
    return [np.minimum(some, CLIP) for some in logs]


NOT_RESTORED, BY_MODEL = b"\0", b"\1"  # side information of a level


def pack_layer(layer: Indices) -> bytes:
    """The side information of a level with a last layer of its own."""
    return b"\2" + layer.astype("<i2").tobytes()


def unpack_layer(data: bytes, model: RestorationModel) -> Indices | None:
    """The last layer that the side information of a level names; None for no restoration. Raises BadInput."""
    default = model.layer
    size = 2 * len(default) if data[:1] == b"\2" else 0
    if len(data) != 1 + size or data[0] > 2:
        raise BadInput("the side information is damaged")
    if data[0] < 2:
        return default if data[0] else None
    layer = np.frombuffer(data[1:], "<i2").astype(np.int64)
    if not exact(layer):
        raise BadInput("the side information is damaged")
    return layer
