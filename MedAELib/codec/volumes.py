"""Volumes to .maez files and back: chunk by chunk, in parallel, with what was promised checked before it is said."""

from __future__ import annotations

import math
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from ..threads import ALONE, Helpers
from ..volume import Volume
from .assemble import Carried, Chunk, assemble, assemble_packed, joined, micrometres
from .chunk_threads import Progress, beside, encoders, helpers_for, in_turn, thickest
from .container import FRONT, PACKED, open_container
from .front import Front
from .front_coder import encode_front
from .front_network import FrontModel
from .lossy import bounded, lossy_unit, lossy_whole, unit_decibels
from .model_file import (
    EARLIER_SUBBAND,
    CodecModel,
    SubbandCodec,
    load_codec_model,
    load_front_model,
    load_restoration_model,
    load_subband_model,
)
from .one_thread import numpy_alone
from .packed import pack
from .predictive import Grid, encode_chunk
from .promise import Mode, decibels, holdable, kept, ratio_and_rate, unreachable
from .reader import check_memory, decode_chunk, decompress
from .restoration import RestorationModel
from .search import Estimate, Goal, LatticeEstimate, WaveEstimate, find_step, first_step
from .slabs import cut, cut_alike
from .subband_encoder import TRADE
from .trial import piece_of, step_by_piece
from .tuning import tune
from .values import Mapped, difference, from_whole, largest_error, span_of, to_whole
from .wavelet import FRACTION_BITS, JOINS, LATE, choose_axes
from .waves import wave_chunk

_CHUNK_VOXELS = 4_000_000
_WAVE_THINNEST, _WAVE_LEAST = 32, 12  # slices of a chunk of wavelets; of the last: fewer would be halved less often
_WAVE_VOXELS = 4096  # a smaller volume is coded by lattices
_MOST_DECIBELS = 110.0  # beyond lies what wavelets in 2^-6 grey values cannot reach
_FEW_VALUES, _SMALL, _DEAR = 64, 100_000, 2.5  # values, voxels and bits a voxel that make lattices worth a try
_FINER = 12.0  # decibels beyond errors of one step of the grid, from which a file without loss is the smallest
_ROUGHLY = 1.3  # of the bits that a piece takes without loss: the whole volume may take less
_FRONT_STEP = 11  # with coarser steps the lattice is smaller: it predicts from both sides
_FRONT_VOXELS = 16_384  # in smaller chunks its side information is too dear
_PACKABLE, _TINY = 1.25, 65_536  # times a file, and bytes, that deflated chunks take where all of it may be packed
_CHOOSING, _TUNING = "Choosing the step", "Tuning the model"
_SAMPLE_VOXELS = 300_000  # on which the quantisation step is sought

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class _Plan:
    """How to encode: what is promised, for psnr and ratio start, unit and quantisation step, whether the models go
    into the file, and the model of wave fronts, perhaps tuned, or that of wavelet coefficients."""

    mode: Mode
    start: float = 0.0
    unit: float = 1.0
    step: int = 1
    with_model: bool = False
    front: FrontModel | None = None
    tuning: bytes = b""
    waves: SubbandCodec | None = None  # its step counts in 2^-6 units
    restoration: RestorationModel | None = None
    joins: float = JOINS  # of coarser axes, as for `choose_axes`

    @property
    def eased(self) -> bool:
        """Whether the promise is about the whole volume, not about every voxel."""
        return self.mode.kind in ("psnr", "ratio")


def compress(
    volume: Volume, mode: Mode | None = None, progress: Progress | None = None, with_model: bool = False
) -> bytes:
    """The .maez file of a volume, checked by decoding it. Raises BadInput for a type that cannot be held.

    Every promise of `Mode` is kept, or BadInput says that it cannot be; where a file without loss is the better way to
    keep one, it is such a file, and says so. `progress(stage, done, total)` may raise.
    `with_model` puts the models that it needs (up to 260 kB) into the file, which then decodes where they are missing.
    """
    return compress_and_decode(volume, mode, progress, with_model)[0]


