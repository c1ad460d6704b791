"""Anomaly maps: the right place, units and rate; masks, calibration and regions; refusals in one sentence."""

from __future__ import annotations

import dataclasses
import functools

import numpy as np
import pytest
from anomaly_tools import on_few_cells, tiny_normative
from generated_heads import CENTRE, head, rotation, with_ball
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import binary_fill_holes

from MedAELib.anomaly import masks
from MedAELib.anomaly.calibration import RATES, Calibration, calibrations, own_z, z_of
from MedAELib.anomaly.choice import fitting
from MedAELib.anomaly.figures import average_precision, best_dice, dice
from MedAELib.anomaly.gate import doubts, gate_of, measures, population
from MedAELib.anomaly.grid import from_grid, grid_around, onto_grid
from MedAELib.anomaly.masks import brain_mask
from MedAELib.anomaly.orientation import turned
from MedAELib.anomaly.prepare import MEDIAN, prepare
from MedAELib.anomaly.scores import Scores, model_scores
from MedAELib.bundle import Spec, Window
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput, BadModel
from MedAELib.model import Model
from MedAELib.tasks import anomaly as task
from MedAELib.tasks.anomaly import anomaly
from MedAELib.volume import Volume

LESION = CENTRE + [30.0, 10.0, 15.0]


@pytest.fixture(scope="module")
def normative(tmp_path_factory) -> Model:
    return tiny_normative(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture
def few_cells(monkeypatch) -> None:
    on_few_cells(monkeypatch)


@settings(max_examples=25)
@given(
    spacing=st.tuples(*[st.floats(0.7, 4.0)] * 3),
    angles=st.tuples(*[st.floats(-0.6, 0.6)] * 2),
    flips=st.tuples(*[st.sampled_from([-1, 1])] * 3),
    seed=st.integers(0, 10_000),
)
def test_a_point_comes_back_from_the_grid_within_a_voxel(spacing, angles, flips, seed):
    affine = np.eye(4)
    affine[:3, :3] = rotation(*angles) @ np.diag(np.array(spacing) * flips)
    affine[:3, 3] = np.random.default_rng(seed).uniform(-200, 200, 3)
    volume = Volume(np.zeros((1, 21, 24, 17), np.float32), affine)
    place = np.random.default_rng(seed).integers([5, 5, 4], [16, 19, 13])
    index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.shape], indexing="ij"))
    offset = np.tensordot(affine[:3, :3], index - place[:, None, None, None], axes=1)
    blob = np.exp(-(offset**2).sum(0) / (2 * 4.0**2)).astype(np.float32)
    grid = grid_around(volume, 2.0)
    back = from_grid(onto_grid(blob, affine, grid), grid, volume)
    found = np.array(np.unravel_index(int(back.argmax()), back.shape))
    assert np.linalg.norm(affine[:3, :3] @ (found - place)) <= max(2.0, max(spacing))
    assert np.abs(found - place).max() <= max(1, np.ceil(1.0 / min(spacing)))
    assert back.max() > 0.7


@pytest.mark.parametrize(
    ("spacing", "angles", "gain", "skull"),
    [((2, 2, 2), (0, 0), 300, True), ((1.2, 1.2, 4), (0.2, -0.1), 4000, True), ((2, 2, 2), (0, 0.3), 0.01, False)],
)
def test_the_brain_is_found_on_any_grid_and_in_any_unit(spacing, angles, gain, skull):
    volume, brain = head(spacing, rotation(*angles), gain, skull=skull)
    prepared = prepare(volume)
    assert prepared.brain
    assert dice(from_grid(prepared.mask, prepared.grid, volume, nearest=True) > 0.5, brain) > 0.93
    assert np.median(prepared.voxels[prepared.mask]) == pytest.approx(MEDIAN, rel=1e-4)
    assert (prepared.voxels[~prepared.mask] == 0).all()


@given(seed=st.integers(0, 1000), share=st.floats(0.3, 0.9))
def test_holes_are_filled_as_scipy_fills_them(seed, share):
    mask = np.random.default_rng(seed).random((7, 8, 9)) < share
    np.testing.assert_array_equal(masks._whole(mask), binary_fill_holes(mask))


