"""The worker's pipes to Slicer: kept clean of what libraries print, and watched so that no worker outlives Slicer."""

from __future__ import annotations

import os
import select
import signal
import sys
import threading
from collections.abc import Callable

from . import protocol
from .protocol import Command, Event, ProtocolError


def take_standard_streams() -> tuple[int, int]:
    """File descriptors for commands and events; what prints goes to standard error from now on."""
    commands, events = os.dup(0), os.dup(1)
    empty = os.open(os.devnull, os.O_RDONLY)
    os.dup2(empty, 0)
    os.close(empty)
    os.dup2(2, 1)
    return commands, events


def start_guard(commands: int, events: int) -> None:
    """Start a second, tiny process that ends our process group as soon as Slicer, or this process, is gone.

    A thread cannot do that while native code holds the interpreter's lock, and would not end what we have started.
    Call it before anything heavy is imported. On Windows, Slicer's job object does this.
    """
    if os.name != "posix" or os.getpgrp() != os.getpid():
        return
    ours, held_by_worker = os.pipe()
    if os.fork() != 0:
        os.close(ours)
        return
    try:
        for descriptor in (0, 1, 2, events, held_by_worker):
            os.close(descriptor)
        ends = select.poll()
        ends.register(commands, 0)  # tells when the other end is closed, and leaves the commands where they are
        ends.register(ours, 0)
        ends.poll()
    finally:
        os.killpg(0, signal.SIGKILL)


def end_everything() -> None:
    """End this process and what it started, at once, whatever any thread is doing."""
    if os.name == "posix" and os.getpgrp() == os.getpid():
        os.killpg(0, signal.SIGKILL)
    os._exit(1)  # on Windows the job object takes the children


class Channel:
    """Reads commands on a thread and writes events, whole lines, from any thread.

    `on_command` is called on the reading thread for every command, `on_garbage` for every line that is none. When the
    commands end, Slicer is gone or wants us gone: the process ends at once, also in the middle of native code.
    """

    def __init__(self, commands: int, events: int) -> None:
        self._commands = commands
        self._events = events
        self._lock = threading.Lock()

    def listen(self, on_command: Callable[[Command], None], on_garbage: Callable[[ProtocolError], None]) -> None:
        """Start reading, on a thread that does not keep the process alive."""
        threading.Thread(target=self._read, args=(on_command, on_garbage), daemon=True).start()

    def send(self, event: Event) -> None:
        """Write an event, waiting while the pipe is full."""
        data = memoryview(protocol.encode(event))
        try:
            with self._lock:
                while data:
                    data = data[os.write(self._events, data) :]
        except OSError:
            end_everything()  # nobody listens any more

    def send_if_room(self, event: Event) -> bool:
        """Write an event unless Slicer is too busy to read: progress is never worth a pause of the computation."""
        room = sys.platform == "win32" or bool(select.select((), (self._events,), (), 0)[1])
        if room:
            self.send(event)
        return room

    def _read(self, on_command: Callable[[Command], None], on_garbage: Callable[[ProtocolError], None]) -> None:
        lines = protocol.LineReader()
        try:
            while data := os.read(self._commands, 1 << 16):
                for line in lines.feed(data):
                    try:
                        command = protocol.decode_command(line)
                    except ProtocolError as error:
                        on_garbage(error)
                    else:
                        on_command(command)
        finally:
            end_everything()
