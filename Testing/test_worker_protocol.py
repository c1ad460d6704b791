"""The lines between Slicer and the worker: whatever is said arrives unchanged, whatever else arrives is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MedAELib.worker import protocol
from MedAELib.worker.protocol import (
    CancelCommand,
    CancelledEvent,
    Device,
    Done,
    Failed,
    FinishCommand,
    Hello,
    LineReader,
    Log,
    Measured,
    Ping,
    Pong,
    Progress,
    ProtocolError,
    Release,
    RunCommand,
)

text = st.text(max_size=200)
count = st.integers(0, (1 << 63) - 1)
figure = st.none() | st.floats(allow_nan=False, allow_infinity=False)
seconds = st.none() | st.floats(0, 1e12)
devices = st.lists(st.builds(Device, text, text, count), max_size=5).map(tuple)
commands = st.one_of(
    st.builds(RunCommand, text), st.builds(CancelCommand, text), st.builds(FinishCommand, text),
    st.builds(Ping, count), st.just(Release()),
)
events = st.one_of(
    st.builds(Hello, devices, st.dictionaries(text, text, max_size=5), st.lists(text, max_size=5).map(tuple)),
    st.builds(Progress, text, text, count, count, seconds),
    st.builds(Measured, text, count, count, figure, figure, count),
    st.builds(Log, text),
    st.builds(Pong, count),
    st.builds(Done, text),
    st.builds(Failed, text, text, text, text, text),
    st.builds(CancelledEvent, text),
)
any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=20,
)

MEASURED: dict[str, Any] = {"type": "measured", "v": 1, "run": "/r", "step": 1, "steps": 2, "loss": 0.5}
MEASURED |= {"held_out": 30.5, "picture": 1}
GOOD: dict[str, Any] = {"type": "progress", "v": 1, "run": "/r", "stage": "s", "done": 1, "total": 2}
GOOD["remaining_seconds"] = 0.5


def changed(**fields: Any) -> bytes:
    """A good progress line with some fields replaced (or dropped: "-")."""
    return json.dumps({k: v for k, v in {**GOOD, **fields}.items() if v != "-"}).encode()


def hostile_lines() -> list[bytes]:
    """More than two hundred lines that are no commands and no events, each wrong in its own way."""
    plain = ["", " ", "{", "}", "[]", "null", "true", "1", '"run"', "{}", "{}{}", "run", "\\", "'", "{'a': 1}", "\0"]
    lines = [line.encode() for line in plain]
    lines += [bytes([byte]) * 3 for byte in range(128, 256, 2)]
    lines += [
        changed(type=name) for name in ("", "RUN", "exit", "__class__", None, 1, [], {}, True, "run\0", "x" * 999)
    ]
    lines += [changed(v=version) for version in (0, 2, -1, 1.0, True, "1", None, [1], "-", 10**30)]
    wrong_counts = (-1, 1.5, "1", None, [], {}, True, 1 << 63, 10**40, "-", "NaN")
    lines += [changed(**{name: value}) for name in ("done", "total") for value in wrong_counts]
    lines += [
        changed(**{name: value}) for name in ("run", "stage") for value in (1, None, [], {}, True, "-", "x" * 100_001)
    ]
    lines += [
        changed(remaining_seconds=value) for value in (-1, "1", [], {}, True, "-", -0.001, float("nan"), float("inf"))
    ]
    lines += [changed(extra=value) for value in (1, None, "x", {}, [])]
    lines += [
        changed().replace(b"0.5", number) for number in (b"1e999", b"-1e999", b"0x1", b"1_0", b"01", b".5", b"+1")
    ]
    lines += [changed()[:cut] for cut in range(1, len(changed()), 5)]
    lines += [changed().replace(b'"run"', b'"stage"'), changed()[:-1] + b', "run": "/r"}']
    lines += [b"[" * depth for depth in (10, 1_000, 100_000, 1_000_000)]
    lines += [b'{"a":' * depth + b"1" + b"}" * depth for depth in (10, 1_000, 100_000)]
    lines += [b"9" * size for size in (10, 5_000, 1_000_000)] + [b'{"v": ' + b"9" * 5_000 + b"}"]
    lines += [b" " * (protocol.LARGEST_LINE + 1), changed() + b" " * protocol.LARGEST_LINE]
    hello: dict[str, Any] = {"type": "hello", "v": 1, "devices": [], "versions": {}, "warnings": []}
    wrong: dict[str, list[Any]] = {
        "devices": [None, {}, "cpu", [1], [[]], [{}], [{"id": 1, "name": "", "memory_bytes": 0}], [None] * 101,
                    [{"id": "", "name": "", "memory_bytes": -1}], [{"id": "", "name": "", "x": 0}], ["abc"]],
        "versions": [None, [], "1", {"a": 1}, {"a": None}, {str(n): "" for n in range(101)}],
        "warnings": [None, {}, "x", [1], [None], [""] * 101],
    }  # fmt: skip
    lines += [json.dumps({**hello, name: value}).encode() for name, values in wrong.items() for value in values]
    return lines + hostile_measurements()


def hostile_measurements() -> list[bytes]:
    """Lines that are nearly a point of a training's curve."""
    lines = []
    for name in ("step", "steps", "picture"):
        for value in (-1, 1.0, 0.5, "1", None, True, [], {}, 1 << 63, float("nan")):
            lines.append(json.dumps({**MEASURED, name: value}).encode())
    for name in ("loss", "held_out"):
        for value in ("1", True, [], {}, float("nan"), float("inf"), -float("inf"), 10**400):
            lines.append(json.dumps({**MEASURED, name: value}).encode())
    lines += [json.dumps({k: v for k, v in MEASURED.items() if k != name}).encode() for name in MEASURED]
    lines += [json.dumps({**MEASURED, "voxels": [0.5]}).encode(), json.dumps({**MEASURED, "run": None}).encode()]
    return lines


