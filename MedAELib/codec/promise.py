"""What a .maez file can promise, which volumes it can hold at all, and whether a promise was kept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from ..quality import psnr
from ..volume import Volume
from .container import LARGEST_AXIS, LARGEST_CHANNELS
from .values import TYPES, difference, largest_error, span_of

_VALUES = {"max-error": "bound", "psnr": "decibels", "ratio": "times"}  # the value's name in the header

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Mode:
    """What is promised: "lossless"; or "max-error", with the largest difference in grey values (HU for CT); or "psnr",
    with the least decibels over the volume's range; or "ratio", with how many times smaller than in memory at least (1
    or more). Raises BadInput for a value that is none of these."""

    kind: str = "lossless"
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.kind not in (*_VALUES, "lossless"):
            raise BadInput(f"The compression mode {self.kind!r} is not known.")
        if self.kind in _VALUES and not (np.isfinite(self.value) and self.value > 0):
            raise BadInput(f"The value of {self.kind} cannot be {self.value:g}.", "Name a number above 0.")
        if self.kind == "ratio" and self.value < 1:
            told = f"The ratio {self.value:g} would be that of a file larger than the volume."
            raise BadInput(told, "It says how many times smaller the file is to be: name a number of 1 or more.")

    def to_json(self) -> dict[str, Any]:
        """As it stands in the header."""
        return {"kind": self.kind} | ({_VALUES[self.kind]: self.value} if self.kind in _VALUES else {})


def holdable(volume: Volume) -> Volume:
    """The volume in this computer's order of bytes. Raises BadInput when a .maez file cannot hold it."""
    called, array = volume.name or "The volume", volume.array
    if array.dtype.name not in TYPES:
        raise BadInput(f"{called} holds {array.dtype} values, which a .maez file cannot.")
    if max(volume.shape) > LARGEST_AXIS:
        told = f"{called} has {max(volume.shape)} voxels along an axis; a .maez file holds {LARGEST_AXIS} voxels there."
        raise BadInput(told, "Crop the volume, or resample it.")
    if volume.channels > LARGEST_CHANNELS:
        told = f"{called} has {volume.channels} channels; a .maez file holds {LARGEST_CHANNELS} channels."
        raise BadInput(told, "Compress some of its channels at a time.")
    if array.dtype.isnative:
        return volume
    return Volume(array.astype(array.dtype.newbyteorder("=")), volume.affine, volume.meta)


def decibels(before: Array, after: Array) -> float:
    """The PSNR over the range of what was there before; infinite where nothing was lost."""
    return psnr(np.zeros(()), difference(before, after), span_of(before))


def kept(mode: Mode, before: Array, size: int, after: Array) -> bool:
    """Whether a file of so many bytes that decodes to `after` keeps the promise."""
    if after.dtype != before.dtype or after.shape != before.shape:
        return False
    if mode.kind == "lossless":
        return after.tobytes() == np.ascontiguousarray(before).tobytes()
    if mode.kind == "max-error":
        return largest_error(before, after) <= mode.value
    if mode.kind == "ratio":
        return before.nbytes >= mode.value * size
    return decibels(before, after) >= mode.value


def ratio_and_rate(volume: Volume, size: int) -> Mapping[str, float]:
    """How much smaller a file is than the voxels in memory, and its bits per voxel."""
    return {"ratio": volume.array.nbytes / size, "bits_per_voxel": 8 * size / volume.array.size}
