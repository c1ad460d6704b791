"""Whose a run folder is: a living Slicer's runs are left alone, a dead one's are found, claimed once, and swept."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from worker_tools import another_slicer, finished_run, prepared_run

from MedAELib.errors import BadInput
from MedAELib.worker import ownership, runs


def test_a_living_slicers_results_are_offered_to_nobody(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    assert runs.unclaimed_runs(tmp_path) == []
    assert another_slicer(tmp_path, "print(runs.unclaimed_runs(folder), runs.sweep(folder))") == "[] 0"
    assert another_slicer(tmp_path, f"print(runs.claim(Path({str(run)!r})))") == "False"
    assert runs.claim(run)


def test_a_dead_slicers_result_is_found_and_claimed_once(tmp_path: Path) -> None:
    run = Path(another_slicer(tmp_path, "print(finished_run(folder))"))
    assert runs.unclaimed_runs(tmp_path) == [run]
    assert another_slicer(tmp_path, "print(runs.unclaimed_runs(folder))") != "[]"
    assert runs.claim(run)
    assert runs.claim(run)
    assert runs.unclaimed_runs(tmp_path) == []
    assert another_slicer(tmp_path, f"print(runs.claim(Path({str(run)!r})))") == "False"
    assert runs.read_result(run, verify=True).report == {"seconds": 1.5}


def test_a_result_whose_claimant_died_too_is_offered_again(tmp_path: Path) -> None:
    run = Path(another_slicer(tmp_path, "print(finished_run(folder))"))
    assert another_slicer(tmp_path, "print(runs.claim(runs.unclaimed_runs(folder)[0]))") == "True"
    assert runs.unclaimed_runs(tmp_path) == [run]


def test_of_two_slicers_that_claim_at_once_one_gets_the_run(tmp_path: Path) -> None:
    run = Path(another_slicer(tmp_path, "print(finished_run(folder))"))
    number = ownership.last_number(run) + 1
    assert [ownership.take(run, number), ownership.take(run, number)] == [True, False]


def test_only_what_dead_slicers_left_unfinished_is_swept(tmp_path: Path) -> None:
    dead = Path(another_slicer(tmp_path, "print(prepared_run(folder))"))
    dead_finished = Path(another_slicer(tmp_path, "print(finished_run(folder))"))
    ours, stranger = prepared_run(tmp_path), tmp_path / "holiday pictures"
    stranger.mkdir()
    assert runs.sweep(tmp_path) == 1
    assert not dead.exists()
    assert dead_finished.exists()
    assert ours.exists()
    assert stranger.exists()


@pytest.mark.parametrize(("days", "swept"), [(1, 0), (40, 1)])
def test_a_training_that_can_go_on_is_left_for_a_month(tmp_path: Path, days: int, swept: int) -> None:
    dead = Path(another_slicer(tmp_path, "print(prepared_run(folder))"))
    (dead / "work").mkdir()
    (dead / "work" / "plan.json").write_text("{}")
    assert not runs.is_resumable(dead) and runs.interrupted_runs(tmp_path) == []
    (dead / "work" / "last.pt").write_bytes(b"weights")
    then = time.time() - days * 24 * 3600
    os.utime(dead / "work" / "last.pt", (then, then))
    assert runs.interrupted_runs(tmp_path) == [dead]
    assert runs.sweep(tmp_path) == swept and dead.exists() is not bool(swept)
    assert swept or runs.claim(dead)


@pytest.mark.parametrize(("days", "swept"), [(1, 0), (8, 1)])
def test_another_computers_runs_are_left_alone_for_a_week(tmp_path: Path, days: int, swept: int) -> None:
    run = prepared_run(tmp_path)
    owner = run / "owner-0.json"
    owner.write_text(json.dumps({"host": "scanner-room", "pid": 1, "identity": "x"}))
    age = owner.stat().st_mtime - days * 86_400
    os.utime(owner, (age, age))
    assert runs.sweep(tmp_path) == swept


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"host": 1, "pid": "x", "identity": 2}', b"[" * 9000])
def test_an_unreadable_owner_counts_as_dead_once_it_is_old(tmp_path: Path, content: bytes) -> None:
    run = finished_run(tmp_path)
    owner = run / "owner-0.json"
    owner.write_bytes(content)
    assert runs.unclaimed_runs(tmp_path) == []
    os.utime(owner, (1, 1))
    assert runs.unclaimed_runs(tmp_path) == [run]
    assert runs.claim(run)


def test_a_process_number_that_was_given_again_is_not_the_old_slicer(tmp_path: Path) -> None:
    run = finished_run(tmp_path)
    owner = json.loads((run / "owner-0.json").read_text())
    (run / "owner-0.json").write_text(json.dumps({**owner, "identity": "another start"}))
    assert runs.unclaimed_runs(tmp_path) == [run]


def test_discard_removes_a_run_and_nothing_else(tmp_path: Path) -> None:
    run, other = finished_run(tmp_path), finished_run(tmp_path)
    runs.discard(run)
    runs.discard(run)
    assert not run.exists()
    assert other.exists()
    for path in (tmp_path, Path("/"), other / "outputs"):
        with pytest.raises(BadInput):
            runs.discard(path)
    assert (other / "outputs/denoised.npy").exists()


def test_a_run_that_another_slicer_deletes_meanwhile_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gone = tmp_path / "20260101-120000-denoise-01234567"
    monkeypatch.setattr(runs, "_all", lambda folder: [gone])
    assert ownership.state(gone) == "gone" and not runs.claim(gone)
    assert (runs.sweep(tmp_path), runs.unclaimed_runs(tmp_path), runs.interrupted_runs(tmp_path)) == (0, [], [])


def test_a_folder_that_is_not_there_holds_no_runs(tmp_path: Path) -> None:
    assert runs.unclaimed_runs(tmp_path / "none") == []
    assert runs.sweep(tmp_path / "none") == 0
    assert not runs.claim(tmp_path / "none")
