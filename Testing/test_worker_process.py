"""Process trees, identities of processes, and the log of what a worker prints."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from worker_tools import dies_within, lives

from MedAELib.worker import process, windows
from MedAELib.worker.log import RollingLog
from MedAELib.worker.process import ProcessTree

SLEEPER = "[sys.executable, '-c', 'import time; time.sleep(99)']"
FAMILY = f"import subprocess, sys; print(subprocess.Popen({SLEEPER}).pid, flush=True)"


def tree_of(code: str, folder: Path) -> ProcessTree:
    """A Python process that runs some code."""
    return ProcessTree([sys.executable, "-c", code], os.environ, folder)


def said(tree: ProcessTree) -> bytes:
    """What the process says, once it says something."""
    while not (data := tree.read_output(1000)):
        time.sleep(0.01)
    return data


@pytest.mark.parametrize("ending", ["import time; time.sleep(99)", "pass"])
def test_a_tree_ends_as_a_whole_whether_it_is_killed_or_its_root_ends(tmp_path: Path, ending: str) -> None:
    tree = tree_of(f"{FAMILY}; {ending}", tmp_path)
    child = int(said(tree))
    if ending == "pass":
        while tree.exit_status() is None:
            time.sleep(0.01)
    else:
        assert lives(child)
        tree.kill()
    assert tree.wait(5) == (0 if ending == "pass" else -9)
    assert dies_within(child, 1)
    tree.kill()
    tree.close()


def test_reading_from_and_writing_to_a_process_that_does_neither_returns_at_once(tmp_path: Path) -> None:
    tree = tree_of("import time; time.sleep(99)", tmp_path)
    assert tree.read_output(1000) == tree.read_errors(1000) == b""
    taken = 0
    while sent := tree.write(b"x" * 100_000):
        taken += sent
        assert taken < 10_000_000
    assert tree.wait(0.01) is None
    tree.kill()
    assert tree.wait(5) == -9
    tree.close()


def test_a_process_has_one_identity_and_another_process_has_another() -> None:
    other = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    mine, others = process.identity(os.getpid()), process.identity(other.pid)
    assert mine
    assert others
    assert mine == process.identity(os.getpid()) == process.own_identity()[2]
    assert mine != others or sys.platform == "darwin"  # there it is the second in which it started
    other.communicate()
    assert process.identity(other.pid) is None


def test_a_dead_process_that_nobody_has_waited_for_has_no_identity() -> None:
    zombie = subprocess.Popen([sys.executable, "-c", ""])
    while process.identity(zombie.pid) is not None:
        time.sleep(0.01)
    assert zombie.wait() == 0


def test_the_windows_structure_has_the_size_that_the_system_expects() -> None:
    assert ctypes.sizeof(windows._Limits) == (144 if ctypes.sizeof(ctypes.c_void_p) == 8 else 112)


@pytest.mark.skipif(sys.platform != "win32", reason="only Windows has job objects")
def test_a_windows_process_has_a_start_time() -> None:
    assert windows.start_time(os.getpid())


# ---- the log ----


def test_the_log_keeps_its_last_lines_and_stays_small(tmp_path: Path) -> None:
    log = RollingLog(tmp_path / "worker-1.log")
    for number in range(60_000):
        log.write(f"line {number} {'x' * 60}\r\n".encode())
    assert log.tail(2).split("\n")[1].startswith("line 59999 ")
    assert log.tail(2).count("\n") == 1
    assert len(log.tail(10_000).split("\n")) == 400
    assert log.tail(0) == ""
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) < 1.1 * (1 << 20)
    assert log.path.read_bytes().endswith(b"x\r\n")


@given(st.lists(st.binary(max_size=40), max_size=30))
def test_the_log_takes_any_bytes(tmp_path_factory: pytest.TempPathFactory, pieces: list[bytes]) -> None:
    log = RollingLog(tmp_path_factory.getbasetemp() / "worker-2.log")
    for piece in pieces:
        log.write(piece)
    expected = b"".join(pieces).split(b"\n")
    assert log.tail(1000).count("\n") <= len(expected)
    if expected[-1].isalnum():
        assert log.tail(1).endswith(expected[-1].decode())


def test_an_endless_line_is_cut(tmp_path: Path) -> None:
    log = RollingLog(tmp_path / "worker-3.log")
    for _ in range(100):
        log.write(b"x" * 100_000)
    assert len(log.tail(1000)) < 1_000_000


def test_a_log_that_cannot_be_written_still_keeps_its_last_lines(tmp_path: Path) -> None:
    log = RollingLog(tmp_path / "missing" / "worker-4.log")
    log.note("still here")
    assert log.tail(1).endswith("still here")


def test_only_the_logs_of_the_last_workers_are_kept(tmp_path: Path) -> None:
    for number in range(20):
        path = tmp_path / f"worker-{number}.log"
        path.write_text("x")
        os.utime(path, (number, number))
    RollingLog(tmp_path / "worker-99.log")
    assert {path.name for path in tmp_path.iterdir()} == {f"worker-{number}.log" for number in range(12, 20)}
