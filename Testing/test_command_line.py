"""The command line as a user meets it: results, reports, and one line and exit status 2 for whatever is wrong."""

import io
import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from generated_bodies import body
from models import save_small_model

from MedAELib import Volume
from MedAELib.__main__ import main

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def model(tmp_path_factory) -> str:
    folder = tmp_path_factory.mktemp("models") / "small"
    save_small_model(folder)
    return str(folder)


@pytest.fixture
def scan(tmp_path) -> Path:
    array = np.random.default_rng(0).normal(40, 100, (1, 20, 18, 12)).astype("int16")
    array[:, :6] = -1000
    Volume(array, np.diag([-1, -1, 3, 1.0])).save(tmp_path / "scan.nii.gz")
    return tmp_path / "scan.nii.gz"


def run(*arguments: object) -> int:
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def test_denoise_writes_result_removed_noise_and_report(scan, model, tmp_path, capsys):
    out, removed, report = tmp_path / "out.nrrd", tmp_path / "removed.nii.gz", tmp_path / "report.json"
    options = ["--model", model, "--device", "cpu", "--tile", "16", "--strength", "0.7"]
    assert run("denoise", scan, out, *options, "--removed", removed, "--report", report) == 0
    before, after, difference = Volume.load(scan), Volume.load(out), Volume.load(removed)
    assert after.array.dtype == before.array.dtype
    assert np.abs(after.affine - before.affine).max() < 1e-5
    assert np.array_equal(before.array - difference.array, after.array)
    told = json.loads(report.read_text())
    assert {"seconds", "device", "tile", "noise_before", "noise_after", "model_sha256", "strength"} <= set(told)
    assert told["strength"] == 0.7 and told["tile"] == [16, 16, 12]
    assert str(out) in capsys.readouterr().out
    assert {p.name for p in tmp_path.iterdir()} == {"scan.nii.gz", "out.nrrd", "removed.nii.gz", "report.json"}


def test_a_ct_with_1024_added_needs_a_word_and_is_then_denoised_as_in_hounsfield_units(tmp_path, capsys):
    neck = body()[0]
    hounsfield = neck.array.clip(-1024)
    raised = Volume((hounsfield + 1024).astype("uint16"), neck.affine)
    Volume(hounsfield, neck.affine).save(tmp_path / "neck.nii.gz")
    raised.save(tmp_path / "raised.nii.gz")
    assert run("denoise", tmp_path / "raised.nii.gz", tmp_path / "out.nrrd") == 2
    said = capsys.readouterr().err
    assert "raised looks like a CT with 1024 added to its Hounsfield units" in said and said.count("\n") == 1
    assert "name one for CT" in said and not (tmp_path / "out.nrrd").exists()
    options = ["--model", "ct-denoise", "--device", "cpu", "--precision", "float32", "--passes", "1"]
    assert run("denoise", tmp_path / "raised.nii.gz", tmp_path / "raised.nrrd", *options) == 0
    assert "denoising takes that into account" in capsys.readouterr().err
    assert run("denoise", tmp_path / "neck.nii.gz", tmp_path / "neck.nrrd", *options) == 0
    there = Volume.load(tmp_path / "neck.nrrd").array.clip(-1024)  # unsigned values end at 0
    assert np.abs(Volume.load(tmp_path / "raised.nrrd").array.astype(int) - 1024 - there).max() <= 1


