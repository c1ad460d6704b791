"""kill -9 of the worker or of Slicer in every state: no run is lost silently, no process is left, no result is lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from worker_tools import FAKE, dies_within, do, finish, lives, poll_until, prepared_run, reach, worker, working

from MedAELib.worker import runs
from MedAELib.worker.client import WorkerClient
from MedAELib.worker.protocol import CancelledEvent, Done, Failed, Log
from MedAELib.worker.server import Server

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.skipif(os.name != "posix", reason="uses signals")


def kill(client: WorkerClient) -> int:
    """kill -9 of the worker, seen to be dead but not yet noticed by the client."""
    pid = client.pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    assert dies_within(pid, 5)
    return pid


def works_again(client: WorkerClient, folder: Path) -> bool:
    """Whether the next run simply works."""
    return isinstance(do(client, prepared_run(folder))[-1], Done)


def test_killed_while_it_starts(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        run = prepared_run(tmp_path)
        client.submit(run)
        kill(client)
        failed = finish(client)[-1]
        assert isinstance(failed, Failed)
        assert (failed.run, failed.kind, client.state) == (str(run), "killed", "stopped")
        assert works_again(client, tmp_path)


def test_killed_while_idle_is_told_without_a_failure(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        client.start()
        reach(client, "idle")
        kill(client)
        (event,) = poll_until(client, bool)
        assert isinstance(event, Log)
        assert "ended the worker" in event.text
        assert client.state == "stopped"
        assert works_again(client, tmp_path)


@pytest.mark.parametrize("noticed", [True, False])
def test_killed_between_two_runs_the_next_one_works(tmp_path: Path, noticed: bool) -> None:
    with worker(tmp_path) as client:
        assert works_again(client, tmp_path)
        kill(client)
        if noticed:
            reach(client, "stopped")
        assert works_again(client, tmp_path)


def test_killed_while_running(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        run = prepared_run(tmp_path, behaviour="grandchild", folder=str(tmp_path))
        client.submit(run)
        working(client, "Hanging")
        kill(client)
        failed = finish(client)[-1]
        assert isinstance(failed, Failed)
        assert (failed.run, failed.kind, client.state) == (str(run), "killed", "stopped")
        assert not runs.is_finished(run)
        assert dies_within(int((tmp_path / "grandchild").read_text()), 1)
        assert works_again(client, tmp_path)


@pytest.mark.parametrize("behaviour", ["hang", "steps"])
def test_killed_while_cancelling(tmp_path: Path, behaviour: str) -> None:
    with worker(tmp_path) as client:
        run = prepared_run(tmp_path, behaviour=behaviour, steps=1000)
        client.submit(run)
        working(client, "Hanging" if behaviour == "hang" else "Denoising")
        client.cancel()
        kill(client)
        assert finish(client) == [CancelledEvent(str(run))]
        assert client.state in ("stopped", "idle")
        assert works_again(client, tmp_path)


def test_killed_after_its_last_word_the_result_counts(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        client.start()
        reach(client, "idle")
        run = prepared_run(tmp_path)
        client.submit(run)
        while not runs.is_finished(run):
            time.sleep(0.01)
        time.sleep(1)  # a busy computer gives the worker its turn to say so only now
        kill(client)
        events = poll_until(client, lambda _: client.state == "stopped")
        assert Done(str(run)) in events
        assert not any(isinstance(event, Failed) for event in events)


def test_killed_again_and_again_before_it_takes_the_run_is_a_failure_not_a_loop(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        client.start()
        reach(client, "idle")
        kill(client)
        run = prepared_run(tmp_path)
        client.submit(run)
        reach(client, "starting")
        kill(client)
        failed = finish(client)[-1]
        assert isinstance(failed, Failed)
        assert (failed.run, failed.kind) == (str(run), "killed")


# ---- the end of Slicer ----

SLICER = """
import sys, time
from pathlib import Path
from worker_tools import *
folder = Path(sys.argv[1])
client = WorkerClient(folder, command=FAKE + sys.argv[3:])
client.submit(prepared_run(folder, behaviour=sys.argv[2], steps=10000, folder=str(folder)))
print(client.pid, flush=True)
while True:
    for event in client.poll():
        print(type(event).__name__, getattr(event, "stage", ""), flush=True)
    time.sleep(0.01)
