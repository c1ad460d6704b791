"""Regions are about as large as what stands out, however far it does."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from MedAELib.anomaly.calibration import Calibration, z_of
from MedAELib.anomaly.grid import Grid
from MedAELib.anomaly.normals import calibrate_combined, z_endless, z_maps, z_parts
from MedAELib.anomaly.prepare import Prepared
from MedAELib.anomaly.regions import RegionRule, find_regions
from MedAELib.anomaly.scores import Scores
from MedAELib.anomaly.shown import COMBINED, Shown

SHAPE, BOTH = (48, 48, 48), Shown(("residual", "asymmetry"), agreement=1.0)
MASK = np.ones(SHAPE, bool)
SCAN = Prepared(np.ones(SHAPE, np.float32), MASK, Grid(SHAPE, np.diag([2.0, 2.0, 2.0, 1.0])), 1.0, True)
RULE = RegionRule(3000.0, 0.5)


def scores(seed: int, more: np.ndarray | float = 0.0) -> Scores:
    """Residual and asymmetry of noise, smoothed as a model's are, with so much more."""
    noise = np.random.default_rng(seed).normal(size=(2, *SHAPE))
    maps = [gaussian_filter(np.abs(part) + more, 1.5).astype(np.float32) for part in noise]
    return Scores(dict(zip(BOTH.parts, maps, strict=True)))


@pytest.fixture(scope="module")
def known() -> dict[str, Calibration]:
    normals = [scores(seed) for seed in range(2)]
    alone = {name: Calibration.of([(one.maps[name], MASK) for one in normals]) for name in BOTH.parts}
    return {**alone, **calibrate_combined([(z_parts(one, alone, SCAN), SCAN) for one in normals], BOTH)}


@pytest.mark.parametrize("radius", [3, 4, 6])
def test_the_volume_of_a_ball_hardly_grows_with_its_contrast(known, radius):
    i, j, k = np.mgrid[:48, :48, :48] - 24
    ball, volumes, shown = i**2 + j**2 + k**2 <= radius**2, [], []
    for contrast in (2.0, 4.0, 16.0, 64.0):
        found = scores(9, contrast * ball)
        z = z_maps(found, known, BOTH, SCAN)[COMBINED]
        endless = z_endless(found, known, BOTH, SCAN)
        labels, regions = find_regions(
            z, z_of(0.01), SCAN, 0.1, None, RULE.peak(0.01), RULE.outline, endless=endless
        )
        shown.append(z.max())
        volumes.append(regions[0].volume_ml / (ball.sum() * 0.008))
        assert labels[24, 24, 24] == 1 and regions[0].peak_z <= 12
    assert shown[-1] == 12 and np.all(z_maps(scores(9), known, BOTH, SCAN)[COMBINED] <= 12)
    assert max(volumes) < 1.6 and min(volumes) > 0.5 and max(volumes[1:]) < 1.5 * min(volumes[1:])


def test_where_z_does_not_end_nothing_changes(known):
    usual = scores(9)
    assert z_maps(usual, known, BOTH, SCAN)[COMBINED].max() < 12
    np.testing.assert_array_equal(
        z_endless(usual, known, BOTH, SCAN), z_maps(usual, known, BOTH, SCAN)[COMBINED]
    )
