"""What quantisation took from a low band, estimated from the band around each voxel by a small integer network.

It follows the inverse transform of a level, as the loop filters of video codecs follow theirs; its last layer may be a
file's own. All numbers are whole and exact, so every computer finds the same voxels.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import BadInput, BadModel
from .context import CLIP, Floats
from .lattice import half_octaves
from .network import EXACT, check_layers, hidden
from .subband import Coefficients, box, fitted, log_of, magnitude, repeated
from .wavelet import Axes, Doubles, Level, Shape

_ACROSS, _PLANE = 1, 2  # how far a voxel sees along the coarsest axis, and along the two others


def _offsets() -> tuple[Shape, ...]:
    """The 42 neighbours, nearest first: five by five in the plane, three by three in the planes beside it."""
    near = range(-_PLANE, _PLANE + 1)
    seen = [(z, y, x) for z in (-1, 0, 1) for y in near for x in near if z == 0 or max(abs(y), abs(x)) < _PLANE]
    return tuple(sorted((o for o in seen if any(o)), key=lambda o: (sum(n * n for n in o), o)))


OFFSETS = _offsets()
RESTORATION_INPUTS = len(OFFSETS) + 10
SIXTEENTHS = 16  # bits after the point of a correction in steps
_BIAS = 256  # what a stored bias of 1 is worth
_FINENESS = 32  # of a step: what the network sees
_LARGEST = 2.0**23
_BLOCK = 16384

Indices = npt.NDArray[np.int64]


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
    """By how much voxels [n] are to be moved, in 2^-16 steps, from what the last layer sees."""
    weights = layer[:-1].astype(np.float32)
    return weights @ seen + np.float32(_BIAS * layer[-1])


def exact(layer: Indices) -> bool:
    """Whether all sums of a last layer are exact."""
    return bool(255 * np.abs(layer[:-1]).sum() + _BIAS * abs(layer[-1]) < EXACT)


class Surroundings:
    """A low band that a level has just restored, as the network sees it; `voxels` are those that are not all alike."""

    def __init__(
        self, low: Doubles, bands: Mapping[Axes, Coefficients], level: Level, spacing: Shape, step: int,
        shared: tuple[int, int],
    ) -> None:  # fmt: skip
        """`shared`: how many finer levels there are, and 8 * log2 of the volume's range over the step."""
        extent = [along * far for along, far in zip(spacing, level.steps, strict=True)]
        first, second, third = self._order = sorted(range(3), key=lambda d: (-extent[d], d))
        self.low, self.step = low, step
        shown = np.rint(np.clip(low.transpose(self._order) * (_FINENESS / step), -_LARGEST, _LARGEST))
        room = [(_ACROSS, _ACROSS), (_PLANE, _PLANE), (_PLANE, _PLANE)]
        padded = np.pad(shown.astype(np.float32), room, mode="edge")
        self._shape, (_, self._rows, self._along) = shown.shape, padded.shape
        self._line = padded.reshape(-1)
        self._shifts = [(z * self._rows + y) * self._along + x for z, y, x in OFFSETS]
        self.voxels = np.flatnonzero(_varied(padded))
        self._bands = [some.transpose(self._order).reshape(-1) for some in _busy(bands, level)]
        self._halved = [d in level.axes for d in self._order]
        ratios = half_octaves(extent[first], extent[second]), half_octaves(extent[second], extent[third])
        finer, rate = shared
        self._shared = [16 * ratio for ratio in ratios]
        self._shared += [min(16 * finer, CLIP), 32 * (len(level.axes) - 1), min(max(rate, 0), CLIP)]

    def inputs(self, voxels: Indices) -> Floats:
        """The network's inputs [52, n], whole numbers within -127..127, of some voxels."""
        made = np.empty((RESTORATION_INPUTS, len(voxels)), np.float32)
        row, x = np.divmod(voxels, self._shape[2])
        z, y = np.divmod(row, self._shape[1])
        places = ((z + _ACROSS) * self._rows + y + _PLANE) * self._along + x + _PLANE
        around = made[: len(OFFSETS)]
        for number, shift in enumerate(self._shifts):
            np.take(self._line, places + shift, out=around[number])
        around -= self._line[places]
        np.clip(around, -CLIP, CLIP, out=around)
        extra = made[len(OFFSETS) :]
        for number, band in enumerate(self._bands):
            extra[number] = 2 * band[voxels].astype(np.float32)
        for number, index in enumerate((z, y, x)):
            extra[2 + number] = 128 * (index & 1) - 64 if self._halved[number] else 0
        for number, value in enumerate(self._shared):
            extra[5 + number] = value
        return np.clip(made, -CLIP, CLIP, out=made)

    def restored(self, model: RestorationModel, layer: Indices) -> Doubles:
        """The low band with all corrections."""
        moved = np.ascontiguousarray(self.low.transpose(self._order))
        line = moved.reshape(-1)
        for first in range(0, len(self.voxels), _BLOCK):
            some = self.voxels[first : first + _BLOCK]
            found = corrections(model.hidden(self.inputs(some)), layer).astype(np.float64)
            line[some] += np.floor(found * (self.step / 2**SIXTEENTHS) + 0.5)
        return moved.transpose(np.argsort(self._order))

    def missing(self, truth: Doubles, voxels: Indices) -> Doubles:
        """What some voxels lack towards the true low band, in steps."""
        return (truth - self.low).transpose(self._order).reshape(-1)[voxels] / self.step


def _varied(padded: Floats) -> npt.NDArray[np.bool_]:
    """Which voxels differ from one beside them."""
    inside = padded[_ACROSS:-_ACROSS, _PLANE:-_PLANE, _PLANE:-_PLANE]
    found = np.zeros(inside.shape, bool)
    for axis, room in enumerate((_ACROSS, _PLANE, _PLANE)):
        along = np.moveaxis(padded, axis, 0)
        rest = tuple(slice(_PLANE if d else _ACROSS, -_PLANE if d else -_ACROSS) for d in range(3) if d != axis)
        for step in (-1, 1):
            beside = along[(slice(room + step, len(along) - room + step), *rest)]
            found |= np.moveaxis(beside, 0, axis) != inside
    return found


def _busy(bands: Mapping[Axes, Coefficients], level: Level) -> list[npt.NDArray[np.int8]]:
    """How large the coefficients of all bands at a voxel's place are, and those around, as logarithms [i, j, k]."""
    total = np.zeros(level.low, np.int16)
    for values in bands.values():
        total += fitted(magnitude(values), level.low)
    return [repeated(log_of(some), level.axes, level.shape) for some in (total, box(total, (1, 1, 1)))]


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
