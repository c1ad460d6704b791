"""The worker's side alone, spoken to in raw lines: it answers every line, whatever it is, and goes on."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_worker_protocol import hostile_lines
from worker_tools import FAKE, prepared_run

from MedAELib.worker import protocol, runs
from MedAELib.worker.protocol import (
    CancelCommand,
    CancelledEvent,
    Done,
    Failed,
    Hello,
    Ping,
    Pong,
    Progress,
    Release,
    RunCommand,
)


class Speaker:
    """A fake worker at the end of two blocking pipes."""

    def __init__(self, *options: str) -> None:
        pipe = subprocess.PIPE
        self.process = subprocess.Popen(
            [*FAKE, *options], stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL, start_new_session=True
        )

    def say(self, line: protocol.Command | bytes) -> None:
        """Send a command or any line."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + b"\n" if isinstance(line, bytes) else protocol.encode(line))
        self.process.stdin.flush()

    def hear(self, *skipped: type) -> protocol.Event:
        """The next event that is not of a skipped type."""
        assert self.process.stdout is not None
        while isinstance(event := protocol.decode_event(self.process.stdout.readline()), skipped):
            pass
        return event


@pytest.fixture
def speaker() -> Iterator[Speaker]:
    """A worker that has said hello."""
    speaker = Speaker()
    assert isinstance(speaker.hear(), Hello)
    yield speaker
    speaker.process.kill()
    speaker.process.communicate()


def test_two_hundred_hostile_lines_are_answered_one_by_one_and_then_a_run_works(
    speaker: Speaker, tmp_path: Path
) -> None:
    for line in hostile_lines():
        speaker.say(line)
        answer = speaker.hear()
        assert isinstance(answer, Failed), line[:100]
        assert (answer.run, answer.kind) == ("", "internal")
        assert "cannot read" in answer.sentence
    speaker.say(Ping(7))
    assert speaker.hear() == Pong(7)
    run = prepared_run(tmp_path)
    speaker.say(RunCommand(str(run)))
    assert speaker.hear(Progress) == Done(str(run))


@pytest.mark.parametrize("run", ["", "/nowhere", "relative", "\0", "x" * 50_000, "\ud800", "/dev/null", "."])
def test_a_run_folder_that_is_none_is_a_plain_failure(speaker: Speaker, run: str) -> None:
    speaker.say(RunCommand(run))
    answer = speaker.hear(Progress)
    assert isinstance(answer, Failed)
    assert (answer.run, answer.kind) == (run, "bad input")


def test_a_damaged_input_is_a_plain_failure(speaker: Speaker, tmp_path: Path) -> None:
    run = prepared_run(tmp_path)
    os.truncate(run / "inputs" / "input.npy", 140)
    speaker.say(RunCommand(str(run)))
    answer = speaker.hear(Progress)
    assert isinstance(answer, Failed)
    assert answer.kind == "bad input"
    assert "input.npy" in answer.sentence


def test_a_second_run_is_refused_and_pings_are_answered_while_one_runs(speaker: Speaker, tmp_path: Path) -> None:
    first, second = prepared_run(tmp_path, behaviour="steps", steps=1000), prepared_run(tmp_path)
    speaker.say(RunCommand(str(first)))
    speaker.say(RunCommand(str(second)))
    refusal = speaker.hear(Progress)
    assert isinstance(refusal, Failed)
    assert refusal.run == str(second)
    assert "busy" in refusal.sentence
    speaker.say(Ping(1))
    assert speaker.hear(Progress) == Pong(1)
    speaker.say(CancelCommand(str(second)))
    speaker.say(Ping(2))
    assert speaker.hear(Progress) == Pong(2)
    speaker.say(CancelCommand(str(first)))
    assert speaker.hear(Progress) == CancelledEvent(str(first))
    speaker.say(RunCommand(str(second)))
    assert speaker.hear(Progress) == Done(str(second))


def test_a_cancel_that_comes_too_late_does_not_harm_the_next_run(speaker: Speaker, tmp_path: Path) -> None:
    for _ in range(2):
        run = prepared_run(tmp_path)
        speaker.say(RunCommand(str(run)))
        assert speaker.hear(Progress) == Done(str(run))
        speaker.say(CancelCommand(str(run)))


def test_a_cancelled_run_leaves_no_output(speaker: Speaker, tmp_path: Path) -> None:
    run = prepared_run(tmp_path, behaviour="steps", steps=1000)
    speaker.say(RunCommand(str(run)))
    while not list((run / "outputs").iterdir()):
        time.sleep(0.01)
    speaker.say(CancelCommand(str(run)))
    assert speaker.hear(Progress) == CancelledEvent(str(run))
    assert list((run / "outputs").iterdir()) == []
    assert not runs.is_finished(run)


def test_release_ends_the_process_with_status_zero(speaker: Speaker) -> None:
    speaker.say(Release())
    assert speaker.process.wait(5) == 0


def test_the_process_ends_by_itself_when_nothing_is_asked_of_it() -> None:
    speaker = Speaker("--idle-seconds", "0.05")
    assert isinstance(speaker.hear(), Hello)
    assert speaker.process.wait(5) == 0
    speaker.process.communicate()


def test_a_missing_package_is_said_before_the_process_ends() -> None:
    speaker = Speaker("--start", "missing")
    answer = speaker.hear()
    assert isinstance(answer, Failed)
    assert (answer.run, answer.kind) == ("", "missing package")
    assert speaker.process.wait(5) == 3
    speaker.process.communicate()
