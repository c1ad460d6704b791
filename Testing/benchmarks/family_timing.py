"""CPU seconds of a training step: forward, backward and optimiser alone, through the loop, and of loading a batch."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from MedAELib.training.loop import Batch, Schedule, adam, train
from MedAELib.training.plan import Plan

_BLOCK = 4  # steps: the loop does some things after every fourth
_FIRST = 20  # steps that the loop makes before it has settled
_BLOCKS = 3
_ROUNDS = 3


def seconds_per_step(plan: Plan) -> tuple[float, float, float]:
    """The least CPU seconds of a step, in turns: bare, and through the loop; and those of making its batch.

    Bare and loop use the same prepared tensors, and a critic takes its turn in both. A step is the mean of four; the
    least of many such means, in CPU seconds, is what other programs on the machine disturb least. Batches are made in
    another thread meanwhile.
    """
    prepared = [plan.batch(step) for step in range(2)]
    found: dict[str, list[float]] = {"bare": [], "loop": [], "loading": []}
    for _ in range(_ROUNDS):
        found["bare"] += _bare(plan, prepared)
        found["loop"] += _through_loop(plan, lambda step: prepared[step % 2])
        for step in range(2):
            begin = time.process_time()
            plan.batch(step)
            found["loading"].append(time.process_time() - begin)
    return min(found["bare"]), min(found["loop"]), min(found["loading"])


def _bare(plan: Plan, prepared: list[Batch]) -> list[float]:
    objective = plan.objective(_BLOCK)
    optimizer = adam(plan.network)
    judge = plan.critic.network if plan.critic else None
    other = adam(judge) if judge else None
    moments = [time.process_time()]
    for step in range(_BLOCK * (1 + _BLOCKS)):
        optimizer.zero_grad()
        objective(plan.network, prepared[step % 2]).backward()
        optimizer.step()
        if plan.critic and judge and other:
            other.zero_grad()
            plan.critic.error(judge, plan.network, prepared[step % 2]).backward()
            other.step()
        moments.append(time.process_time())
    return _means(moments[_BLOCK:])


def _through_loop(plan: Plan, batch: Callable[[int], Batch]) -> list[float]:
    moments: list[float] = []

    def note(step: int) -> bool:
        moments.append(time.process_time())
        return False

    steps = _FIRST + _BLOCK * _BLOCKS + 1
    schedule = Schedule(steps, validate_every=10**9, checkpoint_every=10**9)
    with tempfile.TemporaryDirectory() as folder:
        train(
            plan.network, batch, plan.objective(steps), schedule, Path(folder), critic=plan.critic, stop=note,
            report=lambda row: None,
        )  # fmt: skip
    return _means(moments[_FIRST - 1 : -1])


def _means(moments: list[float]) -> list[float]:
    """The seconds of a step in each block of steps, from the moments between the steps."""
    return [(after - before) / _BLOCK for before, after in pairwise(moments[::_BLOCK])]
