"""The table of regions says no more than the scan tells: sides, rarity; and the case score no more than its normals."""

from __future__ import annotations

import numpy as np
import pytest
from anomaly_tools import on_few_cells, tiny_normative
from generated_heads import CENTRE, head, with_ball

from MedAELib.anomaly.calibration import RATES
from MedAELib.anomaly.grid import Grid
from MedAELib.anomaly.prepare import Prepared
from MedAELib.anomaly.regions import find_regions
from MedAELib.tasks.anomaly import anomaly
from MedAELib.tasks.run import run_task
from MedAELib.terminal import table_text
from MedAELib.volume import Volume


@pytest.fixture(autouse=True)
def few_cells(monkeypatch) -> None:
    on_few_cells(monkeypatch)


def side(first: float, halves: str = "both", at: float = 0.3, wide: int = 40, **kind: object) -> str:
    """The side of a region in a round mask of so many cells of 4 mm, or in one half of it, whose grid begins at `first`
    RAS millimetres; the region lies so far along the mask."""
    i, j, k = np.mgrid[: 2 * wide, :40, :30]
    mask = ((i - wide) / (wide / 2)) ** 2 + ((j - 20) / 16) ** 2 + ((k - 15) / 13) ** 2 < 1
    mask &= {"both": i >= 0, "left": i < wide, "right": i >= wide}[halves]
    affine = np.diag([4.0, 4.0, 4.0, 1.0])
    affine[0, 3] = first
    z, columns = np.zeros(mask.shape, np.float32), np.flatnonzero(mask.any(axis=(1, 2)))
    z[round(columns[0] + at * (columns[-1] - columns[0])), 20, 15] = 9
    scan = Prepared(mask.astype(np.float32), mask, Grid(mask.shape, affine), 1.0, kind.pop("brain", False), **kind)
    (region,) = find_regions(z, 5.0, scan, 0, None)[1]
    return region.side


@pytest.mark.parametrize("kind", [{"brain": True}, {"hounsfield": True}])
def test_of_whole_brains_and_bodies_the_side_is_told_from_their_middle(kind):
    for first in (-160.0, -140.0):
        assert [side(first, at=at, **kind) for at in (0.2, 0.5, 0.8)] == ["left", "middle", "right"]
    assert side(2.0, at=0.2, wide=60, **kind) == "left"  # coordinates from the corner of the grid, as some files have


@pytest.mark.parametrize("kind", [{}, {"hounsfield": True}])
def test_a_knee_lies_on_the_side_on_which_all_of_it_does(kind):
    assert {side(60.0, at=at, wide=20, **kind) for at in (0.2, 0.5, 0.8)} == {"right"}
    assert {side(-220.0, at=at, wide=20, **kind) for at in (0.2, 0.5, 0.8)} == {"left"}
    assert side(0.0, wide=20, **kind) == ""


def test_nothing_is_told_of_half_a_brain_across_the_middle_of_a_limb_there_or_of_images():
    assert side(-200.0, "right", brain=True) == "" and side(-110.0, "left", brain=True) == ""
    assert side(-160.0, "right", brain=True) == "right" and side(-160.0, "left", brain=True) == "left"
    assert side(-80.0, wide=20) == "" and side(60.0, wide=20, dims=2) == ""


def test_without_a_model_a_region_has_no_rarity_and_a_knee_the_side_it_lies_on(tmp_path):
    i, j, k = np.mgrid[:30, :30, :30] * 3.0
    random = np.random.default_rng(0)
    voxels = np.where(np.hypot(i - 45, j - 45) < 36, 500 + 20 * random.normal(size=i.shape), 5)
    voxels[np.sqrt((i - 25) ** 2 + (j - 45) ** 2 + (k - 45) ** 2) < 8] += 700
    affine = np.diag([3.0, 3, 3, 1])
    affine[:3, 3] = 60, -50, -50
    volume = Volume(voxels[None].astype(np.float32), affine, {"name": "right knee"})
    parameters = {"model": "none", "device": "cpu"}
    found = run_task("anomaly", {"input": volume}, parameters, progress=lambda *_: None).report["found"]
    assert found and {(row["side"], row["rate"]) for row in found} == {("right", None)}
    assert f"{found[0]['mean_z']},,{found[0]['right_mm']}," in table_text(found)


def test_a_percentile_needs_enough_normal_scans(tmp_path):
    scan = with_ball(head((4.0, 4.0, 4.0))[0], CENTRE + [25, 0, 10], 12.0, 400.0)[0]
    for count in (19, 20):
        cases = [0.1 * number for number in range(count)]
        report = anomaly(scan, tiny_normative(tmp_path / str(count), cases=cases)).report
        assert (report["case_percentile"] is None) == (count < 20) and report["case_normals"] == count


def test_no_region_is_told_to_be_rarer_than_was_measured_on_normal_scans():
    z = np.zeros((12, 12, 12), np.float32)
    z[2, 2, 2], z[6, 6, 6], z[10, 10, 10] = 12, 5, 2.5
    scan = Prepared(np.ones(z.shape, np.float32), np.ones(z.shape, bool), Grid(z.shape, np.eye(4)), 1.0, True)
    regions = find_regions(z, 2.0, scan, 0, None)[1]
    assert [one.rate for one in regions] == [RATES[-1], RATES[-1], 0.0062]
    assert [one.peak_z for one in regions] == [12, 5, 2.5]
