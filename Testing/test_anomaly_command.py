"""`python -m MedAELib anomaly`: files, table and report; what is wrong is one line and leaves nothing."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
from anomaly_tools import on_few_cells, tiny_normative
from generated_heads import CENTRE, head, with_ball

from MedAELib.__main__ import main
from MedAELib.anomaly.names import OTHERS, STEPS
from MedAELib.anomaly.prepare import prepare_images
from MedAELib.anomaly.shown import COMBINED, TOGETHER
from MedAELib.bundle import bundled_models
from MedAELib.volume import Volume


@pytest.fixture(autouse=True)
def few_cells(monkeypatch) -> None:
    on_few_cells(monkeypatch)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    path = tmp_path_factory.mktemp("scan") / "scan.nii.gz"
    with_ball(head((3.0, 3.0, 3.0))[0], CENTRE + [-30.0, 10.0, 15.0], 12.0, 250.0)[0].save(path)
    return path


def run(*arguments) -> int:
    return main([str(argument) for argument in arguments])


def test_map_regions_labels_and_report_are_written(scan, tmp_path, capsys):
    paths = {name: tmp_path / name for name in ("map.nii.gz", "regions.csv", "labels.nrrd", "report.json")}
    status = run(
        "anomaly", scan, paths["map.nii.gz"], "--model", "none", "--regions", paths["regions.csv"],
        "--segmentation", paths["labels.nrrd"], "--report", paths["report.json"], "--rate", "0.005", "--least", "1",
        "--others", tmp_path, "--steps", tmp_path / "steps",
    )  # fmt: skip
    told = capsys.readouterr()
    assert status == 0
    assert "1 region brighter than the rest" in told.out and "unlike the training data" not in told.out
    source, made, labels = (Volume.load(path) for path in (scan, paths["map.nii.gz"], paths["labels.nrrd"]))
    for volume in (made, labels, Volume.load(tmp_path / "contrast.nii.gz")):
        np.testing.assert_allclose(volume.affine, source.affine, atol=1e-4)
        assert volume.shape == source.shape
    steps = {path.name.removesuffix(".nii.gz"): Volume.load(path) for path in (tmp_path / "steps").iterdir()}
    check_steps(steps, source, Volume.load(tmp_path / "contrast.nii.gz").array != 0)
    report = json.loads(paths["report.json"].read_text())
    rows = list(csv.DictReader(paths["regions.csv"].open()))
    assert len(rows) == report["regions"] == labels.array.max() >= 1
    assert rows[0]["side"] == "left" and rows[0]["brightness"] == "brighter"
    assert rows[0]["sharpest_map"] in OTHERS and float(rows[0]["sharpest_z"]) >= float(rows[0]["peak_z"])
    assert report["threshold_z"] == pytest.approx(2.576, abs=1e-3)
    assert report["model"] == "none"


def check_steps(steps, source, looked_at) -> None:
    """Mask, uneven brightness and prepared scan lie on the scan's own voxels and belong together."""
    assert set(steps) == set(STEPS)
    for volume in steps.values():
        np.testing.assert_allclose(volume.affine, source.affine, atol=1e-4)
    mask, field, seen = (steps[name].array for name in STEPS)
    assert mask.dtype == np.uint8 and set(np.unique(mask)) == {0, 1}
    assert looked_at[mask == 1].mean() > 0.99
    assert np.median(seen[mask == 1]) == pytest.approx(0.5, abs=0.02) and seen.max() > 0.5
    inside = (mask == 1) & (source.array > np.median(source.array[mask == 1]) / 2)
    ratio = source.array[inside] / (seen * field)[inside]
    assert np.median(np.abs(ratio / np.median(ratio) - 1)) < 0.1


def test_a_table_with_another_ending_is_refused_before_any_work(tmp_path, capfd):
    with pytest.raises(SystemExit, match="2"):
        run("anomaly", tmp_path / "none.nii", tmp_path / "map.nii", "--regions", tmp_path / "regions.xlsx")
    assert "regions.xlsx does not end in .csv" in capfd.readouterr().err and not list(tmp_path.iterdir())


def test_a_scan_without_regions_gives_a_table_with_names_only(scan, tmp_path):
    table = tmp_path / "regions.csv"
    assert run("anomaly", scan, tmp_path / "map.nii", "--model", "none", "--least", "5000", "--regions", table) == 0
    assert table.read_text().startswith("number,volume_ml,") and table.read_text().count("\n") == 1


