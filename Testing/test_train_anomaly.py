"""`train --task anomaly` as a user meets it: from a folder of normal scans to a model that the anomaly task takes."""

from __future__ import annotations

import json

import numpy as np
import pytest
import SimpleITK as sitk
import torch
from anomaly_tools import on_few_cells
from drawn_digits import DIGITS, digit, write_digits
from generated_heads import head
from scipy.ndimage import uniform_filter
from train_tools import run

from MedAELib.anomaly.case_score import percentile
from MedAELib.anomaly.prepare import prepare
from MedAELib.model import Model
from MedAELib.tasks.anomaly import anomaly
from MedAELib.training import anomaly as recipe
from MedAELib.training import anomaly_model
from MedAELib.training.anomalies import KINDS
from MedAELib.training.glimpse import typical_slice
from MedAELib.training.scans import scans_in

TINY = ["--task", "anomaly", "--device", "cpu", "--set", "channels=4", "--set", "levels=1"]


@pytest.fixture(scope="module")
def zeros(tmp_path_factory):
    return write_digits(tmp_path_factory.mktemp("data") / "zeros", "0", 6)


def test_images_make_a_model_of_images_that_works_at_once(zeros, tmp_path, capsys):
    output = tmp_path / "zeros"
    assert run("train", zeros, *TINY, "--steps", 4, "--output", output) == 0
    told = capsys.readouterr().out
    assert "training: 4 volumes, validation: 1 volume, test: 1 volume" in told
    assert "held out average precision" in told
    model = Model.load(output)
    assert (model.spec.network, model.spec.task, model.spec.dims) == ("normative", "anomaly", 2)
    assert set(KINDS) < set(model.bundle.figures) and "chosen on anomalies drawn into tuning scans" in model.bundle.card
    assert model.bundle.calibration["pixel"] == 1.0 and len(model.bundle.calibration["cases"]) == 1
    digit("7", 3).save(tmp_path / "seven.nii.gz")
    report, image = tmp_path / "report.json", tmp_path / "map.nii.gz"
    assert run("anomaly", tmp_path / "seven.nii.gz", image, "--model", output, "--report", report, "--least", 0) == 0
    assert json.loads(report.read_text())["region_looked_at"] == "the image"
    assert {path.name for path in tmp_path.iterdir()} == {"zeros", "seven.nii.gz", "report.json", "map.nii.gz"}
    again = tmp_path / "again"
    assert run("calibrate", zeros, "--model", output, "--output", again, "--device", "cpu") == 0
    assert len(Model.load(again).bundle.calibration["cases"]) == 6


@pytest.mark.parametrize("ending", [".png", ".tif", ".jpg"])
def test_pictures_make_and_calibrate_a_model_of_images_and_colour_is_left_out(ending, tmp_path, capsys):
    folder, output = tmp_path / "pictures", tmp_path / "model"
    folder.mkdir()
    for number in range(4):
        grey = np.clip(digit("0", number).array / 4, 0, 255).astype(np.uint8)
        sitk.WriteImage(sitk.GetImageFromArray(grey[0, :, :, 0]), str(folder / f"{number}{ending}"))
    colours = sitk.GetImageFromArray(np.repeat(grey[0, :, :, :], 3, 2), isVector=True)
    sitk.WriteImage(colours, str(folder / f"colours{ending}"))
    assert run("train", folder, *TINY, "--steps", 2, "--output", output) == 0
    told = capsys.readouterr()
    assert f"colours{ending} is left out: it is a colour image" in told.err + told.out
    assert Model.load(output).spec.dims == 2
    assert run("calibrate", folder, "--model", output, "--output", tmp_path / "again", "--device", "cpu") == 0
    told = capsys.readouterr()
    assert "calibrated on 4 normal scans" in told.out and f"colours{ending} is left out" in told.err


def test_pictures_beside_volumes_are_no_scans(tmp_path):
    digit("0", 0).save(tmp_path / "scan.nii.gz")
    (tmp_path / "thumbnail.png").write_bytes(b"no scan")
    assert [scan.name for scan in scans_in(tmp_path, print)] == ["scan.nii.gz"]


def test_what_is_shown_while_it_learns_is_a_dark_place_and_the_typical_slice_that_lacks_it():
    model = Model.load("brain-t1-anomaly")
    scan = prepare(head()[0])
    picture = typical_slice(scan, model.network, torch.device("cpu"))(model.network)
    shown, typical = np.split(picture, 2)
    assert shown.shape[0] <= scan.mask.shape[0] and 0 <= picture.min() < picture.max() <= 1
    untouched = typical_slice(scan, model.network, torch.device("cpu"))(torch.nn.Identity())
    np.testing.assert_allclose(untouched, np.concatenate([shown, shown]), atol=1e-6)
    dark = uniform_filter(shown, 5) < 0.2
    dark &= uniform_filter(typical, 5) > 0.4
    assert dark.sum() > 20  # pixels of the place, about 10 across


