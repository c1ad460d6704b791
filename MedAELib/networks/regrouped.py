"""Further looks at a denoised magnitude image: similar blocks are filtered together, guided by the result so far."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from MedAELib.networks.denoising import local_mean, ramp
from MedAELib.networks.network import Aligned, Network
from MedAELib.networks.told import Told

EDGE, SEARCH, GROUP = 4, 2, 32  # voxels of a block, how far off similar ones are looked for, and how many are taken
STARTS = (0, EDGE // 2)  # along each axis: blocks begin there, and at every EDGE-th voxel from there
_LAYERS = 16  # of the network, that a look takes about as long as
_AT_ONCE, _AT_ONCE_ON_A_GPU = 256, 8192  # groups: what a processor's cache holds, and what keeps a GPU busy
_SLAB = 1024  # times as many voxels are searched for similar blocks at once
_PREPARING, _SEARCHING = 0.1, 0.3  # of the time of a look
_GUIDED = 0.4  # of what a Wiener filter would take from the guide, the share that stays
# Between what a look counts nothing and counts in full:
_WHITE = (0.5, 0.6)  # the power at the highest frequencies, as a share of white noise's
_EDGES = (0.5, 1.5)  # the deviation of the denoised scan around a voxel, in units of the noise
_FIRM = (1.4, 2.4)  # a coefficient of the first look, in units of the noise
_SIGNAL = (3.0, 6.0)  # the mean around a voxel, in units of the noise
_AROUND = 3  # blocks on each side, within which that is measured
_STRONG = 30.0  # times the noise: beyond, the bias of a magnitude is 1 / (2 x signal)

Deviation = Callable[[Tensor, Tensor], Tensor]
Rule = Callable[..., Tensor]  # noise's variance and coefficients of one volume or more -> those of the result


class Regrouped(Aligned):
    """A denoiser of magnitude images whose result guides two filters of similar blocks: [b, c, ...] -> the same.

    Each block of 4 x 4 x 4 voxels is joined with the 31 blocks within two voxels that are most like it in the
    denoised scan. A cosine transform of the blocks, and a Haar transform from block to block, gather what they
    share in few coefficients. In the first look each coefficient becomes the mean of the noisy and the denoised
    scan's, as far as that rises above the noise: so what the network missed comes back where blocks agree on it,
    and what it left of the noise goes. The result guides the second look, a Wiener filter: each coefficient of the
    noisy scan is kept as far as that of the guide says, s^2 / (s^2 + noise^2), and of the rest of the guide's own a
    part. All blocks go back to their places, and what overlaps is averaged. These are the two steps of BM4D
    (Maggioni et al., IEEE TIP 2013; Dabov et al., IEEE TIP 2007), with the network's result in both, and softer:
    small lesions have no blocks like them, and lose contrast where much is cut, or where groups that hold little
    count more, as they do there. The noise is what ``deviation`` tells of the noisy and the denoised scan around
    each voxel, so nobody needs to know it, and it may vary; at least 1, as the scan comes in units of the noise of
    its quiet part. Magnitudes are freed of their bias before, and vary less where the signal is weak (both by
    Rice's law); there, where it is not known well, the mean around a voxel stays that of the denoised scan.

    Where a look would do harm the denoised scan stays as it is: where the deviation is 0; where what was removed lacks
    the highest frequencies, as noise that was interpolated is not alike in all coefficients; and where tissue is flat,
    since there the network leaves next to nothing, and the filter would take faint lesions along.
    The first channel is changed only. Blocks begin at multiples of EDGE and half-way between them, and the stride is
    made one of it, so tiles are as exact as before.
    """

    cosines: Tensor
    haar: Tensor

    def __init__(self, network: Network, deviation: Deviation, reach: int) -> None:
        """``reach``: how many voxels around it a deviation is measured from."""
        reach += max(2 * (SEARCH + EDGE - 1) + EDGE, EDGE * (_AROUND + 1) + 2)
        super().__init__(network, EDGE, 2 * reach)
        self.deviation = deviation
        self.told = Told(2 * _LAYERS / network.calls)
        self.register_buffer("cosines", _cosines(), persistent=False)
        self.register_buffer("haar", _haar(GROUP), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """The denoised scan, filtered twice, and the further channels as they were; float32."""
        made = self.network(x).float()
        with torch.autocast(x.device.type, enabled=False):
            denoised = made[:, :1]
            for rule in (_firm, _wiener):
                denoised = self._looked(x.float(), denoised, rule)
            return torch.cat([denoised, made[:, 1:]], 1)

    def _looked(self, x: Tensor, guide: Tensor, rule: Rule) -> Tensor:
        """What one look makes of a denoised scan, both [b, 1, i, j, k]."""
        self.told.share = _PREPARING * _LAYERS / 5
        deviation = self.told(self.deviation(x, guide))
        share = self.told((deviation > 0) * ramp(whiteness(x - guide), *_WHITE))
        deviation = deviation.clamp(min=1)
        share = self.told(share * ramp(_unrest(guide) / deviation, *_EDGES))
        bias, variance = rician(guide, deviation)
        beside = self.told(x - bias - guide)
        weak = 1 - ramp(local_mean(guide, EDGE) / deviation, *_SIGNAL)
        noisy = self.told(guide + beside - weak * local_mean(beside, EDGE))
        said = [self._filtered(*parts, rule) for parts in zip(noisy, guide, variance, share, strict=True)]
        return guide + share * (torch.stack(said) - guide)

    def _filtered(self, noisy: Tensor, guide: Tensor, variance: Tensor, share: Tensor, rule: Rule) -> Tensor:
        """One volume [1, i, j, k]: the mean of what all groups say of each voxel, where that has any share."""
        padded, around, variance, share = (_margin(voxels) for voxels in (guide, noisy, variance, share))
        seen = [(around + padded) / 2] if rule is _firm else [around, padded]  # a transform less
        total, count = torch.zeros(2, padded.numel(), device=guide.device).unbind()
        within, at_once = _offsets(padded), _AT_ONCE if guide.device.type == "cpu" else _AT_ONCE_ON_A_GPU
        slabs = _slabs(guide.shape[1:], _SLAB * at_once)
        for start, slab in itertools.product(STARTS, slabs):
            searched, asked = padded[slab], _reached(share[slab], start).flatten() > 0
            if not asked.any():  # air, or flat tissue
                self._count((1 - _PREPARING) / len(slabs))
                continue
            noise = functional.avg_pool3d(_from(variance[slab], start), EDGE).flatten()[asked]
            places = similar(searched, start)[asked] + slab.start * searched[0].numel()
            parts = math.ceil(len(places) / at_once)
            self._count(_SEARCHING / len(slabs))
            for group, level in zip(places.split(at_once), noise.split(at_once), strict=True):
                voxels = (group[..., None] + within).flatten()
                blocks = [volume.flatten().index_select(0, voxels).view(-1, GROUP, EDGE**3) for volume in seen]
                total.scatter_add_(0, voxels, self._together(blocks, level, rule).flatten())
                count.scatter_add_(0, group.flatten(), torch.ones_like(group, dtype=count.dtype).flatten())
                self._count((1 - _PREPARING - _SEARCHING) / len(slabs) / parts)
        mean = total.view(padded.shape) / _over_blocks(count.view(padded.shape)).clamp(min=1)
        return mean[tuple(slice(SEARCH, SEARCH + size) for size in guide.shape[1:])][None]

    def _count(self, part: float) -> None:
        """Report a part of what is done from both starts in a look."""
        self.told.share = part * _LAYERS / len(STARTS)
        self.told(self.cosines)

    def _together(self, blocks: Sequence[Tensor], noise: Tensor, rule: Rule) -> Tensor:
        """What a rule makes of groups of blocks [n, GROUP, voxels] with noise of variance [n]."""
        found = rule(noise[:, None, None], *(self.haar @ (one @ self.cosines.T) for one in blocks))
        return self.haar.T @ found @ self.cosines


def _firm(noise: Tensor, mean: Tensor) -> Tensor:
    """The mean of coefficients [n, GROUP, voxels] of the noisy and the denoised scan, as far as it rises above noise of
    variance [n, 1, 1] (firm shrinkage: Gao and Bruce, Statistica Sinica 1997); the first, the group's mean, in full."""
    gain = ramp(mean.abs() / noise.sqrt(), *_FIRM)
    gain[:, 0, 0] = 1
    return gain * mean


def _wiener(noise: Tensor, noisy: Tensor, guide: Tensor) -> Tensor:
    """The noisy coefficients as far as the guide's power says, and some of the guide's own for the rest."""
    power = guide.square()
    gain = power / (power + noise)
    return gain * noisy + (1 - gain) * _GUIDED * guide


def _unrest(guide: Tensor) -> Tensor:
    """The largest deviation within a block or its neighbours, around each voxel: [b, 1, i, j, k] -> the same."""
    mean, power = (functional.avg_pool3d(voxels, EDGE) for voxels in (guide, guide.square()))
    found = functional.max_pool3d((power - mean.square()).clamp(min=0).sqrt(), 3, stride=1, padding=1)
    return _spread(found)


def _spread(blocks: Tensor) -> Tensor:
    for axis in range(2, blocks.ndim):
        blocks = blocks.repeat_interleave(EDGE, axis)
    return blocks


def whiteness(noise: Tensor) -> Tensor:
    """The power of noise [b, 1, i, j, k] at the highest frequencies of each axis, as a share of what white noise of its
    power has: the least of the axes, around each voxel. Sizes are multiples of EDGE."""
    power = _around(noise.square())
    found = torch.full_like(power, math.inf)
    for axis in range(2, noise.ndim):
        fourth = noise.diff(n=4, dim=axis) if noise.shape[axis] > 4 else noise.new_zeros(())
        sides = [0, 0] * (noise.ndim - 1 - axis) + [2, 2]
        if fourth.ndim:
            squares = functional.pad(fourth.square() / 70, sides + [0, 0] * (axis - 2), mode="replicate")
            found = torch.minimum(found, _around(squares))
    return _spread(found / power.clamp(min=1e-12))


def _around(squares: Tensor) -> Tensor:
    return local_mean(functional.avg_pool3d(squares, EDGE), _AROUND)


def similar(padded: Tensor, start: int = 0) -> Tensor:
    """Where the blocks of each group begin, as places in the flattened volume: [i, j, k] -> [n, GROUP].

    The volume has a margin of SEARCH, and of half an EDGE more at its ends. Blocks that differ least, as the sum of
    squares, from the one in the middle, which comes first. The first of those begins at ``start`` along each axis.
    """
    shifts = list(itertools.product(range(-SEARCH, SEARCH + 1), repeat=3))
    middle = _from(padded, start)
    shape = [size // EDGE for size in middle.shape[2:]]
    unlike = torch.empty(len(shifts), math.prod(shape), device=padded.device)
    for row, shift in zip(unlike, shifts, strict=True):
        squares = (_from(padded, start, shift) - middle).square()
        row[:] = functional.avg_pool3d(squares, EDGE).flatten()
    unlike[len(shifts) // 2] = -1  # no shift
    found = unlike.topk(GROUP, 0, largest=False).indices.T
    rows, planes = padded.shape[2], padded.shape[1] * padded.shape[2]
    steps = torch.tensor([i * planes + j * rows + k for i, j, k in shifts], device=padded.device)
    corners = [SEARCH + start + EDGE * torch.arange(count, device=padded.device) for count in shape]
    first = (corners[0][:, None, None] * planes + corners[1][:, None] * rows + corners[2]).flatten()
    return first[:, None] + steps[found]


def _margin(voxels: Tensor) -> Tensor:
    """A volume [1, i, j, k] with what blocks at its border, and those like them, reach beyond it: [i, j, k]."""
    return functional.pad(voxels[None], [SEARCH, SEARCH + EDGE // 2] * 3, mode="replicate")[0, 0]


def _slabs(shape: Sequence[int], most: int) -> list[slice]:
    """Parts of a volume with its margin along the first axis, of so many voxels at most but one row of blocks."""
    thick = EDGE * max(1, most // (EDGE * shape[1] * shape[2]))
    margin = 2 * SEARCH + EDGE // 2
    return [slice(first, min(first + thick, shape[0]) + margin) for first in range(0, shape[0], thick)]


def _from(padded: Tensor, start: int, shift: Sequence[int] = (0, 0, 0)) -> Tensor:
    """The voxels of all blocks from one start on, or of those at a shift from them: [1, 1, i, j, k]."""
    margin = 2 * SEARCH + EDGE // 2
    first = [SEARCH + start + step for step in shift]
    inside = (slice(at, at + size - margin) for at, size in zip(first, padded.shape, strict=True))
    return padded[tuple(inside)][None, None]


def _reached(share: Tensor, start: int) -> Tensor:
    """The largest share that the group of each block reaches."""
    return functional.max_pool3d(share[start:, start:, start:][None, None], EDGE + 2 * SEARCH, EDGE)


def _over_blocks(count: Tensor) -> Tensor:
    """Numbers of blocks [i, j, k], each where its blocks begin, summed at every voxel of them."""
    before = functional.pad(count[None, None], [EDGE - 1, 0] * 3)
    return functional.avg_pool3d(before, EDGE, 1, divisor_override=1)[0, 0]


def _offsets(volume: Tensor) -> Tensor:
    """The places of a block's voxels in the flattened volume, from its first one on."""
    line = torch.arange(EDGE, device=volume.device)
    rows, planes = volume.shape[2], volume.shape[1] * volume.shape[2]
    return (line[:, None, None] * planes + line[:, None] * rows + line).flatten()


def _cosines() -> Tensor:
    """The orthonormal cosine transform of a flattened block (DCT-II), [EDGE^3, EDGE^3]."""
    line = torch.arange(EDGE)
    lines = torch.cos(line[:, None] * (line + 0.5) * (math.pi / EDGE)) * math.sqrt(2 / EDGE)
    lines[0] = math.sqrt(1 / EDGE)
    return functools.reduce(torch.kron, [lines] * 3)


def _haar(size: int) -> Tensor:
    """The orthonormal Haar transform [size, size] of a power of two."""
    made = torch.ones(1, 1)
    while len(made) < size:
        sums, differences = torch.tensor([[1.0, 1.0]]), torch.tensor([[1.0, -1.0]])
        made = torch.cat([torch.kron(made, sums), torch.kron(torch.eye(len(made)), differences)]) * math.sqrt(0.5)
    return made


def rician(signal: Tensor, deviation: Tensor) -> tuple[Tensor, Tensor]:
    """How much larger the mean of a magnitude is than its signal, for noise of a deviation in both channels, and the
    variance of the magnitude around that mean (Rice)."""
    ratio = (signal / deviation).clamp(0, _STRONG)
    half = ratio.square() / 4
    mean = math.sqrt(math.pi / 2) * ((1 + 2 * half) * torch.special.i0e(half) + 2 * half * torch.special.i1e(half))
    near, noise = signal < _STRONG * deviation, deviation.square()
    bias = torch.where(near, deviation * (mean - ratio), noise / (2 * signal.clamp(min=1e-6)))
    return bias, torch.where(near, noise * (2 + ratio.square() - mean.square()), noise)
