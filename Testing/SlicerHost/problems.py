"""Problems that Qt and VTK would hide: collected while a test runs, raised when it ends."""

from __future__ import annotations

import re
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True)
class Problem:
    """One thing that went wrong out of sight: its kind ("slot", "vtk", "qt", "ui", "attribute") and a description."""

    kind: str
    text: str

    def __str__(self) -> str:
        return f"[{self.kind}] {self.text}"


class HostProblems(AssertionError):
    """Raised at the end of a test (or of the whole run) when something went wrong out of sight."""


_found: list[Problem] = []
_listeners: list[Callable[[Problem], bool]] = []


def record(kind: str, text: str) -> None:
    """Remember a problem, unless the test said that it expects one like it."""
    problem = Problem(kind, text.strip())
    if not any(listener(problem) for listener in _listeners):
        _found.append(problem)


def take() -> list[Problem]:
    """Return the problems collected so far and forget them."""
    found = list(_found)
    _found.clear()
    return found


def check() -> None:
    """Raise HostProblems when anything was collected since the last look."""
    found = take()
    if found:
        raise HostProblems("the host saw:\n" + "\n".join(f"  {problem}" for problem in found))


@contextmanager
def expected(pattern: str) -> Iterator[list[Problem]]:
    """Within this block problems whose text matches the regular expression are wanted; none at all fails the test."""
    seen: list[Problem] = []

    def listener(problem: Problem) -> bool:
        wanted = re.search(pattern, str(problem)) is not None
        if wanted:
            seen.append(problem)
        return wanted

    _listeners.append(listener)
    try:
        yield seen
    finally:
        _listeners.remove(listener)
    if not seen:
        raise HostProblems(f"expected a problem like {pattern!r}, but nothing of the kind happened")


def watch_slot_exceptions() -> None:
    """Collect exceptions that leave a Qt slot, a Qt event handler or a VTK observer: both toolkits only print them."""
    previous = sys.excepthook

    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        text = "".join(traceback.format_exception(kind, error, trace))
        record("slot", f"exception in a slot or observer: {kind.__name__}: {error}\n{text}")
        previous(kind, error, trace)

    sys.excepthook = hook
