"""Slicer's side of the worker: start it, give it a run, poll it, cancel it, end it. It never blocks the panel."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import BadInput, InternalFault, MedAEError
from . import failures, protocol, runs
from .connection import Connection
from .log import RollingLog
from .protocol import CancelledEvent, Event, Failed, Hello, Log, Measured, Pong, Progress

STOPPED, STARTING, IDLE, RUNNING, CANCELLING = "stopped", "starting", "idle", "running", "cancelling"

_SECONDS_TO_START = 180.0
_SECONDS_TO_CANCEL = 0.3
_SECONDS_TO_DIE = 0.4


class Busy(MedAEError):
    """The worker has a run already."""

    kind = "bad input"
    default_next_step = "Wait for the run to end, or cancel it."


class WorkerClient:
    """One worker process, started when the first run is submitted and kept warm; use it from one thread.

    runs: folder of the run folders and of the log. command: how to start a worker ("--idle-seconds" is added).
    idle_seconds: how long a worker waits for work before it ends. environment: additions to the running environment.

    `state` is "stopped", "starting", "idle", "running" or "cancelling"; `run` the run in hand or None; `hello` what the
    worker last said about devices and versions, or None.
    """

    def __init__(
        self,
        runs: Path,
        command: Sequence[str] | None = None,
        idle_seconds: float = 600,
        environment: Mapping[str, str] | None = None,
    ) -> None:
        self.state = STOPPED
        self.run: Path | None = None
        self.hello: Hello | None = None
        self._folder = Path(runs).absolute()
        self._environment = _environment(environment or {})
        self._command = [*(command or default_command(self._environment)), "--idle-seconds", str(idle_seconds)]
        self._log = RollingLog(self._folder / f"worker-{os.getpid()}.log")
        self._connection: Connection | None = None
        self._dying: list[Connection] = []
        self._events: list[Event] = []
        self._deadline = 0.0
        self._killed = False
        self._accepted = False
        self._tries = 0

    @property
    def pid(self) -> int | None:
        """The process number of the worker, None while there is none."""
        return self._connection.pid if self._connection else None

    @property
    def log_path(self) -> Path:
        """The file that keeps what workers printed."""
        return self._log.path

    def log_tail(self, lines: int = 40) -> str:
        """The last lines that workers printed."""
        return self._log.tail(lines)

    def start(self) -> None:
        """Start the worker, if there is none, before there is work: then it is warm. InternalFault if it cannot be."""
        if self._connection is not None:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._connection = Connection(self._command, self._environment, self._folder, self._log)
        except OSError as error:
            sentence = f"The worker cannot be started: {self._command[0] or 'Python'} ({error.strerror})."
            raise InternalFault(sentence) from None
        self.state, self._killed = STARTING, False
        self._deadline = time.monotonic() + _SECONDS_TO_START

    def submit(self, run: Path) -> None:
        """Do the job in a prepared run folder. Raises Busy while there is one, BadInput when it is not prepared."""
        if self.run is not None:
            raise Busy("MedAE is still busy with another run.")
        run = Path(run).absolute()
        runs.read_job(run)
        if any(run.glob("inputs/*.partial")):
            raise BadInput(f"The inputs in {run} are not completely written.")
        self.start()
        self.run, self._tries = run, 1
        if self.state == IDLE:
            self._send_run()

    def cancel(self) -> None:
        """Stop the run in hand: kindly at first, and by force when the worker has not answered within 300 ms."""
        if self.run is None or self.state == CANCELLING:
            return
        if self._connection is None or self.state == STARTING:
            self._drop_worker()
            self._end_run(CancelledEvent(str(self.run)))
            return
        self._connection.send(protocol.CancelCommand(str(self.run)))
        self.state = CANCELLING
        self._deadline = time.monotonic() + _SECONDS_TO_CANCEL

    def finish(self) -> None:
        """Let the training in hand end soon with the best so far; a run that has not begun, or is none, goes on."""
        if self._connection is not None and self.run is not None and self.state == RUNNING:
            self._connection.send(protocol.FinishCommand(str(self.run)))

    def release(self) -> None:
        """End the worker, which surely frees the memory of its device. Raises Busy while there is a run."""
        if self.run is not None:
            raise Busy("MedAE is still busy with a run.")
        self._drop_worker(kindly=self.state == IDLE)

    def close(self) -> None:
        """End the worker and give up its run, e.g. because Slicer closes; waits half a second at most."""
        self._drop_worker()
        for connection in self._dying:
            connection.kill()
            connection.ended(wait=0.5)
            connection.close()
        self._dying.clear()
        self._events.clear()
        self.run = None

    def poll(self) -> list[Event]:
        """What happened since the last call, oldest first. Call it every 50 ms; it returns at once.

        Every run that was submitted ends with exactly one of Done, Failed and CancelledEvent.
        """
        self._bury()
        if self._connection is not None:
            events, status = self._connection.receive()
            for event in events:
                self._on_event(event)
            self._on_tick(status)
        events, self._events = self._events, []
        return events

    # ---- what may happen in a tick ----

    def _on_event(self, event: Event) -> None:
        ours = self.run is not None and getattr(event, "run", None) == str(self.run)
        if self._connection is None:
            return  # an earlier event of the same tick made us end the worker
        if isinstance(event, Hello):
            self.hello = event
            self._events.append(event)
            if self.state == STARTING:
                self.state = IDLE
                if self.run is not None:
                    self._send_run()
        elif isinstance(event, (Log, Pong)):
            self._events.append(event)
        elif isinstance(event, Failed) and not event.run:
            self._fail(event)
        elif not ours or self.state not in (RUNNING, CANCELLING):
            self._log.note(f"the worker spoke of another run: {event}")
        elif isinstance(event, (Progress, Measured)):
            self._accepted = True
            if self.state == RUNNING:
                self._events.append(event)
        else:
            self.state = IDLE if self.state == RUNNING else CANCELLING
            self._end_run(event)

    def _on_tick(self, status: int | None) -> None:
        if self._connection is None:
            return
        if status is not None:
            self._on_exit(status)
        elif self.state == STARTING and time.monotonic() >= self._deadline:
            self._fail(_failed(InternalFault("The worker did not start in time.")))
        elif self.state == CANCELLING and time.monotonic() >= self._deadline:
            if self._killed:  # the system takes its time to end it, the user need not wait
                self._on_exit(-9)
            else:
                self._log.note(f"worker {self.pid} did not answer cancel and is killed")
                self._connection.kill()
                self._killed, self._deadline = True, time.monotonic() + _SECONDS_TO_DIE

    def _on_exit(self, status: int) -> None:
        starting = self.state == STARTING
        cancelling = self.state == CANCELLING
        self._drop_worker()
        if cancelling:
            self._end_run(CancelledEvent(str(self.run)))
        elif self.run is None:
            if status != failures.EXIT_IDLE:
                self._events.append(Log(f"{failures.explain_exit(status)} The next run starts a new one."))
        elif not starting and not self._accepted and self._tries == 1:
            self._retry()  # it ended before it saw the run, e.g. because it had been idle for too long
        else:
            self._fail(_failed(failures.explain_exit(status)))

    # ---- steps ----

    def _send_run(self) -> None:
        assert self._connection is not None and self.run is not None
        self._accepted = False
        self.state = RUNNING
        self._connection.send(protocol.RunCommand(str(self.run)))

    def _retry(self) -> None:
        try:
            self.start()
            self._tries += 1
        except MedAEError as error:
            self._fail(_failed(error))

    def _fail(self, failed: Failed) -> None:
        """The worker is of no use any more: end it, and with it the run if there is one."""
        cancelling = self.state == CANCELLING
        self._drop_worker()
        run = str(self.run) if self.run else ""
        detail = failed.detail or self.log_tail()
        failed = Failed(run, failed.kind, failed.sentence, failed.next_step, detail)
        self._end_run(CancelledEvent(run) if cancelling else failed)

    def _end_run(self, event: Event) -> None:
        """Tell how the run ended; one that the user has cancelled always ends as cancelled."""
        if self.state == CANCELLING and self._connection is not None:
            self.state = IDLE
            event = CancelledEvent(str(self.run))
        self.run = None
        self._events.append(event)

    def _drop_worker(self, kindly: bool = False) -> None:
        if self._connection is not None:
            if kindly:
                self._connection.end_within(_SECONDS_TO_CANCEL)
            else:
                self._connection.kill()
            self._dying.append(self._connection)
            self._connection = None
        self.state = STOPPED

    def _bury(self) -> None:
        for connection in [connection for connection in self._dying if connection.ended()]:
            connection.close()
            self._dying.remove(connection)
            self._log.note(f"worker {connection.pid} is gone")


def default_command(environment: Mapping[str, str]) -> list[str]:
    """How to start the worker: with Slicer's own Python, rather than its launcher, else with this one."""
    path = environment.get("PATH")
    python = shutil.which("python-real", path=path) or shutil.which("PythonSlicer", path=path) or sys.executable
    return [python, "-P", "-m", "MedAELib.worker"]


def _environment(additions: Mapping[str, str]) -> dict[str, str]:
    """The running environment, so that the worker finds what Slicer finds, plus this library and `additions`."""
    library = str(Path(__file__).absolute().parents[2])
    own = {"PYTHONUNBUFFERED": "1", "PYTHONIOENCODING": "utf-8:backslashreplace"}
    # Threads that wait for each other asleep leave the processor to Slicer, whose views are drawn meanwhile.
    own["OMP_WAIT_POLICY"] = "PASSIVE"
    environment = {**os.environ, **own, **additions}
    inherited = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = os.pathsep.join([library, inherited] if inherited else [library])
    return environment


def _failed(error: MedAEError) -> Failed:
    return Failed("", error.kind, str(error), error.next_step)
