"""The noise map: how strong the noise is around each voxel, told by the denoiser while it denoises."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from ..errors import BadModel
from ..modality import guess_modality
from ..networks import Network
from ..noise import noise_unit
from ..quality import noise_level
from ..volume import Volume


class WithNoise(Network):
    """A denoiser that gives the noise map as a second channel: [b, 1, ...] -> [b, 2, ...], encoding only once.

    Same stride, halo and dims as the denoiser, so its tiles are as exact. Raises BadModel for a network that cannot
    tell how strong the noise is.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        check_tells_noise(network)
        self.network = network
        self.dims, self.stride, self.halo = network.dims, network.stride, network.halo

    def forward(self, x: Tensor) -> Tensor:
        """The denoised scan and the standard deviation of its noise, float32, in window units."""
        denoised, level = self.network.denoised_and_level(x)  # type: ignore[operator]
        size = x.shape[-1] // level.shape[-1]
        deviation = torch.where(_constant(x, size), 0, _smoothed(level.float()).exp())
        for axis in range(2, x.ndim):
            deviation = deviation.repeat_interleave(size, axis)
        return torch.cat([denoised.float(), deviation], 1)


def _smoothed(level: Tensor) -> Tensor:
    """Means over three cells along each axis: a sixth less error on CT, no change on MRI.

    Stays within the halo: the decoder, which the level does not need, reaches at least one cell further.
    """
    level = nn.functional.pad(level, (1, 1) * (level.ndim - 2), mode="replicate")
    for axis in range(2, level.ndim):
        size = level.shape[axis] - 2
        level = (level.narrow(axis, 0, size) + level.narrow(axis, 1, size) + level.narrow(axis, 2, size)) / 3
    return level


def _constant(x: Tensor, size: int) -> Tensor:
    """Which cells of `size` voxels differ in nothing from their neighbours, [b, 1, ... / size]: masked air, say."""
    pool = nn.functional.max_pool3d if x.ndim == 5 else nn.functional.max_pool2d
    high, low = (pool(pool(sign * x.float(), size), 3, stride=1, padding=1) for sign in (1, -1))
    return high == -low


def tells_noise(network: Network) -> bool:
    """Whether a network can tell how strong the noise is."""
    return hasattr(network, "denoised_and_level")


def check_tells_noise(network: Network) -> None:
    """Raises BadModel for a network that cannot tell how strong the noise is."""
    if not tells_noise(network):
        raise BadModel(
            "This model cannot tell how strong the noise is.", "Choose another model, or leave the noise map out."
        )


class NoiseMap:
    """Gathers the noise of each frame, core by core, into one map `[1, i, j, k]`, float32, in the scan's units.

    The frames of a sequence share one noise model: the map is their root mean square, because variances are what
    independent measurements of one noise can be averaged by; the mean of deviations would be too low.
    """

    def __init__(self, room: npt.NDArray[Any], frames: int) -> None:
        self.array, self._frames = room, frames

    def add(self, frame: int, core: tuple[slice, ...], deviation: npt.NDArray[np.float32]) -> None:
        """Take in what was found in one frame's core; every frame must add every voxel once."""
        voxels = self.array[0][core]
        if self._frames == 1:
            voxels[...] = deviation
        elif frame == 0:
            np.square(deviation, out=voxels)
        else:
            voxels += np.square(deviation)

    def finish(self) -> npt.NDArray[Any]:
        """The map, once all frames are in; slice by slice, so that little memory is needed."""
        if self._frames > 1:
            for k in range(self.array.shape[3]):
                voxels = self.array[..., k]
                np.sqrt(voxels / np.float32(self._frames), out=voxels)
        return self.array


def noise_levels(volume: Volume, denoised: Volume) -> tuple[float, float]:
    """The noise of the middle frame before and after, in its units; 0 before where nothing varies.

    Before is `noise_unit`, which was nearer to the truth on generated scans than the median of the map and than
    `noise_level`. After is that times the ratio by which the flattest tissue became quieter: measured alike on both, so
    that a result that changed nothing has the same noise.
    """
    frame = volume.channels // 2
    source, result = volume.array[frame], denoised.array[frame]
    quiet, quieter = noise_level(source), noise_level(result)
    if quiet == 0:
        return 0.0, quieter
    before = noise_unit(source, correlated=guess_modality(volume) != "MR")
    return before, before * quieter / quiet