def test_what_is_no_brain_is_looked_at_as_a_whole():
    voxels = np.random.default_rng(0).normal(500, 20, (30, 30, 30)).astype(np.float32)
    mask, found = brain_mask(voxels, 2.0)
    assert not found
    assert mask.any()


def test_tissue_of_the_size_of_a_brain_that_is_longer_than_any_is_none_and_a_cord_is_no_part_of_its_length():
    place = np.stack(np.mgrid[:80, :36, :36] - np.array([40, 18, 18])[:, None, None, None]) * 4.0
    noise = np.random.default_rng(0).normal(0, 5, place.shape[1:])
    ball = (place**2).sum(0) < 62**2
    long = (place[0] / 140) ** 2 + (place[1] / 41) ** 2 + (place[2] / 41) ** 2 < 1
    cord = (np.hypot(place[1], place[2]) < 7) & (place[0] > 0)
    for tissue, brain in ((ball, True), (long, False), (ball | cord, True)):
        voxels = (500 * tissue + noise).astype(np.float32)
        assert brain_mask(voxels, 4.0)[1] == brain
        assert brain_mask(np.ascontiguousarray(voxels.T), 4.0)[1] == brain


@pytest.mark.parametrize("with_model", [False, True])
def test_a_bright_lesion_is_where_it_was_put_in_map_labels_and_table(normative, with_model):
    volume, _ = head((1.5, 1.5, 3.0), rotation(0.1, 0.2))
    changed, ball = with_ball(volume, LESION, 9.0, 250.0)
    found = anomaly(changed, normative if with_model else None)
    z = found.others["bright"].array[0] if with_model else found.map.array[0]
    assert found.map.shape == volume.shape and found.map.array.dtype == np.float32
    np.testing.assert_array_equal(found.map.affine, volume.affine)
    assert average_precision(z, ball) > 0.9
    if with_model:
        assert found.typical is not None and found.residual is not None
        np.testing.assert_array_equal(found.typical.affine, volume.affine)
        return
    first = found.regions[0]
    assert np.linalg.norm(np.array([first.right_mm, first.front_mm, first.head_mm]) - LESION) < 2.0
    assert (first.side, first.brightness) == ("right", "brighter")
    # The soft border of a plain lesion lies above the threshold too: up to half a cell of the grid all around.
    assert 0.95 <= first.volume_ml / (4 / 3 * np.pi * 0.9**3) <= (1 + 1 / 9) ** 3 * 1.05
    assert dice(found.labels.array[0] == first.number, ball) > 0.8
    assert found.labels.array.max() == len(found.regions) == found.report["regions"]


def test_small_regions_are_left_out_and_the_rate_moves_the_threshold(monkeypatch):
    monkeypatch.setattr(task, "baseline_scores", functools.cache(task.baseline_scores))  # of the same scan each time
    larger, _ = with_ball(head()[0], LESION, 6.0, 250.0)
    smaller, _ = with_ball(larger, LESION - 30.0, 4.0, 250.0)
    changed, _ = with_ball(smaller, LESION - [60.0, 0, 0], 9.0, 20.0)  # above one threshold alone
    prepared = prepare(changed)
    all_of_them = anomaly(changed, None, least_ml=0, prepared=prepared)
    large = anomaly(changed, None, least_ml=0.4, prepared=prepared)
    assert (len(large.regions), len(all_of_them.regions)) == (1, 2)
    assert min(region.volume_ml for region in large.regions) >= 0.4
    rarer = anomaly(changed, None, rate=0.001, prepared=prepared)
    assert large.threshold == pytest.approx(2.326, abs=1e-3)
    assert rarer.threshold > large.threshold and rarer.report["above_threshold"] < large.report["above_threshold"]


def test_without_a_model_a_region_needs_a_peak_and_reaches_to_the_threshold():
    volume, _ = head((4.0, 4.0, 4.0))
    faint, ball = with_ball(volume, LESION, 9.0, 50.0)
    both, hot = with_ball(with_ball(volume, LESION, 12.0, 60.0)[0], LESION, 5.0, 120.0)
    found = anomaly(faint, None)
    assert found.map.array[0][ball].max() > found.threshold and found.regions == []
    found = anomaly(both, None)
    assert len(found.regions) == 1 and found.regions[0].volume_ml > 2 * 4 / 3 * np.pi * 0.5**3
    assert (found.labels.array[0] > 0)[hot].all()


