"""Scores in the scan's own unit or in that of the normal scans; and a model that says of itself that it is weak."""

from __future__ import annotations

import json
from collections.abc import Iterator

import numpy as np
import pytest
from anomaly_tools import on_few_cells, tiny_normative
from generated_heads import head

from MedAELib.__main__ import main
from MedAELib.anomaly.calibration import Calibration, calibrations
from MedAELib.anomaly.case_score import case_scores_of
from MedAELib.anomaly.names import POPULATION, SCAN
from MedAELib.anomaly.normals import learn_normals
from MedAELib.anomaly.prepare import prepare
from MedAELib.anomaly.shown import Shown
from MedAELib.bundle import bundled_models, read_bundle
from MedAELib.errors import BadInput, BadModel
from MedAELib.model import Model
from MedAELib.tasks.anomaly import anomaly
from MedAELib.tasks.run import run_task
from MedAELib.volume import Volume

SHOWN = Shown(("contrast", "asymmetry"), "sum", 1.0, False, ("smooth",), 0.5, 1.0)
WEAK = "Not good enough to help: it was made for a test."


@pytest.fixture(scope="module", autouse=True)
def few_cells() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        on_few_cells(patch)
        yield


@pytest.fixture(scope="module")
def scan() -> Volume:
    return head((5.0, 5.0, 5.0))[0]


@pytest.fixture(scope="module")
def other(scan) -> Volume:
    """The same head from a scanner with more noise everywhere."""
    noise = np.random.default_rng(1).normal(0, 60, scan.array.shape)
    return scan.like((scan.array + noise * (scan.array > 60)).astype(np.float32))


@pytest.fixture(scope="module")
def model(tmp_path_factory, scan) -> Model:
    made = tiny_normative(tmp_path_factory.mktemp("models") / "made", told=0.1)
    known = learn_normals(made, [prepare(scan), prepare(head((5.0, 5.0, 5.0), seed=1)[0])], SHOWN)
    texts = {"description": "For tests.", "card": "# For tests", "licence": "CC0\n", "weakness": WEAK}
    folder = tmp_path_factory.mktemp("models") / "weak"
    return made.save(folder, name="weak", figures={}, limits=["Few."], training_data=[], calibration=known, **texts)


def test_another_scanner_sets_off_alarms_in_the_unit_of_the_normal_scans_alone(model, scan, other):
    scans = prepare(scan), prepare(other)
    above = {
        calibration: [
            anomaly(volume, model, calibration=calibration, prepared=prepared).report["above_threshold"]
            for volume, prepared in zip((scan, other), scans, strict=True)
        ]
        for calibration in (SCAN, POPULATION)
    }
    assert above[SCAN] == [pytest.approx(0.01, abs=0.005), pytest.approx(0.01, abs=0.02)]
    assert above[POPULATION][0] == pytest.approx(0.01, abs=0.005)
    assert above[POPULATION][1] > 3 * max(above[SCAN][1], 0.01)


def test_a_scan_that_is_unlike_the_normal_ones_as_a_whole_is_told(model, scan, other):
    said = "the rate does not hold"
    for volume, calibration, expected in ((scan, POPULATION, False), (other, POPULATION, True), (other, SCAN, False)):
        warnings = anomaly(volume, model, calibration=calibration).report["warnings"]
        assert any(said in warning for warning in warnings) is expected


def test_every_map_of_the_population_has_one_unit_for_all_scans(model):
    known = model.bundle.calibration
    own, one = calibrations(known), calibrations(known[POPULATION])
    assert set(own) == set(one)
    assert all(each.bulk is None for each in own.values()) and all(each.bulk for each in one.values())
    assert len(case_scores_of(known[POPULATION])) == len(case_scores_of(known)) == 2
    score = np.random.default_rng(0).random((20, 20, 20)).astype(np.float32)
    mask = np.ones(score.shape, bool)
    pooled = Calibration.of([(score, mask)], own_bulk=False)
    assert pooled.z(3 * score, mask).mean() > pooled.z(score, mask).mean() + 1  # and not brought to its own unit
    np.testing.assert_allclose(Calibration.of([(score, mask)]).z(3 * score, mask).mean(), 0, atol=0.1)


def test_report_and_terminal_say_in_whose_unit_the_threshold_is(model, other, tmp_path, capsys):
    other.save(tmp_path / "scan.nii.gz")
    told = {}
    for calibration in (SCAN, POPULATION):
        report = tmp_path / f"{calibration}.json"
        options = ["--model", str(model.bundle.folder), "--calibration", calibration, "--report", str(report)]
        assert main(["anomaly", str(tmp_path / "scan.nii.gz"), str(tmp_path / "map.nii.gz"), *options]) == 0
        found, said = json.loads(report.read_text()), capsys.readouterr()
        assert found["calibration"] == calibration and found["threshold"] in said.out
        assert found["threshold"].startswith("1 % of normal tissue lies above z 2.33")
        assert f"medae: note: The card of weak says: {WEAK}" in said.err and found["warnings"][0].endswith(WEAK)
        told[calibration] = found
    assert "its own unit" in told[SCAN]["threshold"]
    assert "the model's 2 normal scans: what makes the whole of this scan" in told[POPULATION]["threshold"]
    assert told[POPULATION]["case_score"] != told[SCAN]["case_score"]


