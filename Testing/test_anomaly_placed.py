"""Regions as the user measures them: volume, middle and smallest size are those of the labels on the scan's voxels."""

from __future__ import annotations

import csv

import numpy as np
import pytest
from generated_heads import rotation
from scipy.ndimage import center_of_mass

from MedAELib.__main__ import main
from MedAELib.anomaly.grid import Grid, grid_around, plane_grid
from MedAELib.anomaly.prepare import Prepared
from MedAELib.anomaly.regions import Placed, regions_on
from MedAELib.tasks.anomaly import anomaly
from MedAELib.volume import Volume

MIDDLES = np.array([[-14.0, 6.0, 9.0], [12.0, -8.0, -6.0]])  # RAS millimetres


def scan(spacing: tuple[float, float, float], turn: np.ndarray | None = None, edge: float = 60.0) -> Volume:
    """A cube around (0, 0, 0) with two balls in it; a side that is shorter than a voxel is one slice."""
    turn = np.eye(3) if turn is None else turn
    shape = np.maximum(1, np.round(edge / np.array(spacing))).astype(int)
    affine = np.eye(4)
    affine[:3, :3] = turn @ np.diag(spacing)
    affine[:3, 3] = -affine[:3, :3] @ ((shape - 1) / 2)
    return Volume(np.zeros((1, *shape), np.float32), affine, {"name": "scan"})


def ball(place: np.ndarray, affine: np.ndarray, shape: tuple[int, ...], radius: float) -> np.ndarray:
    index = np.stack(np.meshgrid(*[np.arange(n) for n in shape], indexing="ij"))
    where = np.tensordot(affine[:3, :3], index, axes=1) + affine[:3, 3][:, None, None, None]
    return np.sqrt(((where - place[:, None, None, None]) ** 2).sum(0)) < radius


def on_grid(grid: Grid, places: np.ndarray, radius: float) -> tuple[np.ndarray, Prepared]:
    """z of 5 and more in balls of the grid, 0 elsewhere, and the scan as it is known of it."""
    z = np.zeros(grid.shape, np.float32)
    for number, place in enumerate(places):
        z[ball(place, grid.affine, grid.shape, radius)] = 6 - number
    return z, Prepared(np.ones(grid.shape, np.float32), np.ones(grid.shape, bool), grid, 1.0, True)


def found_in(volume: Volume, least_ml: float = 0.0, places: np.ndarray = MIDDLES, radius: float = 6.0) -> Placed:
    z, prepared = on_grid(grid_around(volume, 2.0), places, radius)
    return regions_on(volume, z, 2.0, prepared, least_ml, None)


def check_agrees(volume: Volume, found: Placed) -> None:
    """Each row is what one would measure in the segmentation, and no label is without a row."""
    assert found.on_voxels.shape == volume.shape and found.on_voxels.dtype == np.uint8
    assert set(np.unique(found.on_voxels)) - {0} == {row.number for row in found.regions}
    voxel_ml = abs(np.linalg.det(volume.affine[:3, :3])) / 1000
    for row in found.regions:
        inside = found.on_voxels == row.number
        assert row.volume_ml == pytest.approx(inside.sum() * voxel_ml, abs=6e-4)
        middle = volume.affine[:3, :3] @ np.array(center_of_mass(inside)) + volume.affine[:3, 3]
        assert [row.right_mm, row.front_mm, row.head_mm] == pytest.approx(middle.tolist(), abs=0.06)


@pytest.mark.parametrize(
    ("spacing", "turn"),
    [((0.7, 0.7, 0.7), None), ((0.8, 0.8, 5.0), None), ((1.1, 1.7, 3.0), rotation(0.3, -0.4)), ((3.0, 3.0, 3.0), None)],
)
def test_volume_and_middle_are_those_of_the_labels_on_the_scans_voxels(spacing, turn):
    volume = scan(spacing, turn)
    found = found_in(volume)
    assert len(found.regions) == 2 and found.between == 0
    check_agrees(volume, found)
    for row, place in zip(found.regions, MIDDLES, strict=True):
        assert row.volume_ml == pytest.approx(4 / 3 * np.pi * 0.6**3, rel=0.4)
        assert np.linalg.norm(np.array([row.right_mm, row.front_mm, row.head_mm]) - place) < 2.5


