"""What a .maez file can promise, which volumes it can hold at all, and whether a promise was kept."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ..errors import BadInput
from ..quality import psnr
from ..volume import Volume
from .container import LARGEST_AXIS, LARGEST_CHANNELS, usable_affine
from .values import TYPES, difference, in_pieces, largest_error, span_of

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
        least = "of 1 or more" if self.kind == "ratio" else "above 0"
        value = _number(self.kind, self.value, f"Name a finite number {least}.")
        object.__setattr__(self, "value", value)
        if self.kind in _VALUES and not (math.isfinite(value) and value > 0):
            raise BadInput(f"The value of {self.kind} cannot be {_digits(value)}.", f"Name a finite number {least}.")
        if self.kind == "ratio" and value < 1:
            told = f"The ratio {_digits(value)} would be that of a file larger than the volume."
            raise BadInput(told, "It says how many times smaller the file is to be: name a number of 1 or more.")

    def to_json(self) -> dict[str, Any]:
        """As it stands in the header."""
        return {"kind": self.kind} | ({_VALUES[self.kind]: self.value} if self.kind in _VALUES else {})


def _number(kind: str, value: object, hint: str) -> float:
    """A value as Python's float. Raises BadInput for what is no number, truth values among it, or too large for one."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.integer, np.floating)):
        raise BadInput(f"The value of {kind} is no number but a {type(value).__name__}.", hint)
    try:
        return float(value)
    except OverflowError:
        raise BadInput(f"The value of {kind} is too large a number.", hint) from None


def _digits(value: float) -> str:
    """A number in as few digits as tell it from others."""
    return f"{value:g}" if float(f"{value:g}") == value else repr(value)


def unreachable(mode: Mode) -> BadInput:
    """What is said where a volume does not allow what was asked for."""
    hints = ["Ask for less."] if mode.kind != "ratio" or mode.value > 1 else []
    hints += ["Store the volume without loss: leave --ratio out."] if mode.kind == "ratio" else []
    told = f"A {mode.kind} of {_digits(mode.value)} cannot be reached with this volume."
    return BadInput(told, " Or: ".join(hints))


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
    if not usable_affine(volume.affine):
        raise BadInput(f"{called} lies at places too far to compute with.", "Correct its affine.")
    if array.dtype.isnative:
        return volume
    return Volume(array.astype(array.dtype.newbyteorder("=")), volume.affine, volume.meta)


def decibels(before: Array, after: Array) -> float:
    """The PSNR over the range of what was there before; infinite where nothing was lost."""
    squares = sum(float(np.sum(difference(*pair) ** 2)) for pair in in_pieces(before, after))
    return psnr(np.zeros(()), np.array(math.sqrt(squares / before.size)), span_of(before))


def kept(mode: Mode, before: Array, size: int, after: Array) -> bool:
    """Whether a file of so many bytes that decodes to `after` keeps the promise."""
    if after.dtype != before.dtype or after.shape != before.shape:
        return False
    if mode.kind == "lossless":
        return all(one.tobytes() == other.tobytes() for one, other in in_pieces(before, after))
    if mode.kind == "max-error":
        return largest_error(before, after) <= mode.value
    if mode.kind == "ratio":
        return before.nbytes >= mode.value * size
    return decibels(before, after) >= mode.value


def ratio_and_rate(volume: Volume, size: int) -> Mapping[str, float]:
    """How much smaller a file is than the voxels in memory, and its bits per voxel."""
    return {"ratio": volume.array.nbytes / size, "bits_per_voxel": 8 * size / volume.array.size}