def test_what_no_model_can_tell_is_left_out_and_the_rest_is_written(scan, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("MedAELib.tasks.run_anomaly.bundled_models", lambda task: [])
    result, typical = tmp_path / "map.nii.gz", tmp_path / "typical.nii.gz"
    assert run("anomaly", scan, result, "--typical", typical, "--least", "1") == 0
    assert f"{typical} was not written" in capsys.readouterr().out
    assert result.exists() and not typical.exists()


def test_residual_and_the_map_of_its_size_are_two_files(scan, tmp_path):
    tiny_normative(tmp_path / "model", told=0.1)
    result, others, residual = (tmp_path / name for name in ("map.nii.gz", "others", "residual.nii.gz"))
    options = "--model", tmp_path / "model", "--residual", residual, "--others", others
    assert run("anomaly", scan, result, *options) == 0
    found, z = Volume.load(residual).array, Volume.load(others / "residual.nii.gz").array
    assert found.min() < -12 and found.max() > 12  # in the scan's unit, and signed
    assert 0 < np.abs(z).max() <= 12
    written = {path.name.removesuffix(".nii.gz") for path in others.iterdir()}
    assert written == {"residual", "bright", "contrast", "asymmetry"} <= set(OTHERS)


def test_the_regions_of_an_image_can_be_a_png(tmp_path, monkeypatch):
    image = np.random.default_rng(1).normal(100, 5, (1, 64, 64, 1)).astype(np.float32)
    image[0, 20:28, 30:38] = 300
    Volume(image, np.eye(4)).save(tmp_path / "image.nii.gz")
    monkeypatch.setattr("MedAELib.tasks.run_anomaly.prepared_for", lambda volume, model: prepare_images(volume, 1.0))
    labels = tmp_path / "labels.png"
    paths = tmp_path / "image.nii.gz", tmp_path / "map.nii.gz"
    assert run("anomaly", *paths, "--model", "none", "--least", "0", "--segmentation", labels) == 0
    made = Volume.load(labels)
    assert made.array.dtype == np.uint8 and made.array[0, 24, 34, 0] == 1 and made.array[0, 5, 5, 0] == 0


def test_every_map_of_the_bundled_models_has_a_file_of_its_own():
    for bundle in bundled_models("anomaly"):
        assert set(bundle.calibration["maps"]) - {COMBINED, TOGETHER} <= set(OTHERS)


@pytest.mark.parametrize("name", ["contrast", "smooth", "residual"])
def test_no_other_map_takes_the_place_of_the_scan(name, scan, tmp_path, capsys):
    path = tmp_path / f"{name}.nii.gz"
    path.write_bytes(scan.read_bytes())
    assert run("anomaly", path, tmp_path / "map.nii.gz", "--model", "none", "--others", tmp_path) == 2
    assert f"{path} is the input itself" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [path] and path.read_bytes() == scan.read_bytes()


@pytest.mark.parametrize(
    "arguments",
    [["D/asymmetry.nii.gz"], ["map.nii.gz", "--residual", "D/residual.nii.gz"],
     ["map.nii.gz", "--segmentation", "D/../D/bright.nii.gz"], ["S/mask.nii.gz", "--steps", "S"]],
)  # fmt: skip
def test_no_other_map_takes_the_place_of_another_result(arguments, scan, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert run("anomaly", scan, *arguments, "--others", "D") == 2
    assert "same file" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.nii", "out.nii"], "missing.nii"),
        (["SCAN", "out.txt"], "out.txt"),
        (["SCAN", "SCAN"], "input itself"),
        (["SCAN", "out.png", "--model", "none"], ".png holds one slice"),
        (["SCAN", "out.nii", "--rate", "2", "--model", "none"], "rate"),
        (["SCAN", "out.nii", "--least", "-1", "--model", "none"], "smallest region"),
        (["SCAN", "out.nii", "--least", "nan", "--model", "none"], "smallest region"),
        (["SCAN", "out.nii", "--model", "none", "--typical", "typical.nii"], "typical"),
        (["SCAN", "out.nii", "--model", "mr-denoise"], "denoise"),
        (["SCAN", "out.nii", "--model", "nowhere"], "nowhere"),
        (["SCAN", "out.nii", "--others", "nowhere/deeper"], "nowhere"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(arguments, said, scan, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    before = scan.read_bytes()
    assert run("anomaly", *(str(scan) if word == "SCAN" else word for word in arguments)) == 2
    told = capfd.readouterr()
    last = told.err.strip().splitlines()[-1]
    assert last.startswith("medae: ") and said in last
    assert "Traceback" not in told.err
    assert list(tmp_path.iterdir()) == []
    assert scan.read_bytes() == before
