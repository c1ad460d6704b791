"""CPU seconds of a training step: forward, backward and optimiser alone, through the loop, and of loading a batch."""

from __future__ import annotations

import copy
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from MedAELib.training.loop import Batch, Schedule, adam, train
from MedAELib.training.plan import Plan

_BLOCK = 4  # steps: the loop does some things after every fourth
_FIRST = 20  # steps that the loop makes before it has settled
_BLOCKS = 12


@dataclass
class Seconds:
    """CPU and wall-clock seconds of many blocks of steps, or batches."""

    cpu: list[float] = field(default_factory=list)
    wall: list[float] = field(default_factory=list)

    def add(self, since: tuple[float, float], many: int = 1) -> None:
        """What has passed since a moment, for each of so many steps."""
        for kept, now, then in zip((self.cpu, self.wall), _now(), since, strict=True):
            kept.append((now - then) / many)


def timing(plan: Plan) -> dict[str, float]:
    """Seconds of a step: "bare" (CPU); "loop" (CPU), "loop_wall" and "loading" (CPU, of a batch) as multiples of it.

    The loop is stopped for four bare steps, on a copy of the network and the same prepared tensors, after every four of
    its own, so that what other programs do to the machine falls on both alike; a critic takes its turn in both. Each
    multiple is the median over the pairs of neighbours, which a single disturbance does not move.
    """
    prepared = [plan.batch(step) for step in range(2)]
    bare, loop, loading = Seconds(), Seconds(), Seconds()
    steps = _FIRST + _BLOCK * _BLOCKS
    schedule = Schedule(steps, validate_every=10**9, checkpoint_every=10**9)
    bare_steps = _bare(plan, prepared, schedule)
    begun = _now()

    def after(step: int) -> bool:
        nonlocal begun
        if step % _BLOCK:
            return False
        counts = step > _FIRST
        if counts:
            loop.add(begun, _BLOCK)
        begun = _now()
        bare_steps(step)
        if counts:
            bare.add(begun, _BLOCK)
        begun = _now()
        return False

    with tempfile.TemporaryDirectory() as folder:
        train(
            plan.network, lambda step: prepared[step % 2], plan.objective(steps), schedule, Path(folder),
            critic=plan.critic, stop=after, report=lambda row: None,
        )  # fmt: skip
    for step in range(6):
        begun = _now()
        plan.batch(step)
        loading.add(begun)
    return {
        "bare": median(bare.cpu),
        "loop": _multiple(loop.cpu, bare.cpu),
        "loop_wall": _multiple(loop.wall, bare.wall),
        "loading": median(loading.cpu) / median(bare.cpu),
    }


def _bare(plan: Plan, prepared: list[Batch], schedule: Schedule) -> Callable[[int], None]:
    """What makes four steps without the loop, on a copy of the network and of its critic.

    With the learning rates of the loop: networks that have learned more, and so hold other numbers, were seen to take a
    tenth less time.
    """
    objective = plan.objective(schedule.steps)
    network = copy.deepcopy(plan.network)
    optimizer = adam(network)
    judge = copy.deepcopy(plan.critic.network) if plan.critic else None
    other = adam(judge) if judge else None

    def steps(done: int) -> None:
        for group in [*optimizer.param_groups, *(other.param_groups if other else [])]:
            group["lr"] = schedule.rate(done)
        for step in range(_BLOCK):
            optimizer.zero_grad()
            objective(network, prepared[step % 2]).backward()
            optimizer.step()
            if plan.critic and judge and other:
                other.zero_grad()
                plan.critic.error(judge, network, prepared[step % 2]).backward()
                other.step()

    return steps


def _multiple(these: Iterable[float], those: Iterable[float]) -> float:
    """The median of the quotients of neighbours."""
    return median(one / other for one, other in zip(these, those, strict=True))


def _now() -> tuple[float, float]:
    """CPU seconds of this process, and the clock."""
    return time.process_time(), time.perf_counter()
