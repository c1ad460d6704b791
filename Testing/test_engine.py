"""The engine: any tiling gives the whole volume's voxels, in bounded memory, with progress and cancel."""

import math
import tracemalloc

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import small_model

from MedAELib.bundle import bundled_models
from MedAELib.engine import run as engine_module
from MedAELib.engine.device import choose_device, choose_precision, devices
from MedAELib.engine.run import Engine, bytes_per_voxel
from MedAELib.engine.tiles import cores, halve, plan, surround, work
from MedAELib.errors import BadInput, BadModel, Cancelled, DriverFault, OutOfMemory
from MedAELib.model import Model

SHAPES = [(1, 1, 1), (2, 1, 3), (5, 7, 1), (33, 20, 9), (41, 26, 28)]


def whole(network: torch.nn.Module, source: np.ndarray, low: float, high: float) -> np.ndarray:
    """The reference: one forward pass of the padded volume (2D: of each slice), without the engine."""
    step = network.stride
    x = (source.astype(np.float32) - low) / (high - low)
    padding = [(0, -n % step) for n in x.shape[: network.dims]] + [(0, 0)] * (3 - network.dims)
    x = torch.from_numpy(np.pad(x, padding, mode="edge"))
    with torch.inference_mode():
        y = (
            network(x[None, None])[0, 0]
            if network.dims == 3
            else network(x.permute(2, 0, 1)[:, None])[:, 0].permute(1, 2, 0)
        )
    i, j, k = source.shape
    return y.numpy()[:i, :j, :k] * (high - low) + low


def tiled(network: torch.nn.Module, source: np.ndarray, limits=(0.0, 1000.0), **options) -> np.ndarray:
    out = np.full(source.shape, np.nan, np.float32)

    def write(core, before, after):
        assert np.array_equal(before, source[core].astype(np.float32))
        assert np.isnan(out[core]).all()  # no voxel is answered for twice
        out[core] = after

    engine = Engine(**{"device": "cpu", "precision": "float32", **options})
    engine.run(network, source, limits, write)
    return out


def scan(shape, seed=0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 300, shape).astype("int16")


@pytest.mark.parametrize("network, dims", [("denoising", 3), ("denoising", 2), ("plain", 3), ("plain", 2)])
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("tile", [0, 1, 7, 16])
def test_any_tile_gives_the_whole_volumes_voxels(network, dims, shape, tile):
    if tile == 1 and np.prod(shape) > 2000:
        shape = (9, 8, 5)
    model = small_model(network, dims)
    source = scan(shape)
    expected = whole(model.network, source, 0, 1000)
    assert np.abs(tiled(model.network, source, tile=tile) - expected).max() <= 1e-4 * 1000


def test_a_tile_much_smaller_than_the_halo_is_enlarged_in_a_large_volume_and_that_is_told(monkeypatch):
    network, source = small_model(blocks=0, channels=4).network, scan((40, 10, 9))
    assert network.halo == 16
    engine, small = Engine(device="cpu", precision="float32", tile=3), np.empty(source.shape, np.float32)
    engine.run(network, source, (0, 1000), lambda core, before, after: small.__setitem__(core, after))
    assert engine.used["tile"] == [4, 4, 4] and not engine.used["enlarged"] and engine.remarks() == []
    monkeypatch.setattr("MedAELib.engine.run._MUCH_WORK", source.size)
    large = np.empty(source.shape, np.float32)
    engine.run(network, source, (0, 1000), lambda core, before, after: large.__setitem__(core, after))
    assert engine.used["tile"] == [16, 10, 9] and engine.used["tiles"] == 3
    assert engine.remarks()[0].startswith("Tiles of 3 voxels would repeat nearly all work many times, so they are ")
    assert np.abs(large - small).max() <= 1e-4 * 1000


def test_the_work_of_tiles_is_counted_with_their_halos():
    shape, edges, halo = (20, 13, 7), (6, 13, 4), (3, 5, 0)
    tiles = [surround(core, shape, halo, (1, 1, 1)) for core in cores(shape, edges)]
    counted = sum(math.prod(box.stop - box.start for box in tile.source) for tile in tiles)
    assert work(shape, edges, halo) == counted
    assert work(shape, shape, halo) == math.prod(shape)


@settings(max_examples=25)
@given(shape=st.tuples(*[st.integers(1, 30)] * 3), tile=st.integers(1, 31), blocks=st.integers(0, 2))
def test_any_size_and_tile_agree(shape, tile, blocks):
    if np.prod(shape) / tile**3 > 200:
        tile = 12
    model = small_model(blocks=blocks, channels=4)
    source = scan(shape)
    expected = whole(model.network, source, 0, 1000)
    assert np.abs(tiled(model.network, source, tile=tile) - expected).max() <= 1e-4 * 1000


