"""The one training loop: any network, any batches, any objective; it can be stopped at any step and resumed exactly."""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from MedAELib.errors import BadInput, InternalFault

Batch = tuple[Tensor, ...]
Objective = Callable[[nn.Module, Batch], Tensor]


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train: the learning rate rises over ``warmup`` steps, then falls to 0 as a cosine."""

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


@dataclass
class _State:
    """Everything that a resumed training needs."""

    network: nn.Module
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # since the last line of the history


def train(
    network: nn.Module,
    batch: Callable[[int], Batch],
    objective: Objective,
    schedule: Schedule,
    folder: Path,
    *,
    resume: bool = False,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    stop_after: int | None = None,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train ``network`` in place; return a copy with averaged weights, and the history.

    ``batch(step)`` must depend on the step alone: then a resumed run repeats an unbroken one exactly. ``folder``
    receives ``last.pt`` (everything needed to resume, written whole or not at all) and ``history.json``.
    ``stop_after`` ends early after that many steps in all, as an interruption would. A step whose gradient is not
    finite is skipped; ten in a row end the training with InternalFault, and ``last.pt`` holds the last good weights.
    Raises BadInput when there is nothing to resume or it belongs to another network.
    """
    optimizer = torch.optim.AdamW(network.parameters(), lr=schedule.learning_rate, weight_decay=0.0)
    state = _State(network, copy.deepcopy(network).eval(), optimizer)
    if resume:
        _restore(folder, state)
    device = next(network.parameters()).device
    bad, begin = 0, time.perf_counter()
    while state.step < min(schedule.steps, stop_after or schedule.steps):
        parts = tuple(part.to(device) for part in batch(state.step))
        finite = _step(state, objective, parts, schedule)
        bad = 0 if finite else bad + 1
        if bad == 10:
            raise InternalFault(
                "The training diverged: ten steps in a row had no finite gradient.",
                f"Resume from {folder / 'last.pt'} with a smaller learning rate.",
            )
        if state.step % schedule.validate_every == 0 or state.step == schedule.steps:
            _note(state, schedule, time.perf_counter() - begin, validate(state.averaged) if validate else {})
            begin = time.perf_counter()
        if bad == 0 and (state.step % schedule.checkpoint_every == 0 or state.step in (schedule.steps, stop_after)):
            _keep(folder, state, schedule)
    return state.averaged, state.history


def _step(state: _State, objective: Objective, batch: Batch, schedule: Schedule) -> bool:
    """One step of the optimizer and of the averaged weights; False, and nothing changed, when it is not finite."""
    for group in state.optimizer.param_groups:
        group["lr"] = schedule.rate(state.step)
    state.optimizer.zero_grad()
    with torch.autocast(batch[0].device.type, torch.bfloat16, enabled=schedule.precision == "bfloat16"):
        loss = objective(state.network, batch)
    loss.backward()
    norm = nn.utils.clip_grad_norm_(state.network.parameters(), schedule.clip)
    state.step += 1
    if not (bool(torch.isfinite(norm)) and bool(torch.isfinite(loss))):
        return False
    state.optimizer.step()
    state.losses.append(float(loss.detach()))
    keep = min(schedule.averaging, (state.step + 1) / (state.step + 10))
    with torch.no_grad():
        for slow, fast in zip(state.averaged.parameters(), state.network.parameters(), strict=True):
            slow.lerp_(fast, 1 - keep)
    return True


def _note(state: _State, schedule: Schedule, seconds: float, measured: dict[str, float]) -> None:
    """Add a line to the history and print it."""
    row: dict[str, Any] = {"step": state.step, "loss": sum(state.losses) / max(len(state.losses), 1)}
    row |= {"rate": schedule.rate(state.step - 1), "seconds_per_step": seconds / schedule.validate_every, **measured}
    state.history.append(row)
    state.losses.clear()
    print(json.dumps({key: round(value, 5) for key, value in row.items()}), flush=True)


def _keep(folder: Path, state: _State, schedule: Schedule) -> None:
    """Write the checkpoint under a temporary name, then put it in the last one's place."""
    folder.mkdir(parents=True, exist_ok=True)
    parts = {name: getattr(state, name).state_dict() for name in ("network", "averaged", "optimizer")}
    rest = {"step": state.step, "history": state.history, "losses": state.losses, "schedule": asdict(schedule)}
    torch.save(parts | rest, folder / "last.pt.part")
    os.replace(folder / "last.pt.part", folder / "last.pt")
    (folder / "history.json").write_text(json.dumps(state.history, indent=1))


def _restore(folder: Path, state: _State) -> None:
    path = folder / "last.pt"
    if not path.is_file():
        raise BadInput(f"There is no training to resume in {folder}.", "Start it without resuming.")
    kept = torch.load(path, map_location="cpu", weights_only=True)
    try:
        for name in ("network", "averaged", "optimizer"):
            getattr(state, name).load_state_dict(kept[name])
    except (RuntimeError, ValueError) as error:
        raise BadInput(
            f"{path} belongs to another network.", "Resume with the arguments it was started with."
        ) from error
    state.step, state.history, state.losses = int(kept["step"]), list(kept["history"]), list(kept["losses"])
