"""Where volumes are cut into chunks: whatever their size, the chunks have the same coarser lattices, and a preview."""

import numpy as np
import pytest
from codec_tools import code_by_waves_alone, scan

from MedAELib import Volume
from MedAELib.codec import slabs, volumes
from MedAELib.codec.container import open_container
from MedAELib.codec.front import Front
from MedAELib.codec.predictive import PREVIEW_HALVINGS, Grid
from MedAELib.codec.reader import chunk_entries, decompress
from MedAELib.codec.slabs import cut, cut_alike
from MedAELib.codec.volumes import Mode, compress
from MedAELib.codec.wavelet import JOINS, LATE, choose_axes, levels_of
from MedAELib.errors import BadInput

CHUNK, FRONTS = 4_000_000, 16_384  # voxels
PLANES = {
    "CT": ((512, 512), (700, 700, 1000)), "thick": ((512, 512), (700, 700, 5000)),
    "head": ((512, 512), (450, 450, 600)), "even": ((256, 256), (1000, 1000, 1000)),
    "between": ((512, 512), (900, 900, 2500)), "thin": ((400, 400), (2000, 2000, 500)),
    "sagittal": ((256, 256), (500, 500, 100)),
    "oblong": ((700, 90), (800, 3000, 800)), "huge": ((2048, 2048), (100, 100, 100)),
    "small": ((64, 64), (3000, 3000, 5000)),
}  # fmt: skip


def steps(shape: tuple[int, int, int], spacing: tuple[int, int, int]) -> list[tuple[int, ...]]:
    """How far apart the voxels of a slab's coarser lattices are, the finest first."""
    stages = Grid(shape, spacing, 0, 0, 0).stages()[: -PREVIEW_HALVINGS - 1 : -1]
    return [tuple(step * (2 if d == stage.axis else 1) for d, step in enumerate(stage.steps)) for stage in stages]


@pytest.mark.parametrize(("plane", "spacing"), PLANES.values(), ids=PLANES)
def test_all_slabs_of_a_volume_have_the_same_coarser_lattices(plane, spacing):
    known = {}
    for slices in [*range(1, 401), 977, 1950]:
        cuts = cut_alike((*plane, slices), spacing, CHUNK, FRONTS)
        assert [start for start, _ in cuts] == [0, *(stop for _, stop in cuts[:-1])] and cuts[-1][1] == slices
        slabs = {(*plane, stop - start) for start, stop in cuts}
        for shape in slabs - set(known) if len(cuts) > 1 else ():
            known[shape] = steps(shape, spacing)
            assert np.prod(shape) >= FRONTS and Front.of(shape, spacing).parallel
        if len(cuts) > 1:
            assert len({tuple(known[shape]) for shape in slabs}) == 1, slices
            assert len(known[next(iter(slabs))]) == PREVIEW_HALVINGS
            deepest = next(iter(slabs))
            assert all(start % known[deepest][-1][2] == 0 for start, _ in cuts), slices
        assert max(np.prod(shape) for shape in slabs) <= 40_000_000


def test_slabs_stay_about_as_large_as_before_and_others_are_not_moved():
    for slices in range(1, 401):
        shape = (512, 512, slices)
        plain, alike = cut(shape, CHUNK, 16), cut_alike(shape, (700, 700, 1000), CHUNK, FRONTS)
        assert alike == plain or alike == [*plain[:-2], (plain[-2][0], slices)]  # the last one joined the one before
        assert max(stop - start for start, stop in alike) <= max(stop - start for start, stop in plain) + 4


@pytest.mark.parametrize("least", [1, 12])
def test_a_slab_is_never_larger_than_what_a_decoder_is_asked_to_hold(least):
    for plane in (4096, 3000, 2450, 2048, 1500, 1024, 1000, 512):
        for slices in [*range(1, 120), 977]:
            cuts = cut((plane, plane, slices), CHUNK, 32, least)
            assert max(plane * plane * (stop - start) for start, stop in cuts) <= max(32_000_000, plane * plane)
            assert [start for start, _ in cuts] == [0, *(stop for _, stop in cuts[:-1])] and cuts[-1][1] == slices
    assert {stop - start for start, stop in cut((4096, 4096, 40), CHUNK, 32, 12)} == {1}
    assert cut((512, 512, 43), CHUNK, 32, 12) == [(0, 43)]  # as before


