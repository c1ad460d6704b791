"""Where fine detail is missing: the map `smooth`, and maps that stand beside others in the one that is shown."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from generated_bodies import body
from generated_heads import head

from MedAELib.anomaly.calibration import calibrations
from MedAELib.anomaly.figures import average_precision
from MedAELib.anomaly.normals import calibrate_maps, listed, z_maps
from MedAELib.anomaly.prepare import prepare, prepare_body
from MedAELib.anomaly.scores import Scores, untrained
from MedAELib.anomaly.shown import COMBINED, TOGETHER, Shown, shown_of
from MedAELib.anomaly.smoothness import SMOOTH, smoothness
from MedAELib.errors import BadModel
from MedAELib.training.anomalies import draw_anomaly

BESIDE = Shown(("unlike", "residual"), "sum", besides=(SMOOTH,))


@pytest.fixture(scope="module")
def noisy():
    """A prepared head with noise."""
    scan = prepare(head()[0])
    noise = np.random.default_rng(1).normal(0, 0.02, scan.voxels.shape)
    return replace(scan, voxels=np.where(scan.mask, np.maximum(scan.voxels + noise, 0.01), 0).astype(np.float32))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_blurred_place_shows_in_the_smooth_map(noisy, seed):
    changed, where = draw_anomaly(noisy.voxels, noisy.mask, "blur", 5.0, 1.0, np.random.default_rng(seed))
    score = smoothness(replace(noisy, voxels=changed))
    assert average_precision(score[noisy.mask], where[noisy.mask]) > 0.5
    assert (score[~noisy.mask] == 0).all() and score.dtype == np.float32


def test_detail_is_measured_by_that_of_the_scan_itself(noisy):
    brighter = smoothness(replace(noisy, voxels=3 * noisy.voxels))
    np.testing.assert_allclose(brighter, smoothness(noisy), atol=1e-3)


def test_places_without_any_signal_are_not_taken_for_smooth(noisy):
    middle = tuple(slice(n // 2 - 6, n // 2 + 6) for n in noisy.mask.shape)
    scores = []
    for value in (0.0, 0.3):
        voxels = noisy.voxels.copy()
        voxels[middle] = value
        scores.append(smoothness(replace(noisy, voxels=voxels))[middle])
    assert float(scores[0].max()) < 1 and float(scores[1].max()) > 3
    assert (smoothness(replace(noisy, voxels=np.zeros_like(voxels))) == 0).all()


def test_ct_and_images_have_no_smooth_map(noisy):
    assert set(untrained(noisy)) == {"asymmetry", SMOOTH}
    assert set(untrained(prepare_body(body()[0]))) == {"asymmetry"}
    assert untrained(replace(noisy, dims=2)) == {}


@pytest.fixture(scope="module")
def scores(noisy):
    """Made-up scores of normal tissue, within the mask of a head."""
    random = np.random.default_rng(2)
    return Scores({name: random.normal(size=noisy.mask.shape).astype(np.float32) for name in BESIDE.needed - {
        COMBINED, TOGETHER}})  # fmt: skip


def test_what_stands_beside_the_parts_counts_where_it_is_larger_and_the_rate_holds(noisy, scores):
    known = calibrate_maps([(scores, noisy)], BESIDE)
    assert set(known) == BESIDE.needed
    place = tuple(np.argwhere(noisy.mask)[1000])
    maps = {name: score.copy() for name, score in scores.maps.items()}
    for name, value in (("unlike", -9), ("residual", -9), (SMOOTH, 30)):
        maps[name][place] = value
    z = z_maps(Scores(maps), known, BESIDE, noisy)
    assert next(iter(z)) == COMBINED and z[COMBINED][place] == z[COMBINED].max() > 4
    assert (z[COMBINED][noisy.mask] > 2.326).mean() == pytest.approx(0.01, abs=0.001)
    maps[SMOOTH][place] = -30
    maps["unlike"][place] = maps["residual"][place] = 20
    z = z_maps(Scores(maps), known, BESIDE, noisy)
    assert z[COMBINED][place] == z[COMBINED].max() > 4


def test_a_single_part_with_a_map_beside_it_needs_no_calibration_of_its_own(noisy, scores):
    way = Shown(("unlike",), besides=(SMOOTH,))
    known = calibrate_maps([(scores, noisy)], way)
    assert TOGETHER not in known and COMBINED in known
    assert way.in_words() == "the z of unlike, or that of smooth, less 1, where it is larger"
    z = z_maps(scores, known, way, noisy)
    largest = np.maximum(z["unlike"], z[SMOOTH] - 1)[noisy.mask]
    assert (np.diff(z[COMBINED][noisy.mask][np.argsort(largest)]) >= 0).all()


def test_where_neighbours_agree_counts_for_more_and_lists_are_as_maps(noisy, scores):
    way = replace(BESIDE, agreement=1.0)
    known = calibrate_maps([(scores, noisy)], way)
    focus, lone = np.argwhere(noisy.mask)[[1000, -1000]]
    maps = {name: score.copy() for name, score in scores.maps.items()}
    around = tuple(slice(n - 1, n + 2) for n in focus)
    maps["unlike"][around] = 6
    maps["unlike"][tuple(lone)] = 7
    z = z_maps(Scores(maps), known, way, noisy)[COMBINED]
    assert z[tuple(focus)] > z[tuple(lone)]
    assert (z[noisy.mask] > 2.326).mean() == pytest.approx(0.01, abs=0.003)
    kept, tissue = listed(Scores(maps), noisy)
    as_list = z_maps(kept, known, way, tissue)[COMBINED]
    np.testing.assert_allclose(as_list, z[noisy.mask], atol=1e-4)
    assert way.in_words().endswith("where it is larger, as a mean over 1 cells")


def test_a_smaller_handicap_lets_more_of_what_stands_beside_through(noisy, scores):
    z = {name: score[noisy.mask] for name, score in scores.maps.items()}
    low, high = (replace(BESIDE, handicap=h).with_besides(z["unlike"], z) for h in (0.0, 1.0))
    assert (low >= high).all() and (low > high).any()
    assert "less" not in replace(BESIDE, handicap=0.0).in_words()


def test_a_model_folder_keeps_what_stands_beside_and_older_ones_go_on_loading(noisy, scores):
    known = calibrate_maps([(scores, noisy)], BESIDE)
    kept = {"maps": {name: found.to_json() for name, found in known.items()}, "shown": BESIDE.to_json()}
    assert shown_of(kept) == BESIDE and calibrations(kept) == known
    joined = replace(BESIDE, handicap=0.5, agreement=0.7)
    assert shown_of({**kept, "shown": joined.to_json()}) == joined
    told = {key: value for key, value in BESIDE.to_json().items() if key != "handicap"}
    assert shown_of({**kept, "shown": told}) == BESIDE
    for change in ({"handicap": -1}, {"handicap": "1"}, {"agreement": float("nan")}, {"agreement": 9}):
        with pytest.raises(BadModel, match="which map to show"):
            shown_of({**kept, "shown": {**joined.to_json(), **change}})
    assert BESIDE.in_words() == "the sum of the z of unlike and residual, or that of smooth, less 1, where it is larger"
    older = Shown(("unlike", "residual"), "max", 1.0, True)
    assert "besides" not in older.to_json()
    assert shown_of({"maps": kept["maps"], "shown": older.to_json()}) == older
    without = {name: values for name, values in kept["maps"].items() if name != TOGETHER}
    for maps, besides in ((kept["maps"], ["nothing"]), (kept["maps"], "smooth"), (without, [SMOOTH])):
        with pytest.raises(BadModel, match="which map to show"):
            shown_of({"maps": maps, "shown": {**kept["shown"], "besides": besides}})
    # A folder that knows nothing of the map goes on as it was.
    old = {name: calibration for name, calibration in known.items() if name not in (SMOOTH, TOGETHER)}
    assert SMOOTH not in z_maps(scores, old, older, noisy)
