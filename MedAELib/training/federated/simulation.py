"""A federation on this machine: a real FLARE server and a FLARE client for each folder, watched, and ended for certain.

It runs the very job that `federate export` writes. All of it lives in a folder that is gone afterwards.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import psutil

from MedAELib.errors import BadInput, InternalFault
from MedAELib.training.federated.federation import Federation
from MedAELib.training.federated.job import write_job
from MedAELib.training.federated.outcome import Outcome, read_outcome, read_rounds

Report = Callable[[dict[str, Any]], None]

_POLL = 0.2  # s
_PATIENCE = 120.0  # s from the last round to the end
_LONGEST = 60  # characters of a temporary folder, in which FLARE makes sockets, whose paths must be short
_ROOT = Path(__file__).resolve().parents[3]


def simulate(
    federation: Federation, folders: Mapping[str, Path], workplace: Path, device: str, report: Report
) -> Outcome:
    """Run the federation in an empty folder; `report` gets a row for each round. Raises MedAEError for what went wrong.

    When it ends, in whatever way, no process of it is left.
    """
    told = workplace / "told"
    told.mkdir(parents=True)
    sites = workplace / "sites.json"
    sites.write_text(json.dumps({site: str(folder.resolve()) for site, folder in folders.items()}), encoding="utf-8")
    write_job(federation, workplace / "job")
    paths = [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    environment = os.environ | {
        "MEDAE_SITE": str(sites),
        "MEDAE_FEDERATION": str(told),
        "MEDAE_DEVICE": device,
        "PYTHONPATH": os.pathsep.join(paths),
    }
    temporary = workplace / "t"
    temporary.mkdir()
    if len(str(temporary)) < _LONGEST:
        environment["TMPDIR"] = str(temporary)
    command = [sys.executable, "-m", "MedAELib.training.federated.simulator", str(workplace), *folders]
    with (workplace / "log.txt").open("wb") as log:
        process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, env=environment, start_new_session=True
        )
        try:
            _watch(process, federation, workplace, report)
        finally:
            _end(process, told)
    return read_outcome(workplace / "flare" / "server")


def _watch(process: subprocess.Popen[bytes], federation: Federation, workplace: Path, report: Report) -> None:
    """Wait for the end of it, telling each round. Raises what a site said, or that one died."""
    reported, last = 0, time.monotonic()
    while True:
        ended = process.poll() is not None
        rows = read_rounds(workplace / "flare" / "server")
        for row in rows[reported:]:
            report(row)
            last = time.monotonic()
        reported = len(rows)
        ended = ended or _stopped(workplace)
        _check(workplace / "told", reported, federation.rounds, ended)
        if ended and reported < federation.rounds:
            raise InternalFault(f"The federation ended after {reported} of {federation.rounds} rounds{_why(workplace)}")
        if ended or (reported == federation.rounds and time.monotonic() - last > _PATIENCE):
            return
        time.sleep(_POLL)


def _check(told: Path, done: int, rounds: int, ended: bool) -> None:
    """Raise what a site says went wrong, or that it is gone before the last round was over and the others wait."""
    for path in sorted(told.glob("[!.]*.json")):
        word = json.loads(path.read_text(encoding="utf-8"))
        if "fault" in word:
            raise BadInput(f"Site {path.stem}: {word['fault']}", word["next_step"])
        if done < rounds and not ended and not _lives(word["process"]):
            raise BadInput(
                f"Site {path.stem} died in round {done + 1} of {rounds}: its process was ended from outside.",
                "Perhaps the computer ran out of memory; close other programs and start again.",
            )


def _stopped(workplace: Path) -> bool:
    """Whether the server has given up, upon which it ends the sites."""
    return b"Aborting current RUN due to FATAL_SYSTEM_ERROR" in (workplace / "log.txt").read_bytes()


def _lives(number: int) -> bool:
    try:
        return psutil.Process(number).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def _why(workplace: Path) -> str:
    """The last error in FLARE's log, as the end of a sentence."""
    lines = (workplace / "log.txt").read_text(encoding="utf-8", errors="replace").splitlines()
    errors = [line.split(" - ")[-1] for line in lines if " - ERROR - " in line or line.startswith("medae:")]
    return f": {errors[-1][:300]}" if errors else "."


def _end(process: subprocess.Popen[bytes], told: Path) -> None:
    """End the simulation with all that it started; sites have sessions of their own, so a signal to one is not enough.

    Closing its standard input does the same from within, should this process be killed.
    """
    found = [psutil.Process(process.pid), *_children(process.pid)] if _lives(process.pid) else []
    for path in told.glob("[!.]*.json"):
        number = json.loads(path.read_text(encoding="utf-8"))["process"]
        if _lives(number) and "simulator_worker" in " ".join(psutil.Process(number).cmdline()):
            found.append(psutil.Process(number))
    for one in found:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            pass
    psutil.wait_procs(found, timeout=5)
    process.wait()


def _children(number: int) -> list[psutil.Process]:
    try:
        return psutil.Process(number).children(recursive=True)
    except psutil.NoSuchProcess:
        return []
