"""The worker: says hello, then does one job at a time on the main thread while a second thread listens to Slicer."""

from __future__ import annotations

import gc
import os
import queue
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ..errors import Cancelled, InternalFault, MedAEError
from . import failures, protocol, runs
from .channel import Channel
from .live import Live
from .outputs import Outputs
from .progress import Reporter
from .protocol import CancelCommand, Command, Failed, FinishCommand, Hello, ProtocolError, RunCommand

if TYPE_CHECKING:
    from ..volume import Volume

_LONGEST_DETAIL = 20_000
_LONGEST_SENTENCE = 2_000


class Result(Protocol):
    """What a task hands back: see `MedAELib.tasks.run.TaskResult`."""

    @property
    def outputs(self) -> Mapping[str, Volume]:
        """Volumes by name."""

    @property
    def report(self) -> Mapping[str, Any]:
        """Plain JSON."""

    @property
    def files(self) -> Mapping[str, bytes]:
        """Files by name."""


RunTask = Callable[..., Result]
"""`MedAELib.tasks.run.run_task`, or what a test puts in its place."""
Start = Callable[[], tuple[RunTask, Hello]]
"""Imports what the tasks need (this may take seconds) and describes it."""


class Server:
    """Serves one Slicer over a channel until nothing was asked for `idle_seconds`, or the commands end."""

    def __init__(self, channel: Channel, start: Start, idle_seconds: float = 600.0) -> None:
        self._channel = channel
        self._start = start
        self._idle_seconds = idle_seconds
        self._jobs: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._current = ""
        self._cancelled = self._finishing = False

    def serve(self) -> int:
        """Work until there is nothing to do any more; the exit status for the process."""
        self._channel.listen(self._on_command, self._on_garbage)
        try:
            run_task, hello = self._start()
        except Exception as error:
            self._channel.send(self._failure("", error))
            return failures.EXIT_FAILED_START
        self._channel.send(hello)
        while True:
            try:
                run = self._jobs.get(timeout=self._idle_seconds)
            except queue.Empty:
                return failures.EXIT_IDLE
            event = self._work(run_task, run)
            gc.collect()  # a failed task's arrays may hang in a cycle of its exception
            with self._lock:
                self._current = ""
            self._channel.send(event)

    def _on_command(self, command: Command) -> None:
        """On the listening thread: note what Slicer wants."""
        if isinstance(command, RunCommand):
            with self._lock:
                busy, self._current = self._current, self._current or command.run
                self._cancelled = self._cancelled and bool(busy)
                self._finishing = self._finishing and bool(busy)
            if busy:
                fault = InternalFault("The worker is busy with another run.", "Wait for it to end, or cancel it.")
                self._channel.send(self._failure(command.run, fault))
            else:
                self._jobs.put(command.run)
        elif isinstance(command, CancelCommand):
            with self._lock:
                self._cancelled = self._cancelled or command.run == self._current
        elif isinstance(command, FinishCommand):
            with self._lock:
                self._finishing = self._finishing or command.run == self._current
        elif isinstance(command, protocol.Ping):
            self._channel.send(protocol.Pong(command.number))
        else:
            os._exit(failures.EXIT_IDLE)

    def _on_garbage(self, error: ProtocolError) -> None:
        sentence = f"The worker received a line that it cannot read: {error}."
        self._channel.send(self._failure("", InternalFault(sentence)))

    def _work(self, run_task: RunTask, run: str) -> protocol.Event:
        """Do one job, whatever may go wrong, and say how it ended."""
        folder = Path(run)
        outputs = Outputs(folder)
        report = Reporter(lambda *state: self._channel.send_if_room(protocol.Progress(run, *state)))
        live = Live(folder, self._channel.send_if_room, lambda: self._finishing)

        def progress(stage: str, done: int, total: int) -> None:
            if self._cancelled:
                raise Cancelled
            live.flush()
            report(stage, done, total)

        try:
            progress("Reading the input", 0, 0)
            job = runs.read_job(folder)
            inputs = runs.read_inputs(folder)
            result = run_task(
                job.task, inputs, dict(job.parameters), progress=progress, allocate=outputs.allocate, live=live
            )
            progress("Completing the result", 0, 0)
            for event in live.rest():
                self._channel.send(event)
            outputs.finish(result.outputs, result.report, result.files)
            return protocol.Done(run)
        except Cancelled:
            outputs.remove()
            return protocol.CancelledEvent(run)
        except BaseException as error:
            outputs.remove()
            return self._failure(run, error)

    def _failure(self, run: str, error: BaseException) -> Failed:
        """The event for an exception; its traceback goes to the log only."""
        fault: MedAEError = failures.explain(error)
        detail = "".join(traceback.format_exception(error))
        print(detail, file=sys.stderr, flush=True)
        sentence, next_step = str(fault)[:_LONGEST_SENTENCE], fault.next_step[:_LONGEST_SENTENCE]
        return Failed(run, fault.kind, sentence, next_step, detail[-_LONGEST_DETAIL:])
