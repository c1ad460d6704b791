"""The log of what a worker prints: its last lines in memory, and a bounded file that outlives a crash."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

_LARGEST_FILE = 1 << 20
_LONGEST_LINE = 2_000
_KEPT_LINES = 400
_KEPT_FILES = 8


class RollingLog:
    """Appends to `path`; when that grows beyond a megabyte it becomes the older half, `path`.old. Never raises OSError.

    A log that cannot be written (disk full) still keeps its last lines in memory.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._rest = b""
        self._prune()

    def write(self, data: bytes) -> None:
        """Add what a process printed: any bytes, cut anywhere."""
        if not data:
            return
        *lines, self._rest = (self._rest + data).split(b"\n")
        while len(self._rest) > _LONGEST_LINE:
            lines.append(self._rest[:_LONGEST_LINE])
            self._rest = self._rest[_LONGEST_LINE:]
        self._lines.extend(line[:_LONGEST_LINE].decode("utf-8", "replace").rstrip("\r") for line in lines)
        self._append(data)

    def note(self, text: str) -> None:
        """Add a line of our own, with the time."""
        self.write(f"[{time.strftime('%Y-%m-%d %H:%M:%S')}] {text}\n".encode(errors="backslashreplace"))

    def tail(self, lines: int) -> str:
        """The last lines, the newest at the end."""
        kept = [*self._lines, *([self._rest.decode("utf-8", "replace")] if self._rest else [])]
        return "\n".join(kept[-lines:] if lines > 0 else [])

    def _append(self, data: bytes) -> None:
        try:
            with self.path.open("ab") as file:
                file.write(data)
                size = file.tell()
            if size > _LARGEST_FILE:
                self.path.replace(self.path.with_name(self.path.name + ".old"))
        except OSError:
            pass

    def _prune(self) -> None:
        """Keep the newest logs of earlier workers only."""
        try:
            logs = sorted(self.path.parent.glob("worker-*.log*"), key=lambda path: path.stat().st_mtime)
            for path in logs[:-_KEPT_FILES]:
                path.unlink(missing_ok=True)
        except OSError:
            pass
