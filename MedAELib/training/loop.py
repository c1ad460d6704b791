"""The one training loop: any network, any batches, any objective; it can be stopped at any step and resumed exactly."""

from __future__ import annotations

import copy
import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from MedAELib.atomic import whole_file, write_text
from MedAELib.errors import BadInput, DiskFull, InternalFault
from MedAELib.training.feed import prefetched, threads_beside
from MedAELib.training.parallel import agreed, mean, own_share, rank_and_world, shared

Batch = tuple[Tensor, ...]
Objective = Callable[[nn.Module, Batch], Tensor]
CriticError = Callable[[nn.Module, nn.Module, Batch], Tensor]

_AVERAGED_EVERY, _SETTLED = 4, 20  # steps
_HOPELESS = 10  # steps without a finite gradient in a row


@dataclass(frozen=True)
class Schedule:
    """How long and how hard to train: the learning rate rises over ``warmup`` steps, then falls to 0 as a cosine.

    With ``best``, the name of a figure of the validation (larger is better), the weights of its best moment are what is
    used, and the training ends when ``patience`` validations in a row (0: never) have brought nothing better.
    """

    steps: int
    learning_rate: float = 1e-3
    warmup: int = 200
    averaging: float = 0.999  # of the exponential moving average of the weights, which is what is used afterwards
    clip: float = 1.0  # largest norm of the gradient
    checkpoint_every: int = 500
    validate_every: int = 500
    precision: str = "float32"  # or "bfloat16"
    best: str = ""
    patience: int = 0

    def rate(self, step: int) -> float:
        """The learning rate of step 0, 1, ..."""
        rise = min(1.0, (step + 1) / max(self.warmup, 1))
        return self.learning_rate * rise * 0.5 * (1 + math.cos(math.pi * min(step / self.steps, 1)))

    def validates(self, step: int) -> bool:
        """Whether there is a validation after so many steps, stopped or not."""
        return step % self.validate_every == 0 or step == self.steps


@dataclass(frozen=True)
class Critic:
    """A second network that judges the first: trained in turns with it, by its own error, and never averaged."""

    network: nn.Module
    error: CriticError


@dataclass(frozen=True)
class Round:
    """A round of a federated training: the step that it begins with, and the weights that came from the other sites."""

    step: int
    weights: Mapping[str, Tensor]


@dataclass
class _State:
    """Everything that a resumed training needs."""

    network: nn.Module
    averaged: nn.Module
    optimizer: torch.optim.Optimizer
    critic: nn.Module
    critic_optimizer: torch.optim.Optimizer | None
    best: nn.Module
    step: int = 0
    history: list[dict[str, Any]] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)  # since the last line of the history
    best_score: float = -math.inf
    best_step: int = 0
    seconds: float = 0.0  # of what went before, where it was resumed
    devices: list[str] = field(default_factory=list)  # on which that was
    begun: float = field(default_factory=lambda: time.perf_counter())

    def modules(self) -> dict[str, Any]:
        """What has a state_dict, by the name that it has in a checkpoint."""
        found = {"network": self.network, "averaged": self.averaged, "optimizer": self.optimizer}
        if self.best_step:
            found["best"] = self.best
        if self.critic_optimizer:
            found |= {"critic": self.critic, "critic_optimizer": self.critic_optimizer}
        return found


@dataclass
class _Losses:
    """What is made small, on this process or shared by several."""

    network: nn.Module
    critic: nn.Module | None


