"""What the tests of the worker share: a small volume, a prepared run, and a client polled as the panel polls it."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from MedAELib.volume import Volume
from MedAELib.worker.client import WorkerClient
from MedAELib.worker.outputs import Outputs
from MedAELib.worker.protocol import CancelledEvent, Done, Event, Failed
from MedAELib.worker.runs import InputWriter, create_run

ROOT = Path(__file__).resolve().parents[1]
FAKE = [sys.executable, str(Path(__file__).with_name("fake_worker.py"))]
ENDS = (Done, Failed, CancelledEvent)


def small_volume() -> Volume:
    """Sixty oblique int16 voxels, no two alike, in Slicer's order in memory."""
    affine = np.array([[0.0, -0.8, 0.1, 3], [0.7, 0, 0.2, -4], [0.1, 0, 2.5, 5], [0, 0, 0, 1]])
    kji = np.arange(60, dtype=np.int16).reshape(5, 4, 3) - 20
    return Volume(kji.transpose(2, 1, 0)[None], affine, {"name": "head", "modality": "CT"})


def prepared_run(runs: Path, volume: Volume | None = None, **parameters: Any) -> Path:
    """A run folder that is ready for the worker."""
    run = create_run(runs, "denoise", parameters, {"node": "vtkMRMLScalarVolumeNode1"})
    writer = InputWriter(run, "input", volume or small_volume())
    while not writer.step():
        pass
    return run


def finished_run(folder: Path, **parameters: Any) -> Path:
    """A run with a complete result."""
    run = prepared_run(folder, **parameters)
    outputs, volume = Outputs(run), small_volume()
    denoised = outputs.allocate("denoised", volume.array.shape, volume.array.dtype)
    denoised[...] = volume.array * 2
    outputs.finish({"denoised": volume.like(denoised, name="head denoised")}, {"seconds": 1.5})
    return run


def another_slicer(folder: Path, code: str) -> str:
    """Run code in another process that has ended when this returns; what it printed."""
    start = "import sys; from pathlib import Path; from worker_tools import *; from MedAELib.worker import runs\n"
    start += "folder = Path(sys.argv[1])\n"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "Testing")])}
    command = [sys.executable, "-c", start + code, str(folder)]
    return subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout.strip()


@contextmanager
def worker(runs: Path, *options: str, idle_seconds: float = 60) -> Iterator[WorkerClient]:
    """A client of the fake worker that leaves no process behind."""
    client = WorkerClient(runs, command=[*FAKE, *options], idle_seconds=idle_seconds)
    try:
        yield client
    finally:
        client.close()


def poll_until(client: WorkerClient, there: Callable[[list[Event]], bool], seconds: float = 20) -> list[Event]:
    """Poll as the panel does until `there` is true of all events so far; AssertionError when it takes too long."""
    events: list[Event] = []
    end = time.monotonic() + seconds
    while not there(events):
        assert time.monotonic() < end, f"{client.state} after {seconds} s with {events}\n{client.log_tail()}"
        time.sleep(0.005)
        events += client.poll()
    return events


def finish(client: WorkerClient) -> list[Event]:
    """Poll until the run has ended."""
    return poll_until(client, lambda events: bool(events) and isinstance(events[-1], ENDS))


def do(client: WorkerClient, run: Path) -> list[Event]:
    """Submit a run and see it end."""
    client.submit(run)
    return finish(client)


def reach(client: WorkerClient, state: str) -> None:
    """Poll until the client is in a state."""
    poll_until(client, lambda _: client.state == state)


def working(client: WorkerClient, stage: str) -> None:
    """Poll until the task itself has reported a stage."""
    poll_until(client, lambda events: any(getattr(event, "stage", "") == stage for event in events))


def lives(pid: int) -> bool:
    """Whether a process runs (a zombie does not)."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        pass
    except OSError:
        return False
    if Path("/proc/self").exists():
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def dies_within(pid: int, seconds: float) -> bool:
    """Whether a process ends in so many seconds."""
    end = time.monotonic() + seconds
    while lives(pid) and time.monotonic() < end:
        time.sleep(0.01)
    return not lives(pid)
