"""What a training was begun with, which it can be resumed with only: its settings, and whom it learns from."""

from __future__ import annotations

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

from MedAELib.errors import BadInput
from MedAELib.training.folder import Split
from MedAELib.training.parallel import rank_and_world
from MedAELib.training.workplace import PLAN

_SETTINGS = (
    "network", "dims", "seed", "precision", "modality", "subject", "modalities", "translate", "members", "condition",
    "arguments", "terms", "corrupt", "learn_from", "patience", "size", "start", "task",
)  # fmt: skip


def settings(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """What a training is, to be compared when it is resumed. Raises BadInput when it is another one."""
    found: dict[str, Any] = {name: getattr(options, name) for name in _SETTINGS}
    found |= {
        "folder": str(options.folder.resolve()) if options.folder else "",
        "table": _table(options.table),
        "length": f"{options.steps} steps" if options.minutes is None else f"{options.minutes} minutes",
        "processes": rank_and_world()[1],
    }
    if not options.resume:
        return {**found, "steps": options.steps}
    kept = _plan(folder)
    _check_processes(int(kept.get("processes", found["processes"])), found["processes"])
    for name, value in found.items():
        if name != "processes" and kept.get(name, "") != value:
            raise BadInput(
                f"The training was started with {name.replace('_', '-')} {kept.get(name)} and not {value}.",
                "Resume with the arguments it was started with.",
            )
    return {**found, "steps": kept["steps"]}


def _check_processes(before: int, now: int) -> None:
    """Refuse another number of processes: they may share batches of another size."""
    if before != now:
        with_all = f"torchrun --nproc-per-node {before}" if before > 1 else "one process, without torchrun"
        raise BadInput(
            f"The training was started with {before} {'processes' if before > 1 else 'process'} and not {now}.",
            f"Resume it with as many: {with_all}.",
        )


def _plan(folder: Path) -> dict[str, Any]:
    """What is kept of a training to be compared. Raises BadInput where that does not tell who was learned from."""
    kept: dict[str, Any] = json.loads((folder / PLAN).read_text(encoding="utf-8"))
    if "parts" not in kept:
        raise BadInput(
            "The training was started with another version of MedAE, which did not keep whom it learned from.",
            f"Remove {folder}, and start anew.",
        )
    return kept


def _table(path: Path | None) -> str:
    """A table by its name and content. Raises BadInput when it cannot be read."""
    if path is None:
        return "none"
    try:
        return f"{path.name} (SHA-256 {hashlib.sha256(path.read_bytes()).hexdigest()[:16]})"
    except OSError:
        raise BadInput(f"{path} cannot be read as a table.", "Name a CSV file.") from None


def check_parts(parts: Split, folder: Path) -> None:
    """Raise BadInput unless each volume is in the part that it was in: who was learned from must not be held out."""
    known = _plan(folder)["parts"]
    before, now = ({name: part for part, names in told.items() for name in names} for told in (known, parts.told()))
    moved = [name for name in before if before[name] != now.get(name)]
    changes = {"is new": now.keys() - before.keys(), "is gone": before.keys() - now.keys(), "is in another part": moved}
    for change, names in changes.items():
        if names:
            raise BadInput(
                f"The volumes are not those that the training began with: {min(names)} {change}.",
                f"Put them back as they were, or remove {folder} and start anew.",
            )