def test_a_fresh_process_works_from_any_folder(scan, model, tmp_path):
    command = [sys.executable, "-m", "MedAELib", "denoise", scan, tmp_path / "o.mha", "--model", model]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT), "PATH": ""}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "o.mha").is_file()


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["sharpen"],
        ["denoise"],
        ["denoise", "absent.nii.gz", "out.nrrd"],
        ["denoise", "{scan}", "out.xyz"],
        ["denoise", "{scan}", "absent/out.nrrd"],
        ["denoise", "{scan}", "{scan}"],
        ["denoise", "{scan}", "{folder}"],
        ["denoise", "{folder}", "out.nrrd"],
        ["denoise", "{text}", "out.nrrd"],
        ["denoise", "{empty}", "out.nrrd"],
        ["denoise", "{scan}", "out.nrrd", "--model", "absent"],
        ["denoise", "{scan}", "out.nrrd", "--model", "{folder}"],
        ["denoise", "{scan}", "out.nrrd", "--device", "cuda:77"],
        ["denoise", "{scan}", "out.nrrd", "--device", "toaster"],
        ["denoise", "{scan}", "out.nrrd", "--precision", "int4"],
        ["denoise", "{scan}", "out.nrrd", "--tile", "-3"],
        ["denoise", "{scan}", "out.nrrd", "--tile", "many"],
        ["denoise", "{scan}", "out.nrrd", "--strength", "2"],
        ["denoise", "{scan}", "out.nrrd", "--strength", "nan"],
        ["denoise", "{scan}", "out.nrrd", "--series", "x"],
        ["denoise", "{scan}", "out.nrrd", "--removed", "out.nrrd"],
        ["denoise", "{scan}", "out.nrrd", "--removed", "removed.xyz"],
        ["denoise", "{scan}", "out.nrrd", "--report", "absent/report.json"],
        ["denoise", "{scan}", "out.nrrd", "--report", "report.txt"],
        ["denoise", "{scan}", "out.nrrd", "--trust", "trust.xlsx"],
        ["denoise", "x" * 300, "out.nrrd"],
        ["denoise", "", "out.nrrd"],
        ["denoise", "{scan}", ""],
        ["denoise", "{scan}", "out.nrrd", "--report", ""],
        ["compress", "", "out.maez"],
        ["info", ""],
        ["train", "", "--output", "out"],
        ["features", "{scan}", "", "out.csv"],
        ["models"],
        ["models", "check", "absent"],
        ["models", "check", "{folder}"],
    ],
    ids=lambda arguments: " ".join(arguments)[:60] or "nothing",
)
def test_whatever_is_wrong_is_one_line_and_exit_status_2(arguments, scan, model, tmp_path, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("folder", "text.nii.gz", "empty.nrrd"):
        (tmp_path / name).mkdir() if name == "folder" else (tmp_path / name).write_text("hello" * name.startswith("t"))
    names = {
        "scan": scan,
        "folder": tmp_path / "folder",
        "text": tmp_path / "text.nii.gz",
        "empty": tmp_path / "empty.nrrd",
    }
    files = {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()}
    if "--model" not in arguments and arguments[:2] == ["denoise", "{scan}"]:
        arguments = [*arguments, "--model", model]
    assert run(*[argument.format(**names) for argument in arguments]) == 2
    told = capfd.readouterr()
    assert told.out == ""
    assert len(told.err.strip().splitlines()) == 1, told.err
    assert "Traceback" not in told.err
    assert {p: p.read_bytes() for p in tmp_path.rglob("*") if p.is_file()} == files


def test_a_fault_in_the_middle_leaves_nothing_and_no_traceback(scan, model, tmp_path, capsys, monkeypatch):
    from MedAELib.engine.run import Engine

    def broken(*_):
        raise RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory")

    monkeypatch.setattr(Engine, "run", broken)
    assert run("denoise", scan, tmp_path / "out.nrrd", "--model", model) == 2
    assert not (tmp_path / "out.nrrd").exists()
    assert "memory" in capsys.readouterr().err


@pytest.mark.parametrize("command", [["denoise", "in.nrrd", "out.nrrd"], ["models", "list"]], ids=" ".join)
def test_an_unknown_option_leads_to_the_help_of_its_command(command, capsys):
    assert run(*command, "--frob") == 2
    name = " ".join(word for word in command if "." not in word)
    assert f"unrecognized arguments: --frob (see python -m MedAELib {name} --help)" in capsys.readouterr().err


def test_a_fault_does_not_stand_behind_the_progress_on_a_terminal(scan, model, tmp_path, monkeypatch):
    from MedAELib.engine.run import Engine

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def broken(self, network, source, window, sink, progress, deviations=0):
        progress(1, 4)
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "run", broken)
    monkeypatch.setattr("sys.stderr", Terminal())
    assert run("denoise", scan, tmp_path / "out.nrrd", "--model", model, "--device", "cpu") == 2
    lines = sys.stderr.getvalue().split("\r")
    assert any(" %, " in line for line in lines)
    assert lines[-1].startswith("medae: ") and not lines[-2].strip()


