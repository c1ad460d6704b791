"""From a .maez file, or a prefix of one, to a volume: whole, a slab of it, or coarser."""

from __future__ import annotations

import math
import zlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

from ..engine.memory import amount, free_system_memory
from ..errors import BadInput, OutOfMemory
from ..threads import ALONE, Helpers
from ..volume import Volume
from .chunk_threads import Progress, helpers_for, in_turn, side_by_side, wider
from .container import FRONT, PACKED, RESTORATION, WAVES, Block, Container, block_of, open_container
from .context import LARGEST
from .filled import unpack_mask
from .front import Front
from .front_coder import decode_front
from .front_network import FrontModel
from .lattice import halvings
from .model_file import CodecModel, find_codec_model, find_front_model, find_restoration_model, find_subband_model
from .packed import read_packed
from .placing import placed
from .predictive import OWN_PARTS, PREVIEW_HALVINGS, ChunkDecoder, Grid
from .restoration import RestorationModel
from .subband_decoder import LowGrid, WaveDecoder
from .subband_levels import WaveGrid
from .subband_network import SubbandModel
from .tuning import apply_tuning
from .values import TYPES, from_whole
from .waves import levels_left_out, wave_grids, wave_steps

_BYTES_PER_VOXEL = 70  # of memory, roughly, while a chunk of voxels of at most 16 bits is decoded

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class _Entry:
    """A chunk as the header states it, checked."""

    channel: int
    start: int
    stop: int
    how: Mapping[str, Any]
    grid: Grid
    extra: Block
    parts: list[Block]
    front: bool  # a preview, and the whole chunk in the order of a wave front
    waves: tuple[WaveGrid, LowGrid] | None  # the levels of its wavelets, and their last low band
    restored: bool  # whether its levels tell of a restoration

    @property
    def preview(self) -> int:
        """How many halvings the preview leaves out."""
        return min(len(_axes(self.grid.shape, self.grid.spacing)), PREVIEW_HALVINGS)

    @property
    def boundaries(self) -> list[int]:
        """After how many halvings a part ends that a prefix of the file may hold."""
        if self.waves is None:
            return [self.preview] if self.front else []
        counts = [len(level.axes) for level in self.waves[0].levels]
        return [sum(counts[: place + 1]) for place in range(len(counts))]

    def reaches(self, coarser: int) -> bool:
        """Whether there is a volume that is some halvings coarser; all coarser ones of a constant are there."""
        constant = not self.parts and coarser <= len(_axes(self.grid.shape, self.grid.spacing))
        return constant or bool(self.needed(coarser))

    def needed(self, coarser: int) -> list[Block]:
        """The parts from which a volume that is some halvings coarser is decoded; none if there is no such volume."""
        if self.waves is not None:
            out, rest = levels_left_out(self.waves[0], coarser)
            return [] if rest and out == len(self.waves[0].levels) else self.parts[: len(self.parts) - out]
        if self.deflated:
            return self.parts if coarser <= len(_axes(self.grid.shape, self.grid.spacing)) else []
        if self.front:
            return self.parts[:1] if coarser == self.preview else self.parts[1:] if coarser < self.preview else []
        return self.parts[: max(len(self.parts) - coarser, 0)]

    @property
    def deflated(self) -> bool:
        """Whether the chunk was stored without the model, in one part."""
        return self.how.get("kind") == "deflated"


def decompress(
    data: bytes | memoryview, name: str = "The file", coarser: int | None = 0, progress: Progress | None = None
) -> Volume:
    """The volume of a .maez file. `coarser` leaves out so many of the last halvings (0: none, at most 5); None takes
    the finest that a prefix of a file holds. Raises BadInput, BadModel, OutOfMemory; never wrong voxels.
    """
    container = open_container(data, name)
    if coarser == 0:
        container.check_whole()
    return read_volume(container, coarser, progress=progress)


