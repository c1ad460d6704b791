"""Work in pieces and threads gives what it gives at once, bit for bit, whatever the type and wherever voxels lie."""

import tracemalloc
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from models import small_model

from MedAELib import Volume, denoise
from MedAELib.bundle import Window
from MedAELib.engine import pieces
from MedAELib.engine.pieces import in_pieces
from MedAELib.engine.run import Engine
from MedAELib.networks import Network
from MedAELib.noise import noise_unit, units_of
from MedAELib.quality import varying_frames
from MedAELib.tasks.denoise import removed_noise
from MedAELib.tasks.run import run_task
from MedAELib.tasks.seen import Seen
from MedAELib.threads import side_by_side
from MedAELib.worker import arrays, crc

TYPES = ["bool", "int8", "uint8", "int16", ">i2", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32"]
TYPES += ["float64"]
LIMITS = (-100.0, 900.0)
SHAPES = st.tuples(st.integers(1, 3), *[st.integers(1, 9)] * 3)
QUIET = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
pytestmark = pytest.mark.filterwarnings("ignore:(invalid value|overflow) encountered:RuntimeWarning")


@pytest.fixture(params=[1, 3], ids="{} threads".format)
def threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


@pytest.fixture(params=[1, 30, 1 << 18], ids="pieces of {}".format)
def piece(request, monkeypatch):
    monkeypatch.setattr(pieces, "_PIECE", request.param)


def laid(array: np.ndarray, order: str) -> np.ndarray:
    """The same voxels `[c, i, j, k]` somewhere else in memory."""
    if order == "k fastest":
        return np.ascontiguousarray(array)
    if order == "i fastest":
        return np.asfortranarray(array)
    if order == "frames":
        return np.ascontiguousarray(array.transpose(0, 3, 2, 1)).transpose(0, 3, 2, 1)
    if order == "reversed":
        return array[:, ::-1, :, ::-1].copy()[:, ::-1, :, ::-1]
    wide = np.zeros([2 * size for size in array.shape], array.dtype)
    wide[::2, 1::2, ::2, 1::2] = array
    return wide[::2, 1::2, ::2, 1::2]


ORDERS = st.sampled_from(["k fastest", "i fastest", "frames", "reversed", "strided"])
VOXELS = st.sampled_from(TYPES).flatmap(lambda kind: hnp.arrays(np.dtype(kind), SHAPES))
PAIRS = VOXELS.flatmap(lambda array: st.tuples(st.just(array), hnp.arrays(array.dtype, array.shape)))


class Seeing(Network):
    """Remembers what it sees, and makes something of it; a slice or a volume at a time."""

    halo, stride = 4, 4

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.dims, self.seen, self.made = dims, None, None
        self.weight = torch.nn.Parameter(torch.ones((1,) * (dims + 2)))

    def forward(self, x):
        self.seen, self.made = x.clone(), x * 0.93 + 0.01
        return self.made.clone()


# ---- the plain definitions ----


def plainly_seen(source: np.ndarray, dims: int) -> torch.Tensor:
    """What a network sees of `[i, j, k]`."""
    block = np.array(source, dtype=np.float32, order="C")
    if source.dtype.kind == "f":
        block[~np.isfinite(block)] = LIMITS[0]
    block = np.pad(block, [(0, -n % step) for n, step in zip(block.shape, (4, 4, 4 if dims == 3 else 1))], mode="edge")
    tensor = torch.from_numpy(block).sub_(LIMITS[0]).div_(LIMITS[1] - LIMITS[0])
    return tensor[None, None] if dims == 3 else tensor.permute(2, 0, 1)[:, None]


def plainly_changed(source: np.ndarray, change: np.ndarray) -> np.ndarray:
    """The source plus a change, in the source's type."""
    if source.dtype.kind == "f":
        keep = np.isfinite(source)
        return np.where(keep, source + np.where(keep, change, 0), source).astype(source.dtype)
    if source.dtype.kind == "b":
        return source.astype(np.float32) + change > 0.5
    bounds = np.iinfo(source.dtype)
    if source.dtype.itemsize <= 2:
        return np.clip(np.rint(change) + source, bounds.min, bounds.max).astype(source.dtype)
    rounded = np.rint(np.clip(change, -(2.0**62), 2.0**62)).astype(np.int64)
    if source.dtype.itemsize < 8:
        return np.clip(source + rounded, bounds.min, bounds.max).astype(source.dtype)
    pairs = zip(source.ravel().tolist(), rounded.ravel().tolist(), strict=True)
    exact = [min(max(voxel + more, bounds.min), bounds.max) for voxel, more in pairs]
    return np.array(exact, source.dtype).reshape(source.shape)


def plainly_constant(source: np.ndarray) -> np.ndarray:
    """Which voxels of `[i, j, k]` lie in a block of 3 x 3 x 3 of one value, thinner where the volume is."""
    stays, edges = np.zeros(source.shape, bool), [min(3, size) for size in source.shape]
    for start in np.ndindex(*(size - edge + 1 for size, edge in zip(source.shape, edges))):
        block = tuple(slice(first, first + edge) for first, edge in zip(start, edges))
        if (source[block] == source[start]).all():
            stays[block] = True
    return stays


def plainly_removed(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Input minus result."""
    result = np.empty(before.shape, np.float32)
    with np.errstate(invalid="ignore"):
        np.subtract(before, after, out=result, dtype=np.float64, casting="unsafe")
    if before.dtype.kind == "f":
        result[~np.isfinite(result)] = 0
    return result


def same(one: np.ndarray, other: np.ndarray) -> bool:
    """Whether two arrays have one type and the same bits."""
    return one.dtype == other.dtype and one.shape == other.shape and one.tobytes() == other.tobytes()


def cpu() -> Engine:
    return Engine("cpu", "float32")


# ---- and what is given ----


@QUIET
@given(array=VOXELS, order=ORDERS, dims=st.sampled_from([2, 3]))
def test_a_network_sees_the_same_bits_and_the_sink_gets_them(threads, piece, array, order, dims):
    source, network = laid(array, order)[0], Seeing(dims)

    def sink(core, before, after):
        assert np.shares_memory(before, source) and same(before, array[0])  # nothing is copied
        made = network.made.mul(LIMITS[1] - LIMITS[0]).add(LIMITS[0])
        made = made[0, 0] if dims == 3 else made[:, 0].permute(1, 2, 0)
        assert same(np.ascontiguousarray(after), made[tuple(slice(n) for n in array.shape[1:])].numpy())

    cpu().run(network, source, LIMITS, sink)
    assert same(network.seen.contiguous().numpy(), plainly_seen(array[0], dims).contiguous().numpy())


@QUIET
@given(array=VOXELS, order=ORDERS, room=ORDERS, strength=st.floats(0, 1))
def test_a_result_has_the_same_bits_in_every_type(threads, piece, array, order, room, strength):
    assume(1 not in array.shape[1:])  # a single slice goes through a volume denoiser in another way
    volume, model = Volume(laid(array, order), np.eye(4)), small_model(channels=4, blocks=0)
    made = {}

    def keep(channel, core, before, after):
        made[channel] = np.float32(strength) * (after - array[channel].astype(np.float32))

    result = denoise(
        volume, model, strength=strength, engine=cpu(), passes=1,
        allocate=lambda name, shape, dtype: laid(np.zeros(shape, dtype), room),
        seen=Seen(volume, volume, LIMITS, units_of(volume.array)),
    )  # fmt: skip
    for channel, source in enumerate(array):
        if channel not in varying_frames(array):
            assert same(result.array[channel], source)  # an empty frame beside others stays
            continue
        cpu().run(model.network, source, LIMITS, lambda *given, channel=channel: keep(channel, *given))
        change = np.where(plainly_constant(source), np.float32(0), made[channel])
        assert same(result.array[channel], plainly_changed(source, change))


@QUIET
@given(pair=PAIRS, orders=st.tuples(ORDERS, ORDERS, ORDERS))
def test_what_was_removed_has_the_same_bits_in_every_type(threads, piece, pair, orders):
    before, after = (Volume(laid(array, order), np.eye(4)) for array, order in zip(pair, orders))
    removed = removed_noise(before, after, lambda name, shape, dtype: laid(np.zeros(shape, dtype), orders[2]))
    assert same(removed.array, plainly_removed(*pair))


@settings(max_examples=40, deadline=None)
@given(hnp.arrays(np.float32, (1, 4, 5, 6)), hnp.arrays(np.int16, (1, 4, 5, 6)))
def test_two_types_are_subtracted_as_exactly(one, other):
    for before, after in ((one, other), (other, one), (one.astype(np.float64), one), (other, other.astype(np.int64))):
        removed = removed_noise(Volume(before, np.eye(4)), Volume(after, np.eye(4)))
        assert same(removed.array, plainly_removed(before, after))


@settings(max_examples=60)
@given(shape=st.tuples(*[st.integers(1, 40)] * 3), size=st.integers(1, 5000))
def test_pieces_cover_a_volume_once_and_are_as_small_as_asked_for(shape, size):
    count, sizes = np.zeros(shape, int), []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pieces, "_PIECE", size)
        in_pieces(shape, lambda box: (np.add(count[box], 1, out=count[box]), sizes.append(count[box].size)))
    assert (count == 1).all()
    assert max(sizes) <= max(size, min(shape[0], shape[2]))


def test_what_goes_wrong_in_a_piece_is_raised(threads):
    def fail(box):
        raise MemoryError("no room")

    with pytest.raises(MemoryError, match="no room"):
        in_pieces((5, 600, 900), fail)
    assert side_by_side(str, [3, 1, 2]) == ["3", "1", "2"]


@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_the_memory_for_it_does_not_grow_with_the_volume(threads, kind):
    voxels = np.asfortranarray(np.zeros((256, 256, 200), kind))[None]  # 13 million
    volume, room = Volume(voxels, np.eye(4)), np.empty((1, 256, 256, 200), np.float32)
    tracemalloc.start()
    try:
        removed_noise(volume, volume, lambda *_: room)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < threads * 8 * (1 << 18) + (1 << 20)


@pytest.mark.parametrize("correlated", [False, True])
@pytest.mark.parametrize("kind", ["int16", "float32"])
def test_the_noise_has_the_same_bits_on_any_number_of_threads(kind, correlated):
    array = np.random.default_rng(0).normal(100, 30, (70, 61, 52)).astype(kind)
    if kind == "float32":
        array[5:9, 5:9, 5:9], array[30, 30, 30] = np.nan, np.inf
    before, found = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            found.append(noise_unit(array, correlated))
    finally:
        torch.set_num_threads(before)
    assert found[0] == found[1] == found[2] > 0


@pytest.mark.parametrize("frames", [1, 3])
def test_the_noise_of_a_frame_is_estimated_once_in_a_run(tmp_path, monkeypatch, frames):
    model = small_model(modality="MR")
    model = replace(model, spec=replace(model.spec, window=Window("white noise", 0.0, 20.0)))
    told = {"figures": {}, "limits": [], "training_data": []}
    model.save(tmp_path / "small", name="small", description="Small.", card="# small\n", licence="none\n", **told)
    array = np.random.default_rng(0).normal(300, 30, (frames, 16, 14, 12)).astype(np.int16)
    volume, asked = Volume(array, np.eye(4), {"name": "scan", "modality": "MR"}), []
    monkeypatch.setattr("MedAELib.noise.noise_unit", lambda *given: asked.append(given) or noise_unit(*given))
    parameters = {"model": str(tmp_path / "small"), "device": "cpu", "precision": "float32"}
    report = run_task("denoise", {"input": volume}, parameters, progress=lambda *_: None).report
    assert len(asked) == frames
    assert report["noise_before"] == float(f"{noise_unit(array[frames // 2], False):.4g}")


@settings(max_examples=80)
@given(data=st.binary(max_size=300), part=st.integers(1, 120))
def test_a_checksum_is_put_together_from_those_of_its_parts(data, part):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(crc, "_PART", part)
        assert crc.crc32(memoryview(data)) == zlib.crc32(data)


@pytest.mark.parametrize("size", [(2, 7, 5, 3), (1, 300, 200, 90)])
def test_a_checksum_is_that_of_the_file(tmp_path, threads, size):
    array = arrays.create_array(tmp_path / "a.npy", size, np.dtype(np.int16))
    array[...] = np.random.default_rng(0).integers(-99, 99, size)
    array.flush()
    content = (tmp_path / "a.npy").read_bytes()
    assert arrays.checksum(array) == zlib.crc32(content[-array.nbytes :])
