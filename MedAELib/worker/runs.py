"""The run folder: a job for the worker, its voxels and its result, which outlives a crash of Slicer.

    job.json               task, parameters, origin (what the panel needs to place the result), when it was made
    owner-N.json           the Slicer it belongs to
    inputs/NAME.npy .json  voxels [c, i, j, k], frame by frame; affine, meta, size; the .json comes last
    inputs/, outputs/NAME.bin  an input or output that is a file, see payload.py
    outputs/NAME.npy       voxels of the result
    live/, work/, model/   of a training: the last picture of a held-out slice; its checkpoint; the model that it made
    result.json            affine, meta, size, checksum of each output, report; comes last and makes the result complete

No torch; numpy only inside functions.
"""

from __future__ import annotations

import re
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import BadInput
from . import ownership
from .arrays import InputWriter, open_volume, read_file, to_json, write_file
from .deleting import Deleting
from .payload import PayloadWriter, is_payload, read_payload

if TYPE_CHECKING:
    from ..volume import Volume

__all__ = [
    "Deleting",
    "InputWriter",
    "Job",
    "PayloadWriter",
    "RunResult",
    "claim",
    "create_run",
    "discard",
    "discard_soon",
    "interrupted_runs",
    "is_finished",
    "is_resumable",
    "read_inputs",
    "read_job",
    "read_result",
    "sweep",
    "unclaimed_runs",
]

FORMAT = 1
_RUN = re.compile(r"\d{8}-\d{6}-[a-z][a-z0-9_]{0,63}-[0-9a-f]{8}")
_TASK = re.compile(r"[a-z][a-z0-9_]{0,63}")
_SECONDS_TO_CREATE = 3600
_SECONDS_TO_RESUME = 30 * 24 * 3600
WORK = "work"
"""Folder in the run folder of a training: what it needs meanwhile, and to go on."""


@dataclass(frozen=True)
class Job:
    """What was asked for: task, parameters, the panel's origin, and when (seconds since 1970)."""

    task: str
    parameters: Mapping[str, Any]
    origin: Mapping[str, Any]
    created: float


@dataclass(frozen=True)
class RunResult:
    """A complete result: volumes by name (mapped read-only: let go of them before `discard`), report, job, files."""

    outputs: Mapping[str, Volume]
    report: Mapping[str, Any]
    job: Job
    files: Mapping[str, bytes] = field(default_factory=dict)


def create_run(runs: Path, task: str, parameters: Mapping[str, Any], origin: Mapping[str, Any]) -> Path:
    """Make a run folder in `runs` (made too) that belongs to this process. BadInput for anything but plain JSON."""
    if not _TASK.fullmatch(task):
        raise BadInput(f"{task[:80]!r} is not the name of a task.")
    content = {
        "format": FORMAT,
        "task": task,
        "parameters": dict(parameters),
        "origin": dict(origin),
        "created": time.time(),
    }
    data = to_json(content, "The job")
    runs.mkdir(parents=True, exist_ok=True)
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{task}-{secrets.token_hex(4)}"
    new = runs / f".new-{name}"
    new.mkdir(mode=0o700)  # patients' images: for this user only
    (new / "inputs").mkdir()
    (new / "outputs").mkdir()
    ownership.take(new)
    write_file(new / "job.json", data)
    return new.rename(runs / name)


def read_job(run: Path) -> Job:
    """The job in a run folder; BadInput when it is missing or damaged."""
    content = read_file(run / "job.json")
    task, created = content.get("task"), content.get("created")
    parameters, origin = content.get("parameters"), content.get("origin")
    if (
        content.get("format") != FORMAT
        or not (isinstance(task, str) and _TASK.fullmatch(task))
        or not (isinstance(parameters, dict) and isinstance(origin, dict))
        or not isinstance(created, (int, float))
    ):
        raise BadInput(f"{run / 'job.json'} is not a job of this version of MedAE.", "Start the task again.")
    return Job(task, parameters, origin, float(created))