def compress_and_decode(
    volume: Volume, mode: Mode | None = None, progress: Progress | None = None, with_model: bool = False
) -> tuple[bytes, Volume]:
    """The .maez file of a volume, and what it decodes to. Raises as `compress`."""
    with numpy_alone():
        return _compressed(holdable(volume), mode or Mode(), progress, with_model)


def _compressed(volume: Volume, mode: Mode, progress: Progress | None, with_model: bool) -> tuple[bytes, Volume]:
    model = load_codec_model()
    if mode.kind not in ("psnr", "ratio"):
        data = _encode_volume(volume, _Plan(mode, with_model=with_model), model, progress)
        return _checked(volume, mode, data, progress)
    plan = _Plan(mode, *lossy_unit(volume.array), with_model=with_model)
    nearly = beside(partial(_nearly_exact, volume, plan, model), _CHOOSING, progress)
    exact = _without_loss(volume, plan, model, progress) if nearly else None
    if exact is not None and _best(volume, mode, exact):
        return _checked(volume, Mode(), exact, progress)
    try:
        data = _with_loss(volume, plan, model, progress)
    except BadInput:
        if mode.kind == "ratio":
            raise
        data = exact = exact or _without_loss(volume, plan, model, progress)  # no PSNR is higher
    if exact is not None and len(exact) <= len(data):
        return _checked(volume, Mode(), exact, progress)
    found = _checked(volume, mode, data, progress)
    figure = decibels(volume.array, found[1].array)
    close = figure == math.inf or (mode.kind == "ratio" and figure > unit_decibels(volume.array))
    if exact is None and (close or volume.array.size < _WAVE_VOXELS):
        exact = _without_loss(volume, plan, model, progress)
        if len(exact) <= len(data) or _best(volume, mode, exact):
            return _checked(volume, Mode(), exact, progress)
    return found


def _with_loss(volume: Volume, plan: _Plan, model: CodecModel, progress: Progress | None) -> bytes:
    """The smallest file found that has the promised quality, or the best one found of the promised size."""
    data = _by_waves(volume, plan, model, progress)
    if data is None:
        return _by_lattices(volume, plan, model, progress)
    if _worth_trying(volume, data):
        try:
            other = _by_lattices(volume, plan, model, progress)
            return other if len(other) < len(data) else data
        except BadInput:
            pass  # lattices do not reach what wavelets did
    return data


def _without_loss(volume: Volume, plan: _Plan, model: CodecModel, progress: Progress | None) -> bytes:
    return _encode_volume(volume, _Plan(Mode(), with_model=plan.with_model), model, progress)


def _nearly_exact(volume: Volume, plan: _Plan, model: CodecModel, helpers: Helpers) -> bool:
    """Whether the wish asks for so much that a file without loss may be smaller, or small enough."""
    if plan.mode.kind == "psnr":
        return plan.mode.value > unit_decibels(volume.array)
    wanted = 8 * volume.array.itemsize / plan.mode.value
    if wanted <= _DEAR or volume.array.size < _SMALL:
        return wanted > _DEAR
    piece = piece_of(volume)
    chunk = _encode(piece, micrometres(volume), _Plan(Mode()), model, helpers)
    return 8 * (len(chunk.extra) + sum(map(len, chunk.parts))) < _ROUGHLY * wanted * piece.size


def _best(volume: Volume, mode: Mode, exact: bytes) -> bool:
    """Whether no file with a loss can be better than one without: it is small enough, or no error could be much
    smaller than a step of its grid."""
    if mode.kind == "ratio":
        return kept(mode, volume.array, len(exact), volume.array)
    header = open_container(exact, "The file").header
    kinds = {PACKED} if header["coder"] == PACKED else {chunk["how"]["kind"] for chunk in header["chunks"]}
    sure = volume.array.size >= _SMALL and kinds <= {"even", "grid"}
    return sure and mode.value > unit_decibels(volume.array) + _FINER


def _checked(volume: Volume, mode: Mode, data: bytes, progress: Progress | None) -> tuple[bytes, Volume]:
    """A file and what it decodes to; what is announced was seen. Raises BadInput when a promise would be broken."""
    called = volume.name or "The compressed volume"
    decoded = decompress(data, called, progress=progress)
    if not kept(mode, volume.array, len(data), decoded.array):
        raise BadInput(f"{called} did not come back as promised, so no file was written.")
    return data, decoded