@given(commands)
def test_every_command_arrives_as_it_was_said(command: protocol.Command) -> None:
    line = protocol.encode(command)
    assert line.count(b"\n") == 1
    assert protocol.decode_command(line) == command


@given(events)
def test_every_event_arrives_as_it_was_said(event: protocol.Event) -> None:
    line = protocol.encode(event)
    assert line.count(b"\n") == 1
    assert protocol.decode_event(line) == event


def test_a_path_that_is_no_unicode_text_survives_the_way() -> None:
    path = b"/data/\xff\xfe".decode("utf-8", "surrogateescape")
    assert protocol.decode_command(protocol.encode(RunCommand(path))) == RunCommand(path)


def test_more_than_two_hundred_hostile_lines_are_all_refused_in_a_few_words() -> None:
    lines = hostile_lines()
    assert len(lines) > 200
    for line in lines:
        for decode in (protocol.decode_command, protocol.decode_event):
            with pytest.raises(ProtocolError) as refusal:
                decode(line)
            assert 0 < len(str(refusal.value)) < 200


@given(st.binary(max_size=300) | any_json.map(lambda value: json.dumps(value).encode()))
def test_any_bytes_and_any_json_are_refused_or_understood_but_never_crash(line: bytes) -> None:
    for decode in (protocol.decode_command, protocol.decode_event):
        try:
            decode(line)
        except ProtocolError:
            pass


@given(st.sampled_from(sorted(GOOD)), any_json)
def test_any_value_in_any_field_is_refused_or_kept(name: str, value: Any) -> None:
    line = json.dumps({**GOOD, name: value}).encode()
    try:
        event = protocol.decode_event(line)
    except ProtocolError:
        return
    if name == "remaining_seconds" and value is not None:
        value = float(value)  # whole numbers of seconds beyond 2^53 are rounded
    assert name in ("v", "type") or getattr(event, name) == value


@given(st.lists(st.binary(max_size=50).filter(lambda line: b"\n" not in line), max_size=8), st.data())
def test_lines_are_cut_alike_however_the_bytes_arrive(lines: list[bytes], data: st.DataObject) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(stream)), max_size=6)))
    reader = LineReader()
    pieces = [stream[a:b] for a, b in zip([0, *cuts], [*cuts, len(stream)])]
    assert [line for piece in pieces for line in reader.feed(piece)] == lines


def test_an_endless_line_takes_bounded_memory_and_only_that_line_is_lost() -> None:
    reader = LineReader()
    for _ in range(64):
        assert list(reader.feed(b"x" * 100_000)) == []
    assert len(reader._rest) <= protocol.LARGEST_LINE + 1
    long, good = reader.feed(b"\n" + protocol.encode(Done("/r")))
    with pytest.raises(ProtocolError, match="longer"):
        protocol.decode_event(long)
    assert protocol.decode_event(good) == Done("/r")


@pytest.mark.parametrize(
    "event", [Log("x" * (protocol.LARGEST_LINE + 1)), Progress("/r", "s", 1, 2, float("nan")), Log(object())]
)
def test_what_does_not_fit_into_a_line_is_refused_before_it_is_sent(event: protocol.Event) -> None:
    with pytest.raises(ProtocolError):
        protocol.encode(event)
