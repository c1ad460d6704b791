"""Whether a denoiser that adapted to a scan has become better: judged on a part of the scan that was held out."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields

import torch
from torch import Generator, Tensor, nn

from ..engine.tiles import Box
from .adapt_noise import Pair, Teacher, autocast
from .adapt_pieces import Tile

LEVELS = (0.85, 1.0, 1.2)  # of the noise map: told too low it rewards keeping noise, too high smoothing
_SURE = 2.0  # standard errors that the improvement must exceed
_STEP = 0.2  # of the noise: how far the scan is moved to see how the result follows
_BLOCK = 16  # voxels along an edge, of which each has a share in the standard error
_FLATTEST = 0.25  # of the tissue
_CONTRAST, _RADIUS, _SPACING = 2.0, 2.5, 12  # of drawn lesions: in units of the noise, and voxels
_ROOM = 7  # voxels along an edge, that must be tissue
_LOUDER, _LOST = 1.02, 0.01  # what flat tissue and lesions may differ by: less is not told from chance
_WEAKER = 1.04  # the same where the signal is weak: three known scans that became worse differed by 5 to 13 % there


@dataclass(frozen=True)
class Marks:
    """What was measured of a network, piece by piece: sums over the blocks [n], how many voxels those are, and more.

    `fit` and `freedom` make the score; `pair`, `flat` and `weak` are squared errors against a known truth: all of it,
    in flat tissue, and where the score tells nothing. All are in units of the noise's variance. `lesions` is the share
    of contrast kept by each.
    """

    fit: Tensor
    freedom: Tensor
    pair: Tensor
    flat: Tensor
    weak: Tensor
    voxels: Tensor
    lesions: Tensor

    def at(self, level: float) -> Tensor:
        """The score of each block, if the noise is `level` times as strong as the noise map says: sums [n]."""
        return self.fit + level**2 * (2 * self.freedom - self.voxels)

    @property
    def score(self) -> float:
        """The estimated mean squared error in units of the noise's variance; lower is better."""
        return float(self.at(1.0).sum() / self.voxels.sum())


@dataclass(frozen=True)
class _Test:
    """All that a network is asked about one piece, the same for every network."""

    piece: Tensor
    target: Tensor
    probe: Tensor
    counted: Tensor
    pair: Pair
    drawn: Tensor  # lesions, in units of the noise
    flat: Tensor
    core: Box


class Judge:
    """Judges networks by the same held-out pieces and the same noise.

    The score is Stein's unbiased risk estimate of what is really used, the network on the scan itself (Ramani et al.,
    2008). It trusts the noise map; so a second test does not: noise is put on what the model, before it adapted, made
    of the pieces, with lesions drawn into it, and there the truth is known.
    """

    def __init__(self, teacher: Teacher) -> None:
        self._teacher = teacher
        self._tests: list[_Test] = []
        teacher.random = Generator().manual_seed(1)

    def add(self, tile: Tile) -> None:
        """Judge by this piece too."""
        teacher, told = self._teacher, self._teacher.told(tile.voxels)
        drawn = lesions(told.counted)
        drawn = drawn.abs() if teacher.magnitude else drawn  # dark ones would sink into the noise of magnitudes
        pair = teacher.known(told, told.clean + drawn * told.deviation)
        target = teacher.unbiased(tile.voxels, told)
        flat = _flattest(told.clean / told.deviation, told.counted * (_spread(drawn.abs(), 5) == 0))
        probe = teacher.noise(told)
        self._tests.append(_Test(tile.voxels, target, probe, told.counted, pair, drawn, flat, tile.core))

    def marks(self, network: nn.Module, number: int) -> Marks:
        """What a network makes of the piece of a number."""
        test = self._tests[number]
        seen = torch.cat([test.piece, test.piece + _STEP * test.probe, test.pair.seen])
        with torch.no_grad(), autocast(self._teacher.engine):
            said, moved, pair = network(seen).float().split(1)
        variance, counted = test.pair.deviation.square(), test.counted
        error = (pair - test.pair.target).square() / variance
        parts = [
            (said - test.target).square() / variance * counted,
            test.probe * (moved - said) / _STEP / variance * counted,
            error * test.pair.counted,
            error * test.flat,
            error * (test.pair.counted - counted),
            counted,
        ]
        found = (pair - test.pair.target) / test.pair.deviation + test.drawn
        core = (slice(None), slice(None), *test.core)
        fit, freedom, known, flat, weak, voxels = (_sums(part[core], _BLOCK) for part in parts)
        return Marks(fit, freedom, known, flat, weak, voxels, _kept(found, test.drawn))

    def __len__(self) -> int:
        return len(self._tests)


