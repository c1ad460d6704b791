"""Long work of the codec: it tells how far it is, several times a second, and a cancel ends it soon."""

import json
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
from codec_tools import scan

from MedAELib import Volume
from MedAELib.__main__ import main
from MedAELib.codec import command, front_fit, predictive, residuals, subband_network, tuning, volumes
from MedAELib.codec.model_file import load_front_model
from MedAELib.codec.predictive import Grid
from MedAELib.codec.tuning import tune
from MedAELib.codec.volumes import Mode, compress
from MedAELib.errors import Cancelled


@pytest.fixture
def slowly(monkeypatch) -> list[float]:
    """Chunks of a volume that take half a second each, one after the other; when each began."""
    begun, encode = [], volumes._encode

    def slow(*arguments):
        begun.append(time.monotonic())
        time.sleep(0.5)
        return encode(*arguments)

    monkeypatch.setattr(volumes, "_encode", slow)
    monkeypatch.setattr(volumes, "encoders", lambda *_: 1)
    monkeypatch.setattr(volumes, "_CHUNK_VOXELS", 1000)
    return begun


def test_after_a_cancel_no_further_chunk_is_encoded(slowly):
    def stop(stage, done, total):
        if stage == "Compressing" and done:
            raise Cancelled

    with pytest.raises(Cancelled):
        compress(scan((9, 8, 160)), progress=stop)
    assert len(slowly) <= 3


def test_a_cancel_is_asked_for_while_a_chunk_is_encoded(slowly):
    told = []
    compress(scan((9, 8, 16)), progress=lambda *some: told.append(some))
    assert told.count(("Compressing", 0, 1)) >= 2 and ("Compressing", 1, 1) in told


@pytest.fixture
def chunk(monkeypatch) -> tuple[np.ndarray, Grid]:
    monkeypatch.setattr(tuning, "_WORTH_VOXELS", 0)
    monkeypatch.setattr(tuning, "_SAMPLES", 5000)
    monkeypatch.setattr(tuning, "_ROUNDS", 40)
    values = scan((40, 36, 10)).array[0].astype(np.float32)
    values -= values.min()
    return values, Grid(values.shape, (1, 1, 1), 0, int(values.max()), int(values.max()))


def test_tuning_tells_its_rounds(chunk):
    told = []
    tune(load_front_model().front, [chunk], chunk[0].size, lambda *some: told.append(some))
    rounds = [done for done, total in told if total == 40]
    assert len(rounds) == len(told) and rounds == sorted(rounds)
    assert set(rounds) == set(range(0, 41, 5)) and rounds.count(0) >= 3  # while voxels are looked at


@pytest.mark.parametrize("place", [1, 3, 6])
def test_tuning_ends_where_it_is_cancelled(chunk, place):
    told = []

    def stop(done, total):
        told.append(done)
        if len(told) == place:
            raise Cancelled

    with pytest.raises(Cancelled):
        tune(load_front_model().front, [chunk], chunk[0].size, stop)
    assert len(told) == place


def test_a_run_tells_of_the_tuning(monkeypatch, chunk):
    monkeypatch.setattr(volumes, "_FRONT_VOXELS", 0)
    told = []
    compress(Volume(scan((20, 18, 16)).array, np.eye(4)), progress=lambda *some: told.append(some))
    assert ("Tuning the model", 20, 40) in told


@pytest.mark.parametrize("terminal", [True, False])
def test_the_command_tells_how_far_it_is_beside_its_lines(terminal, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_SOON", 0.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    scan((9, 8, 7)).save(tmp_path / "a.nii.gz")
    assert main(["compress", str(tmp_path / "a.nii.gz"), str(tmp_path / "a.maez")]) == 0
    told = capsys.readouterr()
    assert json.loads(told.out)["bytes"] > 0
    assert (" s left" in told.err) == terminal


def test_short_work_tells_nothing_on_the_terminal(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "_SOON", 3600.0)
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True, raising=False)
    scan((9, 8, 7)).save(tmp_path / "a.nii.gz")
    assert main(["compress", str(tmp_path / "a.nii.gz"), str(tmp_path / "a.maez")]) == 0
    assert not capsys.readouterr().err.strip()


@pytest.mark.parametrize(
    ("mode", "home", "work"),
    [
        (Mode(), residuals, "code"),  # of lattices and of wave fronts
        (Mode(), predictive, "neighbours"),
        (Mode("max-error", 2), residuals, "code"),
        (Mode(), front_fit, "predict_front"),
        (Mode("psnr", 38), subband_network, "evaluate"),  # of the piece on which choices are tried
    ],
)
def test_a_cancel_does_not_wait_for_the_end_of_a_chunk_or_of_a_choice(monkeypatch, mode, home, work):
    begun, stopped, does = [], [], getattr(home, work)
    monkeypatch.setattr(volumes, "_FRONT_VOXELS", 0)

    def slow(*arguments):
        begun.append(time.monotonic())
        time.sleep(0.1)
        return does(*arguments)

    def stop(stage, done, total):
        if begun and stage in ("Compressing", "Choosing the step"):
            stopped.append(time.monotonic())
            raise Cancelled

    monkeypatch.setattr(home, work, slow)
    with pytest.raises(Cancelled):
        compress(scan((40, 36, 20)), mode, stop)
    assert time.monotonic() - stopped[0] < 3  # seconds, on a busy computer
    assert len([when for when in begun if when > stopped[0]]) <= 12  # those of one look for an offset


@pytest.mark.parametrize("mode", [Mode("psnr", 45), Mode("ratio", 10)])
def test_it_is_told_that_choices_are_tried_on_a_piece(monkeypatch, mode):
    told, suited = [], volumes._suited

    def slow(*arguments):
        time.sleep(0.9)
        return suited(*arguments)

    monkeypatch.setattr(volumes, "_suited", slow)
    compress(scan((40, 36, 20)), mode, lambda *some: told.append((time.monotonic(), some[0])))
    gaps = [after - before for (before, _), (after, _) in pairwise(told)]
    assert max(gaps) < 0.8 and {stage for _, stage in told} == {"Choosing the step", "Decoding"}
