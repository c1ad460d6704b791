"""A real federation of FLARE's simulator on generated volumes: its mean, its model, and that it can always be ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest
import torch
from train_tools import needs_nvflare
from volumes import write_volumes

from MedAELib import Model, Volume
from MedAELib.training.federated.federation import Federation, start
from MedAELib.training.federated.site import Site

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), needs_nvflare]

ROOT = Path(__file__).resolve().parents[1]
TINY = {"channels": [4, 6], "strides": [2, 2]}
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def sites(tmp_path_factory) -> list[Path]:
    """Two sites of different sizes: two and one training volumes."""
    place = tmp_path_factory.mktemp("sites")
    return [write_volumes(place / "north"), write_volumes(place / "south", 3)]


@pytest.fixture
def place() -> Iterator[Path]:
    """Where a simulation may put its own files: a short path, as the system's temporary folder is."""
    with tempfile.TemporaryDirectory(prefix="mf-") as folder:
        yield Path(folder)


def command(sites: list[Path], output: Path, rounds: int, steps: int, *more: str) -> list[str]:
    return [
        sys.executable, "-m", "MedAELib", "federate", "simulate", "--sites", *map(str, sites), "--network", "plain",
        "--modality", "MR", "--set", "channels=[4,6]", "--set", "strides=[2,2]", "--device", "cpu", "--rounds",
        str(rounds), "--steps-per-round", str(steps), "--output", str(output), *more,
    ]  # fmt: skip


def environment(place: Path) -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TMPDIR": str(place)}


def processes_of(place: Path) -> list[psutil.Process]:
    """The processes that work for a simulation below this folder."""
    found = []
    for process in psutil.process_iter():
        try:
            if str(place) in process.environ().get("MEDAE_FEDERATION", ""):
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            pass
    return [process for process in found if process.status() != psutil.STATUS_ZOMBIE]


def begun(sites: list[Path], place: Path, output: Path) -> subprocess.Popen[str]:
    """A simulation without end whose first process, the server, has begun."""
    process = subprocess.Popen(
        command(sites, output, 1000, 1000), env=environment(place), stderr=subprocess.PIPE, text=True, cwd=ROOT,
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # ignored where tests run in the background
    )  # fmt: skip
    deadline = time.monotonic() + 200
    while not processes_of(place):
        assert process.poll() is None and time.monotonic() < deadline, process.stderr and process.stderr.read()
        time.sleep(0.05)
    return process


def started(sites: list[Path], place: Path, output: Path) -> subprocess.Popen[str]:
    """A simulation without end whose two sites have begun to learn."""
    process, deadline = begun(sites, place, output), time.monotonic() + 200
    while len(list(place.glob("*/t/medae-site-*/training"))) < 2:
        assert process.poll() is None and time.monotonic() < deadline, process.stderr and process.stderr.read()
        words = [json.loads(path.read_text()) for path in place.glob("*/told/[!.]*.json")]
        if sum("volumes" in word for word in words) == 2:
            break
        time.sleep(0.2)
    return process


