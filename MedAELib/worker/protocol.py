"""What Slicer and the worker say to each other: commands and events, one bounded line of JSON each.

A line is a JSON object with "type", the protocol version "v" and the fields of one of the classes below, no more and
no less. Whatever else arrives raises ProtocolError, and never anything else. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, fields
from typing import Any

from . import strict

VERSION = 1
LARGEST_LINE = 1 << 20
"""Bytes of a line, without its line end."""
_LARGEST_TEXT = 100_000


class ProtocolError(Exception):
    """A line that is not of this protocol; `str(error)` is the reason, in a few words."""


@dataclass(frozen=True)
class Device:
    """A device to compute on: identifier ("cpu", "cuda:0", "mps"), name, memory in bytes (0 = unknown)."""

    id: str
    name: str
    memory_bytes: int


@dataclass(frozen=True)
class AboutRun:
    """A message about one run, named by its folder (an absolute path)."""

    run: str


# ---- commands: Slicer to worker ----


class RunCommand(AboutRun):
    """Do the job in the folder `run`."""


class CancelCommand(AboutRun):
    """Stop the job in `run` at the next step, leaving no result; answered by CancelledEvent."""


class FinishCommand(AboutRun):
    """Let the job in `run`, a training, end after its step and keep the best so far as its result."""


@dataclass(frozen=True)
class Ping:
    """Ask for Pong with the same number."""

    number: int


@dataclass(frozen=True)
class Release:
    """End the process now, which surely frees the memory of the device."""


# ---- events: worker to Slicer ----


@dataclass(frozen=True)
class Hello:
    """The worker is ready: devices to choose from, versions of packages, warnings (e.g. an old driver)."""

    devices: tuple[Device, ...]
    versions: dict[str, str]
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Progress(AboutRun):
    """`done` of `total` steps of a stage named in plain words; `remaining_seconds` of the stage, None while unknown."""

    stage: str
    done: int
    total: int
    remaining_seconds: float | None


@dataclass(frozen=True)
class Measured(AboutRun):
    """A training after `step` of `steps`: loss and quality on held-out subjects (dB; of an anomaly model average
    precision), None where there is none.

    `picture` counts the pictures so far of a held-out slice, the last of which is live/picture.npy in the run's folder.
    """

    step: int
    steps: int
    loss: float | None
    held_out: float | None
    picture: int


@dataclass(frozen=True)
class Log:
    """A line for the log that the panel shows."""

    text: str


@dataclass(frozen=True)
class Pong:
    """The answer to Ping."""

    number: int


class Done(AboutRun):
    """The result of `run` is complete in its folder."""


@dataclass(frozen=True)
class Failed(AboutRun):
    """`run` (empty: the worker itself) failed: kind and sentences as in `errors.py`; detail for the log."""

    kind: str
    sentence: str
    next_step: str
    detail: str = ""


class CancelledEvent(AboutRun):
    """`run` was cancelled and leaves no result."""


Command = RunCommand | CancelCommand | FinishCommand | Ping | Release
Event = Hello | Progress | Measured | Log | Pong | Done | Failed | CancelledEvent
Message = Command | Event

COMMANDS: dict[str, type] = {
    "run": RunCommand,
    "cancel": CancelCommand,
    "finish": FinishCommand,
    "ping": Ping,
    "release": Release,
}
EVENTS: dict[str, type] = {
    "hello": Hello,
    "progress": Progress,
    "measured": Measured,
    "log": Log,
    "pong": Pong,
    "done": Done,
    "failed": Failed,
    "cancelled": CancelledEvent,
}
_NAMES = {kind: name for name, kind in {**COMMANDS, **EVENTS}.items()}


def encode(message: Message) -> bytes:
    """The line of a message, with its line end; ProtocolError when a field does not fit (a defect of the caller)."""
    content: dict[str, Any] = {"type": _NAMES[type(message)], "v": VERSION}
    for part in fields(message):
        value = getattr(message, part.name)
        if part.name == "devices":
            value = [{"id": d.id, "name": d.name, "memory_bytes": d.memory_bytes} for d in value]
        content[part.name] = list(value) if isinstance(value, tuple) else value
    try:
        return strict.dumps(content, LARGEST_LINE) + b"\n"
    except ValueError as error:
        raise ProtocolError(str(error)) from None


def decode_command(line: bytes) -> Command:
    """The command in a line (with or without line end)."""
    return _decode(line, COMMANDS)


def decode_event(line: bytes) -> Event:
    """The event in a line (with or without line end)."""
    return _decode(line, EVENTS)


def _decode(line: bytes, known: dict[str, type]) -> Any:
    try:
        content = strict.loads(line, LARGEST_LINE)
    except ValueError as error:
        raise ProtocolError(str(error)) from None
    name, version = content.pop("type", None), content.pop("v", None)
    if type(version) is not int or version != VERSION:
        raise ProtocolError(f"not of protocol version {VERSION}")
    if not isinstance(name, str) or name not in known:
        raise ProtocolError("of unknown type")
    kind = known[name]
    parts = [part.name for part in fields(kind)]
    if set(content) != set(parts):
        raise ProtocolError(f"{name} needs exactly the fields {', '.join(parts) or '(none)'}")
    return kind(**{part: _read(part, content[part]) for part in parts})


def _read(part: str, value: Any) -> Any:
    try:
        return _READERS[part](value)
    except (ValueError, TypeError, KeyError, OverflowError):
        raise ProtocolError(f"bad value of {part}") from None


def _text(value: Any) -> str:
    if not isinstance(value, str) or len(value) > _LARGEST_TEXT:
        raise ValueError
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value < 1 << 63:
        raise ValueError
    return value


def _seconds(value: Any) -> float | None:
    if value is None:
        return None
    if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
        raise ValueError
    return float(value)


def _number(value: Any) -> float | None:
    if value is not None and (type(value) not in (int, float) or not math.isfinite(value)):
        raise ValueError
    return None if value is None else float(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > 100:
        raise ValueError
    return tuple(map(_text, value))


def _versions(value: Any) -> dict[str, str]:
    if not isinstance(value, dict) or len(value) > 100:
        raise ValueError
    return {_text(name): _text(version) for name, version in value.items()}


def _devices(value: Any) -> tuple[Device, ...]:
    if not isinstance(value, list) or len(value) > 100 or any(len(device) != 3 for device in value):
        raise ValueError
    return tuple(Device(_text(d["id"]), _text(d["name"]), _count(d["memory_bytes"])) for d in value)


_READERS: dict[str, Callable[[Any], Any]] = {
    **dict.fromkeys(("run", "stage", "text", "kind", "sentence", "next_step", "detail"), _text),
    **dict.fromkeys(("done", "total", "number", "step", "steps", "picture"), _count),
    **dict.fromkeys(("loss", "held_out"), _number),
    "remaining_seconds": _seconds,
    "devices": _devices,
    "versions": _versions,
    "warnings": _texts,
}


@dataclass
class LineReader:
    """Cuts a stream of bytes into lines; keeps no more than one line, however long what arrives."""

    _rest: bytearray = field(default_factory=bytearray)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that `data` completes. One that is too long comes cut, so that decoding refuses it."""
        start = 0
        while (end := data.find(b"\n", start)) >= 0:
            self._keep(data[start:end])
            line = bytes(self._rest)
            self._rest.clear()
            start = end + 1
            yield line
        self._keep(data[start:])

    def _keep(self, data: bytes) -> None:
        self._rest += data[: max(0, LARGEST_LINE + 1 - len(self._rest))]