def read_inputs(run: Path) -> dict[str, Volume | bytes]:
    """All complete inputs of a run: volumes, mapped read-only, and files. BadInput when one is damaged."""
    folder = run / "inputs"
    told = {path.stem: read_file(path) for path in sorted(folder.glob("*.json"))}
    return {
        name: read_payload(folder, name, entry) if is_payload(entry) else open_volume(folder, name, entry)
        for name, entry in told.items()
    }


def is_finished(run: Path) -> bool:
    """Whether the result is there, complete."""
    return (run / "result.json").is_file()


def read_result(run: Path, verify: bool = False) -> RunResult:
    """The complete result of a run; BadInput when it is incomplete or damaged.

    `verify` compares the checksums too (about a second per gigabyte): for a result that was found after a crash.
    """
    if not is_finished(run):
        raise BadInput(f"The run in {run} has no complete result.", "Start the task again.")
    content = read_file(run / "result.json")
    outputs, report = content.get("outputs"), content.get("report")
    if content.get("format") != FORMAT or not isinstance(outputs, dict) or not isinstance(report, dict):
        raise BadInput(f"{run / 'result.json'} is not a result of this version of MedAE.", "Start the task again.")
    folder, files = run / "outputs", {name: entry for name, entry in outputs.items() if is_payload(entry)}
    volumes = {n: open_volume(folder, n, entry, verify) for n, entry in outputs.items() if n not in files}
    data = {name: read_payload(folder, name, entry) for name, entry in files.items()}
    return RunResult(volumes, report, read_job(run), data)


def unclaimed_runs(runs: Path) -> list[Path]:
    """Runs, oldest first, that are finished and whose Slicer is dead: what the next start offers to the user."""
    return [run for run in _all(runs) if is_finished(run) and ownership.state(run) == "dead"]


def is_resumable(run: Path) -> bool:
    """Whether a training was interrupted in this run and can go on from its last checkpoint."""
    work = run / WORK
    return not is_finished(run) and (work / "last.pt").is_file() and (work / "plan.json").is_file()


def interrupted_runs(runs: Path) -> list[Path]:
    """Trainings, oldest first, that can go on: ours (one that is running is among them), and those of dead Slicers."""
    return [run for run in _all(runs) if is_resumable(run) and ownership.state(run) != "living"]


def claim(run: Path) -> bool:
    """Take over a dead Slicer's run; False when it is gone or another Slicer has it; True when it is ours."""
    try:
        number = ownership.last_number(run)
        state = ownership.state(run)
        return state == "ours" or (state == "dead" and ownership.take(run, number + 1))
    except OSError:
        return False


def discard(run: Path) -> None:
    """Delete a run folder with all that is in it; what is still in use is left to a later sweep."""
    _withdraw(run)
    shutil.rmtree(run, ignore_errors=True)


def discard_soon(run: Path, deleting: Deleting) -> None:
    """The same while the caller goes on: the files of a large volume take a tenth of a second. It is never offered."""
    _withdraw(run)
    deleting.add(run)


def _withdraw(run: Path) -> None:
    if not _RUN.fullmatch(run.name) or run.is_symlink():
        raise BadInput(f"{run} is not a run folder.")
    for name in ("result.json", f"{WORK}/plan.json"):  # first, so that half a result, or training, is never offered
        try:
            (run / name).unlink(missing_ok=True)
        except OSError:
            pass


def sweep(runs: Path) -> int:
    """Delete what dead Slicers left unfinished in `runs`; the number of folders. Living ones keep theirs.

    A training that can go on is left for a month.
    """
    count = 0
    for run in _all(runs):
        if is_resumable(run) and ownership.age(run / WORK / "last.pt") < _SECONDS_TO_RESUME:
            continue
        if not is_finished(run) and ownership.state(run) == "dead":
            discard(run)
            count += 1
    for path in runs.glob(".new-*") if runs.is_dir() else ():
        if ownership.age(path) > _SECONDS_TO_CREATE and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
    return count


def _all(runs: Path) -> list[Path]:
    if not runs.is_dir():
        return []
    return sorted(
        path for path in runs.iterdir() if _RUN.fullmatch(path.name) and path.is_dir() and not path.is_symlink()
    )