def test_the_model_is_the_mean_of_the_sites_weighted_by_their_volumes_carried_on_by_momentum(sites, place, tmp_path):
    output, rounds, momentum = tmp_path / "model", 3, 0.5
    run = subprocess.run(
        command(sites, output, rounds, 2, "--momentum", str(momentum)), env=environment(place), capture_output=True,
        text=True, cwd=ROOT,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    model = Model.load(output)
    agreement = Federation("plain", 3, "MR", rounds, 2, 2, arguments=TINY)
    there = [Site(agreement, folder, tmp_path / folder.name, CPU, print) for folder in sites]
    assert [site.samples for site in there] == [2, 1]
    weights = start("plain", 3, TINY, 0).state_dict()
    sums = {name: torch.zeros_like(value) for name, value in weights.items()}
    for number in range(rounds):
        one, other = (site.learn(number, weights)[0] for site in there)
        mean = {name: (2 * one[name] + other[name]) / 3 for name in weights}
        sums = {name: mean[name] - weights[name] + momentum * sums[name] for name in weights}
        weights = {name: mean[name] + momentum * sums[name] for name in weights}
    for name, value in model.network.state_dict().items():
        assert torch.allclose(value, weights[name], rtol=0, atol=1e-6), name
    assert f"--momentum {momentum:g}" in model.bundle.card
    assert f"round 1 of {rounds}: loss" in run.stdout
    assert "north, training: 2 volumes" in model.bundle.card and "south, test: 1 volume:" in model.bundle.card
    assert model.bundle.figures["cases"] == 2
    scan = Volume.load(sites[0] / "subject0.nii.gz")
    assert model.reconstruct(scan).array.shape == scan.array.shape
    assert not list(place.iterdir()) and not processes_of(place)


def test_a_privacy_filter_changes_what_travels_and_the_card_says_so(sites, place, tmp_path):
    output = tmp_path / "model"
    more = ["--privacy", "percentile", "--privacy-set", "percentile=50", "--privacy-set", "gamma=0.0001"]
    run = subprocess.run(
        command(sites, output, 1, 2, *more, "--momentum", "0"), env=environment(place), capture_output=True, text=True,
        cwd=ROOT,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    model, begun = Model.load(output), start("plain", 3, TINY, 0).state_dict()
    moved = torch.cat([(value - begun[name]).flatten() for name, value in model.network.state_dict().items()])
    assert 0 < float(moved.abs().max()) <= 2 * 0.0001 + 1e-6  # clipped at gamma per training volume, at most two
    assert "percentile filter (percentile 50, gamma 0.0001)" in model.bundle.card


@pytest.mark.parametrize(("how", "when", "least"), [(signal.SIGINT, started, 3), (signal.SIGTERM, begun, 1)])
def test_ctrl_c_ends_all_processes_within_seconds_and_leaves_nothing(how, when, least, sites, place, tmp_path):
    """Both are the same to the command: it is asked once while sites learn, and once before there are any."""
    process = when(sites, place, tmp_path / "model")
    assert len(processes_of(place)) >= least
    asked = time.monotonic()
    process.send_signal(how)
    assert process.wait(60) == 130
    assert time.monotonic() - asked < 15
    assert not processes_of(place)
    assert not list(place.iterdir()) and not list(tmp_path.iterdir())


def test_nothing_outlives_a_killed_command(sites, place, tmp_path):
    process = started(sites, place, tmp_path / "model")
    process.kill()
    process.wait()
    deadline = time.monotonic() + 20
    while processes_of(place) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert not processes_of(place)


def test_a_site_that_dies_is_named_in_one_sentence(sites, place, tmp_path):
    process = started(sites, place, tmp_path / "model")
    word = next(place.glob("*/told/south.json"))
    os.kill(json.loads(word.read_text())["process"], signal.SIGKILL)
    assert process.wait(60) == 2
    told = process.stderr.read() if process.stderr else ""
    assert "Site south died in round 1 of 1000" in told and "Traceback" not in told
    assert not processes_of(place) and not list(place.iterdir()) and not list(tmp_path.iterdir())


def test_a_site_that_cannot_use_its_volumes_is_named(sites, place, tmp_path):
    import numpy as np

    (tmp_path / "flat").mkdir()
    Volume(np.full((1, 16, 16, 8), 7, np.int16), np.eye(4)).save(tmp_path / "flat" / "one.nrrd")
    run = subprocess.run(
        command([sites[0], tmp_path / "flat"], tmp_path / "model", 1, 2), env=environment(place),
        capture_output=True, text=True, cwd=ROOT,
    )  # fmt: skip
    assert run.returncode == 2
    assert "Site flat: No volume" in run.stderr and "Traceback" not in run.stderr
    assert not (tmp_path / "model").exists() and not processes_of(place)