def test_without_a_choice_it_is_the_scans_own_unit(model, other):
    parameters = {"model": str(model.bundle.folder), "device": "cpu"}
    made = run_task("anomaly", {"input": other}, parameters, progress=lambda *_: None)
    assert made.report["calibration"] == SCAN
    np.testing.assert_array_equal(made.outputs["anomaly"].array, anomaly(other, model, calibration=SCAN).map.array)


def test_a_model_that_does_not_hold_it_is_refused_in_a_sentence(scan, tmp_path, capsys):
    tiny_normative(tmp_path / "older")
    scan.save(tmp_path / "scan.nii.gz")
    before = sorted(path.name for path in tmp_path.iterdir())
    arguments = ["anomaly", str(tmp_path / "scan.nii.gz"), str(tmp_path / "map.nii.gz"), "--calibration", POPULATION]
    assert main([*arguments, "--model", str(tmp_path / "older")]) == 2
    assert "scores of normal scans in one unit" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    with pytest.raises(BadInput, match="Without a model no normal scans are known"):
        anomaly(scan, None, calibration=POPULATION)
    with pytest.raises(BadInput, match="'own' is not known"):
        anomaly(scan, None, calibration="own")
    with pytest.raises(BadModel, match="one unit"):
        anomaly(scan, Model.load(tmp_path / "older"), calibration=POPULATION)


def test_where_no_model_fits_a_note_says_that_the_unit_is_the_scans_own(scan, monkeypatch):
    monkeypatch.setattr("MedAELib.tasks.run_anomaly.bundled_models", lambda task: [])
    report = run_task("anomaly", {"input": scan}, {"calibration": POPULATION}, progress=lambda *_: None).report
    assert report["calibration"] == SCAN and "nominal" in report["threshold"]
    assert any("scores are in this scan's own unit" in told for told in report["warnings"])


def test_the_bundled_models_of_volumes_hold_both_and_only_the_weak_one_says_so():
    for bundle in bundled_models("anomaly"):
        assert set(calibrations(bundle.calibration[POPULATION])) == set(calibrations(bundle.calibration))
        assert len(case_scores_of(bundle.calibration[POPULATION])) == len(case_scores_of(bundle.calibration))
        assert bundle.weakness == ("" if bundle.name == "brain-t1-anomaly" else bundle.limits[0])
    assert any(bundle.weakness.startswith("Not good enough") for bundle in bundled_models("anomaly"))


def test_a_weakness_that_is_no_text_is_refused(model, tmp_path):
    metadata = model.bundle.folder / "configs" / "metadata.json"
    before = metadata.read_text()
    try:
        metadata.write_text(before.replace(json.dumps(WEAK), "3"))
        with pytest.raises(BadModel, match="'weakness' must be a text"):
            read_bundle(model.bundle.folder)
    finally:
        metadata.write_text(before)


def test_the_common_unit_is_added_to_a_published_model_and_nothing_else_changes(model, scan, tmp_path, monkeypatch):
    from MedAELib.training import publish_anomaly as publish
    from MedAELib.training.anomaly_cohorts import Cohort

    name, whole = "brain-t1-anomaly", dict(model.bundle.calibration)
    scan.save(tmp_path / "one.nii.gz")
    head((5.0, 5.0, 5.0), seed=1)[0].save(tmp_path / "other.nii.gz")
    monkeypatch.setitem(publish.COHORTS, name, Cohort("MR", 4.0, (), ("one*", "other*"), ()))
    lacking = {key: value for key, value in whole.items() if key != POPULATION}
    folder, texts = tmp_path / "model", {"description": "For tests.", "card": "# For tests", "licence": "CC0\n"}
    before = model.save(
        folder, name=name, figures={"bright": {"unlike": 0.5}}, limits=["Few."], training_data=["One."],
        calibration=lacking, **texts,
    ).bundle  # fmt: skip
    assert publish.main(["--population", "--model", name, "--output", str(folder), "--data", str(tmp_path)]) == 0
    after = read_bundle(folder)
    assert {key: value for key, value in after.calibration.items() if key != POPULATION} == lacking
    assert set(after.calibration[POPULATION]["maps"]) == set(whole["maps"])
    assert (after.card, after.figures, after.training_data) == (before.card, before.figures, before.training_data)
    found, expected = (calibrations(known[POPULATION]) for known in (after.calibration, whole))
    for key, calibration in expected.items():
        np.testing.assert_allclose(found[key].knots, calibration.knots, rtol=0.02, atol=0.02)


def test_a_trained_model_that_finds_no_more_than_a_plain_map_says_that_it_is_weak():
    from MedAELib.training.anomalies import KINDS
    from MedAELib.training.anomaly_model import weakness_of

    def figures(combined: float, **maps: float) -> dict[str, dict[str, float]]:
        return {kind: {"combined": combined, "unlike": 0.9, "bright": 0.01, **maps} for kind in KINDS} | {"above": {}}

    assert weakness_of({}) == "" and weakness_of(figures(0.2, asymmetry=0.1)) == ""
    told = weakness_of(figures(0.1, asymmetry=0.1))
    assert told.startswith("Not good enough to help") and "asymmetry alone" in told and "0.100, 0.100" in told
