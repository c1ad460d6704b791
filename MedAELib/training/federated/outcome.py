"""What a finished FLARE job left on its server: the sites' mean weights, the agreement, the rounds' figures."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from MedAELib.errors import BadInput
from MedAELib.training.federated.federation import FILE, Federation

WEIGHTS = "FL_global_model.pt"
ROUNDS = "round_metrics.jsonl"


@dataclass(frozen=True)
class Outcome:
    """The agreement, the weights after the last round, and a row for each round."""

    federation: Federation
    weights: dict[str, Tensor]
    rounds: list[dict[str, Any]]


def read_outcome(folder: Path) -> Outcome:
    """The outcome somewhere below a folder, such as FLARE's `download_job` makes. Raises BadInput when it lacks one."""
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder.", "Name the folder of a finished FLARE job.")
    weights = _one(folder, WEIGHTS)
    federation = Federation.read(_one(folder, FILE))
    try:
        found = torch.load(weights, map_location="cpu", weights_only=True)["model"]
        kept = {name: torch.as_tensor(value, dtype=torch.float32) for name, value in found.items()}
    except Exception as error:  # torch's reader raises many kinds
        raise BadInput(f"{weights} is damaged.", "Download the finished job again.") from error
    if not all(bool(torch.isfinite(value).all()) for value in kept.values()):
        raise BadInput("The federation diverged: its weights are not finite.", "Use fewer steps per round, or see why.")
    return Outcome(federation, kept, read_rounds(folder))


def read_rounds(folder: Path) -> list[dict[str, Any]]:
    """A row for each finished round: mean loss, mean held-out PSNR, volumes and both figures of each site.

    The means are weighted as the weights are. The PSNR is of the weights that began the round.
    """
    rows = []
    for path in sorted(folder.rglob(ROUNDS)):
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                rows.append(_row(json.loads(line)))
            except ValueError:  # a line that is just being written
                break
    return rows


def _row(record: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"round": int(record["round"]) + 1, **_named(record["aggregated_metrics"])}
    told = {site["name"]: {"volumes": site.get("weight"), **_named(site["metrics"])} for site in record["sites"]}
    return {**row, "sites": told}


def _named(metrics: list[dict[str, Any]]) -> dict[str, float]:
    return {metric["name"]: float(metric["value"]) for metric in metrics}


def _one(folder: Path, name: str) -> Path:
    """The file of this name below the folder; several of one content are one. Raises BadInput."""
    found = sorted(folder.rglob(name))
    if not found or len({path.read_bytes() for path in found}) > 1:
        raise BadInput(
            f"{folder} holds {'no' if not found else 'more than one'} {name}.",
            "Name the folder of one finished FLARE job of MedAE.",
        )
    return found[0]
