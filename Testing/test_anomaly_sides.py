"""Anomaly maps that look at both sides, and regions: what is one-sided shows; seeds, outlines and small pieces."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from anomaly_tools import on_few_cells
from generated_bodies import body
from generated_heads import head
from scipy.ndimage import affine_transform, gaussian_filter

from MedAELib.anomaly.asymmetry import asymmetry, middle_plane
from MedAELib.anomaly.calibration import z_of
from MedAELib.anomaly.figures import average_precision
from MedAELib.anomaly.masks import box_around
from MedAELib.anomaly.prepare import BODY_RANGE, prepare, prepare_body
from MedAELib.anomaly.regions import RegionRule, find_regions, rule_of
from MedAELib.anomaly.scores import baseline_scores
from MedAELib.errors import BadInput, BadModel
from MedAELib.training.anomalies import draw_anomaly
from MedAELib.training.anomaly import batches
from MedAELib.training.choose_map import _means


@pytest.fixture(scope="module")
def alike():
    """A prepared head whose sides are alike but for noise."""
    scan = prepare(head()[0])
    voxels = (scan.voxels + scan.voxels[::-1]) / 2
    noise = np.random.default_rng(1).normal(0, 0.01, voxels.shape)
    mask = scan.mask & scan.mask[::-1]
    return replace(scan, voxels=np.where(mask, voxels + noise, 0).astype(np.float32), mask=mask)


@pytest.mark.parametrize("kind", ["bright", "dark"])
def test_what_is_one_sided_shows_in_the_asymmetry_map(alike, kind):
    random = np.random.default_rng(5)
    left = alike.mask.copy()
    left[alike.mask.shape[0] // 2 - 6 :] = False
    changed, where = draw_anomaly(alike.voxels, left, kind, 5.0, 1.0, random)
    score = asymmetry(replace(alike, voxels=changed))
    assert average_precision(score[alike.mask], where[alike.mask]) > 0.5
    assert (score[~alike.mask] == 0).all() and score.dtype == np.float32


@pytest.mark.parametrize("shift", [0, 3])
def test_the_middle_plane_is_found_in_a_head_that_is_turned_and_off_the_centre(alike, shift):
    angle, middle = 0.15, (np.array(alike.mask.shape) - 1) / 2
    turn = np.array([[np.cos(angle), -np.sin(angle), 0], [np.sin(angle), np.cos(angle), 0], [0, 0, 1]])
    offset = middle - turn @ (middle + (shift, 0, 0))
    voxels, mask = (
        affine_transform(part.astype(np.float32), turn, offset, order=1) for part in (alike.voxels, alike.mask)
    )
    normal, distance = middle_plane(replace(alike, voxels=voxels, mask=mask > 0.5))
    across = turn.T @ [1, 0, 0]  # the head's left-right axis on the grid
    assert float(normal @ across) > np.cos(0.03)
    assert distance == pytest.approx(across @ (middle + (shift, 0, 0)), abs=0.75)


def test_images_and_grids_that_are_mostly_air_are_looked_at_where_there_is_something(monkeypatch):
    on_few_cells(monkeypatch)
    mask = np.zeros((20, 30, 40), bool)
    mask[9:12, 5, 30:39] = True
    assert box_around(mask, 2, 4) == (slice(4, 14), slice(0, 8), slice(28, 40))
    assert box_around(~np.ones((2, 3, 4), bool)) == (slice(0, 2), slice(0, 3), slice(0, 4))
    scan = prepare(head()[0])
    wide = tuple((6, 6) for _ in range(3))
    padded = replace(scan, voxels=np.pad(scan.voxels, wide), mask=np.pad(scan.mask, wide))
    near, far = baseline_scores(scan).maps, baseline_scores(padded).maps
    for name in ("bright", "contrast", "asymmetry"):
        np.testing.assert_allclose(near[name][scan.mask], far[name][padded.mask], atol=2e-3)


def test_regions_of_a_calibrated_map_need_a_peak_and_are_outlined_at_a_share_of_it(alike):
    z = np.zeros(alike.mask.shape, np.float32)
    z[30, 50, 40] = 400
    z = gaussian_filter(z, 3)
    z *= 8 / z.max()
    z[60, 50:53, 40] = 3.0  # above the threshold, and nothing rare in it
    threshold, peak = z_of(0.01), RegionRule().peak(0.01)
    every, _ = find_regions(z, threshold, alike, 0, None)
    assert len(np.unique(every)) == 3
    labels, regions = find_regions(z, threshold, alike, 0, None, peak)
    assert len(regions) == 1 and regions[0].peak_z == 8.0
    assert ((labels > 0) == ((z >= 0.4 * 8) & (z > threshold))).all()
    assert regions[0].volume_ml == pytest.approx((labels > 0).sum() * 0.008, abs=1e-3)
    assert find_regions(np.zeros_like(z), threshold, alike, 0, None, peak)[1] == []


def test_a_region_tells_in_which_map_it_stands_out_most(alike):
    z, quiet = np.zeros((2, *alike.mask.shape), np.float32)
    z[30:33, 50, 40], z[60:63, 50, 40] = 6.0, 5.0
    near, wide, above = (quiet.copy() for _ in range(3))
    near[30, 50, 40], near[60:63, 50, 40] = 7.0, -3.0
    wide[30:33, 50, 40], wide[60:63, 50, 40] = 7.0, -2.0  # the same peak in the first region, and more of it
    above[5, 5, 5] = 12.0  # in no region
    maps = {"near": near, "wide": wide, "above": above - 4}
    regions = find_regions(z, 2.0, alike, 0, None, maps=maps)[1]
    assert [(one.sharpest_map, one.sharpest_z) for one in regions] == [("wide", 7.0), ("wide", -2.0)]
    assert [one.sharpest_map for one in find_regions(z, 2.0, alike, 0, None)[1]] == ["", ""]


def test_a_lower_rate_asks_for_higher_peaks():
    peaks = [RegionRule().peak(rate) for rate in (0.5, 0.05, 0.01, 0.001, 1e-5)]
    assert peaks == sorted(peaks) and peaks[2] == pytest.approx(5, abs=0.01)
    assert RegionRule().peak(1e-6) >= z_of(1e-6)
    with pytest.raises(BadInput, match="rate"):
        RegionRule().peak(0)
    assert RegionRule(rarer=1).peak(0.01) == pytest.approx(z_of(0.01))


def test_a_model_folder_says_what_makes_a_region_and_older_ones_mean_the_usual():
    rule = RegionRule(3000.0, 0.5)
    assert rule_of({"regions": rule.to_json()}) == rule and rule_of({}) == RegionRule()
    for change in ({"rarer": 0.5}, {"outline": 1.5}, {"outline": float("nan")}, {"rarer": True}, {"more": 1}):
        with pytest.raises(BadModel, match="makes a region"):
            rule_of({"regions": {**rule.to_json(), **change}})


def test_patches_of_ct_stay_within_its_window_and_what_does_not_show_is_not_marked():
    draw = batches([prepare_body(body()[0])], 0)
    for step in range(3):
        changed, normal, where = draw(step)
        assert float(changed.max()) <= BODY_RANGE[1] and bool(((changed > 0) == (normal > 0)).all())
        assert bool((changed != normal)[where > 0].all())


def test_a_way_counts_the_kinds_that_it_finds_far_better_than_by_chance():
    row = _means({"bright": [0.5, 0.7], "bulge": [0.004, 0.002]}, {"bright": [0.01], "bulge": [0.002]})
    assert row["found"] == 1 and row["bright"] == pytest.approx(0.6)
