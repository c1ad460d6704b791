"""How far a job is: remaining time from the recent pace, and at most some twenty reports per second."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

_SMALLEST_INTERVAL = 0.05
_LONGEST_STAGE = 200
_RECENT_STEPS = 24
_STEPS_BEFORE_A_GUESS = 3
_SECONDS_BEFORE_A_GUESS = 0.5


class Pace:
    """Remaining seconds of a stage, from the last steps only: a slow first tile is soon forgotten."""

    def __init__(self) -> None:
        self._stage = ""
        self._steps: deque[tuple[float, int]] = deque(maxlen=_RECENT_STEPS)

    def remaining(self, stage: str, done: int, total: int, now: float) -> float | None:
        """Seconds until `done` reaches `total`; None until some steps have shown the pace. `now` in seconds."""
        if stage != self._stage or (self._steps and done < self._steps[-1][1]):
            self._stage = stage
            self._steps.clear()
        if not self._steps or (done > self._steps[-1][1] and now - self._steps[-1][0] >= _SMALLEST_INTERVAL):
            self._steps.append((now, done))
        (first, first_done), (last, last_done) = self._steps[0], self._steps[-1]
        if len(self._steps) <= _STEPS_BEFORE_A_GUESS or last - first < _SECONDS_BEFORE_A_GUESS or total <= 0:
            return None
        per_step = (last - first) / (last_done - first_done)
        return max(0.0, per_step * (total - last_done) - (now - last))


class Reporter:
    """Passes progress on when the stage changes, when it ends, and otherwise at most every 50 ms."""

    def __init__(
        self,
        send: Callable[[str, int, int, float | None], object],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._send = send
        self._clock = clock
        self._pace = Pace()
        self._stage: str | None = None
        self._done = 0
        self._sent = 0.0

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Take note of `done` of `total` steps (at least 0; `done` is cut to `total`) of a stage."""
        stage = str(stage)[:_LONGEST_STAGE]
        total = max(0, int(total))
        done = min(max(0, int(done)), total)
        now = self._clock()
        remaining = self._pace.remaining(stage, done, total, now)
        news = stage != self._stage or (done == total > self._done)
        if not news and now - self._sent < _SMALLEST_INTERVAL:
            return
        self._stage, self._done, self._sent = stage, done, now
        self._send(stage, done, total, remaining)
