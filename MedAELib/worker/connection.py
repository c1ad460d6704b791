"""One worker process as a stream of commands and events, with what it prints in the log. Nothing here ever blocks."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from ..errors import InternalFault
from . import protocol
from .log import RollingLog
from .process import ProcessTree
from .protocol import Command, Event, Failed, ProtocolError

_MOST_BYTES = 1 << 16
"""Read at once, so that a worker gone wild cannot hold up the panel."""
_MOST_BYTES_AT_THE_END = 1 << 20


class Connection:
    """A worker process that was just started; OSError when it cannot be."""

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path, log: RollingLog) -> None:
        self._tree = ProcessTree(command, environment, folder)
        self._log = log
        self._lines = protocol.LineReader()
        self._unsent = b""
        self.pid = self._tree.pid
        self._kill_at = float("inf")
        log.note(f"worker {self.pid} started")

    def send(self, command: Command) -> None:
        """Send a command, now or with the next `receive`; a dead worker takes no notice."""
        self._unsent += protocol.encode(command)
        self._flush()

    def receive(self) -> tuple[list[Event], int | None]:
        """The events that have arrived, and the exit status once the process has ended and all its events are here.

        Whatever is no event ends the list with a Failed without a run.
        """
        status = self._tree.exit_status()  # before reading, so that its last words are there
        most = _MOST_BYTES if status is None else _MOST_BYTES_AT_THE_END
        self._log.write(self._tree.read_errors(most))
        self._flush()
        events = self._decode(self._tree.read_output(most))
        if status is not None:
            self._log.note(f"worker {self.pid} ended with status {status}")
        return events, status

    def kill(self) -> None:
        """End the process and all it started, now."""
        self._tree.kill()

    def end_within(self, seconds: float) -> None:
        """Ask the idle process to end; `ended` kills it and all it started once that time is over."""
        self.send(protocol.Release())
        self._kill_at = time.monotonic() + seconds

    def ended(self, wait: float = 0.0) -> bool:
        """Whether the process is gone, after waiting for it so many seconds at most."""
        if time.monotonic() >= self._kill_at:
            self._tree.kill()
        return self._tree.exit_status() is not None or (wait > 0 and self._tree.wait(wait) is not None)

    def close(self) -> None:
        """Close the pipes."""
        self._tree.close()

    def _flush(self) -> None:
        try:
            self._unsent = self._unsent[self._tree.write(self._unsent) :] if self._unsent else b""
        except OSError:
            self._unsent = b""  # its input is closed: the exit status will tell

    def _decode(self, data: bytes) -> list[Event]:
        events: list[Event] = []
        for line in self._lines.feed(data):
            try:
                events.append(protocol.decode_event(line))
            except ProtocolError as error:
                self._log.note(f"unreadable line from the worker ({error}): {line[:200]!r}")
                fault = InternalFault("The worker sent something that MedAE cannot read.")
                return [*events, Failed("", fault.kind, str(fault), fault.next_step)]
        return events