@pytest.mark.usefixtures("few_cells")
def test_the_input_is_never_written_and_the_same_scan_gives_the_same_map(normative):
    volume, _ = head((4.0, 4.0, 4.0))
    before = volume.array.copy()
    one, other = (anomaly(volume, normative).map.array for _ in range(2))
    np.testing.assert_array_equal(one, other)
    np.testing.assert_array_equal(volume.array, before)


@settings(max_examples=20)
@given(scale=st.floats(0.01, 100), shift=st.floats(-50, 50), rate=st.sampled_from([0.05, 0.01, 0.002]))
def test_a_threshold_is_a_rate_of_false_alarms_also_on_another_scanner(scale, shift, rate):
    def scores(seed: int) -> np.ndarray:
        return np.random.default_rng(seed).gamma(2.0, 1.0, (50, 50, 50)).astype(np.float32)

    mask = np.ones((50, 50, 50), bool)
    calibration = Calibration.of([(scores(1), mask), (scores(2), mask)])
    z = calibration.z((scale * scores(3) + shift).astype(np.float32), mask)
    assert (z > z_of(rate)).mean() == pytest.approx(rate, rel=0.25)


def test_z_rises_with_the_score_and_is_zero_outside():
    random = np.random.default_rng(0)
    score, mask = random.normal(size=(30, 30, 30)).astype(np.float32), random.random((30, 30, 30)) < 0.7
    for z in (Calibration.of([(score, mask)]).z(score, mask), own_z(score, mask)):
        assert (z[~mask] == 0).all()
        order = np.argsort(score[mask])
        assert (np.diff(z[mask][order]) >= 0).all()
        assert z[mask].max() > 3


@pytest.mark.parametrize("values", [None, [], [1.0] * 3, [float("nan")] * len(RATES), list(range(len(RATES), 0, -1))])
def test_a_calibration_that_makes_no_sense_is_refused(values):
    with pytest.raises(BadModel, match="calibra"):
        calibrations({"maps": {"unlike": values}} if values is not None else {})


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan")])
def test_a_rate_that_makes_no_sense_is_refused(rate):
    with pytest.raises(BadInput, match="rate"):
        anomaly(head()[0], None, rate=rate)


def test_what_cannot_be_looked_at_is_refused_in_a_sentence(normative):
    for voxels in (np.zeros((1, 8, 8, 8)), np.full((1, 8, 8, 8), 7.0)):
        with pytest.raises(BadInput, match="same value"):
            anomaly(Volume(voxels, np.eye(4), {"name": "flat"}), None)
    with pytest.raises(BadInput, match="mm large"):
        anomaly(Volume(np.zeros((1, 100, 100, 100)), np.diag([90.0, 90, 90, 1])), None)
    speck = np.random.default_rng(0).random((1, 20, 20, 20))
    for spacing in (0.01, 0.05):
        with pytest.raises(BadInput, match=f"is only {20 * spacing:g} x .* mm large"):
            anomaly(Volume(speck, np.diag([spacing, spacing, 4.0, 1])), None)
    plain = Model.create(Spec("plain", {}, 3, "anomaly", "MR", Window("fixed", 0.0, 1.0)))
    with pytest.raises(BadModel, match="unlike"):
        anomaly(head()[0], plain)


def test_average_precision_and_dice_of_small_examples():
    scores, truth = np.array([4.0, 3.0, 2.0, 1.0]), np.array([True, False, True, False])
    assert average_precision(scores, truth) == pytest.approx((1 + 2 / 3) / 2)
    assert best_dice(scores, truth) == pytest.approx(2 * (2 / 3) * 1 / (2 / 3 + 1))
    assert average_precision(np.ones(4), truth) == pytest.approx(0.5)
    assert np.isnan(average_precision(scores, np.zeros(4, bool)))
    assert dice(np.zeros(3, bool), np.zeros(3, bool)) == 1.0


