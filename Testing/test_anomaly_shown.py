"""The map that is shown first, how usual a scan is as a whole, and models calibrated again on local scans."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from anomaly_tools import on_few_cells, tiny_normative
from drawn_digits import digit
from generated_heads import head
from hypothesis import given, settings
from hypothesis import strategies as st

from MedAELib.__main__ import main
from MedAELib.anomaly.calibration import RATES, Calibration, calibrations, pixel_of
from MedAELib.anomaly.case_score import case_score, case_scores_of, percentile, sentence
from MedAELib.anomaly.normals import learn_normals
from MedAELib.anomaly.prepare import MEDIAN, prepare, prepare_images
from MedAELib.anomaly.regions import rule_of
from MedAELib.anomaly.scores import model_scores
from MedAELib.anomaly.shown import Shown, shown_of
from MedAELib.bundle import read_bundle
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput, BadModel
from MedAELib.model import Model
from MedAELib.tasks.anomaly import anomaly
from MedAELib.training.anomalies import KINDS
from MedAELib.training.choose_map import choose_shown, drawn_case, in_words
from MedAELib.volume import Volume

BOTH = Shown(("unlike", "residual"), "sum", 1.0, True)


@pytest.fixture(scope="module", autouse=True)
def few_cells() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        on_few_cells(patch)
        yield


@pytest.fixture(scope="module")
def scan() -> Volume:
    return head((5.0, 5.0, 5.0))[0]


@pytest.fixture(scope="module")
def model(tmp_path_factory, scan) -> Model:
    """Random weights (also in the last layer, which starts at nothing), calibrated on one head."""
    made = tiny_normative(tmp_path_factory.mktemp("models") / "made")
    for parameter in made.network.last.parameters():
        torch.nn.init.normal_(parameter, 0, 0.1)
    known = learn_normals(made, [prepare(scan)], BOTH)
    texts = {"description": "For tests.", "card": "# For tests", "licence": "CC0\n"}
    folder = tmp_path_factory.mktemp("models") / "both"
    return made.save(folder, name="both", figures={}, limits=["Few."], training_data=[], calibration=known, **texts)


def silent(done: int, total: int) -> None: ...


def test_the_combined_map_comes_first_and_its_parts_beside_it(model, scan):
    found = anomaly(scan, model)
    assert set(found.others) == {"unlike", "residual", "bright", "contrast", "asymmetry", "smooth"}
    assert found.report["shown"] == "the sum of the z of unlike and residual"
    assert found.report["above_threshold"] == pytest.approx(0.01, abs=0.003)  # of the very scan it was calibrated on
    parts = found.others["unlike"].array + found.others["residual"].array
    inside = found.map.array != 0
    assert np.corrcoef(parts[inside], found.map.array[inside])[0, 1] > 0.9


def test_a_model_without_a_choice_shows_its_log_odds(tmp_path, scan):
    plain = tiny_normative(tmp_path / "plain")
    assert shown_of(plain.bundle.calibration) == Shown()
    found = anomaly(scan, plain)
    assert set(found.others) == {"residual", "bright", "contrast", "asymmetry"}
    assert found.report["case_percentile"] is None and found.report["case"] == ""


@pytest.mark.parametrize(
    "change",
    [{"parts": []}, {"parts": ["nothing"]}, {"parts": "unlike"}, {"rule": "product"}, {"smoothing": -1},
     {"smoothing": float("nan")}, {"mirrored": 1}, {"more": 1}],
)  # fmt: skip
def test_a_malformed_choice_is_refused_in_a_sentence(model, change):
    known = {**model.bundle.calibration, "shown": {**BOTH.to_json(), **change}}
    with pytest.raises(BadModel, match="which map to show"):
        shown_of(known)
    assert shown_of(model.bundle.calibration) == BOTH


def test_answers_to_a_mirrored_scan_are_mirrored_where_both_sides_are_asked(model, scan):
    whole = prepare(scan)
    box = tuple(slice(n // 2 - 16, n // 2 + 16) for n in whole.mask.shape)
    prepared = dataclasses.replace(whole, voxels=whole.voxels[box], mask=whole.mask[box])
    mirrored = dataclasses.replace(
        prepared, voxels=np.flip(prepared.voxels, 0).copy(), mask=np.flip(prepared.mask, 0).copy()
    )
    for both in (True, False):
        one, other = (
            model_scores(p, model, Engine("cpu"), silent, mirrored=both, smoothing=1.0).maps["unlike"]
            for p in (prepared, mirrored)
        )
        same = np.allclose(one, np.flip(other, 0), atol=1e-5)
        assert same is both


@settings(max_examples=50)
@given(scores=st.lists(st.floats(-5, 12), min_size=1, max_size=60), score=st.floats(-5, 12))
def test_percentiles_lie_between_the_scores_they_are_of(scores, score):
    found = percentile(score, scores)
    assert 0 <= found <= 100
    assert percentile(max(scores) + 1, scores) == 100 and percentile(min(scores) - 1, scores) == 0
    assert percentile(score + 1, scores) >= found
    scans = "1 normal scan." if len(scores) == 1 else f"{len(scores)} normal scans."
    assert sentence(score, scores).endswith(scans)


def test_a_small_focus_raises_the_score_of_the_scan():
    z, mask = np.random.default_rng(0).normal(0, 1, (20, 20, 20)).astype(np.float32), np.ones((20, 20, 20), bool)
    before = case_score(z, mask)
    z[:3, :3, :3] = 8
    assert case_score(z, mask) > before + 3
    with pytest.raises(BadModel, match="not numbers"):
        case_scores_of({"cases": ["x"]})


def test_images_in_a_unit_of_all_normals_stand_out_as_a_whole():
    random, mask = np.random.default_rng(0), np.ones((20, 20, 1), bool)
    normals = [(random.random((20, 20, 1)).astype(np.float32), mask) for _ in range(5)]
    own, pooled = Calibration.of(normals), Calibration.of(normals, own_bulk=False)
    odd = 3 * normals[0][0]
    assert (own.z(odd, mask) > 2.33).mean() < 0.05 < 0.5 < (pooled.z(odd, mask) > 2.33).mean()
    for calibration in (own, pooled):
        assert calibrations({"maps": {"unlike": calibration.to_json()}}) == {"unlike": calibration}
    for bulk in (None, [1.0], [2.0, 1.0], ["a", "b"]):
        with pytest.raises(BadModel, match="no unit"):
            Calibration.from_json({"knots": [1.0] * len(RATES), "bulk": bulk})


@pytest.mark.parametrize(("pixel", "shape"), [(1.0, (32, 32, 1)), (2.0, (16, 16, 1)), (0.5, (64, 64, 1))])
def test_images_come_onto_pixels_of_the_model_in_place(pixel, shape):
    affine = np.array([[0, -1, 0, 5], [1, 0, 0, -7], [0, 0, 3, 2], [0, 0, 0, 1.0]])
    volume = Volume(digit("0", 0).array - 500, affine, {})
    prepared = prepare_images(volume, pixel)
    assert prepared.voxels.shape == shape and prepared.mask.all() and prepared.dims == 2
    ends = np.array([[-0.5, -0.5, -0.5, 1], [n - 0.5 for n in shape] + [1]]).T
    whole = np.array([[-0.5, -0.5, -0.5, 1], [31.5, 31.5, 0.5, 1]]).T
    np.testing.assert_allclose(prepared.grid.affine @ ends, affine @ whole, atol=1e-9)
    assert prepared.grid.cell_ml == pytest.approx(3 * pixel**2 / 1000)
    low, high = np.percentile(prepared.voxels, [1, 99])
    assert (low, high) == (pytest.approx(0, abs=1e-3), pytest.approx(2 * MEDIAN, abs=1e-3))
    np.testing.assert_allclose(prepared.voxels * prepared.scale + prepared.offset < 600, True)
    for value in (None, "1", 0.0):
        with pytest.raises(BadModel, match="pixels"):
            pixel_of({"pixel": value})


@pytest.mark.slow
def test_the_way_that_finds_most_is_chosen_and_told(model, scan):
    prepared = prepare(scan)
    choice = choose_shown(model, [prepared], each=1)
    rows, shown = choice.ways, choice.shown
    first = dataclasses.replace(shown, handicap=Shown.handicap, agreement=0.0)
    assert first == rows[0]["shown"] and rows == sorted(rows, key=lambda row: (-row["found"], -row["mean"]))
    assert len(rows) == 56 and all(0 <= row[kind] <= 1 for row in rows for kind in KINDS)
    assert shown == choice.joins[0]["shown"]
    assert choice.joins[0]["kept"] > max(row["kept"] for row in choice.joins) - 0.01
    assert choice.rule == choice.rules[0]["rule"] == rule_of(choice.to_json())
    assert f"{rows[0]['mean']:.3f}" in in_words(choice) and f"{choice.rules[0]['mean']:.3f}" in in_words(choice)
    assert len(choice.tried().splitlines()) == len(rows) + len(choice.joins) + len(choice.rules)
    one, other = (drawn_case(prepared, "bright", [1, 2])[1] for _ in range(2))
    np.testing.assert_array_equal(one, other)


@pytest.fixture(scope="module")
def normals(tmp_path_factory):
    folder = tmp_path_factory.mktemp("normals")
    for seed in range(2):
        head((5.0, 5.0, 5.0), seed=seed)[0].save(folder / f"{seed}.nii.gz")
    (folder / "broken.nii.gz").write_bytes(b"nothing")
    Volume(np.random.default_rng(0).random((1, 20, 20, 20)), np.eye(4)).save(folder / "no-brain.nii.gz")
    return folder


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.mark.slow
def test_local_normals_calibrate_a_model_again_and_its_weights_stay(model, normals, tmp_path, capsys):
    output = tmp_path / "local model"
    before = json.dumps(model.bundle.calibration)
    assert run("calibrate", normals, "--model", model.bundle.folder, "--output", output, "--device", "cpu") == 0
    told = capsys.readouterr()
    assert "calibrated on 2 normal scans" in told.out
    for said in ("broken.nii.gz is left out", "no-brain.nii.gz is left out: no brain", "Only 2 scans"):
        assert said in told.err
    made = read_bundle(output)
    assert made.sha256 == model.bundle.sha256 and made.name == "local-model"
    assert len(made.calibration["cases"]) == 2 and json.dumps(made.calibration) != before
    assert any("2 normal scans" in limit for limit in made.limits) and "Calibrated again" in made.card
    head((5.0, 5.0, 5.0), seed=7)[0].save(tmp_path / "scan.nii.gz")
    report = tmp_path / "report.json"
    assert run("anomaly", tmp_path / "scan.nii.gz", tmp_path / "map.nii.gz", "--model", output, "--report", report) == 0
    assert "of 2 normal scans" in capsys.readouterr().out
    found = json.loads(report.read_text())
    assert found["case_normals"] == 2 and found["case_percentile"] is None
    assert found["above_threshold"] == pytest.approx(0.01, abs=0.01)
    again = tmp_path / "again"
    assert run("calibrate", normals, "--model", output, "--output", again, "--device", "cpu") == 0
    assert read_bundle(again).card.count("Calibrated again") == 1


@pytest.mark.parametrize(
    ("folder", "named", "output", "said"),
    [("nowhere", "MODEL", "out", "no folder"), ("EMPTY", "MODEL", "out", "no scan"), ("EMPTY", "mr-denoise", "out",
     "denoise"), ("EMPTY", "MODEL", "other", "other things"), ("EMPTY", "nothing", "out", "nothing")],
)  # fmt: skip
def test_what_cannot_be_calibrated_is_one_line_and_leaves_nothing(
    model, folder, named, output, said, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "EMPTY").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "kept.txt").write_text("kept")
    named = str(model.bundle.folder) if named == "MODEL" else named
    assert run("calibrate", folder, "--model", named, "--output", output) == 2
    assert said in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["EMPTY", "other"]


def test_a_calibration_that_is_cancelled_leaves_the_old_model(model, normals, tmp_path):
    from MedAELib.anomaly.calibrate import calibrated_again
    from MedAELib.errors import Cancelled

    output = tmp_path / "model"
    shutil.copytree(model.bundle.folder, output)
    before = (output / "configs" / "metadata.json").read_bytes()

    def cancel(stage: str, done: int, total: int) -> None:
        if stage == "Calibrating" and done:
            raise Cancelled

    with pytest.raises(Cancelled):
        calibrated_again(normals, str(output), output, "cpu", cancel)
    assert (output / "configs" / "metadata.json").read_bytes() == before
    with pytest.raises(BadInput, match="no folder"):
        calibrated_again(tmp_path / "nowhere", str(output), output, "cpu", cancel)