@pytest.mark.parametrize("bundle", bundled_models(), ids=lambda bundle: bundle.name)
def test_every_bundled_model_is_exact_under_tiling(bundle):
    """Longer than the widest halo along each axis in turn, so that every tile leaves something out."""
    model = Model.load(bundle.folder)
    for shape, tile in (((231, 9, 8), 24), ((8, 231, 9), 37), ((9, 8, 231), 37)):
        source = scan(shape)
        expected = whole(model.network, source, 0, 1000)
        assert np.abs(expected - source).max() > 1  # it does something
        assert np.abs(tiled(model.network, source, tile=tile) - expected).max() <= 1e-4 * 1000


@settings(max_examples=100)
@given(
    shape=st.tuples(*[st.integers(1, 70)] * 3),
    halo=st.tuples(*[st.integers(0, 12)] * 3),
    stride=st.sampled_from([(1, 1, 1), (2, 2, 2), (4, 4, 1), (8, 8, 8)]),
    largest=st.integers(1, 400_000),
)
def test_a_plan_covers_the_volume_once_within_the_largest_tile(shape, halo, stride, largest):
    edges = plan(shape, halo, stride, largest)
    assert all(edge % step == 0 for edge, step in zip(edges, stride, strict=True))
    smallest = np.prod(
        [min(step + 2 * (-(-h // step) * step), n) for step, h, n in zip(stride, halo, shape, strict=True)]
    )
    if np.prod([-(-n // e) for n, e in zip(shape, edges, strict=True)]) > 2000:
        edges = tuple(max(e, 16) for e in edges)
        largest = np.inf
    count = np.zeros(shape, np.uint8)
    for core in cores(shape, edges):
        count[core] += 1
        tile = surround(core, shape, halo, stride)
        size = np.prod([s.stop - s.start for s in tile.source])
        assert size <= max(largest, smallest)
        assert np.zeros(shape)[tile.source][tile.inner].shape == np.zeros(shape)[core].shape
        assert all(s.start % step == 0 for s, step in zip(tile.source, stride, strict=True))
    assert (count == 1).all()


def test_a_plan_prefers_few_cuts_of_the_longest_axis():
    assert plan((512, 512, 300), (16,) * 3, (2,) * 3, 512 * 512 * 300) == (512, 512, 300)
    assert plan((100, 100, 1000), (16,) * 3, (2,) * 3, 100 * 100 * 540) == (100, 100, 500)


def test_halves_cover_the_core_and_stay_on_the_stride():
    core = (slice(0, 10), slice(4, 30), slice(2, 9))
    first, second = halve(core, (2, 2, 2))
    assert first[1].stop == second[1].start and first[1].stop % 2 == 0
    assert (first[1].start, second[1].stop) == (4, 30)
    assert halve((slice(0, 2),) * 3, (2, 2, 2)) == [(slice(0, 2),) * 3]


def test_the_result_is_the_same_when_memory_runs_short():
    model, source = small_model(blocks=0), scan((64, 40, 30))
    expected = tiled(model.network, source)
    forward, sizes = model.network.forward, []

    def starved(x):
        sizes.append(x.numel())
        if x.numel() > 60_000:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return forward(x)

    model.network.forward = starved
    out = np.zeros(source.shape, np.float32)
    engine = Engine("cpu", "float32")
    engine.run(model.network, source, (0, 1000), lambda core, before, after: out.__setitem__(core, after))
    assert np.abs(out - expected).max() <= 0.1
    assert engine.used["halvings"] >= 1
    assert sum(size > 60_000 for size in sizes) == engine.used["halvings"]  # a size that failed is not tried again


def test_memory_that_is_never_enough_is_told_in_one_sentence():
    model = small_model()
    forward = model.network.forward

    def starved(x):
        if x.numel() > 8**3:
            raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return forward(x)

    model.network.forward = starved
    with pytest.raises(OutOfMemory):
        tiled(model.network, scan((40, 40, 40)))


def test_the_tile_shrinks_with_the_free_memory(monkeypatch):
    model, source = small_model(blocks=0), scan((64, 60, 50))
    tiles = []
    for free in (1 << 40, 12 << 20, 1 << 20):
        monkeypatch.setattr(engine_module, "free_memory", lambda device, free=free: free)
        engine = Engine("cpu", "float32")
        engine.run(model.network, source, (0, 1000), lambda *_: None)
        tiles.append(engine.used["tiles"])
    assert tiles[0] == 1
    assert tiles[0] < tiles[1] <= tiles[2]
    # However little memory is said to be free, a core is not much narrower than its halo.
    assert tiles[2] <= math.prod(math.ceil(size / model.network.halo) for size in source.shape)


def test_the_tiles_of_a_huge_volume_take_the_memory_of_a_tile():
    """1024 x 1024 x 1000 voxels, of which the memory holds one; torch's own memory follows the same tile."""
    source = np.broadcast_to(np.int16(300), (1024, 1024, 1000))
    engine, tiles = Engine(device="cpu", precision="float32", tile=24), []

    def take(core, before, after):
        tiles.append(core)
        if len(tiles) == 3:
            raise Cancelled

    tracemalloc.start()
    try:
        with pytest.raises(Cancelled):
            engine.run(small_model().network, source, (0, 1000), take)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    whole_tiles = math.ceil(1024 / 24) ** 2 * math.ceil(1000 / 24)  # what is waiting takes a few hundred bytes each
    assert peak < 8 * 4 * (24 + 2 * small_model().network.halo + 8) ** 3 + 600 * whole_tiles


def test_progress_rises_to_the_whole_also_within_one_tile():
    model, source, seen = small_model(), scan((20, 20, 20)), []
    engine = Engine("cpu", "float32")
    engine.run(model.network, source, (0, 1000), lambda *_: None, lambda done, total: seen.append((done, total)))
    assert engine.used["tiles"] == 1
    assert len(seen) > 3
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert seen[-1] == (8000, 8000)
    assert {total for _, total in seen} == {8000}


@pytest.mark.parametrize("after", [1, 3])
def test_cancel_stops_between_two_layers_and_leaves_the_network_usable(after):
    model, source, calls = small_model(), scan((20, 20, 20)), []

    def stop(done, total):
        calls.append(done)
        if len(calls) == after:
            raise Cancelled

    with pytest.raises(Cancelled):
        Engine("cpu", "float32").run(
            model.network, source, (0, 1000), lambda *_: pytest.fail("a core was handed over"), stop
        )
    assert len(calls) == after
    assert not any(module._forward_hooks for module in model.network.modules())
    assert np.isfinite(tiled(model.network, source)).all()


def test_voxels_that_are_not_finite_do_not_spread():
    model = small_model()
    source = scan((16, 16, 16)).astype(np.float32)
    spoilt = source.copy()
    spoilt[3, 4, 5], spoilt[8, 8, 8] = np.nan, np.inf
    out = np.zeros(source.shape, np.float32)
    Engine("cpu", "float32").run(
        model.network, spoilt, (0, 1000), lambda core, before, after: out.__setitem__(core, after)
    )
    assert np.isfinite(out).all()


def test_the_source_is_not_written_into_and_may_be_read_only():
    source = scan((12, 12, 12)).astype(np.float32)
    before = source.copy()
    source.flags.writeable = False
    tiled(small_model().network, source, tile=5)
    assert np.array_equal(source, before)


def test_two_runs_give_the_same_bits():
    model, source = small_model(), scan((30, 30, 30))
    assert np.array_equal(tiled(model.network, source, tile=16), tiled(model.network, source, tile=16))


def test_bfloat16_stays_close_to_float32():
    model, source = small_model(), scan((32, 32, 32))
    assert np.abs(tiled(model.network, source, precision="bfloat16") - tiled(model.network, source)).max() < 20


def test_a_network_that_does_not_fit_the_task_is_refused():
    model = small_model("plain", in_channels=2, out_channels=2)
    with pytest.raises(BadModel):
        tiled(model.network, scan((8, 8, 8)))


def test_memory_per_voxel_follows_the_networks_width():
    narrow, wide = (bytes_per_voxel(small_model(channels=c).network) for c in (16, 64))
    assert 2 < wide / narrow < 5


def test_the_cpu_is_always_there_and_auto_chooses_a_device_that_is():
    names = [device.name for device in devices()]
    assert names[-1] == "cpu"
    assert str(choose_device("auto")) in names
    assert choose_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["", "gpu", "cuda:x", "cuda:-1", "tpu:0", "CPU "])
def test_a_device_that_is_none_is_refused(name):
    with pytest.raises(BadInput):
        choose_device(name)


def test_a_device_that_is_not_there_is_refused_with_those_that_are():
    with pytest.raises(DriverFault) as error:
        choose_device("cuda:99")
    assert "cpu" in error.value.next_step


@pytest.mark.parametrize("name", ["int8", "float16", "double"])
def test_a_precision_that_the_cpu_has_not_is_refused(name):
    with pytest.raises(BadInput):
        choose_precision(name, torch.device("cpu"))


def test_a_negative_tile_is_refused():
    with pytest.raises(BadInput):
        Engine(tile=-1)


@pytest.mark.gpu
def test_the_gpu_gives_what_the_cpu_gives():
    model, source = small_model(), scan((40, 40, 40))
    expected = tiled(model.network, source)
    assert np.abs(tiled(model.network, source, device="cuda") - expected).max() < 0.5