def train(
    network: nn.Module,
    batch: Callable[[int], Batch],
    objective: Objective,
    schedule: Schedule,
    folder: Path,
    *,
    resume: bool = False,
    given: Round | None = None,
    validate: Callable[[nn.Module], dict[str, float]] | None = None,
    stop_after: int | None = None,
    critic: Critic | None = None,
    report: Callable[[dict[str, Any]], None] | None = None,
    stop: Callable[[int], bool] = lambda step: False,
    feeders: int = 0,
) -> tuple[nn.Module, list[dict[str, Any]]]:
    """Train ``network`` in place; return a copy with averaged weights, or the best of them, and the history.

    ``batch(step)`` must depend on the step alone: then a resumed run repeats an unbroken one exactly. The next batch is
    made in another thread meanwhile (beside a graphics card in several), or by so many ``feeders``, processes of their
    own. ``folder`` receives ``last.pt`` (everything needed to resume, written whole or not at all) and
    ``history.json``. ``stop_after`` ends early after that many steps in all, as an interruption would;
    ``stop(step)`` is asked after every step and, where it says so, ends the training with a last validation, which
    counts now but is not kept: a resumed training knows only of those that an unbroken one makes.
    ``report`` gets every line of the history (default: it is printed). A step whose gradient is not finite is skipped;
    ten in a row end the training with InternalFault, and ``last.pt`` holds the last good weights.
    ``given`` sets the step and the weights, after resuming.
    Under torchrun each process takes its share of the batch, and the first one writes: the weights are the same.
    Raises BadInput when there is nothing to resume or it belongs to another network, DiskFull.
    """
    state = _begin(network, schedule, critic)
    _continue(state, folder if resume else None, given)
    losses = _Losses(shared(network, objective), None)
    if critic:
        losses.critic = shared(critic.network, lambda judge, parts: critic.error(judge, network, parts))
    device = next(network.parameters()).device
    end = min(schedule.steps, stop_after or schedule.steps)
    bad, begin, ended = 0, time.perf_counter(), _is_enough(state, schedule)
    card = device.type == "cuda"
    with prefetched(batch, state.step, end, feeders, threads_beside(device), card) as batches:
        while state.step < end and not ended:
            # Elsewhere (Apple) a batch might be gone before it is copied.
            parts = tuple(part.to(device, non_blocking=card) for part in own_share(next(batches)))
            bad = 0 if _step(state, losses, parts, schedule) else bad + 1
            if bad in (_HOPELESS, end):  # or every step of a short training
                raise _diverged(bad, folder)
            ended = agreed(stop(state.step), device)
            usual = schedule.validates(state.step)
            if ended and not usual and bad == 0:
                _keep(folder, state, schedule)
            if ended or usual:
                _note(state, schedule, begin, validate, report)
                begin = time.perf_counter()
            if ended and not usual:
                break
            ended = ended or _is_enough(state, schedule)
            last = ended or state.step in (schedule.steps, stop_after)
            if bad == 0 and (last or state.step % schedule.checkpoint_every == 0):
                _keep(folder, state, schedule)
    return state.best if state.best_step else state.averaged, state.history


def _diverged(steps: int, folder: Path) -> InternalFault:
    """What is said of a training that has come to nothing, or to nothing more."""
    again = "Train with smaller weights in the objective, or another seed."
    if (folder / "last.pt").is_file():
        again = f"Go on from the last good weights by resuming; if it happens again: {again[0].lower()}{again[1:]}"
    return InternalFault(f"The training diverged: {steps} steps in a row had no finite gradient.", again)


def _begin(network: nn.Module, schedule: Schedule, critic: Critic | None) -> _State:
    """The state before the first step."""
    optimizer = adam(network, schedule.learning_rate)
    judge = critic.network if critic else nn.Module()
    # Half of the momentum, as adversarial training is unstable with more (Radford et al. 2016).
    other = adam(judge, schedule.learning_rate, (0.5, 0.999)) if critic else None
    averaged = copy.deepcopy(network).eval()
    return _State(network, averaged, optimizer, judge, other, copy.deepcopy(averaged))


def adam(
    network: nn.Module, learning_rate: float = 1e-3, betas: tuple[float, float] = (0.9, 0.999)
) -> torch.optim.AdamW:
    """Adam (Kingma and Ba 2015) in one pass over the weights: by its many passes torch's default takes, where weights
    are many and voxels few, longer than forward and backward together."""
    return torch.optim.AdamW(network.parameters(), learning_rate, betas, weight_decay=0.0, fused=True)


def _step(state: _State, losses: _Losses, batch: Batch, schedule: Schedule) -> bool:
    """One step of the optimizer and of the averaged weights; False, and nothing changed, when it is not finite."""
    step, state.step = state.step, state.step + 1
    loss, finite = _descend(losses.network, state.optimizer, batch, schedule, step)
    if not finite:
        return False
    if losses.critic is not None and state.critic_optimizer is not None:
        _descend(losses.critic, state.critic_optimizer, batch, schedule, step)
    state.losses.append(loss)
    _average(state, schedule)
    return True


def _average(state: _State, schedule: Schedule) -> None:
    """Let the averaged weights follow: after each of the first steps, then after every fourth by as much as of four.

    A pass over all weights costs a tenth of a step where the weights are many and the voxels few.
    """
    many = 1 if state.step < _SETTLED else _AVERAGED_EVERY
    if state.step % many == 0:
        keep = min(schedule.averaging, (state.step + 1) / (state.step + 10)) ** many
        with torch.no_grad():
            torch._foreach_lerp_(list(state.averaged.parameters()), list(state.network.parameters()), 1 - keep)


def _descend(
    module: nn.Module, optimizer: torch.optim.Optimizer, batch: Batch, schedule: Schedule, step: int
) -> tuple[float, bool]:
    """One step down the gradient; the loss, and whether it could be done."""
    for group in optimizer.param_groups:
        group["lr"] = schedule.rate(step)
    optimizer.zero_grad()
    with torch.autocast(batch[0].device.type, torch.bfloat16, enabled=schedule.precision == "bfloat16"):
        loss = module(*batch)
    loss.backward()
    own = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    norm = _norm([parameter.grad for parameter in own if parameter.grad is not None])
    if bool(norm > schedule.clip):  # only then: a pass over all gradients costs as much as a small network's step
        nn.utils.clip_grads_with_norm_(own, schedule.clip, norm)
    finite = not agreed(not bool(torch.isfinite(norm) & torch.isfinite(loss.detach())), batch[0].device)
    if finite:
        optimizer.step()
    return float(loss.detach()), finite


