"""Random sequences of what users and systems do to a worker: every run ends exactly once, and the next one works."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule
from worker_tools import ENDS, FAKE, dies_within, do, prepared_run

from MedAELib.worker import runs
from MedAELib.worker.client import Busy, WorkerClient
from MedAELib.worker.protocol import Done, Event

pytestmark = pytest.mark.skipif(os.name != "posix", reason="uses signals")

BEHAVIOURS = ["quick", "quick", "steps", "hang", "deaf", "crash", "exit", "kill", "garbage", "print", "raise", "half"]


class Worker(RuleBasedStateMachine):
    """One client of the fake worker and what must have been heard from it."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = Path(tempfile.mkdtemp())
        self.client = WorkerClient(self.folder, command=FAKE, idle_seconds=0.5)
        self.submitted: list[str] = []
        self.ended: list[str] = []
        self.pids: set[int] = set()

    @rule(behaviour=st.sampled_from(BEHAVIOURS))
    def submit(self, behaviour: str) -> None:
        """Apply: refused exactly while a run is in hand."""
        run, busy = prepared_run(self.folder, behaviour=behaviour, steps=10), self.client.run is not None
        try:
            self.client.submit(run)
        except Busy:
            assert busy
            runs.discard(run)
        else:
            assert not busy
            self.submitted.append(str(run))

    @rule(ticks=st.integers(1, 30))
    def poll(self, ticks: int) -> None:
        """Let the panel's timer tick."""
        for _ in range(ticks):
            time.sleep(0.005)
            self.hear(self.client.poll())

    @rule()
    def cancel(self) -> None:
        """Press Cancel, at any time."""
        self.client.cancel()

    @rule()
    def release(self) -> None:
        """Free the GPU: refused exactly while a run is in hand."""
        busy = self.client.run is not None
        try:
            self.client.release()
        except Busy:
            assert busy
        else:
            assert not busy

    @precondition(lambda self: self.client.pid is not None)
    @rule()
    def kill(self) -> None:
        """kill -9."""
        try:
            os.kill(self.client.pid or 0, signal.SIGKILL)
        except ProcessLookupError:
            pass

    @invariant()
    def state_and_run_belong_together(self) -> None:
        """A run is in hand exactly in the states that need one."""
        if self.client.pid is not None:
            self.pids.add(self.client.pid)
        if self.client.state in ("running", "cancelling"):
            assert self.client.run is not None
        if self.client.state in ("stopped", "idle"):
            assert self.client.run is None
        assert (self.client.pid is None) == (self.client.state == "stopped")

    def hear(self, events: list[Event]) -> None:
        """Note how runs end; a run that is done has its result."""
        for event in events:
            if isinstance(event, ENDS) and event.run:
                self.ended.append(event.run)
                assert not isinstance(event, Done) or runs.read_result(Path(event.run), verify=True)

    def teardown(self) -> None:
        """Whatever happened, the run in hand ends within a second of Cancel, and the next run works."""
        try:
            started = time.monotonic()
            self.client.cancel()
            while self.client.run is not None:
                assert time.monotonic() - started < 2
                time.sleep(0.005)
                self.hear(self.client.poll())
            self.hear(self.client.poll())
            assert self.ended == self.submitted
            assert isinstance(do(self.client, prepared_run(self.folder))[-1], Done)
        finally:
            self.client.close()
            shutil.rmtree(self.folder, ignore_errors=True)
        assert all(dies_within(pid, 1) for pid in self.pids)


TestSequences = Worker.TestCase
TestSequences.settings = settings(
    max_examples=15, stateful_step_count=10, deadline=None, suppress_health_check=list(HealthCheck)
)
