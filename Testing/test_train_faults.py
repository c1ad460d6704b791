"""Trainings that go wrong, are stopped or run in several processes: one line, nothing half-written, a way back."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from train_tools import arguments, run, shrink_patches
from volumes import write_volumes

from MedAELib import Model
from MedAELib.codec.one_thread import torch_alone

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("data") / "scans")


@pytest.fixture(autouse=True)
def small_patches(monkeypatch) -> None:
    shrink_patches(monkeypatch)


WRONG = {
    "no folder": ["train", "absent", "--network", "plain", "--output", "m"],
    "no volumes": ["train", "{bare}", "--network", "plain", "--output", "m"],
    "nothing usable": ["train", "{bad}", "--network", "plain", "--output", "m"],
    "no network": ["train", "{folder}", "--output", "m"],
    "unknown network": ["train", "{folder}", "--network", "magic", "--output", "m"],
    "no output": ["train", "{folder}", "--network", "plain"],
    "output is a file": ["train", "{folder}", "--network", "plain", "--output", "{file}"],
    "output is no model": ["train", "{folder}", "--network", "plain", "--output", "{folder}"],
    "output below a file": ["train", "{folder}", "--network", "plain", "--output", "{file}/m"],
    "output blocked": ["train", "{folder}", "--network", "plain", "--output", "blocked"],
    "output too long": ["train", "{folder}", "--network", "plain", "--output", "m" * 300],
    "output nowhere": ["train", "{folder}", "--network", "plain", "--output", "absent/m"],
    "dense in 3D": ["train", "{folder}", "--network", "dense", "--dims", "3", "--output", "m"],
    "no steps": ["train", "{folder}", "--network", "plain", "--steps", "0", "--output", "m"],
    "no minutes": ["train", "{folder}", "--network", "plain", "--minutes", "-1", "--output", "m"],
    "both": ["train", "{folder}", "--network", "plain", "--minutes", "1", "--steps", "1", "--output", "m"],
    "negative seed": ["train", "{folder}", "--network", "plain", "--seed", "-1", "--output", "m"],
    "no device": ["train", "{folder}", "--network", "plain", "--device", "toaster", "--output", "m"],
    "odd argument": ["train", "{folder}", "--network", "plain", "--set", "channels", "--output", "m"],
    "unknown argument": ["train", "{folder}", "--network", "plain", "--set", "magic=1", "--output", "m"],
    "huge argument": ["train", "{folder}", "--network", "plain", "--set", "channels=[99999]", "--output", "m"],
    "unknown term": ["train", "{folder}", "--network", "plain", "--objective", "magic=1", "--output", "m"],
    "odd weight": ["train", "{folder}", "--network", "plain", "--objective", "mse=x", "--output", "m"],
    "no critic": ["train", "{folder}", "--network", "plain", "--objective", "mse=1,adversarial=1", "--output", "m"],
    "other network's term": ["train", "{folder}", "--network", "plain", "--objective", "kl=1", "--output", "m"],
    "unknown corruption": ["train", "{folder}", "--network", "plain", "--corrupt", "magic", "--output", "m"],
    "both ways": ["train", "{folder}", "--network", "plain", "--corrupt", "holes", "--learn-from", "blind-spot",
                  "--output", "m"],
    "denoising corrupted": ["train", "{folder}", "--network", "denoising", "--corrupt", "holes", "--output", "m"],
    "no repeats": ["train", "{folder}", "--network", "plain", "--learn-from", "repeats", "--output", "m"],
    "odd pattern": ["train", "{folder}", "--network", "plain", "--subject", "(", "--output", "m"],
    "condition of others": ["train", "{folder}", "--network", "plain", "--condition", "age", "--output", "m"],
    "modalities of others": ["train", "{folder}", "--network", "plain", "--modalities", "T1", "--output", "m"],
    "no table": ["train", "{folder}", "--network", "conditional", "--table", "absent.csv", "--output", "m"],
    "nothing to resume": ["train", "{folder}", "--network", "plain", "--resume", "--output", "m"],
}  # fmt: skip


@pytest.mark.parametrize("arguments", WRONG.values(), ids=WRONG)
def test_whatever_is_wrong_is_one_line_and_exit_status_2_and_nothing_is_written(
    arguments, folder, tmp_path, capfd, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "bare").mkdir()
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.nrrd").write_text("hello")
    (tmp_path / "file").touch()
    (tmp_path / "blocked.training").touch()
    names = {"folder": folder, "bare": tmp_path / "bare", "bad": tmp_path / "bad", "file": tmp_path / "file"}
    before = sorted(tmp_path.rglob("*"))
    assert run(*[argument.format(**names) for argument in arguments]) == 2
    errors = [line for line in capfd.readouterr().err.strip().splitlines() if "note:" not in line]
    assert len(errors) == 1, errors
    assert "Traceback" not in errors[0]
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("option", "step"),
    [(["--corrupt", "magic"], "Known are"), (["--objective", "magic=1"], "Known are"), (["--set", "magic=1"], "--set")],
)
def test_options_that_do_not_fit_are_told_before_any_volume_is_read(option, step, tmp_path, capfd):
    (tmp_path / "x.nrrd").write_text("no volume")
    assert run("train", tmp_path, "--network", "plain", *option, "--output", tmp_path / "m") == 2
    told = capfd.readouterr().err
    assert "'magic'" in told and step in told and "x.nrrd" not in told


@pytest.mark.parametrize(("network", "option"), [("fusion", "--modalities"), ("conditional", "--condition")])
def test_names_that_no_model_may_hold_are_told_before_any_volume_is_read(network, option, tmp_path, capfd):
    (tmp_path / "x.nrrd").write_text("no volume")
    assert run("train", tmp_path, "--network", network, option, "T1", "a\x1b[2J", "--output", tmp_path / "m") == 2
    told = capfd.readouterr().err
    assert "control characters" in told and "\x1b" not in told and "x.nrrd" not in told


@pytest.mark.parametrize(
    ("network", "objective", "told"),
    [
        ("plain", "kl=1", "The plain network does not give what the term kl needs."),
        ("quantised", "mse=1,kl=1", "The quantised network does not give what the term kl needs."),
        ("variational", "commitment=1", "The variational network does not give what the term commitment needs."),
        ("plain", "mse=1,adversarial=1", "The plain network does not give what the term adversarial needs."),
        ("plain", "mse=-1", "The weight -1 of mse is not above 0."),
        ("plain", "mse=0", "The weight 0 of mse is not above 0."),
        ("plain", "mse=nan", "The weight nan of mse is not above 0."),
        ("plain", "mse=1,l1=inf", "The weight inf of l1 is not finite."),
    ],
)
def test_terms_that_cannot_be_are_told_before_any_volume_is_read(network, objective, told, tmp_path, capfd):
    (tmp_path / "x.nrrd").write_text("no volume")
    options = ["--network", network, "--objective", objective, "--output", tmp_path / "m"]
    assert run("train", tmp_path, *options) == 2
    errors = capfd.readouterr().err
    assert told in errors and "x.nrrd" not in errors and len(errors.strip().splitlines()) == 1


def test_a_critic_of_images_and_blind_spots_are_told_before_any_volume_is_read(tmp_path, capfd):
    (tmp_path / "x.nrrd").write_text("no volume")
    options = ["--network", "adversarial", "--learn-from", "blind-spot", "--output", tmp_path / "m"]
    for objective in ([], ["--objective", "mse=1,adversarial=0.1"]):
        assert run("train", tmp_path, *options, *objective, "--set", "judged=image") == 2
        errors = capfd.readouterr().err
        assert "A critic of images" in errors and "x.nrrd" not in errors and len(errors.strip().splitlines()) == 1
    for fine in (["--set", "judged=code"], ["--set", "judged=image", "--objective", "mse=1"]):
        assert run("train", tmp_path, *options, *fine) == 2
        assert "A critic" not in capfd.readouterr().err


def test_an_output_that_cannot_be_written_is_refused_before_any_volume_is_read(folder, tmp_path, capfd, monkeypatch):
    """As without the right to write there, which an administrator always has."""
    usual = Path.open

    def refuse_new_files(path, mode="r", *arguments, **options):
        if mode == "xb":
            raise PermissionError(13, "Permission denied")
        return usual(path, mode, *arguments, **options)

    monkeypatch.setattr(Path, "open", refuse_new_files)
    assert run("train", folder, "--network", "plain", "--output", tmp_path / "m") == 2
    told = capfd.readouterr()
    assert told.err.strip().splitlines() == [
        f"medae: {tmp_path / 'm'} cannot be written: Permission denied. Choose a folder that you may write to."
    ]
    assert told.out == "" and list(tmp_path.iterdir()) == []


def _stop_at(monkeypatch, step: int, error: type[BaseException] = KeyboardInterrupt) -> None:
    from MedAELib.training import plan

    original = plan.batches

    def batches(*given):
        made = original(*given)

        def batch(number):
            if number == step:
                raise error
            return made(number)

        return batch

    monkeypatch.setattr(plan, "batches", batches)


def test_a_killed_training_resumes_to_the_same_weights_and_tidies_up(folder, tmp_path, monkeypatch, capsys):
    options = [folder, *arguments("adversarial"), "--dims", 2, "--steps", 12]
    assert run("train", *options, "--output", tmp_path / "whole") == 0
    with monkeypatch.context() as patch:
        _stop_at(patch, 7)
        assert run("train", *options, "--output", tmp_path / "m") == 130
    assert not (tmp_path / "m").exists() and (tmp_path / "m.training" / "last.pt").is_file()
    assert run("train", *options, "--output", tmp_path / "m") == 2
    assert "holds an interrupted training" in capsys.readouterr().err
    assert run("train", *options[:-1], 13, "--seed", 5, "--resume", "--output", tmp_path / "m") == 2
    assert "was started with seed 0 and not 5" in capsys.readouterr().err
    assert run("train", *options, "--resume", "--output", tmp_path / "m") == 0
    assert Model.load(tmp_path / "m").bundle.sha256 == Model.load(tmp_path / "whole").bundle.sha256
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "m"}


def _interrupted(monkeypatch, *options: object) -> None:
    with monkeypatch.context() as patch:
        _stop_at(patch, 7)
        assert run("train", *options) == 130


def test_a_training_is_not_resumed_with_other_volumes(tmp_path, monkeypatch, capsys):
    scans, out = write_volumes(tmp_path / "scans"), tmp_path / "m"
    options = [scans, *arguments("plain"), "--dims", 2, "--steps", 12, "--output", out]
    _interrupted(monkeypatch, *options)

    def refused() -> str:
        capsys.readouterr()
        assert run("train", *options, "--resume") == 2
        (told,) = capsys.readouterr().err.strip().splitlines()
        return told

    shutil.copy(scans / "subject0.nii.gz", scans / "subject9.nii.gz")
    assert "not those that the training began with: subject9.nii.gz is new. Put them back" in refused()
    (scans / "subject0.nii.gz").unlink()
    (scans / "subject9.nii.gz").rename(tmp_path / "kept.nii.gz")
    assert "subject0.nii.gz is gone" in refused()
    (tmp_path / "kept.nii.gz").rename(scans / "subject0.nii.gz")
    plan = tmp_path / "m.training" / "plan.json"
    kept = plan.read_text()
    swapped = kept.replace('"validation"', '"other"').replace('"test"', '"validation"').replace('"other"', '"test"')
    plan.write_text(swapped)
    assert "is in another part" in refused()
    plan.write_text(json.dumps({name: value for name, value in json.loads(kept).items() if name != "parts"}))
    assert "another version of MedAE" in refused()
    plan.write_text(kept)
    assert run("train", *options, "--resume") == 0


def test_a_training_is_not_resumed_with_another_length_or_table(folder, tmp_path, monkeypatch, capsys):
    table = tmp_path / "ages.csv"
    table.write_text("file,age\n" + "".join(f"subject{n}.nii.gz,{30 + 10 * n}\n" for n in range(4)))
    options = [folder, *arguments("conditional"), "--condition", "age", "--table", table, "--output", tmp_path / "m"]
    _interrupted(monkeypatch, *options, "--steps", 12)
    for length, told in (
        (["--steps", 13], "length 12 steps and not 13 steps"),
        (["--minutes", 1], "length 12 steps and not 1.0 minutes"),
        ([], "length 12 steps and not 2000 steps"),
    ):
        assert run("train", *options, *length, "--resume") == 2
        assert f"was started with {told}. Resume with the arguments" in capsys.readouterr().err
    kept = table.read_text()
    table.write_text(kept.replace("30", "31"))
    assert run("train", *options, "--steps", 12, "--resume") == 2
    assert "was started with table ages.csv" in capsys.readouterr().err
    table.write_text(kept)
    assert run("train", *options, "--steps", 12, "--resume") == 0


def test_a_training_by_minutes_is_resumed_with_the_same_minutes(folder, tmp_path, monkeypatch, capsys):
    from MedAELib.training import session

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    options = [folder, *arguments("plain"), "--dims", 2, "--output", tmp_path / "m"]
    with monkeypatch.context() as patch:
        patch.setattr(session, "write_model", interrupted)
        assert run("train", *options, "--minutes", 0.05) == 130
    assert run("train", *options, "--minutes", 9, "--resume") == 2
    assert "length 0.05 minutes and not 9.0 minutes" in capsys.readouterr().err
    assert run("train", *options, "--minutes", 0.05, "--resume") == 0


@pytest.mark.slow
def test_a_process_that_is_killed_resumes_to_the_same_weights(folder, tmp_path, monkeypatch):
    monkeypatch.undo()  # this process trains with the patches of the other
    options = ["train", folder, *arguments("plain"), "--dims", 2, "--steps", 60, "--output"]
    command = [sys.executable, "-m", "MedAELib", *map(str, options), str(tmp_path / "m")]
    # Sums depend on the number of threads.
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while not (tmp_path / "m.training" / "last.pt").is_file():
        assert process.poll() is None
        time.sleep(0.001)
    process.kill()
    process.wait()
    assert not (tmp_path / "m").exists()
    with torch_alone():
        assert run(*options, tmp_path / "m", "--resume") == 0
        assert run(*options, tmp_path / "whole") == 0
    assert Model.load(tmp_path / "m").bundle.sha256 == Model.load(tmp_path / "whole").bundle.sha256
    assert {path.name for path in tmp_path.iterdir()} == {"whole", "m"}


def test_ctrl_c_keeps_the_best_so_far_and_the_way_back(folder, tmp_path, monkeypatch, capsys):
    from MedAELib.training import session

    class Asked(session.Interrupt):
        def __call__(self, step):
            self.asked = self.asked or step == 4
            return super().__call__(step)

    with monkeypatch.context() as patch:
        patch.setattr(session, "Interrupt", Asked)
        assert run("train", folder, *arguments("plain"), "--steps", 9, "--output", tmp_path / "m") == 130
    assert "go on with --resume" in capsys.readouterr().err
    assert "stopped by hand after 4 of 9 steps" in Model.load(tmp_path / "m").bundle.card
    assert run("train", folder, *arguments("plain"), "--steps", 9, "--resume", "--output", tmp_path / "m") == 0
    assert "ran to its end" in Model.load(tmp_path / "m").bundle.card
    assert not (tmp_path / "m.training").exists()


def test_a_training_that_was_stopped_between_validations_resumes_to_the_same_weights(folder, tmp_path, monkeypatch):
    from MedAELib.training import session

    options = ["train", folder, *arguments("plain"), "--dims", 2, "--steps", 80, "--output"]
    assert run(*options, tmp_path / "whole") == 0
    for step, more in ((4, []), (10, ["--resume"])):

        class Asked(session.Interrupt):
            def __call__(self, number, step=step):
                self.asked = self.asked or number == step
                return super().__call__(number)

        with monkeypatch.context() as patch:
            patch.setattr(session, "Interrupt", Asked)
            assert run(*options, tmp_path / "m", *more) == 130
        assert f"after {step} of 80 steps. The weights are those of step" in Model.load(tmp_path / "m").bundle.card
    assert run(*options, tmp_path / "m", "--resume") == 0
    assert Model.load(tmp_path / "m").bundle.sha256 == Model.load(tmp_path / "whole").bundle.sha256


def test_an_interrupt_before_the_first_checkpoint_leaves_nothing(folder, tmp_path, monkeypatch):
    _stop_at(monkeypatch, 0)
    assert run("train", folder, *arguments("plain"), "--steps", 9, "--output", tmp_path / "m") == 130
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_and_a_diverging_loss_are_one_line_and_leave_no_half_model(folder, tmp_path, monkeypatch, capsys):
    from MedAELib.training import loop, plan

    options = ["train", folder, *arguments("plain"), "--steps", 40, "--output", tmp_path / "m"]
    with monkeypatch.context() as patch:

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        patch.setattr(loop.torch, "save", full)
        assert run(*options) == 2
        assert "could not be kept" in capsys.readouterr().err
        assert list(tmp_path.iterdir()) == []
    with monkeypatch.context() as patch:
        patch.setitem(plan.TERMS, "mse", lambda made, target, extras: made.mean() * float("nan"))
        for steps in (options[options.index("--steps") + 1], 3):  # a short one comes to its end, and to nothing
            options[options.index("--steps") + 1] = steps
            assert run(*options) == 2
            told = capsys.readouterr().err
            assert "diverged" in told and "last.pt" not in told and "another seed" in told
            assert list(tmp_path.iterdir()) == []
    assert not (tmp_path / "m").exists()


@pytest.mark.parametrize("error", [OSError("4224 requested and 0 written"), OSError(28, "No space left on device")])
def test_a_disk_that_is_full_before_the_training_is_told_as_such(error, folder, tmp_path, monkeypatch, capsys):
    def full(*_: object) -> None:
        raise error

    monkeypatch.setattr(np, "save", full)
    assert run("train", folder, *arguments("plain"), "--steps", 2, "--output", tmp_path / "m") == 2
    told = capsys.readouterr().err
    assert "could not be kept" in told and "the disk is full. Free some disk space" in told and "left out" not in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_two_processes_under_torchrun_write_the_model_of_one(folder, tmp_path, monkeypatch):
    monkeypatch.undo()  # this process trains with the patches of the others
    options = ["train", folder, *arguments("variational"), "--dims", "2", "--steps", "4"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    two = [*torchrun, "-m", "MedAELib", *options, "--output", tmp_path / "two"]
    done = subprocess.run(list(map(str, two)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert run(*options, "--output", tmp_path / "one") == 0
    first, second = (Model.load(tmp_path / name).network.state_dict() for name in ("one", "two"))
    for name, value in first.items():
        assert np.allclose(value.numpy(), second[name].numpy(), atol=1e-5), name
    assert {path.name for path in tmp_path.iterdir()} == {"one", "two"}
    assert json.loads((tmp_path / "two" / "configs" / "metadata.json").read_text())["medae"]["figures"]


@pytest.mark.slow
def test_more_processes_than_a_batch_has_samples_make_it_larger_and_say_so(folder, tmp_path):
    options = ["train", folder, *arguments("quantised"), "--dims", "3", "--steps", "2", "--output", tmp_path / "m"]
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "3"]
    three = [*torchrun, "-m", "MedAELib", *options]
    done = subprocess.run(list(map(str, three)), cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("3 processes share batches of 3 samples") == 1
    assert "3 processes shared batches of 3 samples." in (tmp_path / "m" / "docs" / "README.md").read_text()