def test_a_head_that_lies_the_wrong_way_is_told():
    normal = np.random.default_rng(0).random((10, 10, 10))
    seen = normal + np.random.default_rng(1).normal(0, 0.2, normal.shape)
    assert turned(seen, normal) == "" == turned(np.flip(seen, 0), normal + np.flip(normal, 0))
    assert turned(np.flip(seen, 2), normal) == "upside down"
    assert turned(np.flip(seen, 1), normal) == "back to front"
    assert turned(np.flip(seen, (1, 2)), normal) == "upside down and back to front"


@pytest.mark.usefixtures("few_cells")
def test_the_gate_names_what_makes_a_scan_unlike_the_training_scans(normative):
    usual = prepare(head((4.0, 4.0, 4.0))[0])
    scores = model_scores(usual, normative, Engine("cpu"), lambda done, total: None)
    known = {"gate": population([measures(usual, scores)] * 2) | {"distance": [0.01]}}
    assert doubts(usual, scores, known) == []
    inverted = dataclasses.replace(usual, voxels=np.where(usual.mask, 1 - usual.voxels, 0).astype(np.float32))
    assert any("contrast" in warning for warning in doubts(inverted, scores, known))
    lost = dataclasses.replace(usual, brain=False)
    assert any("No brain" in warning for warning in doubts(lost, scores, known))
    louder = Scores({**scores.maps, "unlike": scores.maps["unlike"] + 5})
    assert any("Most of the scan" in warning for warning in doubts(usual, louder, known))
    assert any("not calibrated" in warning for warning in doubts(usual, scores, None))


@pytest.mark.usefixtures("few_cells")
def test_white_and_grey_matter_the_other_way_round_are_another_sequence(normative, tmp_path):
    usual = prepare(head((4.0, 4.0, 4.0))[0])
    scores = model_scores(usual, normative, Engine("cpu"), lambda done, total: None)
    gate = population([measures(usual, scores)] * 2)
    bundle = tiny_normative(tmp_path / "model", gate=gate).bundle
    t2 = dataclasses.replace(usual, voxels=np.where(usual.mask, 1 - usual.voxels, 0).astype(np.float32))
    assert fitting(usual, "it", [bundle]) == (bundle, "")
    assert any("another sequence" in warning for warning in doubts(t2, scores, {"gate": gate | {"distance": [9.0]}}))
    wide = tiny_normative(tmp_path / "wide", gate=gate | {"distance": [9.0]}).bundle
    assert fitting(t2, "it", [wide]) == (None, "No bundled model was trained on scans like it.")
    older = tiny_normative(tmp_path / "older", gate=dict(list(gate.items())[:-1]) | {"distance": [9.0]}).bundle
    assert fitting(t2, "it", [older])[0] is older  # it does not say which sequence it knows
    with pytest.raises(BadModel, match="what normal scans look like"):
        gate_of({"gate": gate | {"inward": ["x"]}})


@pytest.mark.parametrize("part", ["histogram", "distance", "odds", "coarse"])
@pytest.mark.parametrize("value", [None, "0.1", [], [float("nan")], ["x"] * 40])
def test_a_model_that_does_not_say_what_is_normal_is_refused_in_a_sentence(normative, part, value):
    gate = {**normative.bundle.calibration["gate"], part: value}
    with pytest.raises(BadModel, match="what normal scans look like"):
        gate_of({"gate": gate})
    with pytest.raises(BadModel, match="what normal scans look like"):
        gate_of({})


@pytest.mark.parametrize("reach", (0.6, 0.8, 1.2, 1.4))
def test_a_scanner_whose_scores_reach_less_far_keeps_the_rate_and_a_large_lesion_does_not_hide_itself(reach):
    random = np.random.default_rng(1)
    normal = np.abs(random.standard_normal((40, 40, 40))).astype(np.float32)
    mask = np.ones(normal.shape, bool)
    known = Calibration.of([(normal, mask)])
    ninetieth = np.quantile(normal, 0.9)
    other = np.where(normal > ninetieth, ninetieth + reach * (normal - ninetieth), normal)
    assert 0.005 < (known.z(other, mask) > z_of(0.01)).mean() < 0.02
    other[:16, :16, :16] += 20 * np.float32(ninetieth)  # a sixteenth of the tissue
    assert (known.z(other, mask)[:16, :16, :16] > z_of(0.01)).all()
