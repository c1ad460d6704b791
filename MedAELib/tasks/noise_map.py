"""The noise map: how strong the noise is around each voxel, told by the denoiser while it denoises."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from ..errors import BadModel
from ..networks import Network
from ..noise import otsu_threshold
from ..quality import noise_level
from ..volume import Volume

_LARGEST_SAMPLE = 500_000  # voxels


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
        deviation = level.exp()
        for axis in range(2, x.ndim):
            deviation = deviation.repeat_interleave(x.shape[axis] // level.shape[axis], axis)
        return torch.cat([denoised.float(), deviation.float()], 1)


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


def level_before(volume: Volume, noise: Volume | None) -> float:
    """The noise level of the middle frame in its units: from the noise map, or estimated where there is none."""
    return noise_level(volume.array[volume.channels // 2]) if noise is None else tissue_noise(volume, noise)


def tissue_noise(volume: Volume, noise: Volume) -> float:
    """The noise level of a volume, in its units: the median of its noise map over tissue.

    Tissue is what is brighter than the threshold that parts the middle frame in two (Otsu 1979), on a regular grid of
    voxels; everything where that leaves nothing.
    """
    voxels = volume.array[volume.channels // 2]
    step = max(1, math.ceil((voxels.size / _LARGEST_SAMPLE) ** (1 / 3)))
    grid = (slice(None, None, step),) * 3
    intensities, deviations = voxels[grid].astype(np.float64), noise.array[0][grid]
    finite = np.isfinite(intensities)
    intensities, deviations = intensities[finite], deviations[finite]
    tissue = deviations[intensities > otsu_threshold(intensities)]
    chosen = tissue if tissue.size else deviations
    return float(np.median(chosen)) if chosen.size else 0.0
