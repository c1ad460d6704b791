"""Anomaly maps of CT: the body without its table, absolute brightness, models that take no MRI; the average scan."""

from __future__ import annotations

import numpy as np
import pytest
from anomaly_tools import on_few_cells, tiny_normative
from generated_bodies import body
from generated_heads import head, with_ball
from train_tools import run

from MedAELib.anomaly.average import Average, average_of
from MedAELib.anomaly.choice import fitting
from MedAELib.anomaly.figures import average_precision, dice
from MedAELib.anomaly.grid import from_grid
from MedAELib.anomaly.masks import body_mask
from MedAELib.anomaly.prepare import BODY_SPACING, prepare, prepare_body, prepared_again, prepared_for
from MedAELib.bundle import bundled_models
from MedAELib.errors import BadInput, BadModel
from MedAELib.model import Model
from MedAELib.tasks.anomaly import anomaly
from MedAELib.training import anomaly as recipe
from MedAELib.training import anomaly_model
from MedAELib.training.anomaly_cards import ABOUT
from MedAELib.training.anomaly_cohorts import COHORTS
from MedAELib.training.choose_map import drawn_case
from MedAELib.volume import Volume

PLACE = np.array([40.0, 0.0, 10.0])


@pytest.mark.parametrize("spacing", [(4.0, 4.0, 4.0), (1.5, 1.5, 5.0)])
def test_the_body_is_found_without_its_table_and_with_its_airway(spacing):
    volume, inside = body(spacing)
    prepared = prepare_body(volume)
    assert prepared.hounsfield and not prepared.brain
    assert dice(from_grid(prepared.mask, prepared.grid, volume, nearest=True) > 0.5, inside) > 0.93
    airway = np.linalg.inv(prepared.grid.affine) @ [0, 30, 0, 1]
    assert prepared.mask[tuple(np.round(airway[:3]).astype(int))]


def test_brightness_is_that_of_hounsfield_units():
    volume, _ = body()
    prepared = prepare_body(volume)
    values = prepared.voxels[prepared.mask]
    assert values.min() > 0 and values.max() <= 1.5 and (prepared.voxels[~prepared.mask] == 0).all()
    assert np.median(values) * prepared.scale + prepared.offset == pytest.approx(50, abs=10)
    assert body_mask(np.full((9, 9, 9), -1000, np.float32), 4.0).all()
    with pytest.raises(BadInput, match="same value"):
        prepare_body(Volume(np.full((1, 8, 8, 8), -1000, np.int16), np.eye(4), {"name": "air"}))


@pytest.mark.parametrize("says", ["", "CT"])
def test_a_ct_with_1024_added_is_refused_with_what_to_do_but_not_where_a_model_for_mri_is_named(
    tmp_path, says, monkeypatch
):
    on_few_cells(monkeypatch)
    volume, _ = body()
    raised = Volume(volume.array.clip(-1024) + 1024, volume.affine, {"name": "neck", "modality": says})
    for model in (None, tiny_normative(tmp_path / "ct", modality="CT", pixel=4.0)):
        with pytest.raises(BadInput, match="neck looks like a CT with 1024 added") as error:
            prepared_for(raised, model)
        assert "Subtract 1024" in error.value.next_step
    assert not prepared_for(raised, tiny_normative(tmp_path / "mr")).hounsfield


def test_what_is_no_number_or_outside_the_scan_is_air():
    volume, _ = body()
    voxels = volume.array.astype(np.float32)
    voxels[:, :3] = np.nan
    turn = np.array(volume.affine)
    turn[:2, :2] = 4 * np.array([[0.9, -0.436], [0.436, 0.9]])
    prepared = prepare_body(Volume(voxels, turn, {"modality": "CT"}))
    assert prepared.mask.mean() < 0.3


def test_a_ct_is_looked_at_as_a_body_and_an_mri_as_a_brain(tmp_path):
    volume, _ = body()
    scan = head((5.0, 5.0, 5.0))[0]
    assert prepared_for(volume, None).hounsfield and prepared_for(scan, None).brain
    found = anomaly(with_ball(volume.like(volume.array.astype(np.float32)), PLACE, 14.0, 900.0)[0], None)
    assert found.report["region_looked_at"] == "body"
    model = tiny_normative(tmp_path / "model", modality="CT", pixel=4.0)
    made = anomaly(volume, model)
    assert made.report["region_looked_at"] == "body" and made.typical is not None
    assert np.abs(made.residual.array).max() < 1e-3  # nothing was learned yet: everything is typical
    assert made.typical.array.min() == -1024 and 1 < np.percentile(made.typical.array, 90) < 100
    with pytest.raises(BadInput, match="no CT"):
        anomaly(scan, model)
    with pytest.raises(BadModel, match="pixels"):
        prepared_for(volume, tiny_normative(tmp_path / "other", modality="CT"))


