"""Adapt a denoiser to one scan: it learns from the scan itself, without ground truth, and is kept only if better."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from ..engine.run import Engine
from ..errors import BadInput, BadModel
from ..networks import Network
from .correlation import autocorrelation, band_limited, coloured_noise

SHARE = 0.5  # of the noise's own deviation, that is added once more (alpha of the paper)
_PATCH, _LEAST = 48, 16  # voxels along an edge
_BATCH, _SCORED = 2, 12  # patches
_LEARNING_RATE, _WARMUP = 3e-4, 10
_SURE = 2.0  # standard errors that the improvement must exceed
_LEVELS = (0.85, 1.0)  # of the estimated noise: too much makes the score reward smoothing, too little the opposite
_AIR = -1000  # HU: what lies below is cut off by scanners, so its noise tells nothing
_TIME_TO_LEARN = 0.8  # of the time; the rest is for the two scores


@dataclass(frozen=True)
class Adaptation:
    """The network to use, whether it is the adapted one, how many steps it learned, and both scores (lower is better).

    A score is the mean squared error against the other half of the recorrupted pair, in units of the noise's variance,
    on a part of the scan that was not learned from; what the added noise alone would give has been taken off.
    """

    network: Network
    kept: bool
    steps: int
    before: float
    after: float

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

    Recorrupted-to-recorrupted (Pang et al., CVPR 2021): noise n' of the estimated level and correlation is added to the
    scan y, and y + a n' is mapped to y - n' / a, whose noise is independent of it: the best mapping is the one to the
    clean scan. `limits` are the intensities that the network sees as 0 and 1. With `magnitude` (MRI) the noise is
    Rician: the target is freed of its bias, and where the signal is weak, which the method does not cover, the network
    keeps to what it said before. `progress` may raise Cancelled.
    Raises BadInput when the scan is too small, BadModel when the network cannot tell the noise level.
    """
    if not hasattr(network, "denoised_and_level") or network.dims != 3:
        raise BadModel("This model cannot adapt itself to a volume.", "Choose a 3D denoising model, or do not adapt.")
    if min(source.shape) < _LEAST or max(source.shape) < 3 * _LEAST:
        size = " x ".join(map(str, source.shape))
        raise BadInput(f"The volume of {size} voxels is too small to adapt to.", "Run without adapting.")
    begin = time.monotonic()
    patches = _Patches(source, limits, network.stride, engine.torch_device)
    teacher = _Teacher(network.to(engine.torch_device).eval(), engine, magnitude, patches)
    student = copy.deepcopy(network).train()
    steps = _learn(student, teacher, begin, seconds * _TIME_TO_LEARN, seconds, progress)
    before = _scores(teacher, network, progress, 0)
    after = _scores(teacher, student.eval(), progress, 1)
    difference = after - before
    error = difference.std(1) / math.sqrt(difference.shape[1])
    kept = bool((difference.mean(1) < -_SURE * error).all())  # at both levels; never when a score is not a number
    return Adaptation(student if kept else network, kept, steps, float(before[-1].mean()), float(after[-1].mean()))