def read_volume(
    container: Container, coarser: int | None = 0, slices: tuple[int, int] | None = None,
    progress: Progress | None = None,
) -> Volume:  # fmt: skip
    """The volume, or the slab of `slices` (from, to) along k; only the chunks that are needed are decoded.

    `progress(stage, done, total)` counts chunks; it may raise, and what has not begun then never does.
    """
    last = container.header["volume"]["shape"][3]
    if slices is not None and not 0 <= slices[0] < slices[1] <= last:
        told = f"{container.name} has no slices {slices[0]} to {slices[1]}."
        raise BadInput(told, f"Name slices from 0 to {last}, the last one left out.")
    if container.header["coder"] == PACKED:
        return read_packed(container, coarser or 0, slices)
    entries = chunk_entries(container)
    chosen = [entry for entry in entries if slices is None or (entry.start < slices[1] and entry.stop > slices[0])]
    if coarser is None:
        further = {drop for entry in chosen for drop in entry.boundaries if drop > 5}
        coarser = next((drop for drop in [*range(6), *sorted(further)] if _there(container, chosen, drop)), None)
    if coarser is None:
        told = f"{container.name} is cut short: too little of it is there for its preview."
        raise BadInput(told, "Take more of the file.")
    if coarser and not _there(container, chosen, coarser):
        raise BadInput(f"{container.name} holds no volume that is {coarser} halvings coarser.")
    models = _models(container)
    steps = _steps(chosen, coarser)
    at_once = min(_at_once(container, entries), len(chosen))
    with helpers_for(at_once) as helpers, ThreadPoolExecutor(at_once) as pool:
        work = [pool.submit(decode_chunk, container, entry, models, coarser, helpers) for entry in chosen]
        pieces = in_turn(pool, work, "Decoding", progress, helpers.stop)
    return _placed(container, chosen, pieces, steps, slices)


@dataclass(frozen=True, eq=False)
class Models:
    """What the chunks of a file were coded with; only files of version 2 to 4 need the others."""

    lattice: CodecModel
    front: FrontModel | None
    waves: SubbandModel | None
    restoration: RestorationModel | None


def _models(container: Container) -> Models:
    """The models that a file names: installed ones, or those inside it. Raises BadInput, BadModel."""
    wanted = container.header["model"]
    lattice = find_codec_model(wanted["name"], wanted["sha256"], container.name, _inside(container, "model"))
    waves, restoration = None, None
    if RESTORATION in container.header:
        told, inside = container.header[RESTORATION], _inside(container, RESTORATION)
        restoration = find_restoration_model(told["name"], told["sha256"], container.name, inside).restoration
    if WAVES in container.header:
        wanted = container.header[WAVES]
        inside = _inside(container, WAVES)
        waves = find_subband_model(wanted["name"], wanted["sha256"], container.name, inside).subband
    if FRONT not in container.header:
        return Models(lattice, None, waves, restoration)
    wanted = container.header[FRONT]
    inside, tuning = _inside(container, FRONT), _inside(container, FRONT, "tuning")
    front = find_front_model(wanted["name"], wanted["sha256"], container.name, inside).front
    try:
        return Models(lattice, front if tuning is None else apply_tuning(front, tuning()), waves, restoration)
    except BadInput as error:
        raise _damaged(container, error) from None


def _inside(container: Container, which: str, what: str = "inside") -> Callable[[], bytes] | None:
    """What reads a model, or its tuning, out of a file that carries it; None if it does not. Raises BadInput."""
    place = container.header[which].get(what)
    if place is None:
        return None
    try:
        block = block_of(place, int(container.header["payload_bytes"]))
    except ValueError:
        raise BadInput(f"{container.name} is damaged: its model lies outside of it.") from None
    return lambda: container.read(block)


def decode_chunk(
    container: Container, entry: _Entry, models: Models, coarser: int, helpers: Helpers = ALONE
) -> Array:
    """The voxels of one chunk [i, j, k], without its last halvings."""
    dtype = np.dtype(container.header["volume"]["dtype"])
    try:
        if entry.deflated:
            i, j, k = (slice(None, None, step) for step in _chunk_steps(entry, coarser))
            return _inflated(container.read(entry.parts[0]), entry.grid.shape, dtype)[i, j, k]
        whole = _whole_numbers(container, entry, models, coarser, helpers)
        if coarser and entry.how.get("kind") == "split":
            return from_whole(whole, {**entry.how, "coarse": True}, b"", dtype)
        return from_whole(whole, entry.how, container.read(entry.extra), dtype)
    except BadInput as error:
        raise _damaged(container, error) from None
    except (IndexError, ValueError, zlib.error):
        raise BadInput(f"{container.name} is damaged: a part of it cannot be decoded.") from None


def _damaged(container: Container, error: BadInput) -> BadInput:
    """The same fault in a sentence that names the file."""
    told = str(error).startswith(container.name)
    return error if told else BadInput(f"{container.name} is damaged: {error}.".replace("..", "."))


