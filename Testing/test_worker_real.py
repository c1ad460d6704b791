"""The real worker, as Slicer starts it: torch, a real model, runs that are done, repeated, cancelled and refused."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from models import save_small_model
from worker_tools import do, finish, poll_until, prepared_run, working

from MedAELib.volume import Volume
from MedAELib.worker import runs
from MedAELib.worker.__main__ import BEHIND
from MedAELib.worker.client import WorkerClient
from MedAELib.worker.protocol import CancelledEvent, Done, Failed, Progress

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WorkerClient]:
    """One warm worker for all tests of this file."""
    client = WorkerClient(tmp_path_factory.mktemp("runs"))
    client.start()
    poll_until(client, lambda _: client.state == "idle", seconds=120)
    yield client
    client.close()


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The folder of a small denoising model."""
    folder = tmp_path_factory.mktemp("models") / "small"
    save_small_model(folder)
    return str(folder)


def head(edge: int) -> Volume:
    """Noise of a CT's range and type."""
    voxels = np.random.default_rng(1).integers(-1000, 1500, (1, edge, edge, edge), dtype=np.int16)
    return Volume(voxels, np.diag([0.5, 0.5, 1.0, 1.0]), {"name": "head", "modality": "CT"})


def test_hello_tells_devices_and_versions(client: WorkerClient) -> None:
    assert client.hello is not None
    assert client.hello.devices[0].id == "cpu"
    assert client.hello.devices[0].memory_bytes > 1 << 28
    assert {"torch", "monai", "numpy"} <= set(client.hello.versions)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows is told when the process is made")
def test_the_worker_steps_back_behind_slicer(client: WorkerClient) -> None:
    ours = os.getpriority(os.PRIO_PROCESS, 0)
    assert os.getpriority(os.PRIO_PROCESS, client.pid) == min(19, ours + BEHIND)


def test_two_runs_give_the_same_voxels_and_the_second_is_warm(client: WorkerClient, model: str, tmp_path: Path) -> None:
    results, pid = [], client.pid
    for _ in range(2):
        run = prepared_run(tmp_path, head(24), model=model, device="cpu", tile=16, removed=True)
        events = do(client, run)
        assert events[-1] == Done(str(run))
        assert any(isinstance(event, Progress) and event.total > 1 for event in events)
        results.append(runs.read_result(run, verify=True))
    assert client.pid == pid
    first, second = (result.outputs["denoised"] for result in results)
    assert first.array.dtype == np.int16
    assert np.array_equal(first.array, second.array)
    assert np.array_equal(first.affine, head(24).affine)
    assert set(results[0].outputs) == {"denoised", "removed"}
    assert results[0].report["model_sha256"]


def test_cancel_comes_through_between_tiles_or_by_force(client: WorkerClient, model: str, tmp_path: Path) -> None:
    run = prepared_run(tmp_path, head(160), model=model, device="cpu", tile=16)
    client.submit(run)
    working(client, "Denoising")
    client.cancel()
    assert finish(client) == [CancelledEvent(str(run))]
    assert not runs.is_finished(run)


def test_faults_of_the_user_come_back_as_plain_sentences(client: WorkerClient, model: str, tmp_path: Path) -> None:
    for parameters, kind in [
        ({"model": str(tmp_path / "no such model")}, "bad weights"),
        ({"model": model, "device": "cuda:99"}, "driver"),
        ({"model": model, "strength": "much"}, "bad input"),
    ]:
        failed = do(client, prepared_run(tmp_path, head(8), **parameters))[-1]
        assert isinstance(failed, Failed)
        assert failed.kind == kind
        assert failed.sentence.endswith(".")
        assert failed.next_step