def test_only_a_model_of_the_same_modality_is_chosen_for_a_scan():
    for volume, modality in ((body()[0], "CT"), (head((5.0, 5.0, 5.0))[0], "MR")):
        bundle, reason = fitting(prepared_for(volume, None), "it", bundled_models("anomaly"))
        assert bundle.spec.modality == modality if bundle else reason


@pytest.mark.parametrize(
    "make", [lambda: prepare_body(body()[0]), lambda: prepare(head((4.0, 4.0, 4.0), skull=False)[0])], ids=["CT", "MR"]
)
def test_a_drawn_anomaly_comes_back_as_from_a_file(make):
    prepared = make()
    same = prepared_again(prepared, prepared.voxels)
    np.testing.assert_allclose(same.grid.affine, prepared.grid.affine)
    assert dice(same.mask, prepared.mask) > 0.97
    both = same.mask & prepared.mask
    np.testing.assert_allclose(same.voxels[both], prepared.voxels[both], rtol=0.03, atol=0.01)
    scan, where = drawn_case(prepared, "bright", [1, 2])
    assert scan.voxels[where & scan.mask].mean() > prepared.voxels[where].mean() + 0.1


def test_a_dark_place_at_the_surface_of_a_bare_brain_is_looked_at():
    volume, brain = head((2.0, 2.0, 2.0), skull=False)
    lateral = np.argwhere(brain)
    edge = lateral[lateral[:, 0].argmax()]
    place = (volume.affine @ [*edge, 1])[:3]
    _, ball = with_ball(volume, place, 14.0, 0.0)
    dark = np.where(ball & brain, volume.array[0] * 0.35, volume.array[0])
    prepared = prepare(volume.like(dark[None].astype(np.float32)))
    looked_at = from_grid(prepared.mask, prepared.grid, volume, nearest=True) > 0.5
    assert prepared.brain and looked_at[ball & brain].mean() > 0.8
    assert dice(looked_at, brain) > 0.93


def test_what_is_far_from_the_average_scan_is_told_where_it_is(monkeypatch):
    on_few_cells(monkeypatch)
    normals = [prepare(head((4.0, 4.0, 4.0), seed=seed)[0]) for seed in range(3)]
    average = Average.of(normals)
    changed, ball = with_ball(head((4.0, 4.0, 4.0), seed=9)[0], np.array([33.0, -2.0, 35.0]), 12.0, 200.0)
    scan = prepare(changed)
    score = average.score(scan)
    assert (score[~scan.mask] == 0).all() and score.dtype == np.float32
    looked_at = from_grid(score, scan.grid, changed)
    assert average_precision(looked_at, ball) > 0.5
    again = average_of({"average": average.to_json()})
    np.testing.assert_allclose(again.mean, average.mean, rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(again.spread, average.spread, rtol=1e-3)
    assert average_of({}) is None
    good = average.to_json()
    flat = Average(np.zeros_like(average.mean), np.zeros_like(average.mean)).to_json()
    for value in ([], {"mean": good["mean"]}, flat, {**good, "spread": "?"}, {**good, "mean": [0.5] * 24**3}):
        with pytest.raises(BadModel, match="average normal scan"):
            average_of({"average": value})


def test_no_subject_is_in_two_parts_of_a_cohort_and_every_cohort_has_a_card():
    assert set(COHORTS) == set(ABOUT)
    for cohort in COHORTS.values():
        parts = [*cohort.training, *cohort.calibration, *cohort.test]
        assert len(set(parts)) == len(parts) and cohort.calibration and cohort.test


def test_patches_of_ct_keep_to_hounsfield_units():
    source, random = prepare_body(body()[0]), np.random.default_rng(0)
    middles = []
    for _ in range(12):
        voxels, inside = recipe.patch(source, random)
        assert (voxels[~inside] == 0).all() and voxels.max() <= 1.5
        if inside.mean() > 0.05:
            middles.append(np.median(voxels[inside]))
    assert np.std(middles) < 0.1


@pytest.mark.slow
def test_ct_bodies_make_a_model_of_bodies(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "EDGE", 16)
    monkeypatch.setattr(anomaly_model, "_TRIED", 1)
    folder = tmp_path / "bodies"
    folder.mkdir()
    for seed in range(3):
        body((6.0, 6.0, 6.0), seed=seed)[0].save(folder / f"{seed}.nii.gz")
    options = ["--task", "anomaly", "--device", "cpu", "--set", "channels=4", "--set", "levels=1"]
    assert run("train", folder, *options, "--steps", 2, "--output", tmp_path / "model") == 0
    model = Model.load(tmp_path / "model")
    assert model.spec.modality == "CT" and model.bundle.calibration["pixel"] == 6.0
    assert model.bundle.calibration["gate"]["brain"] == [0.0] and "average" in model.bundle.calibration["maps"]
    assert prepared_for(body()[0], model).grid.affine[0, 0] == 6.0 != BODY_SPACING
    assert anomaly(body((6.0, 6.0, 6.0), seed=1)[0], model).report["case_normals"] == 1
