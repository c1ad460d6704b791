"""Noise map and trust figures as a user asks for them: by the task and by the command line."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from models import save_small_model, small_model
from phantom import add_noise, head
from trust_scans import organs, scan

from MedAELib import Volume
from MedAELib.__main__ import main
from MedAELib.engine.run import Engine
from MedAELib.errors import BadModel, Cancelled
from MedAELib.model import Model
from MedAELib.tasks.denoise import denoise, denoised_again
from MedAELib.tasks.run import run_task
from MedAELib.tasks.seen import see
from MedAELib.tasks.trust import conclusion, trust

CPU = {"device": "cpu", "precision": "float32"}
COLUMNS = ["name", "value", "unit", "verdict", "explanation"]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_small_model(folder)
    return str(folder)


@pytest.fixture(scope="module")
def plain(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "plain"
    save_small_model(folder, network="plain")
    return str(folder)


def small(frames: int = 1) -> Volume:
    noisy = scan("CT", (24, 24, 24)).volume.array.astype(np.int16)
    return Volume(np.repeat(noisy, frames, 0), np.eye(4), {"name": "scan", "modality": "CT", "frames": frames > 1})


def run(volume: Volume, model: str, **wanted: Any) -> Any:
    progress = wanted.pop("progress", lambda *_: None)
    return run_task("denoise", {"input": volume}, {"model": model, **CPU, **wanted}, progress=progress)


def test_the_report_holds_figures_and_verdict_only_when_they_are_asked_for(model):
    report = run(small(), model, trust=True).report
    assert [list(row) for row in report["trust"]] == [COLUMNS] * len(report["trust"]) and len(report["trust"]) > 3
    assert report["verdict"].endswith(".")
    figures = {row["name"]: row["value"] for row in report["trust"]}
    assert (figures["Noise before"], figures["Noise after"]) == (report["noise_before"], report["noise_after"])
    json.dumps(report, allow_nan=False)
    assert not {"trust", "verdict", "noise_map"} & set(run(small(), model).report)


def test_the_map_is_an_output_only_when_it_is_asked_for(model):
    volume = small()
    both = run(volume, model, noise=True, trust=True)
    assert set(both.outputs) == {"denoised", "noise"}
    assert set(run(volume, model, trust=True).outputs) == {"denoised"}
    assert both.outputs["noise"].array.dtype == np.float32
    assert both.outputs["noise"].meta["provenance"]["model_sha256"] == both.report["model_sha256"]
    assert run(volume, model, trust=True).report["trust"] == both.report["trust"]


def test_the_same_voxels_come_with_and_without_map_and_figures(model):
    volume = small()
    without, both = run(volume, model), run(volume, model, noise=True, trust=True)
    assert np.array_equal(without.outputs["denoised"].array, both.outputs["denoised"].array)
    for told in ("tile", "tiles", "halvings", "noise_before", "noise_after"):
        assert without.report[told] == both.report[told]


def test_the_map_of_a_sequence_says_what_it_is(model):
    result = run(small(3), model, noise=True)
    assert result.outputs["noise"].channels == 1
    assert result.report["noise_map"] == "root mean square over 3 frames"


def test_strength_zero_removes_nothing_and_says_so(model):
    assert run(small(), model, trust=True, strength=0).report["verdict"].startswith("Nothing was removed")


def test_a_model_without_a_noise_level_gives_no_map_but_figures(plain):
    with pytest.raises(BadModel, match="cannot tell how strong the noise is"):
        run(small(), plain, noise=True)
    assert run(small(), plain, trust=True).report["verdict"]


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 40, 30, 1), (1, 6, 5, 4)])
def test_tiny_and_flat_volumes_give_a_report(model, shape):
    array = np.random.default_rng(0).normal(50, 20, shape).astype(np.int16)
    report = run(Volume(array, np.eye(4)), model, trust=True, noise=True).report
    assert report["trust"] and report["verdict"]


def test_progress_covers_the_judging_and_may_cancel_there(model):
    seen = []
    run(small(), model, trust=True, progress=lambda stage, done, total: seen.append((stage, done, total)))
    assert ("Judging the result", 5, 5) in seen

    def stop(stage: str, done: int, total: int) -> None:
        if stage == "Judging the result":
            raise Cancelled

    with pytest.raises(Cancelled):
        run(small(), model, trust=True, progress=stop)


def test_denoising_again_gives_what_the_task_gave_at_any_strength_and_tells_how_far_it_is():
    volume, model, seen = scan("CT", (24, 24, 24)).volume, small_model(), []
    for strength in (1.0, 0.4):
        expected = denoise(volume, model, strength=strength, engine=Engine(**CPU), passes=2).array[0]
        again = denoised_again(model, (0.0, 1000.0), strength, 2, Engine(**CPU), lambda *told: seen.append(told))
        assert np.abs(again(volume.array[0]) - expected).max() < 1e-3
    assert seen[-1] == ("Denoising a test", 24**3, 24**3)


def test_what_is_left_of_uneven_noise_is_told_where_all_is_seen_in_the_unit_of_the_quiet_part():
    random, clean = np.random.default_rng(5), organs((64, 64, 64))
    level = np.where(np.arange(64) < 32, 25.0, 75.0)[:, None, None]
    noisy = np.hypot(clean + level * random.normal(size=clean.shape), level * random.normal(size=clean.shape))
    volume = Volume(noisy[None].astype(np.float32), np.eye(4), {"name": "scan", "modality": "MR"})
    model = Model.load("mr-denoise")
    seen = see(volume, model)
    results = {
        uneven: denoise(volume, model, engine=Engine(**CPU), passes=1, seen=how)
        for uneven, how in ((True, seen), (False, replace(seen, field=None)))
    }
    for uneven, result in results.items():
        figures = trust(volume, result, lambda voxels: voxels)
        told = next(figure for figure in figures if figure.name == "Noise left where it is strongest")
        error = (result.array[0] - clean)[36:].std()
        assert (told.verdict == "good") == uneven
        assert uneven or told.value == pytest.approx(100 * error / 75, abs=15)
        assert ("noise left where it is strongest" in conclusion(figures)) != uneven


# ---- the command line ----


def command(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


@pytest.fixture
def file(tmp_path) -> Path:
    small().save(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def test_the_command_line_writes_map_table_and_report(file, model, tmp_path, capsys):
    noise, table, report = tmp_path / "noise.nrrd", tmp_path / "trust.csv", tmp_path / "report.json"
    options = ["--model", model, "--device", "cpu", "--noise", noise, "--trust", table, "--report", report]
    assert command("denoise", file, tmp_path / "out.nii.gz", *options) == 0
    with table.open(newline="", encoding="utf-8") as text:
        rows = list(csv.DictReader(text))
    told = json.loads(report.read_text())
    assert list(rows[0]) == COLUMNS
    assert [row["name"] for row in rows] == [row["name"] for row in told["trust"]]
    for row, entry in zip(rows, told["trust"], strict=True):
        assert (float(row["value"]) if row["value"] else None) == entry["value"]
    assert told["verdict"] in capsys.readouterr().out
    written = Volume.load(noise)
    assert written.array.dtype == np.float32 and written.shape == small().shape
    assert np.abs(written.affine - Volume.load(file).affine).max() < 1e-5


def test_the_help_tells_of_map_and_table(capsys):
    assert command("denoise", "--help") == 0
    told = capsys.readouterr().out
    assert "--noise FILE" in told and "--trust FILE.csv" in told


@pytest.mark.parametrize(
    "options",
    [
        ["--noise", "out.nii.gz"],
        ["--noise", "noise.xyz"],
        ["--noise", "absent/noise.nrrd"],
        ["--trust", "absent/trust.csv"],
        ["--trust", "."],
        ["--trust", "scan.nii.gz"],
    ],
    ids=" ".join,
)
def test_a_place_that_cannot_be_written_is_one_line_before_any_work(
    options, file, model, tmp_path, capsys, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    assert command("denoise", file, "out.nii.gz", "--model", model, *options) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]


def test_a_model_that_tells_no_noise_is_refused_in_one_line(file, plain, tmp_path, capsys):
    assert command("denoise", file, tmp_path / "o.nrrd", "--model", plain, "--noise", tmp_path / "n.nrrd") == 2
    said = capsys.readouterr().err.strip()
    assert "cannot tell how strong the noise is" in said and "\n" not in said


def test_a_ct_with_1024_added_is_judged_as_the_same_scan():
    noisy = np.rint(add_noise(head("CT", 3, (64, 64, 32), (3.2, 3.2, 5.0)), 40.0)).astype(np.int16)
    told = []
    for added in (0, 1024):
        volume = Volume(noisy[None] + np.int16(added), np.eye(4), {"name": "scan", "modality": "CT"})
        told.append(run(volume, "ct-denoise", trust=True, passes=1).report)
    assert "1024" in " ".join(told[1]["warnings"])
    assert [report["units"] for report in told] == ["HU", "HU"] and told[0]["verdict"] == told[1]["verdict"]
    for one, other in zip(told[0]["trust"], told[1]["trust"], strict=True):
        assert (one["name"], one["unit"], one["verdict"]) == (other["name"], other["unit"], other["verdict"])
        assert (one["value"] is None) == (other["value"] is None)
        assert one["value"] is None or one["value"] == pytest.approx(other["value"], rel=0.02, abs=0.02)