class _Patches:
    """Pieces of the scan as the network sees it: a slab across the longest axis is scored, the rest learned from."""

    def __init__(
        self, source: npt.NDArray[Any], limits: tuple[float, float], stride: int, device: torch.device
    ) -> None:
        self._source, self._limits, self._device = source, limits, device
        self.air = (_AIR - limits[0]) / (limits[1] - limits[0])
        self._axis = int(np.argmax(source.shape))
        length = source.shape[self._axis]
        self._slab = range(length // 2, length // 2 + max(_LEAST, length // 4))
        fitting = [min(_PATCH, size) // stride * stride for size in source.shape]
        self._shapes = {False: list(fitting), True: list(fitting)}
        self._shapes[True][self._axis] = min(_PATCH, len(self._slab)) // stride * stride
        before, after = self._slab.start, length - self._slab.stop
        self._shapes[False][self._axis] = min(_PATCH, max(before, after)) // stride * stride
        self.restart(0)

    def restart(self, seed: int) -> None:
        """Draw from the beginning of the sequence of a seed."""
        self._random = np.random.default_rng(seed)

    def draw(self, scored: bool, count: int) -> Tensor:
        """Patches [count, 1, i, j, k] with the most tissue of three tries each; the same sequence for the same scan."""
        return torch.stack([self._patch(self._shapes[scored], scored) for _ in range(count)]).to(self._device)

    def _patch(self, shape: list[int], scored: bool) -> Tensor:
        tries = [self._cut(shape, scored) for _ in range(3)]
        return torch.from_numpy(max(tries, key=lambda patch: float(patch.mean())))[None]

    def _cut(self, shape: list[int], scored: bool) -> npt.NDArray[np.float32]:
        corner = [int(self._random.integers(size - n + 1)) for size, n in zip(self._source.shape, shape, strict=True)]
        corner[self._axis] = self._along(shape[self._axis], scored)
        box = tuple(slice(start, start + n) for start, n in zip(corner, shape, strict=True))
        low, high = self._limits
        patch = (np.asarray(self._source[box], np.float32) - low) / (high - low)
        return np.nan_to_num(patch, nan=0, posinf=0, neginf=0)

    def _along(self, length: int, scored: bool) -> int:
        """Where a patch begins on the longest axis: inside the slab, or clear of it."""
        if scored:
            return int(self._random.integers(self._slab.start, self._slab.stop - length + 1))
        starts = [*range(self._slab.start - length + 1)]
        starts += range(self._slab.stop, self._source.shape[self._axis] - length + 1)
        return int(self._random.choice(starts))


@dataclass
class _Pair:
    """A recorrupted pair: what the network sees, what it shall say, where that counts, and in which units."""

    seen: Tensor
    target: Tensor
    counted: Tensor
    deviation: Tensor
    added: float  # the share of the score that the target's own added noise makes up


class _Teacher:
    """The network as it was: it tells noise level and correlation, and what to say where nothing can be learned."""

    def __init__(self, network: Network, engine: Engine, magnitude: bool, patches: _Patches) -> None:
        self.network, self.engine, self.magnitude, self.patches = network, engine, magnitude, patches
        self.random = Generator().manual_seed(0)
        patch = patches.draw(False, 4)
        clean, deviation = self._told(patch)
        found = band_limited(patch[:, 0].cpu()) if magnitude else self._measured(patch, clean, deviation)
        if found is None:
            raise BadInput("No tissue in the volume is flat enough to learn its noise from.", "Run without adapting.")
        self.correlation = found

    @staticmethod
    def _measured(patch: Tensor, clean: Tensor, deviation: Tensor) -> Tensor | None:
        return autocorrelation(((patch - clean) / deviation)[:, 0].cpu(), (clean / deviation)[:, 0].cpu())

    def pairs(self, patch: Tensor, level: float = 1.0) -> _Pair:
        """Recorrupt patches [b, 1, i, j, k] with noise of `level` times the estimated deviation."""
        clean, deviation = self._told(patch)
        deviation = deviation * level
        noise = coloured_noise(patch.shape, self.correlation, self.random).to(patch.device) * deviation
        target, counted = patch - noise / SHARE, torch.ones_like(patch)
        if self.magnitude:
            counted = (clean > 3 * deviation).float()
            target = target - deviation.square() / (2 * clean.clamp(min=1))
        else:
            counted = (patch > self.patches.air).float()
        target = torch.where(counted > 0, target, clean)
        return _Pair(patch + SHARE * noise, target, counted, deviation, (1 + SHARE**-2) * float(counted.mean()))

    @torch.no_grad()
    def _told(self, patch: Tensor) -> tuple[Tensor, Tensor]:
        with autocast(self.engine):
            clean, level = self.network.denoised_and_level(patch)  # type: ignore[operator]
        # One level for each patch: where anatomy is fine the network's own map is too high, here and there.
        deviation = level.flatten(1).median(1).values.exp().view(-1, 1, 1, 1, 1)
        return clean, deviation.expand_as(clean)


def autocast(engine: Engine) -> torch.autocast:
    """The engine's precision for training; half precision would need scaled gradients, so it becomes float32."""
    return torch.autocast(engine.torch_device.type, torch.bfloat16, enabled=engine.dtype == torch.bfloat16)


def _errors(network: torch.nn.Module, pair: _Pair, engine: Engine) -> Tensor:
    """Mean squared error of each patch in units of the noise's variance, [b]."""
    with autocast(engine):
        said = network(pair.seen)
    return ((said.float() - pair.target) / pair.deviation).square().flatten(1).mean(1)


def _learn(
    student: torch.nn.Module, teacher: _Teacher, begin: float, until: float, seconds: float,
    progress: Callable[[str, int, int], None],
) -> int:  # fmt: skip
    """Fine-tune until the time is over; the learning rate falls as a cosine of the time. Returns the steps."""
    optimizer = torch.optim.AdamW(student.parameters(), lr=_LEARNING_RATE, weight_decay=0.0)
    step = 0
    while (passed := time.monotonic() - begin) < until:
        progress("Adapting", int(1000 * passed / seconds), 1000)
        for group in optimizer.param_groups:
            rise = min(1.0, (step + 1) / _WARMUP)
            group["lr"] = _LEARNING_RATE * rise * 0.5 * (1 + math.cos(math.pi * passed / until))
        pair = teacher.pairs(teacher.patches.draw(False, _BATCH))
        optimizer.zero_grad()
        loss = _errors(student, pair, teacher.engine).mean()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        optimizer.step()
        step += 1
    return step


@torch.no_grad()
def _scores(
    teacher: _Teacher, network: torch.nn.Module, progress: Callable[[str, int, int], None], turn: int
) -> Tensor:
    """The score at each level of each scored patch, [levels, patches]: the same patches and noise at every call.

    ``turn`` 0 and 1 are the two calls of one adaptation, for the progress.
    """
    scores = torch.empty(len(_LEVELS), _SCORED, dtype=torch.float64)
    share = (1 - _TIME_TO_LEARN) / (2 * scores.numel())
    for row, level in enumerate(_LEVELS):
        teacher.random.manual_seed(1)
        teacher.patches.restart(1)
        for column in range(_SCORED):
            done = turn * scores.numel() + row * _SCORED + column
            progress("Adapting", int(1000 * (_TIME_TO_LEARN + share * done)), 1000)
            pair = teacher.pairs(teacher.patches.draw(True, 1), level)
            scores[row, column] = float(_errors(network, pair, teacher.engine)[0]) - pair.added
    return scores