def test_of_a_scan_of_one_slice_a_region_is_as_thick_as_the_slice():
    volume = scan((1.0, 1.0, 1.0), edge=60.0)
    slab = volume.array[:, :, :, 30:31]
    affine = volume.affine.copy()
    affine[:3, 3] += affine[:3, 2] * 30
    one = Volume(slab, affine, {"name": "slice"})
    found = found_in(one, places=np.array([[3.0, 4.0, 0.5]]))
    check_agrees(one, found)
    # The grid's cells are twice as thick.
    assert found.regions[0].volume_ml == pytest.approx(np.pi * 0.36 * 0.1, rel=0.2)


def test_of_images_it_is_the_pixels_too():
    volume = scan((0.7, 0.9, 4.0))
    flat = plane_grid(volume, 2.0)
    z, prepared = on_grid(flat, MIDDLES, 6.0)
    found = regions_on(volume, z, 2.0, prepared, 0.0, None)
    assert len(found.regions) == 2
    check_agrees(volume, found)


def test_a_region_between_the_voxels_of_a_coarse_scan_is_left_out_and_counted():
    volume = scan((1.0, 1.0, 10.0))  # slices at -25, -15, -5, 5 ... mm
    places = np.array([[10.0, 5.0, 10.0], [-12.0, 5.0, 5.0]])
    found = found_in(volume, places=places, radius=2.5)
    check_agrees(volume, found)
    assert len(found.regions) == 1 and found.between == 1 and found.regions[0].peak_z == 5
    assert found_in(volume, least_ml=1.0, places=places, radius=2.5).between == 0  # too small in any case


def test_the_smallest_region_is_so_small_on_the_scans_voxels():
    volume = scan((1.0, 1.0, 10.0))
    both = found_in(volume)
    least = np.mean([row.volume_ml for row in both.regions])
    kept = found_in(volume, least_ml=float(least))
    assert [row.volume_ml for row in kept.regions] == [max(row.volume_ml for row in both.regions)]
    assert kept.regions[0].number == 1 and set(np.unique(kept.on_voxels)) == {0, 1} == set(np.unique(kept.labels))


def test_nothing_above_the_threshold_is_no_region():
    found = found_in(scan((2.0, 2.0, 2.0)), places=np.zeros((0, 3)))
    assert found.regions == [] and not found.on_voxels.any() and not found.labels.any() and found.between == 0


def knee(spacing: tuple[float, float, float]) -> Volume:
    """A column of tissue with a bright ball in it, of which `anomaly` makes a region without a model."""
    volume = scan(spacing, rotation(0.2, 0.1), edge=90.0)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.shape], indexing="ij"))
    right, front, _ = np.tensordot(volume.affine[:3, :3], index, axes=1) + volume.affine[:3, 3][:, None, None, None]
    noise = np.random.default_rng(0).normal(0, 20, volume.shape)
    voxels = np.where(np.hypot(right, front) < 36, 500 + noise, 5)
    voxels[ball(np.array([10.0, 0.0, 4.0]), volume.affine, volume.shape, 8.0)] += 700
    return volume.like(voxels[None].astype(np.float32))


def test_table_and_segmentation_of_a_run_agree(tmp_path):
    volume = knee((1.5, 1.5, 4.0))
    volume.save(tmp_path / "scan.nii.gz")
    table, labels = tmp_path / "regions.csv", tmp_path / "labels.nrrd"
    options = ["--model", "none", "--regions", str(table), "--segmentation", str(labels)]
    assert main(["anomaly", str(tmp_path / "scan.nii.gz"), str(tmp_path / "map.nii.gz"), *options]) == 0
    rows, made = list(csv.DictReader(table.open())), Volume.load(labels)
    assert rows and {int(row["number"]) for row in rows} == set(np.unique(made.array)) - {0}
    voxel_ml = abs(np.linalg.det(made.affine[:3, :3])) / 1000
    for row in rows:
        count = (made.array[0] == int(row["number"])).sum()
        assert float(row["volume_ml"]) == pytest.approx(count * voxel_ml, abs=6e-4)


def test_a_run_says_that_a_region_lies_between_the_voxels(monkeypatch):
    volume = knee((3.0, 3.0, 3.0))
    usual = anomaly(volume, None)
    assert usual.regions and not any("between the voxels" in told for told in usual.report["warnings"])

    def between(*arguments: object) -> Placed:
        return Placed(np.zeros((1, 1, 1), np.int16), np.zeros(volume.shape, np.uint8), [], 2)

    monkeypatch.setattr("MedAELib.tasks.anomaly.regions_on", between)
    told = anomaly(volume, None).report
    assert told["regions"] == 0 and any("2 regions are left out: between the voxels" in one for one in told["warnings"])