"""


@contextmanager
def slicer(folder: Path, behaviour: str, *options: str) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A process that stands for Slicer with a worker at work, and the worker's process number."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "Testing")])}
    command = [sys.executable, "-c", SLICER, str(folder), behaviour, *options]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process, int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


def wait_for(process: subprocess.Popen[str], line: str) -> None:
    """Read what "Slicer" prints up to a line."""
    assert process.stdout is not None
    while (said := process.stdout.readline().strip()) != line:
        assert said or process.poll() is None, "it ended too early"


@pytest.mark.parametrize("behaviour", ["steps", "deaf", "hang"])
def test_no_worker_outlives_slicer_not_even_one_that_hangs_in_native_code(tmp_path: Path, behaviour: str) -> None:
    with slicer(tmp_path, behaviour) as (process, pid):
        stage = {"steps": "Denoising", "hang": "Hanging", "deaf": "Reading the input"}[behaviour]
        wait_for(process, f"Progress {stage}")
        process.kill()
        assert dies_within(pid, 1)


@pytest.mark.parametrize("behaviour", ["family", "grandchild"])
def test_what_the_worker_started_does_not_outlive_slicer_either(tmp_path: Path, behaviour: str) -> None:
    with slicer(tmp_path, behaviour) as (process, pid):
        wait_for(process, "Progress Waiting" if behaviour == "family" else "Progress Hanging")
        grandchild = int((tmp_path / "grandchild").read_text())
        assert lives(grandchild)
        process.kill()
        assert dies_within(pid, 1)
        assert dies_within(grandchild, 1)


def test_a_worker_that_is_still_starting_does_not_outlive_slicer(tmp_path: Path) -> None:
    with slicer(tmp_path, "quick", "--start", "silent") as (process, pid):
        assert lives(pid)
        process.kill()
        assert dies_within(pid, 10)  # on a busy computer it comes late to listening whether Slicer is there


def test_a_worker_ends_when_its_input_is_closed(tmp_path: Path) -> None:
    for start in ("ok", "silent"):
        process = subprocess.Popen([*FAKE, "--start", start], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        if start == "ok":
            process.stdout.readline()
        process.stdin.close()
        process.wait(2)
        process.stdout.close()


def test_a_result_that_was_finished_before_slicer_died_is_found_at_the_next_start(tmp_path: Path) -> None:
    with slicer(tmp_path, "quick") as (process, _):
        wait_for(process, "Done")
        assert runs.unclaimed_runs(tmp_path) == []
        process.kill()
        process.wait()
    (run,) = runs.unclaimed_runs(tmp_path)
    assert runs.sweep(tmp_path) == 0
    assert runs.claim(run)
    result = runs.read_result(run, verify=True)
    assert set(result.outputs) == {"denoised"}
    assert result.job.origin == {"node": "vtkMRMLScalarVolumeNode1"}
    del result
    runs.discard(run)
    assert runs.unclaimed_runs(tmp_path) == []


def test_a_run_that_slicer_did_not_see_finished_is_swept_at_the_next_start(tmp_path: Path) -> None:
    with slicer(tmp_path, "steps") as (process, pid):
        wait_for(process, "Progress Denoising")
        assert runs.sweep(tmp_path) == 0
        process.kill()
        process.wait()
        assert dies_within(pid, 1)
    assert runs.unclaimed_runs(tmp_path) == []
    assert runs.sweep(tmp_path) == 1
    assert not [path for path in tmp_path.iterdir() if path.is_dir()]


def test_the_server_is_the_one_that_the_fake_uses() -> None:
    """Else these tests would say nothing about the real worker."""
    import fake_worker

    import MedAELib.worker.__main__ as real

    assert fake_worker.Server is Server is real.Server
