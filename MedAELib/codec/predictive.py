"""One chunk of voxels, coded stage by stage: losslessly, or so that no voxel differs by more than a bound.

The encoder takes the decoder's own steps in a closed loop: what is promised holds by construction.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from ..threads import ALONE, Helpers
from . import residuals
from .bits import BitReader, pack
from .context import Doubles, Floats, Setting, neighbours
from .fit import fit_weights
from .lattice import NEIGHBOURS, PASSES, Lattice, Stage, halvings, plan
from .network import ContextModel
from .parts import pack_part, split_part
from .rans import Decoder, encode, lanes_for
from .residuals import VALUE_BITS, CodedPass, Distribution

_WORTH_BITS = 800  # what a pass's own weights must save at least
OWN_PARTS = 5  # so many of the last stages have a part each; all before them share one

PREVIEW_HALVINGS = 9  # between the preview and the whole chunk
_EASED = (8, 7, 6, 5, 4, 4, 3, 3, 3, 2)  # eighths of the step, by how many stages follow

Voxels = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Grid:
    """What the reader must know of a chunk before its parts: size, spacing in micrometres, the values that all but
    1 % lie above and below, the largest value, the quantisation step of the last stage, and whether earlier stages,
    on which more voxels rest, are `eased` to finer steps. `base_bits` are those of a voxel of the base lattice where
    all stages share one part; 0: 16 bits, and the last stages have parts of their own."""

    shape: tuple[int, int, int]
    spacing: tuple[int, int, int]
    low: int
    high: int
    largest: int
    step: int = 1
    eased: bool = False
    base_bits: int = 0

    @staticmethod
    def of(whole: Voxels, spacing: tuple[int, int, int], step: int, eased: bool) -> Grid:
        """What a reader must know of a chunk of whole numbers [i, j, k]."""
        low, high = (int(value) for value in np.percentile(whole[::2, ::2, ::2], [1, 99]))
        i, j, k = whole.shape
        return Grid((i, j, k), spacing, low, high, int(whole.max()), step, eased)

    def stages(self) -> list[Stage]:
        """The stages, coarsest first."""
        return plan(self.shape, halvings(self.shape, self.spacing), self.spacing)

    def parts(self) -> list[range]:
        """Which stages each part of a chunk holds; the first part holds the base lattice too."""
        count = len(self.stages())
        first = count if self.base_bits else max(count - OWN_PARTS, 0)
        return [range(first), *(range(place, place + 1) for place in range(first, count))]

    def setting(self, stages: list[Stage], place: int) -> Setting:
        """What the contexts of one stage share."""
        remaining = len(stages) - 1 - place
        eighths = _EASED[min(remaining, len(_EASED) - 1)] if self.eased else 8
        step = max((self.step * eighths // 8 - 1) // 2, 0) * 2 + 1
        return Setting(stages[place], remaining, self.low, self.high, self.largest, step)


@dataclass
class _Part:
    """What the passes of a part have produced so far."""

    entries: list[Voxels] = field(default_factory=list)
    side: list[bytes] = field(default_factory=list)
    plain: list[Voxels] = field(default_factory=list)
    counts: list[Voxels] = field(default_factory=list)

    def add(self, coded: CodedPass, side: bytes) -> None:
        """Append a pass."""
        self.entries.append(coded.entries)
        self.side.append(side)
        some = coded.counts > 0
        self.plain.append(coded.plain[some])
        self.counts.append(coded.counts[some])

    def to_bytes(self, model: ContextModel) -> bytes:
        """The part as it is stored."""
        tables, side = model.residuals.tables, b"".join(self.side)
        frequencies = [tables.frequencies[entries].astype(np.float32) for entries in self.entries]
        bits = sum(float((16 - np.log2(some)).sum()) for some in frequencies)
        lanes = lanes_for(bits / 8)
        coded = encode(self.entries, tables, lanes) if self.entries else b""
        plain = pack(np.concatenate(self.plain), np.concatenate(self.counts)) if self.plain else b""
        return pack_part(lanes, side, coded, plain)


def preview_stages(stages: Sequence[Stage]) -> range:
    """The stages of the preview that precedes a chunk of another order: all but the last nine."""
    return range(max(len(stages) - PREVIEW_HALVINGS, 0))


def base_shape(grid: Grid) -> tuple[int, int, int]:
    """The size of the base lattice."""
    stages = grid.stages()
    return stages[0].coarser() if stages else grid.shape


def base_steps(stages: Sequence[Stage]) -> tuple[slice, slice, slice]:
    """What cuts the base lattice out of a chunk."""
    steps = [step * (2 if axis == stages[0].axis else 1) for axis, step in enumerate(stages[0].steps)] if stages else []
    i, j, k = (slice(None, None, step) for step in steps or (1, 1, 1))
    return i, j, k


def encode_chunk(
    voxels: Voxels, grid: Grid, model: ContextModel, preview: bool = False, helpers: Helpers = ALONE
) -> tuple[list[bytes], Voxels]:
    """The parts of a chunk (or of its `preview` alone), coarse to fine, and the voxels as they will be decoded.

    `voxels` [i, j, k] are within 0..grid.largest < 2^16; no decoded voxel differs by more than (grid.step - 1) // 2.
    Ends where `helpers` are stopped.
    """
    stages, parts = grid.stages(), []
    truth = voxels.astype(np.float32)
    current = truth[base_steps(stages)]
    for number, places in enumerate([preview_stages(stages)] if preview else grid.parts()):
        part = _Part()
        if number == 0:
            base = current.reshape(-1).astype(np.int64)
            part.plain.append(base)
            part.counts.append(np.full(base.size, grid.base_bits or VALUE_BITS))
        for place in places:
            lattice = Lattice(stages[place], current)
            i, j, k = (slice(None, None, step) for step in stages[place].steps)
            target = truth[i, j, k].transpose(lattice.order)
            _encode_stage(lattice, target, grid.setting(stages, place), model, part, helpers)
            current = lattice.voxels()
        parts.append(part.to_bytes(model))
    return parts, current.astype(np.int64)


def _encode_stage(
    lattice: Lattice, truth: Floats, setting: Setting, model: ContextModel, part: _Part, helpers: Helpers
) -> None:
    tables = model.residuals
    for parity in PASSES:
        if 0 in lattice.pass_shape(parity):
            continue
        weights, side = _weights(lattice, truth, parity, setting, model)
        target = truth[1::2, parity[0] :: 2, parity[1] :: 2].reshape(-1).astype(np.int64)
        expected = _expected(lattice, parity, weights, setting, model, helpers)
        offset = residuals.best_offset(target, expected, setting.step, setting.largest, tables)
        coded = residuals.code(target, expected, offset, setting.step, setting.largest, tables)
        part.add(coded, struct.pack("<b", offset) + side)
        lattice.set(parity, coded.decoded)


def _weights(
    lattice: Lattice, truth: Floats, parity: tuple[int, int], setting: Setting, model: ContextModel
) -> tuple[Doubles, bytes]:
    """The linear prediction of a pass and how it is sent: one byte for the default, else its weights too."""
    default = model.default_prediction(parity, setting.stage)
    own, saved = fit_weights(lattice, truth, parity, default)
    if saved < _WORTH_BITS:
        return default, b"\0"
    return own, b"\1" + own.astype("<i2").tobytes()


def _expected(
    lattice: Lattice, parity: tuple[int, int], weights: Doubles, setting: Setting, model: ContextModel,
    helpers: Helpers = ALONE,
) -> Distribution:  # fmt: skip
    """What the model expects of all voxels of a pass, block by block; looks whether to end."""
    blocks = []
    for rows in lattice.blocks(parity):
        helpers.look()
        reference, differences = neighbours(lattice, parity, rows)
        blocks.append(model.distribution(reference, differences, weights, parity, setting))
    return Distribution.joined(blocks)


class ChunkDecoder:
    """Decodes a chunk part by part; after each part, `voxels` holds a finer lattice. Raises BadInput for damage."""

    def __init__(self, grid: Grid, model: ContextModel, preview: bool = False) -> None:
        self.grid, self.model, self._preview = grid, model, preview
        self.stages = grid.stages()
        self.voxels: Floats = np.zeros((0, 0, 0), np.float32)

    def decode_part(self, data: bytes, number: int) -> None:
        """Take in the next part."""
        lanes, side, coded, bits = split_part(data)
        places, plain = self._places(number), BitReader(bits)
        if number == 0:
            shape = base_shape(self.grid)
            base = plain.read(np.full(int(np.prod(shape)), self.grid.base_bits or VALUE_BITS))
            self.voxels = np.minimum(base, self.grid.largest).reshape(shape).astype(np.float32)
        decoder = Decoder(coded, lanes) if coded else None
        for place in places:
            if decoder is None:
                raise BadInput("a part is too short")
            side = self._decode_stage(place, side, decoder, plain)
        if side or not plain.finished() or (decoder is not None and not decoder.finished()):
            raise BadInput("a part does not end where it should")

    def _places(self, number: int) -> range:
        return preview_stages(self.stages) if self._preview else self.grid.parts()[number]

    def _decode_stage(self, place: int, side: bytes, decoder: Decoder, plain: BitReader) -> bytes:
        """One stage; what is left of the side information."""
        lattice = Lattice(self.stages[place], self.voxels)
        setting, tables = self.grid.setting(self.stages, place), self.model.residuals
        for parity in PASSES:
            if 0 in lattice.pass_shape(parity):
                continue
            offset, weights, side = _read_side(side, self.model.default_prediction(parity, setting.stage))
            expected = _expected(lattice, parity, weights, setting, self.model)
            found = residuals.decode(expected, offset, setting.step, setting.largest, tables, decoder, plain)
            lattice.set(parity, found)
        self.voxels = lattice.voxels()
        return side


def _read_side(side: bytes, default: Doubles) -> tuple[int, Doubles, bytes]:
    """The offset of the scales and the weights of a pass; what is left."""
    needed = 2 + (2 * NEIGHBOURS if side[1:2] == b"\1" else 0)
    if len(side) < needed or side[1] > 1:
        raise BadInput("the side information is damaged")
    weights = np.frombuffer(side[2:needed], "<i2").astype(np.float64) if needed > 2 else default
    return struct.unpack_from("<b", side)[0], weights, side[needed:]
