"""The one training loop: any network, any batches, any objective; it can be stopped at any step and resumed exactly."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from MedAELib.errors import BadInput, InternalFault

Batch = tuple[Tensor, ...]


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train. The learning rate rises over ``warmup`` steps and falls to 0 as a cosine at ``steps``."""

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 200
    averaging: float = 0.999  # of the exponential moving average of the weights, which is what is used afterwards
    clip: float = 1.0  # largest norm of the gradient
    checkpoint_every: int = 500
    validate_every: int = 500
    precision: str = "float32"  # or "bfloat16"

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1)))


def train(network: nn.Module, batch: Callable[[int], Batch], objective: Callable[[nn.Module, Batch], Tensor], schedule: Schedule,
          folder: Path, *, resume: bool = False, validate: Callable[[nn.Module], dict[str, float]] | None = None,
          stop_after: int | None = None) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train ``network`` in place; return the network with averaged weights and the history.

    ``batch(step)`` must depend on the step alone: then a resumed run repeats an unbroken one exactly. ``folder`` receives
    ``last.pt`` (everything needed to resume, written whole or not at all) and ``history.json``. ``stop_after`` ends early after
    that many steps in all, as an interruption would. A step whose gradient is not finite is skipped; ten in a row end the
    training with InternalFault, and ``last.pt`` holds the last good weights. Raises BadInput when there is nothing to resume
    or it belongs to another network.
    """
    averaged = copy.deepcopy(network).eval()
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=0.0)
    history: list[dict[str, Any]] = []
    step = _restore(folder, network, averaged, optimizer, history) if resume else 0
    device = next(network.parameters()).device
    losses, bad, begin = [], 0, time.perf_counter()
    while step < min(schedule.steps, stop_after or schedule.steps):
        loss, finite = _step(network, optimizer, objective, tuple(part.to(device) for part in batch(step)), schedule, step)
        step += 1
        bad = 0 if finite else bad + 1
        if bad == 10:
            raise InternalFault("The training diverged: ten steps in a row had no finite gradient.",
                                f"Resume from {folder / 'last.pt'} with a smaller learning rate.")
        if finite:
            losses.append(loss)
            _average(averaged, network, min(schedule.averaging, (step + 1) / (step + 10)))
        if step % schedule.validate_every == 0 or step == schedule.steps:
            row: dict[str, Any] = {"step": step, "loss": sum(losses) / max(len(losses), 1), "rate": schedule.rate(step - 1)}
            row |= {"seconds_per_step": (time.perf_counter() - begin) / schedule.validate_every}
            row |= validate(averaged) if validate else {}
            history.append(row)
            print(json.dumps({key: round(value, 5) for key, value in row.items()}), flush=True)
            losses, begin = [], time.perf_counter()
        if step % schedule.checkpoint_every == 0 or step in (schedule.steps, stop_after):
            _keep(folder, network, averaged, optimizer, history, losses, step, schedule)
    return averaged, history


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, objective: Callable[[nn.Module, Batch], Tensor], batch: Batch,
          schedule: Schedule, step: int) -> tuple[float, bool]:
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step)
    optimizer.zero_grad()
    with torch.autocast(batch[0].device.type, torch.bfloat16, enabled=schedule.precision == "bfloat16"):
        loss = objective(network, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    norm = nn.utils.clip_grad_norm_(network.parameters(), schedule.clip)
    finite = bool(torch.isfinite(norm)) and bool(torch.isfinite(loss))
    if finite:
        optimizer.step()
    return float(loss.detach()), finite


@torch.no_grad()
def _average(averaged: nn.Module, network: nn.Module, keep: float) -> None:
    for slow, fast in zip(averaged.parameters(), network.parameters(), strict=True):
        slow.lerp_(fast, 1 - keep)


def _keep(folder: Path, network: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer, history: list[dict[str, Any]],
          losses: list[float], step: int, schedule: Schedule) -> None:
    """Write the checkpoint under a temporary name, then put it in the last one's place."""
    folder.mkdir(parents=True, exist_ok=True)
    state = {"step": step, "network": network.state_dict(), "averaged": averaged.state_dict(), "optimizer": optimizer.state_dict(),
             "history": history, "losses": losses, "schedule": asdict(schedule)}
    torch.save(state, folder / "last.pt.part")
    os.replace(folder / "last.pt.part", folder / "last.pt")
    (folder / "history.json").write_text(json.dumps(history, indent=1))


def _restore(folder: Path, network: nn.Module, averaged: nn.Module, optimizer: torch.optim.Optimizer,
             history: list[dict[str, Any]]) -> int:
    path = folder / "last.pt"
    if not path.is_file():
        raise BadInput(f"There is no training to resume in {folder}.", "Start it without resuming.")
    state = torch.load(path, map_location="cpu", weights_only=True)
    try:
        network.load_state_dict(state["network"])
        averaged.load_state_dict(state["averaged"])
    except RuntimeError as error:
        raise BadInput(f"{path} belongs to another network.", "Resume with the arguments it was started with.") from error
    optimizer.load_state_dict(state["optimizer"])
    history.extend(state["history"])
    return int(state["step"])
