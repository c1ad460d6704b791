"""Further looks at a denoised magnitude image: similar blocks are filtered together, guided by the result so far."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from MedAELib.networks.denoising import local_mean
from MedAELib.networks.network import Network, Wrapped

EDGE, SEARCH, GROUP = 4, 2, 32  # voxels of a block, how far off similar ones are looked for, and how many are taken
SHARE = 0.9  # of each look's result: what the groups say; the rest is what was there before
_LAYERS = 16  # of the network, that a look takes about as long as
_AT_ONCE, _AT_ONCE_ON_A_GPU = 512, 8192  # groups: what a processor's cache holds, and what keeps a GPU busy
_LEAST = 1e-3  # gain, squared and summed: so that weights end
# Between what a look counts nothing and counts in full:
_WHITE = (0.5, 0.6)  # the power at the highest frequencies, as a share of white noise's
_EDGES = (1.0, 2.0)  # the deviation of the denoised scan around a voxel, in units of the noise
_SIGNAL = (3.0, 6.0)  # the mean of a group, in units of the noise
_AROUND = 3  # blocks on each side, within which that is measured
_STRONG = 30.0  # times the noise: beyond, the bias of a magnitude is 1 / (2 x signal)

Deviation = Callable[[Tensor, Tensor], Tensor]


class Regrouped(Wrapped):
    """A denoiser of magnitude images whose result guides a Wiener filter of similar blocks: [b, c, ...] -> the same.

    Each block of 4 x 4 x 4 voxels is joined with the 31 blocks within two voxels that are most like it in the denoised
    scan. A cosine transform of the blocks, and a Haar transform from block to block, gather what they share in few
    coefficients; each coefficient of the noisy scan is kept as far as that of the denoised scan says: s^2 / (s^2 +
    noise^2). All blocks go back to their places, and what overlaps is averaged, sparse groups counting more. This is
    the second step of BM4D (Maggioni et al., IEEE TIP 2013; Dabov et al., IEEE TIP 2007), with the network in the place
    of its first. With two ``looks`` it is done once more, since a better guide tells more. The noise is what
    ``deviation`` tells of the noisy and the denoised scan around each voxel, so nobody needs to know it, and it may
    vary; at least 1, as the scan comes in units of the noise of its quiet part. Before, magnitudes are freed of their
    bias (Rice's law); where the signal is weak, so that it is not known well, the mean of a group stays that of the
    denoised scan.

    Where a look would do harm the denoised scan stays as it is: where the deviation is 0; where what was removed lacks
    the highest frequencies, as noise that was interpolated is not alike in all coefficients; and where tissue is flat,
    since there the network leaves next to nothing, and the filter would take faint lesions along.
    The first channel is changed only. Blocks begin at multiples of the stride, which is made one of EDGE, so tiles are
    as exact as before.
    """

    cosines: Tensor
    haar: Tensor

    def __init__(self, network: Network, deviation: Deviation, reach: int, looks: int = 1) -> None:
        """``reach``: how many voxels around it a deviation is measured from."""
        super().__init__(network)
        self.deviation, self.looks = deviation, looks
        self.told = _Told(looks * _LAYERS / network.calls)
        self.register_buffer("cosines", _cosines(), persistent=False)
        self.register_buffer("haar", _haar(GROUP), persistent=False)
        self.stride = math.lcm(network.stride, EDGE)
        reach += max(2 * (SEARCH + EDGE - 1), EDGE * (_AROUND + 1) + 2)
        self.halo = math.ceil((network.halo + looks * reach) / self.stride) * self.stride

    @property
    def strides(self) -> tuple[int, ...]:
        """The stride along each axis, a multiple of the edge of a block."""
        return (self.stride,) * self.dims

    def forward(self, x: Tensor) -> Tensor:
        """The denoised scan, filtered once more or twice, and the further channels as they were; float32."""
        made = self.network(x).float()
        with torch.autocast(x.device.type, enabled=False):
            denoised = made[:, :1]
            for _ in range(self.looks):
                denoised = self._looked(x.float(), denoised)
            return torch.cat([denoised, made[:, 1:]], 1)

    def _looked(self, x: Tensor, guide: Tensor) -> Tensor:
        """What one look makes of a denoised scan, both [b, 1, i, j, k]."""
        deviation = self.deviation(x, guide)
        share = SHARE * (deviation > 0) * _ramp(whiteness(x - guide), *_WHITE)
        deviation = deviation.clamp(min=1)
        share = share * _ramp(_unrest(guide) / deviation, *_EDGES)
        unbiased = x - rician_bias(guide, deviation)
        said = [self._filtered(*parts) for parts in zip(unbiased, guide, deviation, share, strict=True)]
        return guide + share * (torch.stack(said) - guide)

    def _filtered(self, noisy: Tensor, guide: Tensor, deviation: Tensor, share: Tensor) -> Tensor:
        """One volume [1, i, j, k]: the mean of what all groups say of each voxel, where that has any share."""
        sides = [SEARCH] * 6
        padded, around = (functional.pad(voxels[None], sides, mode="replicate")[0, 0] for voxels in (guide, noisy))
        noise = functional.avg_pool3d(deviation.square(), EDGE).flatten()
        asked = functional.max_pool3d(functional.max_pool3d(share[None], EDGE), 3, stride=1, padding=1).flatten() > 0
        places, noise = similar(padded)[asked], noise[asked]
        total, weights = torch.zeros(2, padded.numel(), device=guide.device).unbind()
        within, count = _offsets(padded), _AT_ONCE if guide.device.type == "cpu" else _AT_ONCE_ON_A_GPU
        self.told.share = _LAYERS / max(1, math.ceil(len(places) / count))
        for group, level in zip(places.split(count), noise.split(count), strict=True):
            voxels = group[..., None] + within
            said, weight = self._together(around.flatten()[voxels], padded.flatten()[voxels], self.told(level))
            total.index_add_(0, voxels.flatten(), said.flatten())
            weights.index_add_(0, voxels.flatten(), weight.expand_as(said).flatten())
        mean = (total / weights.clamp(min=1e-12)).view(padded.shape)
        return mean[tuple(slice(SEARCH, SEARCH + size) for size in guide.shape[1:])][None]

    def _together(self, noisy: Tensor, guide: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """The Wiener filter of groups of blocks [n, GROUP, voxels] with noise of variance [n], times the weight of each
        group [n, 1, 1]: a group counts as much as it lets little noise through."""
        noisy, guide = (self.haar @ (blocks @ self.cosines.T) for blocks in (noisy, guide))
        mean = guide[:, 0, 0]
        sure = _ramp(mean / (GROUP * EDGE**3 * noise).sqrt(), *_SIGNAL)
        noisy[:, 0, 0] = mean + sure * (noisy[:, 0, 0] - mean)
        power, noise = guide.square(), noise[:, None, None]
        gain = power / (power + noise)
        weight = 1 / (noise * (gain.square().sum((1, 2), keepdim=True) + _LEAST))
        return weight * (self.haar.T @ (gain * noisy) @ self.cosines), weight


class _Told(nn.Module):
    """Passes its input on. The engine reports progress, and can be stopped, after each module with a parameter.

    ``layers`` is how many of the network's layers all its calls count as, ``share`` as how many the next one does.
    """

    def __init__(self, layers: float) -> None:
        super().__init__()
        self.layers = self.share = layers
        self.counted = nn.Parameter(torch.zeros(()), requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        return x


def _ramp(x: Tensor, start: float, end: float) -> Tensor:
    """0 up to `start`, 1 from `end` on."""
    return ((x - start) / (end - start)).clamp(0, 1)


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


def similar(padded: Tensor) -> Tensor:
    """Where the blocks of each group begin, as places in the flattened volume: [i, j, k] -> [n, GROUP].

    The volume has a margin of SEARCH. Blocks that differ least, as the sum of squares, from the one in the middle,
    which comes first.
    """
    shape = [(size - 2 * SEARCH) // EDGE for size in padded.shape]
    shifts = list(itertools.product(range(-SEARCH, SEARCH + 1), repeat=3))
    middle = _shifted(padded, (0, 0, 0))
    unlike = torch.empty(len(shifts), math.prod(shape), device=padded.device)
    for row, shift in zip(unlike, shifts, strict=True):
        squares = (_shifted(padded, shift) - middle).square()
        row[:] = functional.avg_pool3d(squares[None], EDGE).flatten()
    unlike[len(shifts) // 2] = -1  # no shift
    found = unlike.topk(GROUP, 0, largest=False).indices.T
    rows, planes = padded.shape[2], padded.shape[1] * padded.shape[2]
    steps = torch.tensor([i * planes + j * rows + k for i, j, k in shifts], device=padded.device)
    corners = [SEARCH + EDGE * torch.arange(count, device=padded.device) for count in shape]
    first = (corners[0][:, None, None] * planes + corners[1][:, None] * rows + corners[2]).flatten()
    return first[:, None] + steps[found]


def _shifted(padded: Tensor, shift: tuple[int, ...]) -> Tensor:
    inside = (slice(SEARCH + step, size - SEARCH + step) for size, step in zip(padded.shape, shift, strict=True))
    return padded[tuple(inside)]


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


def rician_bias(signal: Tensor, deviation: Tensor) -> Tensor:
    """How much larger the mean of a magnitude is than its signal, for noise of a deviation in both channels (Rice)."""
    ratio = (signal / deviation).clamp(0, _STRONG)
    half = ratio.square() / 4
    mean = math.sqrt(math.pi / 2) * ((1 + 2 * half) * torch.special.i0e(half) + 2 * half * torch.special.i1e(half))
    far = deviation.square() / (2 * signal.clamp(min=1e-6))
    return torch.where(signal < _STRONG * deviation, deviation * (mean - ratio), far)
