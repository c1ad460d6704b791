"""Whether a volume beside scans is a label map, which names things and is nothing to learn the look of scans from."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from MedAELib.errors import BadInput
from MedAELib.modality import is_label_map
from MedAELib.quality import sample
from MedAELib.volume import Volume

LABELS = "it holds few different values, as a label map does."
_NAMES = re.compile(
    r"(?<![a-z])(?:d?seg|segmentations?|labels?(?:map)?|labels(?:tr|ts|val)|masks?|a(?:parc\+a)?seg)(?![a-z])", re.I
)
_SEGMENT = re.compile(r"Segment\d+_")  # in the header of a segmentation that 3D Slicer saved
_NAMED_LABELS = "1002"  # the intent of a NIfTI file
_MOST_LABELS = 256
_ALIKE = 0.5  # of the neighbours outside of the background: in a scan, noise tells most apart
_TOLD = 3  # names in a sentence
_LOOKED_AT = 200_000  # voxels
_LARGEST = 1e9  # of a label


class LabelMap(BadInput):
    """A volume of the folder that is a label map."""


def check_scan(volume: Volume, name: str, picture: bool) -> None:
    """Raise LabelMap for a volume that is one, by what its file says, its content, and its name.

    A picture or a volume of one slice may well have few grey values: of a slice its name has to agree.
    """
    if not picture and (_says_so(volume) or _looks_so(volume, name)):
        raise LabelMap(LABELS)


def told_label_maps(names: Sequence[str]) -> str:
    """A sentence on the label maps that are left out."""
    if len(names) == 1:
        return f"{names[0]} is left out: {LABELS}"
    named = ", ".join(names[:_TOLD]) if len(names) > _TOLD else " and ".join([", ".join(names[:-1]), names[-1]])
    more = f" and {len(names) - _TOLD} more" if len(names) > _TOLD else ""
    return f"{named}{more} are left out: they hold few different values, as label maps do."


def _says_so(volume: Volume) -> bool:
    """Whether its header names a label map."""
    header = volume.meta.get("header", {})
    return header.get("intent_code") == _NAMED_LABELS or any(_SEGMENT.match(key) for key in header)


def _looks_so(volume: Volume, name: str) -> bool:
    """Whether its voxels are those of a label map: few whole numbers, or with such a name, patches of whole numbers."""
    values = sample(volume.array, _LOOKED_AT)
    if not values.size or values.min() == values.max() or np.abs(values).max() > _LARGEST:
        return False
    whole = values.astype(np.int64)
    if (values != whole).any():
        return False
    if min(volume.shape) > 1 and is_label_map(whole):
        return True
    named = _NAMES.search(name) is not None
    return named and len(np.unique(whole)) <= _MOST_LABELS and _patches(volume.array[0]) > _ALIKE


def _patches(array: npt.NDArray[Any]) -> float:
    """How many of the voxels `[i, j, k]` along the first axis are like their neighbour, where not both are 0."""
    step = max(1, math.ceil((array.size / _LOOKED_AT) ** 0.5))
    one, other = array[:-1, ::step, ::step], array[1:, ::step, ::step]
    inside = (one != 0) | (other != 0)
    return float((one == other)[inside].mean()) if inside.any() else 0.0
