"""Latent traversal: what becomes of the scan around a point when its code is moved along its largest directions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..engine.run import Engine
from ..engine.tiles import Box
from ..errors import BadInput
from ..features.code import Code, Floats, Seen, code_of, encode
from ..networks import Network
from ..networks.conditional import ConditionalAutoencoder
from ..networks.denoising import DenoisingAutoencoder
from ..networks.normative import NormativeAutoencoder
from ..networks.whole import WholeImage, from_grid
from .residuals import part_of, voxels_of, within, worked_on

STEPS = tuple(number / 2 for number in range(-4, 5))  # deviations
EDGE = 48  # voxels of what is shown
_MARGIN = 16  # voxels around it, so that the border of what is decoded does not show
_REACH = 2.0  # cells: the Gaussian within which a spatial code is moved
_MOST_CELLS = 200_000
Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Traversal:
    """`frames` [steps, c, i, j, k] in the network's window, a channel for each modality, of that `part` of the scan.

    `share` is the part of the code's variance along this direction.
    """

    frames: Floats
    part: Seen
    share: float


def traverse(
    network: Network, seen: Seen, point: tuple[float, float, float], count: int, engine: Engine,
    progress: Callable[[int, int], None], channel: int = 0,
) -> list[Traversal]:  # fmt: skip
    """The scan around a point (RAS millimetres) with its code moved by -2 to 2 deviations along its `count` largest
    directions: the principal components of the cells of this scan, or of its slices. With a `channel` (1, 2, ...) that
    channel of the code alone is moved, by its deviation over the cells.

    A code of one vector for the whole volume knows no other: it is moved along those of its axes, by the deviation 1 of
    its prior, that change the result most. A spatial code is moved near the point only. Raises BadInput for a channel
    that the code does not have.
    """
    voxel = np.rint((np.linalg.inv(seen.affine) @ [*point, 1])[:3]).astype(int)
    box = around(voxel, seen.voxels.shape[1:], network)
    whole = code_of(network, seen, engine, lambda done, total: progress(done, 4 * total))
    part = part_of(seen, box)
    x = _shown(part, network, engine)
    with torch.inference_mode():
        code = encode(network, x, seen.second).float()
    if channel > code.shape[1]:
        raise BadInput(f"The code has {code.shape[1]} channels, so there is no channel {channel}.", "Choose another.")
    moves, shares = _moves(network, whole, x, code, count, voxel - [side.start for side in box], channel)
    inner = around(voxel, seen.voxels.shape[1:], network, margin=0)
    i, j, k = (slice(side.start - b.start, side.stop - b.start) for side, b in zip(inner, box, strict=True))
    found = []
    for number, (move, share) in enumerate(zip(moves, shares, strict=True)):
        frames = []
        for step, amount in enumerate(STEPS):
            progress(len(moves) + 4 * (number * len(STEPS) + step), 4 * len(moves) * len(STEPS) + len(moves))
            made = voxels_of(rebuilt(network, x, code + amount * move, seen.second), network.dims)
            frames.append(made[..., i, j, k])
        shown = part_of(seen, inner)
        found.append(Traversal(within(shown, np.stack(frames)), shown, share))
    progress(1, 1)
    return found


def around(voxel: npt.NDArray[Any], shape: tuple[int, ...], network: Network, margin: int = _MARGIN) -> Box:
    """The box that is decoded (with a margin) or shown (without) around a voxel, begun on the network's grid.

    Of a network that sees a slice or a volume as a whole, all of it is decoded.
    """
    box = []
    for axis, (at, size, step) in enumerate(zip(voxel, shape, network.volume_strides, strict=True)):
        if axis == 2 and network.dims == 2:
            box.append(slice(int(at), int(at) + 1))
        elif margin and not network.tiles:
            box.append(slice(0, size))
        else:
            shown, decoded = (_side(int(at), size, step, EDGE + 2 * more) for more in (0, margin))
            box.append(slice(min(shown.start, decoded.start), max(shown.stop, decoded.stop)))
    return tuple(box)


def _side(at: int, size: int, step: int, length: int) -> slice:
    """So many voxels around one, begun on the network's grid; what is left beyond, less than a step, goes with them."""
    length = max(length, 2 * step)  # or a start moved back by nearly a step would leave the one out
    start = min(max(at - length // 2, 0), max(size - length, 0)) // step * step
    stop = start + length
    return slice(start, size if size - stop < step else stop)


@torch.inference_mode()
def rebuilt(network: Network, x: Tensor, code: Tensor, second: Tensor | None) -> Tensor:
    """What the network makes of a scan from another code than its own, in the size of x."""
    decoded: Tensor
    if isinstance(network, ConditionalAutoencoder) and second is not None:
        decoded = network.decode(code, second.to(x.device).expand(len(x), -1))
    else:
        decoded = network.decode(code)
    if isinstance(network, DenoisingAutoencoder):
        return network.denoised(x, decoded)
    if isinstance(network, NormativeAutoencoder):
        return x + decoded[:, :1]
    return from_grid(decoded, x.shape[2:]) if isinstance(network, WholeImage) else decoded.float()


def _moves(
    network: Network, whole: Code, x: Tensor, code: Tensor, count: int, at: npt.NDArray[Any], channel: int
) -> tuple[list[Tensor], list[float]]:
    """A deviation along each direction, as what is added to the code, and the directions' shares of the variance."""
    if not whole.spatial and whole.cells.shape[3] == 1:
        return _axes(network, x, code, count, channel)
    cells = whole.cells.reshape(len(whole.cells), -1)
    cells = cells[:, :: max(1, cells.shape[1] // _MOST_CELLS)].astype(np.float64)
    if channel:
        variances, vectors, order = cells.var(1), np.eye(len(cells)), [channel - 1]
    else:
        variances, vectors = np.linalg.eigh(np.atleast_2d(np.cov(cells)))
        order = np.argsort(variances)[::-1][: min(count, len(variances))].tolist()
    bump = torch.ones(())
    if whole.spatial:
        axes = [torch.arange(size) - place / step for size, place, step in zip(code.shape[2:], at, whole.cell)]
        squares = torch.stack([axis**2 for axis in torch.meshgrid(*axes, indexing="ij")]).sum(0)
        bump = torch.exp(-squares / (2 * _REACH**2))
    moves = []
    for n in order:
        direction = torch.from_numpy(vectors[:, n] * np.sqrt(max(variances[n], 0))).float()
        moves.append((direction.view(1, -1, *(1,) * (code.ndim - 2)) * bump).to(code.device))
    return moves, [float(variances[n] / max(variances.sum(), 1e-30)) for n in order]


def _axes(network: Network, x: Tensor, code: Tensor, count: int, channel: int) -> tuple[list[Tensor], list[float]]:
    """The axes of a vector whose unit steps change the result most, or one axis, with their shares of all changes."""
    units = torch.eye(code.shape[1], device=code.device)[:, None]
    still = rebuilt(network, x, code, None)
    powers = np.array([float((rebuilt(network, x, code + unit, None) - still).square().sum()) for unit in units])
    order = [channel - 1] if channel else np.argsort(powers)[::-1][:count].tolist()
    return [units[n] for n in order], [float(powers[n] / max(powers.sum(), 1e-30)) for n in order]


def _shown(part: Seen, network: Network, engine: Engine) -> Tensor:
    """The part as the network takes it, made a multiple of its stride."""
    padding = [(0, -size % step) for size, step in zip(part.voxels.shape[1:], network.volume_strides, strict=True)]
    return worked_on(np.pad(part.voxels, [(0, 0), *padding], mode="edge"), network.dims, engine.torch_device)
