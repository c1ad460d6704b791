"""Slicer's side of the worker, with a real child process: run, stay warm, cancel, fail plainly, never block."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from worker_tools import dies_within, do, finish, poll_until, prepared_run, reach, small_volume, worker, working

from MedAELib.errors import BadInput
from MedAELib.worker import protocol, runs
from MedAELib.worker.client import Busy, WorkerClient, default_command
from MedAELib.worker.protocol import CancelledEvent, Done, Failed, Hello, Log, Progress


def test_a_run_goes_from_voxels_to_a_complete_result(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        run = prepared_run(tmp_path, removed=True)
        assert client.state == "stopped"
        client.submit(run)
        assert (client.state, client.run) == ("starting", run)
        hello, *progress, done = finish(client)
        assert isinstance(hello, Hello)
        assert client.hello == hello
        assert hello.devices[0].id == "cpu"
        assert all(isinstance(event, Progress) for event in progress)
        assert done == Done(str(run))
        assert (client.state, client.run) == ("idle", None)
        result = runs.read_result(run, verify=True)
        before, after, removed = small_volume().array, result.outputs["denoised"].array, result.outputs["removed"].array
        assert np.array_equal(after + removed, before)
        assert np.array_equal(removed, before > 0)


def test_a_second_run_finds_the_worker_warm(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        reports = []
        for _ in range(3):
            run = prepared_run(tmp_path)
            do(client, run)
            reports.append(runs.read_result(run).report)
        assert [report["runs_before"] for report in reports] == [0, 1, 2]
        assert len({report["process"] for report in reports}) == 1


def test_the_worker_may_be_warmed_before_there_is_work(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        client.start()
        client.start()
        reach(client, "idle")
        pid = client.pid
        run = prepared_run(tmp_path)
        do(client, run)
        assert runs.read_result(run).report["process"] == pid


def test_progress_comes_with_stage_and_remaining_time(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        events = do(client, prepared_run(tmp_path, behaviour="steps", steps=60, seconds=0.02))
        steps = [event for event in events if isinstance(event, Progress) and event.stage == "Denoising"]
        assert steps[0].done == 0
        assert steps[-1].done == steps[-1].total == 60
        assert [step.done for step in steps] == sorted(step.done for step in steps)
        assert steps[0].remaining_seconds is None
        guesses = [step.remaining_seconds for step in steps if step.remaining_seconds is not None]
        assert guesses
        assert max(guesses) < 20
        assert guesses[-1] < guesses[0]


def test_a_second_run_is_refused_while_one_runs_and_does_not_harm_it(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        first, second = prepared_run(tmp_path, behaviour="steps"), prepared_run(tmp_path)
        client.submit(first)
        with pytest.raises(Busy, match="busy"):
            client.submit(second)
        working(client, "Denoising")
        with pytest.raises(Busy):
            client.submit(second)
        with pytest.raises(Busy):
            client.release()
        assert finish(client)[-1] == Done(str(first))
        assert do(client, second)[-1] == Done(str(second))


def test_a_run_that_is_not_prepared_is_refused_and_starts_nothing(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        half = runs.create_run(tmp_path, "denoise", {}, {})
        runs.InputWriter(half, "input", small_volume()).step(10)
        for run in (tmp_path / "nothing", half):
            with pytest.raises(BadInput):
                client.submit(run)
        assert (client.state, client.pid, client.run) == ("stopped", None, None)


# ---- cancel ----


def test_cancel_between_steps_keeps_the_worker_warm_and_leaves_no_result(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        run = prepared_run(tmp_path, behaviour="steps", steps=1000)
        client.submit(run)
        working(client, "Denoising")
        pid = client.pid
        client.cancel()
        client.cancel()
        assert client.state == "cancelling"
        assert finish(client) == [CancelledEvent(str(run))]
        assert client.state == "idle"
        assert not runs.is_finished(run)
        assert do(client, prepared_run(tmp_path))[-1].__class__ is Done
        assert client.pid == pid


@pytest.mark.parametrize("behaviour", ["hang", "deaf", "grandchild"])
def test_a_worker_that_does_not_answer_cancel_is_killed_with_all_it_started(tmp_path: Path, behaviour: str) -> None:
    with worker(tmp_path) as client:
        run = prepared_run(tmp_path, behaviour=behaviour, folder=str(tmp_path))
        client.submit(run)
        working(client, "Reading the input" if behaviour == "deaf" else "Hanging")
        pid, started = client.pid, time.monotonic()
        client.cancel()
        assert finish(client) == [CancelledEvent(str(run))]
        assert time.monotonic() - started < 1
        assert client.state == "stopped"
        assert pid is not None
        assert dies_within(pid, 1)
        if behaviour == "grandchild":
            assert dies_within(int((tmp_path / "grandchild").read_text()), 1)
        assert do(client, prepared_run(tmp_path))[-1].__class__ is Done


@pytest.mark.parametrize("how", ["slow", "silent"])
def test_cancel_while_the_worker_starts_ends_at_once(tmp_path: Path, how: str) -> None:
    with worker(tmp_path, "--start", how) as client:
        run = prepared_run(tmp_path)
        client.submit(run)
        client.cancel()
        assert client.poll() == [CancelledEvent(str(run))]
        assert (client.state, client.run) == ("stopped", None)


def test_cancel_without_a_run_does_nothing(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        client.cancel()
        assert (client.state, client.poll()) == ("stopped", [])
        client.start()
        reach(client, "idle")
        client.cancel()
        assert client.state == "idle"


def test_a_run_that_ends_while_it_is_cancelled_counts_as_cancelled(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        run = prepared_run(tmp_path)
        client.start()
        reach(client, "idle")
        client.submit(run)
        while not runs.is_finished(run):
            time.sleep(0.01)
        client.cancel()
        assert finish(client) == [CancelledEvent(str(run))]
        assert client.state == "idle"


# ---- the end of a worker ----


def test_release_ends_an_idle_worker_and_the_next_run_starts_another(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        do(client, prepared_run(tmp_path))
        pid = client.pid
        client.release()
        client.release()
        assert (client.state, client.pid) == ("stopped", None)
        assert pid is not None
        assert dies_within(pid, 1)
        assert client.hello is not None
        run = prepared_run(tmp_path)
        do(client, run)
        assert runs.read_result(run).report["process"] != pid
        assert client.poll() == []


def test_release_ends_a_worker_that_is_not_listening_too(tmp_path: Path) -> None:
    with worker(tmp_path, "--start", "deaf") as client:
        client.start()
        reach(client, "idle")
        time.sleep(0.2)
        pid = client.pid
        client.release()
        poll_until(client, lambda _: f"worker {pid} is gone" in client.log_tail())
        assert pid is not None
        assert dies_within(pid, 1)


def test_an_idle_worker_ends_by_itself_and_the_next_run_starts_another(tmp_path: Path) -> None:
    with worker(tmp_path, idle_seconds=0.1) as client:
        client.start()
        reach(client, "idle")
        events = poll_until(client, lambda _: client.state == "stopped")
        assert not any(isinstance(event, (Failed, Log)) for event in events)
        assert do(client, prepared_run(tmp_path))[-1].__class__ is Done


def test_a_run_that_meets_a_worker_on_its_way_out_is_done_by_the_next(tmp_path: Path) -> None:
    with worker(tmp_path, idle_seconds=0.1) as client:
        client.start()
        reach(client, "idle")
        pid = client.pid
        assert pid is not None
        assert dies_within(pid, 5)
        assert client.state == "idle"
        assert do(client, prepared_run(tmp_path))[-1].__class__ is Done


def test_close_ends_everything_and_may_be_called_twice(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        client.submit(prepared_run(tmp_path, behaviour="hang"))
        working(client, "Hanging")
        pid = client.pid
        client.close()
        client.close()
        assert pid is not None
        assert dies_within(pid, 1)
        assert (client.state, client.run, client.poll()) == ("stopped", None, [])


# ---- never block, never grow ----


@pytest.mark.parametrize("behaviour", ["hang", "deaf", "steps"])
def test_poll_returns_at_once_whatever_the_worker_does(tmp_path: Path, behaviour: str) -> None:
    with worker(tmp_path) as client:
        client.submit(prepared_run(tmp_path, behaviour=behaviour, steps=1000))
        working(client, "Reading the input")
        started = time.monotonic()
        for _ in range(100):
            client.poll()
        assert time.monotonic() - started < 1


def test_a_worker_that_floods_its_pipes_cannot_hold_up_the_panel(tmp_path: Path) -> None:
    line = protocol.encode(Log("x" * 100)).decode()
    code = f"import sys\nwhile True: sys.stdout.write({line!r} * 1000); sys.stderr.write('y' * 100000)"
    client = WorkerClient(tmp_path, command=[sys.executable, "-c", code])
    client.start()
    poll_until(client, lambda events: len(events) > 1000)
    longest = 0.0
    for _ in range(100):
        started = time.monotonic()
        assert len(client.poll()) < 1000
        longest = max(longest, time.monotonic() - started)
    client.close()
    assert longest < 0.5
    sizes = [path.stat().st_size for path in tmp_path.glob("worker-*.log*")]
    assert 0 < sum(sizes) < 4 << 20


def test_the_worker_does_not_wait_for_a_panel_that_has_no_time_to_poll(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        client.start()
        reach(client, "idle")
        run = prepared_run(tmp_path, behaviour="chatty", steps=5000)
        client.submit(run)
        deadline = time.monotonic() + 10
        while not runs.is_finished(run) and time.monotonic() < deadline:
            time.sleep(0.02)
        assert runs.is_finished(run)
        assert finish(client)[-1] == Done(str(run))


# ---- how it is started ----


def test_slicers_own_python_is_preferred_to_its_launcher(tmp_path: Path) -> None:
    assert default_command({"PATH": str(tmp_path)}) == [sys.executable, "-P", "-m", "MedAELib.worker"]
    for name in ("PythonSlicer", "python-real"):
        program = tmp_path / (name + (".exe" if os.name == "nt" else ""))
        program.write_text("")
        program.chmod(0o755)
        assert default_command({"PATH": str(tmp_path)})[0] == str(program)


def test_the_worker_gets_the_running_environment_with_additions_and_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", "inherited")
    monkeypatch.setenv("FROM_SLICER", "1")
    code = (
        "import os, sys; print({k: os.environ.get(k) for k in ('PYTHONPATH', 'FROM_SLICER', 'ADDED')}, file=sys.stderr)"
    )
    client = WorkerClient(tmp_path, command=[sys.executable, "-c", code], environment={"ADDED": "2"})
    client.start()
    poll_until(client, lambda _: client.state == "stopped")
    root = str(Path(__file__).resolve().parents[1])
    expected = {"PYTHONPATH": os.pathsep.join([root, "inherited"]), "FROM_SLICER": "1", "ADDED": "2"}
    assert str(expected) in client.log_tail()