def _norm(gradients: list[Tensor]) -> Tensor:
    """The norm of all gradients together. On a CPU products of each with itself are made in half of the time."""
    if any(gradient.device.type != "cpu" for gradient in gradients):
        return nn.utils.get_total_norm(gradients)
    flat = [gradient.flatten() for gradient in gradients]
    return torch.stack([torch.dot(one, one) for one in flat]).sum().sqrt()


def _note(
    state: _State, schedule: Schedule, begin: float, validate: Callable[[nn.Module], dict[str, float]] | None,
    report: Callable[[dict[str, Any]], None] | None,
) -> None:  # fmt: skip
    """Measure, add a line to the history and report it; remember the weights if they are the best so far.

    The steps since the last line began at `begin` (s); all processes make the line together.
    """
    seconds, device = time.perf_counter() - begin, next(state.network.parameters()).device
    measured = validate(state.averaged) if validate else {}
    since = state.step - (state.history[-1]["step"] if state.history else 0)
    loss = mean(sum(state.losses) / len(state.losses) if state.losses else math.nan, device)
    row: dict[str, Any] = {"step": state.step, "loss": loss}
    row |= {"rate": schedule.rate(state.step - 1), "seconds_per_step": seconds / max(since, 1), **measured}
    state.history.append(row)
    state.losses.clear()
    score = measured.get(schedule.best, -math.inf)
    if score > state.best_score:
        state.best_score, state.best_step = score, state.step
        state.best.load_state_dict(state.averaged.state_dict())
    if rank_and_world()[0] == 0:
        (report or _print)(row)


def _print(row: dict[str, Any]) -> None:
    print(json.dumps({key: round(value, 5) for key, value in row.items()}), flush=True)


def _is_enough(state: _State, schedule: Schedule) -> bool:
    """Whether the last validations brought nothing better."""
    later = [row for row in state.history if row["step"] > state.best_step and schedule.validates(row["step"])]
    return bool(schedule.patience and state.best_step) and len(later) >= schedule.patience


def _keep(folder: Path, state: _State, schedule: Schedule) -> None:
    """Put the checkpoint in the last one's place, wholly or not at all."""
    if rank_and_world()[0]:
        return
    parts = {name: module.state_dict() for name, module in state.modules().items()}
    rest = {name: getattr(state, name) for name in ("step", "history", "losses", "best_score", "best_step")}
    rest["device"] = next(state.network.parameters()).device.type  # for the card
    rest["devices"] = list(dict.fromkeys([*state.devices, rest["device"]]))
    rest["seconds"] = state.seconds + time.perf_counter() - state.begun
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with whole_file(folder / "last.pt", ".pt") as temporary:
            torch.save(parts | rest | {"schedule": asdict(schedule)}, temporary)
        write_text(folder / "history.json", json.dumps(state.history, indent=1))
    except (OSError, RuntimeError) as error:  # torch's writer says a full disk as a RuntimeError
        raise DiskFull(
            f"The training could not be kept in {folder}.", "Free some disk space, then resume it."
        ) from error


def _continue(state: _State, folder: Path | None, given: Round | None) -> None:
    """Put the state where the kept training stood, if there is one, and then where a round begins, if it is one."""
    if folder:
        _restore(folder, state)
    if given:
        state.step = given.step
        for module in (state.network, state.averaged):
            module.load_state_dict(dict(given.weights))


def kept_step(folder: Path) -> int:
    """The step that a training stood at when it was kept. Raises BadInput when there is none."""
    return int(_kept(folder)["step"])


def kept_course(folder: Path) -> tuple[float, list[str]]:
    """How many seconds a training had taken when it was kept, and on what kinds of device; BadInput without any."""
    return _course(_kept(folder))


def _course(kept: Mapping[str, Any]) -> tuple[float, list[str]]:
    """Of trainings of earlier versions no seconds are known, of very early ones no device."""
    return float(kept.get("seconds", 0)), list(kept.get("devices", [kept["device"]] if "device" in kept else []))


def _kept(folder: Path) -> dict[str, Any]:
    path = folder / "last.pt"
    if not path.is_file():
        raise BadInput(f"There is no training to resume in {folder}.", "Start it without resuming.")
    found: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    return found


def _restore(folder: Path, state: _State) -> None:
    kept = _kept(folder)
    state.best_score, state.best_step = float(kept.get("best_score", -math.inf)), int(kept.get("best_step", 0))
    try:
        for name, module in state.modules().items():
            module.load_state_dict(kept[name])
    except (RuntimeError, ValueError, KeyError) as error:
        raise BadInput(
            f"{folder / 'last.pt'} belongs to another network.", "Resume with the arguments it was started with."
        ) from error
    state.seconds, state.devices = _course(kept)
    state.step, state.history, state.losses = int(kept["step"]), list(kept["history"]), list(kept["losses"])