def _by_waves(volume: Volume, plan: _Plan, model: CodecModel, progress: Progress | None) -> bytes | None:
    """The file by wavelets with the coarsest step that keeps a PSNR, or the finest that gives a ratio; or None."""
    if volume.array[0].size < _WAVE_VOXELS or (plan.mode.value > _MOST_DECIBELS and plan.mode.kind == "psnr"):
        return None
    plan = replace(plan, waves=load_subband_model(), restoration=load_restoration_model().restoration)
    slabs = _slabs(volume, _WAVE_THINNEST, _WAVE_LEAST)
    try:
        chosen = beside(partial(_chosen, volume, plan, model, slabs), _CHOOSING, progress)
        found = _searched(volume, chosen[0], model, slabs, chosen[1], progress, chosen[2])
    except BadInput:
        return None
    return None if found is None else found[1]


def _chosen(
    volume: Volume, plan: _Plan, model: CodecModel, slabs: list[tuple[int, int, int]], helpers: Helpers
) -> tuple[_Plan, WaveEstimate, int]:
    """The plan that suits a volume, what its steps should give, and which one to try first."""
    spacing, goal = micrometres(volume), _goal(volume, plan)
    wholes = (lossy_whole(volume.array[c, :, :, a:b], plan.start, plan.unit).whole for c, a, b in slabs)
    estimate = WaveEstimate(wholes, volume.array.size, spacing, (span_of(volume.array) or 1.0) / plan.unit)
    first = first_step(estimate, goal)
    plan = _suited(volume, plan, model, first, helpers)
    if not goal.floor:
        first = step_by_piece(
            volume, (plan.start, plan.unit), goal, estimate, first,
            lambda voxels, step: _encode(voxels, spacing, replace(plan, step=step), model, helpers),
        )  # fmt: skip
    return plan, estimate, first


def _goal(volume: Volume, plan: _Plan) -> Goal:
    return Goal.of(plan.mode.kind, plan.mode.value, volume.array.nbytes)


def _suited(volume: Volume, plan: _Plan, model: CodecModel, step: int, helpers: Helpers) -> _Plan:
    """The plan with the model of wavelets, and with coarser axes that join early or late, that a piece of the volume
    costs least with."""
    voxels, spacing = piece_of(volume), micrometres(volume)

    @cache
    def cost(tried: _Plan) -> float:
        try:
            chunk = _encode(voxels, spacing, replace(tried, step=step), model, helpers)
        except BadInput:  # the step is too small
            return math.inf
        missed = difference(voxels, chunk.decoded) * (2**FRACTION_BITS / (plan.unit * step))
        return float((missed**2).sum()) + TRADE * 8 * sum(map(len, chunk.parts))

    best = min(plan, replace(plan, waves=load_subband_model(None, EARLIER_SUBBAND)), key=cost)
    shape = voxels.shape[0], voxels.shape[1], voxels.shape[2]
    differs = choose_axes(shape, spacing) != choose_axes(shape, spacing, LATE)
    return min(best, replace(best, joins=LATE), key=cost) if differs else best


def _searched(
    volume: Volume, plan: _Plan, model: CodecModel, slabs: list[tuple[int, int, int]], estimate: Estimate,
    progress: Progress | None, first: int | None = None,
) -> tuple[int, bytes] | None:  # fmt: skip
    """The coarsest step that keeps a PSNR, or the finest that gives a ratio, with its file; `first` is tried first."""
    files: dict[int, bytes] = {}
    choosing = None if progress is None else lambda _, done, total: progress(_CHOOSING, done, total)

    def measure(step: int) -> float:
        chunks = _encode_chunks(volume, replace(plan, step=step), model, slabs, choosing)
        files[step] = _file(volume, plan, model, slabs, chunks)
        if plan.mode.kind == "ratio":
            return math.log2(len(files[step]))
        return decibels(volume.array, joined(volume.channels, slabs, chunks))

    step = find_step(measure, estimate, _goal(volume, plan), first)
    return None if step is None else (step, files[step])


