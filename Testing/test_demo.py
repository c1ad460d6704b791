"""The demo, run as run.py runs it, on a small head: volumes, pictures and report, through the real panel and worker."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from demo.judge import judge
from demo.report import markdown
from phantom import Phantom, add_noise, head

from MedAELib.volume import Volume

ROOT = Path(__file__).resolve().parents[1]
PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture(scope="module")
def small_head() -> Phantom:
    return head("CT", seed=2, shape=(72, 88, 40), spacing=(2.6, 2.6, 4.5))


def run_demo(*arguments: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "Testing")])}
    command = [sys.executable, "-m", "demo", *arguments]
    return subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, encoding="utf-8", timeout=200)


@pytest.mark.slow
def test_demo_denoises_a_given_volume_and_writes_what_the_readme_says(small_head: Phantom, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nii.gz"
    noisy = add_noise(small_head, 25.0)
    Volume(noisy[np.newaxis], small_head.affine).save(scan)
    output = tmp_path / "out"
    run = run_demo(str(scan), "--output", str(output))
    assert run.returncode == 0, run.stdout + run.stderr
    written = {path.name for path in output.iterdir()}
    assert written == {
        "input.nrrd",
        "denoised.nrrd",
        "removed-noise.nrrd",
        "before-after.png",
        "panel.png",
        "report.json",
        "report.md",
    }
    denoised, removed = Volume.load(output / "denoised.nrrd"), Volume.load(output / "removed-noise.nrrd")
    assert np.allclose(denoised.affine, small_head.affine, atol=1e-4)
    assert denoised.array.dtype == np.int16
    assert np.allclose(noisy - removed.array[0], denoised.array[0], atol=1.0)
    inside = (small_head.clean > 10) & (small_head.clean < 60)
    error = [np.std((scan - small_head.clean)[inside]) for scan in (noisy, denoised.array[0])]
    assert error[1] < 0.8 * error[0]
    for name in ("before-after.png", "panel.png"):
        assert (output / name).read_bytes().startswith(PNG)
    report = json.loads((output / "report.json").read_text(encoding="utf-8"))
    assert not report["slicer_process_imported_torch"]
    assert report["run"]["noise_after"] < report["run"]["noise_before"]
    assert len(report["provenance"]["modelSHA256"]) == 64


@pytest.mark.parametrize("case", ["text", "truncated"])
def test_a_volume_that_cannot_be_read_ends_with_one_sentence(case: str, small_head: Phantom, tmp_path: Path) -> None:
    scan = tmp_path / "scan.nrrd"
    if case == "text":
        scan.write_text("this is no image")
    else:
        Volume(add_noise(small_head)[np.newaxis], small_head.affine).save(scan)
        scan.write_bytes(scan.read_bytes()[:2000])
    run = run_demo(str(scan), "--output", str(tmp_path / "out"))
    assert run.returncode == 2
    assert "Traceback" not in run.stderr
    assert "scan.nrrd" in run.stderr
    assert not list((tmp_path / "out").glob("*.nrrd"))


def test_judging_the_truth_itself_finds_no_error_and_full_contrast(small_head: Phantom) -> None:
    noisy = add_noise(small_head, 25.0)
    figures = judge(small_head, noisy, small_head.clean)
    for row in figures["psnr_db"]:
        assert row["denoised"] > 100 > row["gaussian"] > row["noisy"]
    assert all(row["denoised"] == row["true"] for row in figures["lesions"])
    assert abs(figures["mean_shift"]) < 2


def test_the_report_says_what_is_proven_and_what_is_not(small_head: Phantom) -> None:
    run = {
        "model": "m", "model_version": "1", "model_sha256": "0" * 64, "device": "cpu", "precision": "float32",
        "tile": 64, "noise_before": 20.0, "noise_after": 5.0, "units": "HU", "warnings": ["Take care."],
    }  # fmt: skip
    page = markdown(
        {
            "input": "x",
            "size": "1 x 1 x 1",
            "spacing": "1 x 1 x 1",
            "seconds": 1.0,
            "run": run,
            "longest_stall_seconds": 0.01,
            "longest_import_stall_seconds": 0.02,
            "truth": judge(small_head, add_noise(small_head), small_head.clean),
        }
    )
    wanted = ("20 → 5 HU", "Take care.", "## What this proves", "## What it does not", "| MedAE |", "all soft tissue")
    for text in wanted:
        assert text in page
