"""What a training does to folders: it deletes nothing of the user's, and no two trainings share a work folder."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from train_tools import arguments, run, shrink_patches
from volumes import write_volumes

from MedAELib import Model
from MedAELib.archive import check_replaceable
from MedAELib.bundle import read_bundle
from MedAELib.errors import BadInput
from MedAELib.library import rename_model
from MedAELib.training import resuming
from MedAELib.training.federated.command import _free
from MedAELib.training.workplace import Workplace

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("data") / "scans")


@pytest.fixture(autouse=True)
def small_patches(monkeypatch) -> None:
    shrink_patches(monkeypatch)


def _all(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in sorted(folder.rglob("*"))}


def _options(*more: object) -> list[object]:
    return [*arguments("plain"), "--dims", 2, *more]


def _told(capfd) -> str:
    (line,) = [line for line in capfd.readouterr().err.strip().splitlines() if "note:" not in line]
    return line


@pytest.mark.parametrize("steps", [1, 0])
def test_scans_in_a_folder_that_is_called_as_the_work_folder_would_be_are_left_alone(steps, tmp_path, capfd):
    scans = write_volumes(tmp_path / "lungs.training")
    before = _all(tmp_path)
    assert run("train", scans, *_options("--steps", steps), "--output", tmp_path / "lungs") == 2
    assert ("lie in each other" if steps else "0 steps cannot be trained") in _told(capfd)
    assert _all(tmp_path) == before


def test_a_work_folder_that_holds_the_scans_or_lies_among_them_is_refused(tmp_path, capfd):
    inner = write_volumes(tmp_path / "lungs.training" / "scans")
    (tmp_path / "link").symlink_to(inner)
    before = _all(tmp_path)
    for scans, output in ((inner, tmp_path / "lungs"), (tmp_path / "link", tmp_path / "lungs"), (inner, inner / "m")):
        assert run("train", scans, *_options("--steps", 1), "--output", output) == 2
        assert "lie in each other. Name a model outside the folder of volumes." in _told(capfd)
        assert _all(tmp_path) == before


def test_a_folder_of_something_else_is_no_work_folder(folder, tmp_path, capfd):
    notes = tmp_path / "m.training" / "plan.json"
    notes.parent.mkdir()
    notes.write_text('{"beams": 3}')
    for more in ([], ["--resume"], ["--network", "no such"]):
        assert run("train", folder, *_options("--steps", 1), *more, "--output", tmp_path / "m") == 2
        assert notes.read_text() == '{"beams": 3}' and list(tmp_path.rglob("*")) == [notes.parent, notes]
    assert "holds something else. Move it away" in capfd.readouterr().err


def test_what_the_user_put_into_the_work_folder_stays(folder, tmp_path, monkeypatch):
    from MedAELib.training import session

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    options = [folder, *_options("--steps", 2), "--output", tmp_path / "m"]
    with monkeypatch.context() as patch:
        patch.setattr(session, "write_model", interrupted)
        assert run("train", *options) == 130
    work = tmp_path / "m.training"
    assert {path.name for path in work.iterdir()} == {"plan.json", "last.pt", "history.json", "cache"}
    kept = [work / "notes.txt", work / "cache" / "figures.npy"]
    for path in kept:
        path.write_text("mine")
    assert run("train", *options, "--resume") == 0
    assert [path for path in sorted(work.rglob("*")) if path.is_file()] == sorted(kept)


def test_what_a_training_that_was_killed_early_left_is_in_nobodys_way(folder, tmp_path):
    work = tmp_path / "m.training"
    for name in ("training.lock", ".medae-0123456789abcdef.pt", "cache/00009.npy"):
        (work / name).parent.mkdir(parents=True, exist_ok=True)
        (work / name).touch()
    assert run("train", folder, *_options("--steps", 1), "--output", tmp_path / "m") == 0
    assert not work.exists()


def test_a_work_folder_has_one_training_at_a_time(folder, tmp_path, capfd):
    first, second = (Workplace(tmp_path / "m.training") for _ in range(2))
    first.take(folder, False)
    with pytest.raises(BadInput, match="A training is at work in"):
        second.take(folder, False)
    second.remove()
    assert (tmp_path / "m.training").is_dir()
    for name in ("last.pt", "plan.json"):
        (tmp_path / "m.training" / name).write_text('{"network": "plain", "steps": 1, "folder": ""}')
    for more in ([], ["--resume"]):
        before = _all(tmp_path)
        assert run("train", folder, *_options("--steps", 1), *more, "--output", tmp_path / "m") == 2
        assert "A training is at work in" in _told(capfd)
        assert _all(tmp_path) == before
    first.remove()
    assert list(tmp_path.iterdir()) == []
    second.take(folder, False)
    second.remove()
    assert list(tmp_path.iterdir()) == []


HOLD = """
import sys, time
from pathlib import Path
from MedAELib.training.workplace import Workplace
place = Workplace(Path(sys.argv[1]))
place.take(None, False)
print("taken", flush=True)
time.sleep(60)
"""


def test_a_process_that_is_killed_lets_its_work_folder_go(folder, tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(tmp_path / "work")], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout.readline() == "taken\n"
        with pytest.raises(BadInput, match="at work"):
            Workplace(tmp_path / "work").take(folder, False)
        process.kill()
    place = Workplace(tmp_path / "work")
    place.take(folder, False)
    place.remove()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_second_command_leaves_a_running_training_alone(folder, tmp_path):
    """Also under torchrun, where the first process has the work folder."""
    (tmp_path / "bare").mkdir()
    options = [*map(str, _options("--steps", 100_000)), "--output", str(tmp_path / "m")]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [sys.executable, *torchrun, "-m", "MedAELib", "train", str(folder), *options]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "OMP_NUM_THREADS": "1"}, stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 200
        while not (tmp_path / "m.training" / "plan.json").is_file():
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.05)
        for more in (["train", tmp_path / "bare"], ["train", folder], ["train", folder, "--resume"]):
            assert run(*more, *options) == 2
        assert {"plan.json", "cache", "training.lock"} <= {path.name for path in (tmp_path / "m.training").iterdir()}
    finally:
        process.terminate()
        process.wait()


def _model(folder: Path, tmp_path: Path) -> Path:
    assert run("train", folder, *_options("--steps", 1), "--output", tmp_path / "m") == 0
    return tmp_path / "m"


def test_only_a_model_with_nothing_else_in_its_folder_is_replaced(folder, tmp_path, capfd):
    out = _model(folder, tmp_path)
    (out / ".DS_Store").touch()
    assert run("train", folder, *_options("--steps", 1), "--output", out) == 0
    model, options = Model.load(out), [folder, *_options("--steps", 1), "--output", out]

    def refused(*told: str) -> None:
        before = _all(tmp_path)
        for command in (["train", *options], ["federate", "collect", tmp_path, "--output", out]):
            capfd.readouterr()
            assert run(*command) == 2
            line = _told(capfd)
            assert all(text in line for text in told), line
        with pytest.raises(BadInput, match=told[0]):
            model.save(
                out, name="m", description="d", card="c", licence="l", figures={}, limits=[], training_data=[]
            )  # fmt: skip
        assert _all(tmp_path) == before

    for name in ("results/figures.csv", "models/model.pt"):
        path = out / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("mine")
        refused("besides the model, which would be lost", "Move it away")
        path.unlink()
    shutil.rmtree(out / "results", ignore_errors=True)
    metadata = out / "configs" / "metadata.json"
    metadata.write_text('{"version": "0.1.0", "task": "of another program"}')
    refused("something else, or a model that is damaged", "no 'medae' section", "Name a new folder")


def test_a_model_is_not_renamed_away_from_what_else_is_in_its_folder(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("MEDAE_MODELS", str(tmp_path))
    bundle = read_bundle(_model(folder, tmp_path))
    (bundle.folder / "figures.csv").write_text("mine")
    with pytest.raises(BadInput, match=r"holds figures\.csv besides the model"):
        rename_model(bundle, "other")
    (bundle.folder / "figures.csv").unlink()
    assert rename_model(bundle, "other").name == "other" and not bundle.folder.exists()


def test_a_new_or_empty_folder_takes_a_model(tmp_path):
    check_replaceable(tmp_path / "new")
    check_replaceable(tmp_path)
    (tmp_path / "file").touch()
    for path in (tmp_path, tmp_path / "file"):
        with pytest.raises(BadInput):
            check_replaceable(path)


def test_the_words_of_a_federation_that_failed_go_where_no_file_is(tmp_path):
    for name in ("m.log", "m-2.log", "m-3.log"):
        path = _free(tmp_path / "m.log")
        assert path.name == name
        path.touch()


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--output", "."], "'.' is no name of a new folder"),
        (["--output", ".."], "'..' is no name of a new folder"),
        (["--output", "/"], "'/' is no name of a new folder"),
        (["--output", "m", "--seed", 100_000_000_000_000], "The seed cannot be above 1000000000000."),
        (["--output", "m", "--set", "out_channels=2"], "learns from one channel at a time"),
        (["--output", "m", "--set", "in_channels=2"], "learns from one channel at a time"),
        (["--output", "m", "--set", "in_channels=2", "--set", "out_channels=2"], "learns from one channel at a time"),
        (["--output", "m", "--network", "fusion", "--set", "modalities=3"], "would take 3 modalities, but 1 is named"),
    ],
)
def test_what_no_training_can_be_made_of_is_told_in_a_sentence(more, told, folder, tmp_path, capfd, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert run("train", folder, *_options("--steps", 1), *more) == 2
    assert told in _told(capfd)
    assert list(tmp_path.rglob("*")) == [tmp_path / "here"]


def test_the_largest_seed_trains(folder, tmp_path):
    for name in ("plain", "denoising"):
        options = [*arguments(name), "--dims", 2, "--steps", 2, "--seed", 1_000_000_000_000]
        assert run("train", folder, *options, "--output", tmp_path / name) == 0


def test_another_number_of_processes_does_not_resume(tmp_path, monkeypatch):
    options = argparse.Namespace(
        **dict.fromkeys(resuming._SETTINGS), folder=None, table=None, steps=3, minutes=None, resume=False
    )
    kept = {**resuming.settings(options, tmp_path), "parts": {}}
    (tmp_path / "plan.json").write_text(json.dumps(kept))
    options.resume = True
    assert resuming.settings(options, tmp_path)["steps"] == 3
    monkeypatch.setattr(resuming, "rank_and_world", lambda: (0, 3))
    with pytest.raises(BadInput, match="was started with 1 process and not 3") as refusal:
        resuming.settings(options, tmp_path)
    assert refusal.value.next_step == "Resume it with as many: one process, without torchrun."
    (tmp_path / "plan.json").write_text(json.dumps({name: kept[name] for name in kept if name != "processes"}))
    assert resuming.settings(options, tmp_path)["steps"] == 3  # earlier versions did not keep it