def _worth_trying(volume: Volume, data: bytes) -> bool:
    """Whether lattices could make a smaller file than wavelets: where little is lost, or there are few values."""
    few = len(np.unique(volume.array.reshape(-1)[:: max(volume.array.size // 50_000, 1)])) < _FEW_VALUES
    return few or volume.array.size < _SMALL or 8 * len(data) > _DEAR * volume.array.size


def _by_lattices(volume: Volume, plan: _Plan, model: CodecModel, progress: Progress | None) -> bytes:
    """The file by lattices that has the promised quality or size; in a large volume some slices tell the first step."""
    i, j, k = volume.shape
    span = max(span_of(volume.array) / plan.unit, 1.0)
    estimate, first = LatticeEstimate(volume.array.nbytes, span), None
    if volume.array.size > _SAMPLE_VOXELS:
        thick = max(min(k, _SAMPLE_VOXELS // (i * j)), 1)
        part = volume.slab(2, (k - thick) // 2, (k - thick) // 2 + thick)
        part = Volume(part.array[:1], part.affine, {})
        found = _searched(part, plan, model, _slabs(part), replace(estimate, nbytes=part.array.nbytes), progress)
        first = None if found is None else found[0]
    found = _searched(volume, plan, model, _slabs(volume), estimate, progress, first)
    if found is None:
        raise unreachable(plan.mode)
    return found[1]


def _encode_volume(volume: Volume, plan: _Plan, model: CodecModel, progress: Progress | None) -> bytes:
    """The file of a volume, chunk by chunk, or packed as a whole where that is smaller."""
    slabs = _slabs(volume)
    plan = _tuned(volume, plan, slabs, progress)
    chunks = _encode_chunks(volume, plan, model, slabs, progress)
    data = _file(volume, plan, model, slabs, chunks)
    alone = data if not plan.with_model else _file(volume, replace(plan, with_model=False), model, slabs, chunks)
    if sum(chunk.deflated for chunk in chunks) > _PACKABLE * len(alone) + _TINY:
        return data
    payload, planes = pack(joined(volume.channels, slabs, chunks))
    packed = assemble_packed(volume, plan.mode.to_json(), model, payload, planes)
    return packed if packed and len(packed) < len(alone) else data


def _encode_chunks(
    volume: Volume, plan: _Plan, model: CodecModel, slabs: list[tuple[int, int, int]], progress: Progress | None
) -> list[Chunk]:
    """All chunks, in parallel; what has not begun when `progress` raises never does."""
    spacing, count = micrometres(volume), encoders(volume.array, slabs, plan.waves is not None)
    with helpers_for(count) as helpers, ThreadPoolExecutor(count) as pool:
        work = [pool.submit(_encode, volume.array[c, :, :, a:b], spacing, plan, model, helpers) for c, a, b in slabs]
        return in_turn(pool, work, "Compressing", progress, helpers.stop)


def _file(
    volume: Volume, plan: _Plan, model: CodecModel, slabs: list[tuple[int, int, int]], chunks: list[Chunk]
) -> bytes:
    carried = Carried(model, plan.with_model, plan.tuning, plan.waves)
    return assemble(volume, plan.mode.to_json(), carried, slabs, chunks)


def _tuned(volume: Volume, plan: _Plan, slabs: list[tuple[int, int, int]], progress: Progress | None) -> _Plan:
    """The plan with the model of wave fronts, tuned to some chunks where that pays."""
    if plan.eased:
        return plan
    model = load_front_model().front
    some = beside(partial(_examples, volume, plan, slabs), _TUNING, progress)
    told = (lambda done, total: None) if progress is None else partial(progress, _TUNING)
    tuned = tune(model, some, volume.array.size, told) if some else None
    return replace(plan, front=model) if tuned is None else replace(plan, front=tuned.front, tuning=tuned.data)


def _examples(
    volume: Volume, plan: _Plan, slabs: list[tuple[int, int, int]], helpers: Helpers
) -> list[tuple[Array, Grid]]:
    """Chunks from the middle and near both ends that are coded as wave fronts, to tune the model to."""
    some = []
    for place in sorted({len(slabs) // 2, len(slabs) // 5, len(slabs) - 1 - len(slabs) // 5}):
        helpers.look()
        channel, start, stop = slabs[place]
        mapped, step = _mapped(np.ascontiguousarray(volume.array[channel, :, :, start:stop]), plan)
        grid = Grid.of(mapped.whole, micrometres(volume), step, plan.eased)
        if _takes_front(grid, plan):
            some.append((mapped.whole.astype(np.float32), grid))
    return some


def _takes_front(grid: Grid, plan: _Plan) -> bool:
    """Whether a chunk is coded as a wave front, not as lattices."""
    large = int(np.prod(grid.shape)) >= _FRONT_VOXELS and grid.largest > 0
    return not plan.eased and large and grid.step <= _FRONT_STEP and Front.of(grid.shape, grid.spacing).parallel


def _encode(
    voxels: Array, spacing: tuple[int, int, int], plan: _Plan, model: CodecModel, helpers: Helpers = ALONE
) -> Chunk:
    """One chunk, by the model or, where that is shorter, deflated."""
    voxels = np.ascontiguousarray(voxels)
    if plan.waves is not None:
        whole = lossy_whole(voxels, plan.start, plan.unit)
        waves, restoration = plan.waves.subband, plan.restoration
        return wave_chunk(voxels, whole, spacing, plan.step, waves, model, restoration, plan.joins, helpers)
    mapped, step = _mapped(voxels, plan)
    grid = Grid.of(mapped.whole, spacing, step, plan.eased)
    front = plan.front if _takes_front(grid, plan) else None
    parts, decoded = encode_chunk(mapped.whole, grid, model.context, front is not None, helpers)
    if not grid.largest:
        parts = []  # a constant, which its entry tells
    if front is not None:
        last, decoded = encode_front(mapped.whole, grid, front, helpers)
        parts.append(last)
    entry = {"how": mapped.how, "low": grid.low, "high": grid.high, "largest": grid.largest, "step": step}
    entry |= ({"eased": True} if plan.eased else {}) | ({"order": FRONT} if front is not None else {})
    if step > 1 or plan.eased:
        voxels = from_whole(decoded, mapped.how, mapped.extra, voxels.dtype)
    deflated = zlib.compress(voxels.astype(voxels.dtype.newbyteorder("<")).tobytes(), 6)
    if len(deflated) < len(mapped.extra) + sum(map(len, parts)):
        return Chunk(
            {"how": {"kind": "deflated"}, "low": 0, "high": 0, "largest": 0, "step": 1}, b"", [deflated], voxels,
            len(deflated),
        )  # fmt: skip
    return Chunk(entry, mapped.extra, parts, voxels, len(deflated))


def _mapped(voxels: Array, plan: _Plan) -> tuple[Mapped, int]:
    """Whole numbers and the quantisation step that keep the promise."""
    mode = plan.mode
    if plan.eased:
        return lossy_whole(voxels, plan.start, plan.unit), plan.step
    return (to_whole(voxels), 1) if mode.kind == "lossless" else bounded(voxels, mode.value)


def _slabs(volume: Volume, thinnest: int = 0, least: int = 1) -> list[tuple[int, int, int]]:
    """Channel and slices from .. to of each chunk: of wavelets where its least slices are told, else halved alike.

    Raises OutOfMemory where such a file could not be decoded, as it is before it is announced."""
    if thinnest:
        cuts = cut(volume.shape, _CHUNK_VOXELS, thinnest, least)
    else:
        cuts = cut_alike(volume.shape, micrometres(volume), _CHUNK_VOXELS, _FRONT_VOXELS)
    slabs = [(channel, start, stop) for channel in range(volume.channels) for start, stop in cuts]
    check_memory(volume.name or "The volume", volume.array.shape, volume.array.dtype, thickest(slabs))
    return slabs


__all__ = ["Mode", "compress", "compress_and_decode", "decode_chunk", "decompress", "largest_error", "ratio_and_rate"]
