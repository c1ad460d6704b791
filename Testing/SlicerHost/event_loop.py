"""Letting Qt run in a test: until something has happened, with the longest time measured that it stood still."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def wait_until(condition: Callable[[], Any], seconds: float = 10.0) -> bool:
    """Run Qt's event loop until the condition holds; False when it still does not after that many seconds."""
    import qt

    loop = qt.QEventLoop()
    end = time.perf_counter() + seconds
    timer = qt.QTimer()
    timer.setInterval(1)

    def look() -> None:
        if time.perf_counter() > end or condition():
            loop.quit()

    timer.timeout.connect(look)
    timer.start()
    loop.exec()
    timer.stop()
    return bool(condition())


class StallMeter:
    """Longest time in seconds during which Qt's event loop could not run a 1 ms timer, between enter and exit.

    Use with wait_until() inside the block; `stalls` holds (seconds since the start, length) of those over 20 ms.
    """

    _NOTABLE = 0.020

    def __enter__(self) -> StallMeter:
        import qt

        self.worst = 0.0
        self.stalls: list[tuple[float, float]] = []
        self._start = self._last = time.perf_counter()
        self._timer = qt.QTimer()
        self._timer.setTimerType(qt.Qt.PreciseTimer)
        self._timer.setInterval(1)
        self._timer.timeout.connect(self._tick)
        self._timer.start()
        return self

    def _tick(self) -> None:
        now = time.perf_counter()
        length = now - self._last
        self.worst = max(self.worst, length)
        if length > self._NOTABLE:
            self.stalls.append((self._last - self._start, length))
        self._last = now

    def __exit__(self, *_error: object) -> None:
        self._tick()  # a stall that lasted to the end of the block
        self._timer.stop()