@pytest.mark.parametrize("most", [1, 3, 5, 7])
def test_a_volume_of_huge_planes_has_coarser_volumes(monkeypatch, most):
    code_by_waves_alone(monkeypatch)
    monkeypatch.setattr(slabs, "_LARGEST", most * 36 * 30)
    monkeypatch.setattr(volumes, "_CHUNK_VOXELS", 36 * 30)
    volume = Volume(scan((36, 30, 11)).array, np.eye(4), {"name": "ball"})
    data = compress(volume, Mode("psnr", 40))
    entries = chunk_entries(open_container(data, "it"))
    assert all(entry.waves and entry.stop - entry.start <= most for entry in entries)
    thin = decompress(data, coarser=2).array[0]
    i, j, k = (round(whole / part) for whole, part in zip(volume.shape, thin.shape, strict=True))
    assert i * j * k == 4 and np.abs(thin - volume.array[0, ::i, ::j, ::k].astype(float)).mean() < 60


@pytest.mark.parametrize("joins", [JOINS, LATE])
@pytest.mark.parametrize(("plane", "spacing"), PLANES.values(), ids=PLANES)
def test_slabs_of_wavelets_share_the_lattices_that_are_at_most_five_halvings_coarser(plane, spacing, joins):
    known = {}
    for slices in range(1, 401):
        cuts = cut((*plane, slices), CHUNK, 32, 12)
        for start, stop in cuts:
            shape = (*plane, stop - start)
            if shape not in known:
                known[shape] = [level.axes for level in levels_of(shape, choose_axes(shape, spacing, joins))]
        assert [start for start, _ in cuts] == [0, *(stop for _, stop in cuts[:-1])] and cuts[-1][1] == slices
        told = [known[(*plane, stop - start)] for start, stop in cuts]
        assert all(axes[:2] == told[0][:2] for axes in told), slices


@pytest.mark.parametrize("mode", [Mode(), Mode("max-error", 20)], ids=["front", "lattice"])
def test_a_volume_with_a_few_slices_more_has_a_preview_and_every_coarser_volume(monkeypatch, mode):
    monkeypatch.setattr(volumes, "_CHUNK_VOXELS", 12_000)
    volume = Volume(scan((36, 30, 50)).array, np.eye(4), {"name": "ball"})
    data = compress(volume, mode)
    container = open_container(data, "it")
    entries = chunk_entries(container)
    assert [entry.stop for entry in entries] == [16, 32, 50]
    assert {entry.front for entry in entries} == {mode.kind == "lossless"}
    thin = decompress(data, coarser=5)
    assert np.abs(thin.array[0, 0, 0].astype(int) - volume.array[0, 0, 0, ::4]).max() <= 20
    header = len(data) - len(container.payload)
    preview = decompress(data[: header + len(container.payload) // 3], "cut", None)
    assert 1 < preview.array.size <= volume.array.size // 8
    with pytest.raises(BadInput, match=r"^cut is cut short: too little of it is there for its preview"):
        decompress(data[: header + 10], "cut", None)


def test_a_chunk_that_is_only_deflated_leaves_the_others_their_preview(monkeypatch):
    """What repeats itself is smallest so; of such a chunk every n-th voxel is taken."""
    monkeypatch.setattr(volumes, "_CHUNK_VOXELS", 12_000)
    monkeypatch.setattr(volumes, "_FRONT_VOXELS", 10**9)
    voxels = scan((36, 30, 48)).array.copy()
    pattern = np.random.default_rng(0).integers(-3000, 3000, (5, 30, 16))
    voxels[0, ..., 16:32] = np.tile(pattern, (8, 1, 1))[:36]
    volume = Volume(voxels, np.eye(4), {"name": "ball"})
    data = compress(volume)
    container = open_container(data, "it")
    assert [entry.deflated for entry in chunk_entries(container)] == [False, True, False]
    thin = decompress(data, coarser=3)
    assert np.array_equal(thin.array, volume.array[:, ::2, ::2, ::2])
    preview = decompress(data[: len(data) - 10], "cut", None)
    assert 1 < preview.array.size < volume.array.size
