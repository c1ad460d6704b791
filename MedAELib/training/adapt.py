"""Adapt a denoiser to one scan: it learns from the scan itself, without ground truth, and is kept only if better."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..engine.run import Engine
from ..errors import BadInput, BadModel
from ..networks import Network
from ..tasks.noise_map import tells_noise
from .adapt_judge import Judge, Marks, better, together
from .adapt_noise import AIR, Pair, Teacher, autocast
from .adapt_pieces import SLAB, Pieces

ADAPTABLE = ("MR",)  # modalities whose noise a scan itself tells well enough; that of a CT differs from place to place
LEAST = 8  # slices
_LONGEST = 3 * SLAB  # voxels along the longest axis at least
_PATCH = 32  # voxels along an edge
_SAMPLE, _SCORED = 4, 12  # pieces that tell the noise, and pieces at most that are judged by
_LEARNING_RATE, _WARMUP = 1e-4, 10
_JUDGING = 0.15  # of the time, after which no further piece is judged by
_MORE = 1.1  # the second judgement takes as long as the first, give or take


@dataclass(frozen=True)
class Adaptation:
    """The network to use, whether it is the adapted one, how many steps it learned, and both scores (lower is better).

    A score is the estimated mean squared error in units of the noise's variance, on a part of the scan that was not
    learned from. `learned` is the adapted network, kept or not.
    """

    network: Network
    kept: bool
    steps: int
    before: float
    after: float
    learned: Network

    def report(self) -> dict[str, Any]:
        """Plain values for the report."""
        scores = {"before": round(self.before, 4), "after": round(self.after, 4)}
        return {"adapted": self.kept, "adapt_steps": self.steps, "adapt_score": scores}


def adapt(
    network: Network,
    source: npt.NDArray[Any],
    limits: tuple[float, float],
    seconds: float,
    engine: Engine,
    magnitude: bool,
    progress: Callable[[str, int, int], None] = lambda stage, done, total: None,
) -> Adaptation:
    """Fine-tune a copy of the network on one scan `[i, j, k]` for about `seconds`; the network itself stays as it is.

    Recorrupted-to-recorrupted (Pang et al., CVPR 2021): noise n' as strong and correlated as the scan's own is added to
    the scan y, and y + a n' is mapped to y - n' / a, whose noise is independent of it: the best mapping is the one to
    the clean scan. Beside it the network learns to keep to what it said of the scan when that gets such noise anew.
    `limits` are the intensities that the network sees as 0 and 1. With `magnitude` (MRI) the noise is Rician: the
    target is freed of its bias, and where the signal is weak, which the method does not cover, the network keeps to
    what it said before. What was learned is kept if `better` says so. The scan is judged first, and what that took is
    kept free for the second judgement. `progress` may raise Cancelled.
    Raises BadInput when the scan is too small, BadModel when the network cannot tell the noise level.
    """
    if not tells_noise(network, "MR" if magnitude else "CT") or network.dims != 3:
        raise BadModel("This model cannot adapt itself to a volume.", "Choose a 3D denoising model, or do not adapt.")
    _check_size(source.shape)
    clock = _Clock(seconds, progress)
    device = engine.torch_device
    pieces = Pieces(source, limits, network.stride, device, _PATCH)
    air = (AIR - limits[0]) / (limits[1] - limits[0])
    teacher = Teacher(network.to(device).eval(), engine, magnitude, air, pieces.draw(_SAMPLE))
    judge, before = Judge(teacher), list[Marks]()
    began = clock.passed()
    for tile in pieces.held_out(_SCORED):
        judge.add(tile)
        before.append(judge.marks(network, len(judge) - 1))
        if clock.passed() - began > _JUDGING * seconds:
            break
    student = copy.deepcopy(network).train()
    steps = _learn(student, teacher, pieces, clock, seconds - _MORE * (clock.passed() - began))
    first = last = together(before)
    if steps:
        last = together(_judged(judge, student.eval(), clock))
    kept = steps > 0 and better(first, last)
    return Adaptation(student if kept else network, kept, steps, first.score, last.score, student.eval())


def _check_size(shape: tuple[int, ...]) -> None:
    size = " x ".join(map(str, shape))
    if min(shape) < LEAST:
        wanted = f"Adapting needs at least {LEAST} slices"
    elif max(shape) < _LONGEST:
        wanted = f"Adapting needs at least {_LONGEST} voxels along the longest side"
    else:
        return
    raise BadInput(f"{wanted}; the volume of {size} voxels is too small to adapt to.", "Run without adapting.")


class _Clock:
    """The time that an adaptation has taken, and its progress, which is that time."""

    def __init__(self, seconds: float, progress: Callable[[str, int, int], None]) -> None:
        self._begin, self._seconds, self._progress = time.monotonic(), seconds, progress

    def passed(self) -> float:
        """Seconds so far, which are told as progress; may raise Cancelled."""
        passed = time.monotonic() - self._begin
        self._progress("Adapting", min(999, int(1000 * passed / self._seconds)), 1000)
        return passed


def _judged(judge: Judge, network: nn.Module, clock: _Clock) -> list[Marks]:
    """The marks of every piece."""
    marks = []
    for number in range(len(judge)):
        clock.passed()
        marks.append(judge.marks(network, number))
    return marks


def _learn(student: nn.Module, teacher: Teacher, pieces: Pieces, clock: _Clock, until: float) -> int:
    """Fine-tune until there is no time for another step; the learning rate falls as a cosine. Returns the steps."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=_LEARNING_RATE, weight_decay=0.0)
    inside, step = pieces.inside(), 0
    begin = passed = clock.passed()
    longest = 0.0
    while passed + longest < until:
        for group in optimizer.param_groups:
            rise = min(1.0, (step + 1) / _WARMUP)
            group["lr"] = _LEARNING_RATE * rise * 0.5 * (1 + math.cos(math.pi * (passed - begin) / (until - begin)))
        optimizer.zero_grad()
        _loss(student, _pairs(teacher, pieces), inside, teacher.engine).backward()
        nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        step += 1
        before, passed = passed, clock.passed()
        longest = max(longest, passed - before)
    return step


def _pairs(teacher: Teacher, pieces: Pieces) -> tuple[Pair, Pair]:
    told = teacher.told(pieces.draw(1))
    return teacher.recorrupted(pieces.draw(1)), teacher.known(told, told.clean)


def _loss(student: nn.Module, pairs: tuple[Pair, Pair], inside: Tensor, engine: Engine) -> Tensor:
    """The mean squared error in units of the noise's variance, over the counted voxels of all pairs."""
    seen, target, counted, deviation = (
        torch.cat([getattr(pair, name) for pair in pairs]) for name in ("seen", "target", "counted", "deviation")
    )
    with autocast(engine):
        said = student(seen)
    counted = counted * inside
    return (((said.float() - target) / deviation).square() * counted).sum() / counted.sum().clamp(min=1)