def _whole_numbers(
    container: Container, entry: _Entry, models: Models, coarser: int, helpers: Helpers
) -> npt.NDArray[np.int64]:
    """The coded numbers of a chunk; one whose order knows no coarser lattice is decoded and thinned."""
    if entry.waves is not None:
        return _by_waves(container, entry, models, coarser, helpers)
    if entry.front and coarser < entry.preview:
        if models.front is None:
            raise BadInput("it names no model for one of its chunks")
        whole = decode_front(container.read(entry.parts[1]), entry.grid, models.front, helpers)
        i, j, k = (slice(None, None, step) for step in _chunk_steps(entry, coarser))
        return whole[i, j, k]
    if not entry.parts:  # a constant
        steps = _chunk_steps(entry, coarser)
        return np.zeros([-(-n // step) for n, step in zip(entry.grid.shape, steps, strict=True)], np.int64)
    decoder = ChunkDecoder(entry.grid, models.lattice.context, entry.front)
    for number, block in enumerate(entry.needed(coarser)):
        decoder.decode_part(container.read(block), number)
    return decoder.voxels.astype(np.int64)


def _by_waves(
    container: Container, entry: _Entry, models: Models, coarser: int, helpers: Helpers
) -> npt.NDArray[np.int64]:
    """The coded numbers of a chunk of wavelets, thinned where the halvings left out do not fill a level."""
    if models.waves is None or entry.waves is None:
        raise BadInput("it names no model for one of its chunks")
    if entry.restored and models.restoration is None:
        raise BadInput("it names no model for one of its chunks")
    restoration = models.restoration if entry.restored else None
    decoder = WaveDecoder(*entry.waves, models.waves, models.lattice.context, restoration, helpers)
    for number, block in enumerate(entry.needed(coarser)):
        decoder.decode_part(container.read(block), number)
    out, _ = levels_left_out(entry.waves[0], coarser)
    whole = 2 ** np.array([sum(d in level.axes for level in entry.waves[0].levels[:out]) for d in range(3)])
    steps = wave_steps(entry.waves[0], coarser)
    i, j, k = (slice(None, None, step) for step in np.array(steps) // whole)
    found = decoder.voxels()[i, j, k]
    if entry.extra.size:
        mask = unpack_mask(container.read(entry.extra), entry.grid.shape[:2])
        found[mask[:: steps[0], :: steps[1]]] = 0
    return found


def chunk_entries(container: Container) -> list[_Entry]:
    """All chunks, checked: they fill the volume, once each, and fit the memory. Raises BadInput, OutOfMemory."""
    volume, size = container.header["volume"], int(container.header["payload_bytes"])
    channels, i, j, k = volume["shape"]
    try:
        spacing = tuple(int(along) for along in container.header["spacing_um"])
        _check_filled(container.header["chunks"], channels, k)
        entries = [_entry(chunk, (i, j), spacing, size) for chunk in container.header["chunks"]]
        if volume["dtype"] not in TYPES:
            raise ValueError("no type")
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError):
        raise BadInput(f"{container.name} is damaged: its list of chunks is not one.") from None
    check_memory(container.name, volume["shape"], np.dtype(volume["dtype"]), _thickest(entries))
    return entries


def check_memory(name: str, shape: Sequence[int], dtype: np.dtype[Any], slices: int) -> None:
    """Raise OutOfMemory unless a volume [c, i, j, k] of chunks of at most so many slices can be decoded."""
    needed = sum(_memory(shape, dtype, slices))
    if needed > free_system_memory():
        told = f"{name} needs {amount(needed)} of memory, more than is free."
        raise OutOfMemory(told, "Close other programs, or compress the volume in parts.")


def _memory(shape: Sequence[int], dtype: np.dtype[Any], slices: int) -> tuple[int, int]:
    """The bytes of the volume, and those that decoding its largest chunk takes."""
    whole = math.prod(map(int, shape)) * dtype.itemsize
    return whole, (_BYTES_PER_VOXEL + wider(dtype)) * int(shape[1]) * int(shape[2]) * slices


def _thickest(entries: Sequence[_Entry]) -> int:
    return max(entry.stop - entry.start for entry in entries)


def _at_once(container: Container, entries: Sequence[_Entry]) -> int:
    """How many chunks are decoded side by side."""
    volume = container.header["volume"]
    whole, each = _memory(volume["shape"], np.dtype(volume["dtype"]), _thickest(entries))
    return side_by_side(free_system_memory() - whole, each)


def _entry(chunk: Mapping[str, Any], plane: tuple[int, int], spacing: tuple[int, ...], size: int) -> _Entry:
    """One chunk of the header. Raises KeyError, TypeError or ValueError when it is none."""
    names = ("channel", "start", "stop", "low", "high", "largest", "step")
    channel, start, stop, low, high, largest, step = (chunk[name] for name in names)
    if not all(type(chunk[name]) is int for name in names) or len(spacing) != 3 or min(spacing) < 1:
        raise ValueError("no chunk")
    if not (0 <= start < stop and 0 <= low <= high <= largest < LARGEST):
        raise ValueError("no chunk")
    shape, along = (*plane, stop - start), (spacing[0], spacing[1], spacing[2])
    waves = wave_grids(chunk, shape, along) if chunk.get("order") == WAVES else None
    if waves is None and not (1 <= step < 2 * LARGEST and step % 2):
        raise ValueError("no step")
    grid = Grid(shape, along, low, high, largest, 1 if waves else step, chunk.get("eased") is True)
    parts = [block_of(part, size) for part in chunk["parts"]]
    front = chunk.get("order") == FRONT
    extra, restored = block_of(chunk["extra"], size), waves is not None and chunk.get("restored") is True
    entry = _Entry(channel, start, stop, dict(chunk["how"]), grid, extra, parts, front, waves, restored)
    expected = len(waves[1].grid.parts()) + len(waves[0].levels) if waves else 2 if front else 1
    expected = expected if waves or front or entry.deflated else min(len(_axes(shape, along)), OWN_PARTS) + 1
    constant = largest == 0 and not (waves or front or entry.deflated)  # in version 6 without parts
    expected = 0 if constant and not parts else expected
    if len(parts) != expected or (waves is not None and entry.deflated):
        raise ValueError("the parts do not fit the size")
    if front and (entry.deflated or not Front.of(grid.shape, grid.spacing).parallel):
        raise ValueError("the order does not fit the size")
    return entry


def _check_filled(chunks: Sequence[Mapping[str, Any]], channels: int, slices: int) -> None:
    """Raise ValueError when the chunks, by channel and slice, leave a gap or overlap. A header may hold very many."""
    channel, place = 0, 0
    for chunk in chunks:
        if place == slices:
            channel, place = channel + 1, 0
        if chunk["channel"] != channel or chunk["start"] != place or not place < chunk["stop"] <= slices:
            raise ValueError("the chunks do not fill the volume")
        place = chunk["stop"]
    if (channel, place) != (channels - 1, slices):
        raise ValueError("the chunks do not fill the volume")


@lru_cache(maxsize=1024)
def _axes(shape: tuple[int, int, int], spacing: tuple[int, int, int]) -> list[int]:
    """The axes that a chunk is halved along, the last stage first; many chunks are alike."""
    return halvings(shape, spacing)


def _there(container: Container, entries: list[_Entry], coarser: int) -> bool:
    """Whether all that a volume without the last halvings needs is in what is there of the file."""
    if coarser and not all(entry.reaches(coarser) for entry in entries):
        return False
    steps = {_chunk_steps(entry, coarser) for entry in entries}
    if len(steps) > 1 or any(entry.start % next(iter(steps))[2] for entry in entries):
        return False
    needed = [part for entry in entries for part in entry.needed(coarser)]
    needed += [entry.extra for entry in entries if not (coarser and entry.how.get("kind") == "split")]
    return all(container.has(block) for block in needed)


def _chunk_steps(entry: _Entry, coarser: int) -> tuple[int, int, int]:
    """How far apart the voxels of a coarser chunk are, in voxels of the volume."""
    if not coarser:
        return 1, 1, 1
    if entry.waves is not None:
        return wave_steps(entry.waves[0], coarser)
    left_out = _axes(entry.grid.shape, entry.grid.spacing)[:coarser]
    i, j, k = (2 ** left_out.count(axis) for axis in range(3))
    return i, j, k


def _steps(entries: list[_Entry], coarser: int) -> tuple[int, int, int]:
    return _chunk_steps(entries[0], coarser)


def _placed(
    container: Container, entries: list[_Entry], pieces: list[Array], steps: tuple[int, int, int],
    slices: tuple[int, int] | None,
) -> Volume:  # fmt: skip
    """The pieces put together, with the affine of their lattice."""
    channels = [
        np.concatenate(
            [piece for entry, piece in zip(entries, pieces, strict=True) if entry.channel == channel], axis=2
        )
        for channel in range(container.header["volume"]["shape"][0])
    ]
    return placed(container, np.stack(channels), entries[0].start, steps, slices)


def _inflated(data: bytes, shape: tuple[int, int, int], dtype: np.dtype[Any]) -> Array:
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    unpacker = zlib.decompressobj()
    found = unpacker.decompress(data, size + 1)
    if len(found) != size:
        raise BadInput("a deflated part has the wrong size")
    return np.frombuffer(found, dtype.newbyteorder("<")).astype(dtype).reshape(shape)