def together(marks: list[Marks]) -> Marks:
    """The marks of all pieces."""
    names = [field.name for field in fields(Marks)]
    return Marks(**{name: torch.cat([getattr(mark, name) for mark in marks]) for name in names})


def better(before: Marks, after: Marks) -> bool:
    """Whether the score is surely better at every level, and nothing is worse where the truth is known.

    Never when anything is not a number.
    """
    voxels = before.voxels
    for level in LEVELS:
        gained = after.at(level) - before.at(level)
        mean = gained.sum() / voxels.sum()
        error = (gained - mean * voxels).square().sum().sqrt() / voxels.sum()
        error = error * math.sqrt(len(voxels) / max(len(voxels) - 1, 1))
        if len(voxels) < 2 or not mean < -_SURE * error:
            return False
    return (
        bool(after.pair.sum() <= before.pair.sum())
        and bool(after.flat.sum() <= _LOUDER * before.flat.sum())
        and bool(after.weak.sum() <= _WEAKER * before.weak.sum())
        and (len(before.lesions) == 0 or bool(after.lesions.mean() >= before.lesions.mean() - _LOST))
    )


def lesions(room: Tensor) -> Tensor:
    """Balls of 5 voxels, brighter and darker in turn, on a grid wherever there is `room` [1, 1, i, j, k] (0 or 1)."""
    free = -_spread(-room, _ROOM)
    axes = [torch.arange(size, device=room.device) for size in room.shape[2:]]
    i, j, k = torch.meshgrid(*(axis % _SPACING - _SPACING // 2 for axis in axes), indexing="ij")
    ball = (_RADIUS + 0.5 - torch.sqrt(i**2 + j**2 + k**2)).clamp(0, 1)
    cell = torch.meshgrid(*(axis // _SPACING for axis in axes), indexing="ij")
    signs = 1 - 2 * (sum(cell) % 2)
    middles = ((i == 0) & (j == 0) & (k == 0)).float() * free
    return _CONTRAST * signs * ball * _spread(middles, _ROOM)


def _kept(found: Tensor, drawn: Tensor) -> Tensor:
    """The share of its contrast that each lesion keeps, [n]; each has a cell of the grid to itself."""
    told, whole = (_sums(part * drawn, _SPACING) for part in (found, drawn))
    return told[whole > 0] / whole[whole > 0]


def _sums(voxels: Tensor, edge: int) -> Tensor:
    """Sums over cubes of an edge, smaller ones at the end: [1, 1, i, j, k] -> [n]."""
    sides = [side for size in reversed(voxels.shape[2:]) for side in (0, -size % edge)]
    return edge**3 * nn.functional.avg_pool3d(nn.functional.pad(voxels, sides), edge).flatten()


def _spread(voxels: Tensor, edge: int) -> Tensor:
    """The largest value within a cube around each voxel."""
    return nn.functional.max_pool3d(voxels, edge, 1, edge // 2)


def _flattest(clean: Tensor, counted: Tensor) -> Tensor:
    """1 in the quarter of the counted voxels around which a piece, in units of its noise, varies least; else 0."""
    span = _spread(clean, 5) + _spread(-clean, 5)
    inside = span[counted > 0]
    if len(inside) == 0:
        return counted
    return counted * (span <= inside.kthvalue(max(1, int(_FLATTEST * len(inside)))).values)
