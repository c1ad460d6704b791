"""What goes wrong in a real child process is told in one plain sentence, and the next run works."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from worker_tools import do, finish, poll_until, prepared_run, worker

import MedAELib.worker.client as client_module
from MedAELib.errors import InternalFault
from MedAELib.worker import runs
from MedAELib.worker.client import WorkerClient
from MedAELib.worker.protocol import Done, Failed

FAILURES: list[tuple[dict[str, Any], str, str, str]] = [
    ({"behaviour": "raise", "error": "ValueError", "text": "secret"}, "internal", "(ValueError)", "idle"),
    ({"behaviour": "raise", "error": "BadInput", "text": "Too thin."}, "bad input", "Too thin.", "idle"),
    ({"behaviour": "raise", "error": "MemoryError"}, "out of memory", "computer", "idle"),
    ({"behaviour": "raise", "error": "torch.OutOfMemoryError", "text": "CUDA"}, "out of memory", "graphics", "idle"),
    ({"behaviour": "raise", "error": "KeyboardInterrupt"}, "internal", "(KeyboardInterrupt)", "idle"),
    ({"behaviour": "raise", "error": "SystemExit"}, "internal", "(SystemExit)", "idle"),
    ({"behaviour": "half"}, "internal", "(ValueError)", "idle"),
    ({"behaviour": "disk full"}, "disk full", "no room", "idle"),
    ({"behaviour": "crash"}, "internal", "crashed (SIGABRT)", "stopped"),
    ({"behaviour": "exit"}, "internal", "exit status 7", "stopped"),
    ({"behaviour": "kill"}, "killed", "out of memory", "stopped"),
    ({"behaviour": "garbage"}, "internal", "cannot read", "stopped"),
    ({"behaviour": "garbage", "text": "[" * 100_000}, "internal", "cannot read", "stopped"),
    ({"behaviour": "garbage", "text": '{"type":"done","v":1,"run":7}'}, "internal", "cannot read", "stopped"),
]


def test_every_failure_is_one_plain_sentence_and_the_next_run_works(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        for parameters, kind, words, state in FAILURES:
            run = prepared_run(tmp_path, **parameters)
            failed = do(client, run)[-1]
            assert isinstance(failed, Failed), (parameters, failed)
            assert (failed.run, failed.kind, client.state) == (str(run), kind, state), parameters
            assert words in failed.sentence
            assert "Traceback" not in failed.sentence
            assert failed.next_step
            if parameters["behaviour"] != "garbage":  # there the task itself went on, and may have finished
                assert not runs.is_finished(run)
                assert list((run / "outputs").iterdir()) == []
            assert do(client, prepared_run(tmp_path))[-1].__class__ is Done


def test_a_traceback_goes_to_the_log(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        failed = do(client, prepared_run(tmp_path, behaviour="raise", text="of all things"))[-1]
        assert isinstance(failed, Failed)
        assert "ValueError: of all things" in failed.detail
        poll_until(client, lambda _: "ValueError: of all things" in client.log_tail())


def test_what_libraries_print_goes_to_the_log_and_disturbs_nothing(tmp_path: Path) -> None:
    with worker(tmp_path) as client:
        assert do(client, prepared_run(tmp_path, behaviour="print", text='{"type":"done"}'))[-1].__class__ is Done
        for door in ("(stdout)", "(stderr)", "(below Python)", "(child)"):
            poll_until(client, lambda _, door=door: f'{{"type":"done"}} {door}' in client.log_tail())
        assert '{"type":"done"} (child)' in client.log_path.read_text()


@pytest.mark.parametrize(
    ("how", "kind", "words"),
    [
        ("missing", "missing package", "torch is not installed"),
        ("crash", "internal", "crashed (SIGABRT)"),
        ("garbage", "internal", "cannot read"),
    ],
)
def test_a_worker_that_cannot_start_fails_the_run_with_the_reason(
    tmp_path: Path, how: str, kind: str, words: str
) -> None:
    with worker(tmp_path, "--start", how) as client:
        run = prepared_run(tmp_path)
        failed = do(client, run)[-1]
        assert isinstance(failed, Failed)
        assert (failed.run, failed.kind, client.state) == (str(run), kind, "stopped")
        assert words in failed.sentence


def test_a_failure_of_a_worker_without_a_run_is_told_too(tmp_path: Path) -> None:
    with worker(tmp_path, "--start", "missing") as client:
        client.start()
        failed = finish(client)[-1]
        assert isinstance(failed, Failed)
        assert (failed.run, failed.kind, client.state) == ("", "missing package", "stopped")


def test_a_worker_that_never_says_hello_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "_SECONDS_TO_START", 0.2)
    with worker(tmp_path, "--start", "silent") as client:
        failed = do(client, prepared_run(tmp_path))[-1]
        assert isinstance(failed, Failed)
        assert "did not start in time" in failed.sentence


def test_a_command_that_does_not_exist_is_a_plain_failure(tmp_path: Path) -> None:
    client = WorkerClient(tmp_path, command=[str(tmp_path / "no-python")])
    with pytest.raises(InternalFault, match="cannot be started"):
        client.submit(prepared_run(tmp_path))
    assert (client.state, client.run) == ("stopped", None)


def test_a_program_that_is_no_worker_is_a_plain_failure(tmp_path: Path) -> None:
    for code in ("print('Python 3.12')", "import sys; sys.stdout.write('x' * 3000000)", ""):
        client = WorkerClient(tmp_path, command=[sys.executable, "-c", code])
        failed = do(client, prepared_run(tmp_path))[-1]
        assert isinstance(failed, Failed), code
        assert failed.kind == "internal"
        client.close()