def test_an_interrupt_ends_quietly(scan, model, tmp_path, monkeypatch):
    from MedAELib.engine.run import Engine

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "run", interrupted)
    assert run("denoise", scan, tmp_path / "out.nrrd", "--model", model) == 130
    assert not (tmp_path / "out.nrrd").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no polite signal")
def test_a_request_to_end_while_a_result_is_written_leaves_no_part_of_it(model, tmp_path):
    scan, folder = tmp_path / "scan.nii", tmp_path / "results"
    Volume(np.random.default_rng(0).normal(500, 50, (1, 96, 96, 80)), np.eye(4)).save(scan)  # slow to compress
    folder.mkdir()
    command = [
        sys.executable,
        "-m",
        "MedAELib",
        "denoise",
        str(scan),
        str(folder / "out.nii.gz"),
        "--model",
        str(model),
    ]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stderr=subprocess.PIPE, text=True)
    while not list(folder.iterdir()) and process.poll() is None:
        time.sleep(0.002)
    process.terminate()
    said = process.communicate(timeout=60)[1]
    assert process.returncode == 130
    assert said.splitlines()[-1] == "medae: cancelled; no file is half-written"
    assert list(folder.iterdir()) == []


def test_models_are_listed_and_checked(capsys, model):
    assert run("models", "list") == 0
    listed = capsys.readouterr().out
    assert all(f"{name}\t" in listed for name in ("ct-denoise", "mr-denoise", "ct-mr-codec"))
    assert run("models", "check") == 0
    assert "ct-mr-codec\tis whole" in capsys.readouterr().out
    assert run("models", "check", model) == 0
    assert "small\tis whole" in capsys.readouterr().out


def test_the_codecs_model_is_checked_by_its_name_and_takes_no_other_work(scan, tmp_path, capsys):
    assert run("models", "check", "ct-mr-codec") == 0
    assert run("denoise", scan, tmp_path / "out.nrrd", "--model", "ct-mr-codec") == 2
    assert "does nothing but compress" in capsys.readouterr().err


def test_without_a_named_model_the_one_that_fits_is_taken(scan, tmp_path):
    report = tmp_path / "report.json"
    assert run("denoise", scan, tmp_path / "out.nrrd", "--report", report) == 0
    assert json.loads(report.read_text())["model"] == "ct-denoise"


def test_a_volume_that_fits_no_model_is_refused_with_the_models_there_are(tmp_path, capsys):
    values = np.random.default_rng(0).integers(-9, 0, (1, 8, 8, 8)).astype(np.int16)
    Volume(values, np.eye(4)).save(tmp_path / "negative.nrrd")
    assert run("denoise", tmp_path / "negative.nrrd", tmp_path / "out.nrrd") == 2
    assert "mr-denoise" in capsys.readouterr().err


@pytest.mark.parametrize("option", ["", "--removed", "--noise"])
def test_a_format_that_cannot_hold_the_result_is_told_before_the_work(
    scan, model, tmp_path, capsys, monkeypatch, option
):
    from MedAELib.engine.run import Engine

    monkeypatch.setattr(Engine, "run", None)
    flat = tmp_path / "flat.png"
    Volume(np.zeros((1, 20, 18, 1), "int16" if not option else "uint16"), np.eye(4)).save(tmp_path / "flat.nrrd")
    for source, why in ((scan, "one slice"), (tmp_path / "flat.nrrd", "does not hold")):
        outputs = [tmp_path / "out.nrrd", option, flat] if option else [flat]
        assert run("denoise", source, *outputs, "--model", model) == 2
        assert f"{flat} cannot be written: .png" in (told := capsys.readouterr().err) and why in told
    assert {path.name for path in tmp_path.iterdir()} == {"scan.nii.gz", "flat.nrrd"}


@pytest.mark.skipif(not Path("/proc/self").is_dir(), reason="this system has no folder that nobody can write to")
def test_a_report_that_cannot_be_written_is_refused_before_any_work(scan, model, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(Volume, "load", None)
    assert run("denoise", scan, tmp_path / "out.nrrd", "--model", model, "--report", "/proc/report.json") == 2
    assert "/proc/report.json cannot be written" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["scan.nii.gz"]