@pytest.mark.slow
def test_heads_make_a_model_of_brains(tmp_path, monkeypatch):
    on_few_cells(monkeypatch)
    monkeypatch.setattr(recipe, "EDGE", 16)
    monkeypatch.setattr(anomaly_model, "_TRIED", 1)
    folder = tmp_path / "heads"
    folder.mkdir()
    for seed in range(2):
        head((6.0, 6.0, 6.0), seed=seed)[0].save(folder / f"{seed}.nii.gz")
    assert run("train", folder, *TINY, "--steps", 2, "--output", tmp_path / "model") == 0
    model = Model.load(tmp_path / "model")
    assert model.spec.dims == 3 and model.bundle.calibration["gate"]["brain"] == [1.0]
    assert model.bundle.calibration["shown"]["mirrored"] is True
    assert any("only two subjects" in limit for limit in model.bundle.limits)
    found = anomaly(head((6.0, 6.0, 6.0), seed=1)[0], model)
    assert found.report["case_normals"] == 1 and 0 <= found.report["above_threshold"] < 0.1


def test_the_seed_repeats_the_weights(zeros, tmp_path):
    for name in ("one", "other"):
        assert run("train", zeros, *TINY, "--steps", 2, "--seed", 3, "--output", tmp_path / name) == 0
    one, other = (Model.load(tmp_path / name).bundle for name in ("one", "other"))
    assert one.sha256 == other.sha256 and one.calibration == other.calibration


def test_a_training_that_was_interrupted_is_resumed_and_ends_as_an_unbroken_one(zeros, tmp_path, monkeypatch):
    options = [*TINY, "--steps", 6, "--seed", 5]
    assert run("train", zeros, *options, "--output", tmp_path / "whole") == 0
    original = anomaly_model.batches

    def breaking(*given):
        def batch(step):
            if step == 4:
                raise KeyboardInterrupt
            return original(*given)(step)

        return batch

    with monkeypatch.context() as patch:
        patch.setattr(anomaly_model, "batches", breaking)
        assert run("train", zeros, *options, "--output", tmp_path / "broken") == 130
    assert not (tmp_path / "broken").exists() and (tmp_path / "broken.training" / "last.pt").is_file()
    assert run("train", zeros, *options, "--output", tmp_path / "broken", "--resume") == 0
    whole, broken = (Model.load(tmp_path / name).bundle for name in ("whole", "broken"))
    assert whole.sha256 == broken.sha256 and whole.calibration == broken.calibration


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "either --network NAME or --task anomaly"),
        (["--task", "anomaly", "--network", "plain"], "either --network NAME or --task anomaly"),
        (["--task", "anomaly", "--corrupt", "holes"], "does not take --corrupt"),
        (["--task", "anomaly", "--learn-from", "repeats"], "does not take --learn-from"),
        (["--task", "anomaly", "--subject", "zeros", "--steps", "1"], "One subject is not enough"),
        (["--task", "anomaly", "--dims", "3", "--steps", "1"], "cannot be learned from"),
        (["--task", "anomaly", "--set", "channels=0", "--steps", "1"], "channels"),
    ],
)
def test_what_cannot_be_trained_is_one_line_and_leaves_nothing(arguments, said, zeros, tmp_path, capsys, monkeypatch):
    def refuse(volume):
        raise anomaly_model.BadInput("it is no head.")

    monkeypatch.setattr(anomaly_model, "prepare", refuse)
    subjects = ["--subject", "0-"] if "--subject" in arguments else []
    assert run("train", zeros, "--output", tmp_path / "model", *arguments, *subjects) == 2
    assert said in capsys.readouterr().err.strip().splitlines()[-1]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_other_digits_are_less_usual_than_the_digit_that_was_learned(tmp_path, monkeypatch):
    monkeypatch.setattr(recipe, "EDGE", 24)  # the digits are 32 pixels along: larger patches are mostly empty
    zeros = write_digits(tmp_path / "zeros", "0", 40)
    output = tmp_path / "model"
    options = ["--task", "anomaly", "--device", "cpu", "--set", "channels=12", "--patience", 0]
    assert run("train", zeros, *options, "--steps", 300, "--output", output) == 0
    model = Model.load(output)
    found = {
        kind: [anomaly(digit(kind, 1000 + n), model, least_ml=0).report for n in range(10)] for kind in DIGITS
    }
    usual = np.array([report["case_score"] for report in found["0"]])
    assert np.mean([percentile(score, model.bundle.calibration["cases"]) for score in usual]) < 90
    for kind in DIGITS[1:]:
        other = np.array([report["case_score"] for report in found[kind]])
        assert (other[:, None] > usual).mean() > 0.9  # the area under the curve of the scores
        assert np.median([report["above_threshold"] for report in found[kind]]) > 0.025
    assert np.median([report["above_threshold"] for report in found["0"]]) < 0.02
