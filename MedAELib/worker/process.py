"""Start a process and end it with all its children, on Linux, macOS and Windows; tell whether a process still lives."""

from __future__ import annotations

import functools
import os
import platform
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    from . import windows


class ProcessTree:
    """A child process with pipes at its standard streams, none of which ever blocks us, and everything it starts.

    `pid`; `write`, `read_output`, `read_errors` move what the pipes take or hold; `exit_status` is None while it lives
    (negative: the signal that ended it); `kill` ends the whole tree at once. OSError when it cannot be started.
    On Windows this needs Python 3.12, the first that has pipes which do not block.
    """

    def __init__(self, command: Sequence[str], environment: Mapping[str, str], folder: Path) -> None:
        options: dict[str, Any] = {"start_new_session": True}
        if sys.platform == "win32":
            flags = subprocess.CREATE_NO_WINDOW | subprocess.CREATE_NEW_PROCESS_GROUP
            options = {"creationflags": flags | subprocess.BELOW_NORMAL_PRIORITY_CLASS}
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, stdin=pipe, stdout=pipe, stderr=pipe, bufsize=0, cwd=folder, env=dict(environment), **options
        )
        self.pid = self._process.pid
        self._swept = False
        if sys.platform == "win32":
            self._job = windows.Job(int(self._process._handle))
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            os.set_blocking(stream.fileno(), False)

    def write(self, data: bytes) -> int:
        """Number of bytes that the child's standard input took now; BrokenPipeError when it is closed."""
        stream = self._process.stdin
        assert stream is not None
        try:
            return os.write(stream.fileno(), data)
        except BlockingIOError:
            return 0

    def read_output(self, most: int) -> bytes:
        """What waits in the child's standard output, at most `most` bytes; empty when nothing waits."""
        return _read(self._process.stdout, most)

    def read_errors(self, most: int) -> bytes:
        """What waits in the child's standard error, at most `most` bytes; empty when nothing waits."""
        return _read(self._process.stderr, most)

    def exit_status(self) -> int | None:
        """None while the child lives, then its exit status; what the child left running is ended too."""
        if self._process.poll() is not None and not self._swept:
            self._swept = True
            self._end_tree()
        return self._process.returncode

    def kill(self) -> None:
        """End the child and everything it started, now; it needs no consent and does not wait."""
        if self._process.returncode is None:  # else the number may belong to another process by now
            self._end_tree()

    def close(self) -> None:
        """Close the pipes: a child that still lives sees its input end."""
        for stream in (self._process.stdin, self._process.stdout, self._process.stderr):
            assert stream is not None
            stream.close()

    def wait(self, seconds: float) -> int | None:
        """Wait for the end, at most `seconds`; only for closing down, where nothing else is to be done."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return None
        return self.exit_status()

    def _end_tree(self) -> None:
        if sys.platform == "win32":
            self._job.end()
            return
        try:
            os.killpg(self.pid, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            pass  # the group is empty; macOS says PermissionError when only a zombie is left


def _read(stream: Any, most: int) -> bytes:
    try:
        return os.read(stream.fileno(), most)
    except (BlockingIOError, BrokenPipeError):
        return b""


def identity(pid: int) -> str | None:
    """A text that tells the process `pid` from a later one with the same number; None when there is no such process."""
    if sys.platform == "win32":
        return windows.start_time(pid)
    if sys.platform == "linux":
        try:
            status = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()
        except (OSError, ValueError):
            return None
        return None if status[0] in "ZX" else f"{_boot()}-{status[19]}"
    answer = subprocess.run(["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    return answer.stdout.strip() or None


@functools.cache
def own_identity() -> tuple[str, int, str]:
    """This machine's name, this process's number and its identity text."""
    return platform.node(), os.getpid(), identity(os.getpid()) or ""


@functools.cache
def _boot() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""
