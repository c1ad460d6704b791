"""Calibration of scores that end somewhere or are the same in most of the tissue: no z that normals do not bear out."""

from __future__ import annotations

import numpy as np
import pytest

from MedAELib.anomaly.calibration import RATES, Calibration, calibrations, own_z, z_of
from MedAELib.bundle import find_bundle

MASK = np.ones((40, 40, 40), bool)


def saturated(seed: int, share: float, scale: float = 1.0) -> np.ndarray:
    """Scores of which so large a share lies where they end, as bone does in a CT."""
    score = np.abs(np.random.default_rng(seed).normal(size=MASK.shape)).astype(np.float32)
    return np.float32(scale) * np.minimum(score, np.quantile(score, 1 - share))


@pytest.mark.parametrize("share", [0.012, 0.03, 0.08])
def test_scores_that_end_are_no_rarer_than_what_ends_there_in_normal_scans(share):
    known = Calibration.of([(saturated(seed, 0.014 + 0.002 * seed), MASK) for seed in range(3)])
    z = known.z(saturated(9, share, 7.0), MASK)
    assert (z > z_of(0.01)).mean() <= 0.011 and z.max() < z_of(RATES[-1])
    assert (z > z_of(0.05)).mean() > 0.01


def test_ordinary_bone_is_not_rare_for_the_bundled_model_of_ct():
    known = calibrations(find_bundle("head-neck-ct-anomaly").calibration)["bright"]
    assert known.knots[-1] == known.knots[-4]
    # Patients differ in how bright their soft tissue is beside bone.
    for more in (0.8, 1.0, 1.3):
        score = np.interp(np.random.default_rng(1).random(MASK.shape), 1 - np.array((1, *RATES)), (-1, *known.knots))
        score = np.where(score > 2.5, 2.9318 * more, score).astype(np.float32)
        z = known.z(score, MASK)
        assert (z > z_of(0.01)).mean() <= 0.011 and z.max() < 3


def test_scores_that_nearly_end_do_not_rise_without_bound():
    knots = [0, 0.2, 0.4, 1, 1.8, 2.4, 2.8, 2.93, 2.9301, 2.9302, 2.9303, 2.9304, 2.9305]
    score = np.interp(np.random.default_rng(1).random(MASK.shape), 1 - np.array((1, *RATES)), (-1, *knots))
    score = score.astype(np.float32)
    usual = Calibration(tuple(knots)).z(score, MASK)
    score[:2, :2, :2] = 3.0
    z = Calibration(tuple(knots)).z(score, MASK)
    assert usual.max() <= z[0, 0, 0] < 5


def test_what_is_rarer_than_anything_normal_keeps_its_z_where_scores_do_not_end():
    score = np.abs(np.random.default_rng(0).normal(size=MASK.shape)).astype(np.float32)
    known = Calibration.of([(score, MASK)])
    score[0, 0, 0] = 8.0
    assert known.z(score, MASK)[0, 0, 0] > 6


@pytest.mark.parametrize("zeros", [0.88, 0.93, 0.99, 0.999])
def test_a_map_that_is_zero_in_most_of_the_tissue_is_measured_by_what_it_shows(zeros):
    random = np.random.default_rng(0)

    def sparse() -> np.ndarray:
        shown = random.random(MASK.shape) > zeros
        return np.where(shown, random.random(MASK.shape), 0).astype(np.float32)

    known = Calibration.of([(sparse(), MASK) for _ in range(3)])
    pooled = Calibration.of([(sparse(), MASK) for _ in range(3)], own_bulk=False)
    dense = Calibration.of([(np.abs(random.normal(size=MASK.shape)).astype(np.float32), MASK)])
    score = sparse()
    for calibration in (known, pooled):
        z = calibration.z(score, MASK)
        assert (z > z_of(0.01)).mean() == pytest.approx(min(0.01, 1 - zeros), rel=0.4)
        assert (z >= 12).mean() < 1e-4 and (z[score == 0] <= 0).all()
    for z in (own_z(score, MASK), dense.z(score, MASK)):
        assert (z >= 12).mean() < 0.6 * (score > 0).mean() or zeros > 0.98
        assert (np.diff(z.ravel()[np.argsort(score.ravel())]) >= 0).all()


def test_a_map_that_is_the_same_everywhere_is_nowhere_rare():
    same = np.zeros(MASK.shape, np.float32)
    known = Calibration.of([(same, MASK)])
    assert not known.z(same, MASK).any() and not own_z(same, MASK).any()
    odd = same.copy()
    odd[0, 0, 0] = 1
    assert known.z(odd, MASK)[0, 0, 0] == pytest.approx(z_of(RATES[-1])) and (known.z(odd, MASK) > 0).sum() == 1
