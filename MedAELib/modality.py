"""What kind of scan a volume looks like, and whether a model was made for it. Plain rules, no torch."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import numpy.typing as npt

from .bundle import Bundle, Spec
from .quality import all_finite, ends, sample
from .volume import Volume

_FEW_SLICES = 8
_FEW_VALUES = 20  # different ones among some thousand voxels: labels, no intensities
_LOOKED_AT = 10_000  # voxels, for that
# Hounsfield units, with the values that scanners put outside their round field of view.
_LOWEST_CT, _HIGHEST_CT = -3100, 6000
# What scanners can tell at all, with an extended scale for metal. No integers: numpy 2.0.2, which Slicer 5.10 brings,
# crashed where unsigned voxels were compared with the negative one (numpy/numpy#28117 is a crash of the same kind).
LEAST_CT, LARGEST_CT = -10_240.0, 30_710.0
_NAMES = {"CT": "CT", "MR": "MRI"}
# A CT without its rescale intercept: air is 0, water 1024. Of what is denser than lung the middle half lies between fat
# and muscle, which are 165 apart, and hardly anything below fat. MRI has no such narrow middle, not even where its
# brightness is scaled until it looks like this: of 95 real scans the narrowest spans 185, from 840 on.
_ADDED = 1024
_LUNG, _TISSUE, _SPAN, _FAT = 512, (960, 1090), 170, 850
_BELOW, _AIR, _LEAST_AIR, _FEWEST = -300, 130, 0.01, 500  # lower is no noise; air and how much of it; voxels
_THEN = {
    "CT": "; denoising takes that into account, for other tasks subtract 1024 first.",
    "MR": ", but the model was trained on MRI; if it is one, choose a model for CT.",
}


def guess_modality(volume: Volume) -> str:
    """ "CT", "MR", or "" when neither is likely: from what the volume says of itself, else from its intensities.

    CT in Hounsfield units has much air near -1000, or, inside the body, values on both sides of 0. MRI magnitudes are
    not negative, but for a little ringing. What `added_to_hounsfield` tells is neither.
    """
    said = str(volume.meta.get("modality", ""))
    if said in ("CT", "MR"):
        return said
    values = sample(volume.array)
    if _added(volume, values):
        return ""
    if volume.array.dtype == bool or not values.size or values.min() == values.max():
        return ""
    possible = (values >= LEAST_CT) & (values <= LARGEST_CT)  # others fill up what was not scanned
    if _like_ct(values) or (not possible.all() and _like_ct(values[possible])):
        return "CT"
    low, high = (float(v) for v in np.percentile(values, [0.1, 99.9]))
    return "MR" if low >= -0.05 * high and high > 0 else ""


def _like_ct(values: npt.NDArray[Any]) -> bool:
    """Whether these intensities look like those of a CT in Hounsfield units."""
    if not values.size:
        return False
    low, first, middle, high = (float(v) for v in np.percentile(values, [0.1, 5, 50, 99.9]))
    inside_a_body = first < 0 and -200 <= middle <= 200 and high > 40
    return low >= _LOWEST_CT and high <= _HIGHEST_CT and (low <= -500 or inside_a_body)


def added_to_hounsfield(volume: Volume) -> int:
    """What was added to the Hounsfield units of all voxels: 1024 where the values look like it, else 0.

    That is how CT looks whose rescale intercept was lost. An evenly bright MRI phantom can look so too, so such a
    volume is called CT only by itself or by the user. Without air, or where values are not whole, nothing is told.
    """
    return _added(volume, sample(volume.array))


def _added(volume: Volume, values: npt.NDArray[Any]) -> int:
    """`added_to_hounsfield`, from a sample of the volume's voxels that has been taken already."""
    if str(volume.meta.get("modality", "")) == "MR" or volume.array.dtype == bool:
        return 0
    dense = values[values > _LUNG]
    padding = values[values < _BELOW]  # outside the round field of view: all the same
    if dense.size < _FEWEST or np.mean(values < _AIR) < _LEAST_AIR or (padding != padding[:1]).any():
        return 0
    least, low, middle, high = np.percentile(dense, [10, 25, 50, 75])
    body = _TISSUE[0] <= middle <= _TISSUE[1] and high - low <= _SPAN and least >= _FAT
    return _ADDED if body and bool((values == np.round(values)).all()) else 0


def check_domain(
    volume: Volume, spec: Spec, each_channel: bool = True, gaps: str = "they stay as they are"
) -> list[str]:
    """Why a model may not suit a volume, as plain sentences; empty when nothing speaks against it.

    `each_channel` says that the task works on every frame or component, which is then told; others look at the first.
    `gaps` is what becomes of voxels that are not finite.
    """
    name, warnings = volume.name or "The volume", []
    values = sample(volume.array)
    guess = guess_modality(volume)
    low, high = (float(values.min()), float(values.max())) if values.size else (0.0, 0.0)
    if not values.size:
        return [f"{name} holds no finite value."]
    if low == high:
        return [_told_constant(name, low)]
    if spec.modality in _NAMES and _added(volume, values):
        warnings.append(told_added(volume) + _THEN[spec.modality])
    elif spec.modality in _NAMES and guess != spec.modality:
        looks = f"looks like {_NAMES[guess]}" if guess else "does not look like it"
        told = f"The model was trained on {_NAMES[spec.modality]}, but {name} {looks} (values {low:g} to {high:g})"
        offset = spec.modality == "CT" and low >= 0 and high < _HIGHEST_CT
        warnings.append(told + (", or its values are no Hounsfield units (1024 too high, perhaps)." if offset else "."))
    if not all_finite(volume.array):
        warnings.append(f"{name} holds voxels that are not finite; {gaps}.")
    if is_label_map(values):
        warnings.append(_told_labels(name))
    thinnest = min(volume.shape)  # a slice may lie along any axis
    if spec.dims == 3 and thinnest < _FEW_SLICES:
        slices = "one slice" if thinnest == 1 else f"{thinnest} slices"
        warnings.append(f"The model works in 3D, but {name} has only {slices}.")
    if spec.dims == 2 and volume.shape[2] > 1:
        warnings.append(f"The model works in 2D: {name} is processed slice by slice along its third axis.")
    if spec.dims == 3 and max(volume.spacing) > 6 * min(volume.spacing):
        warnings.append(f"The slices of {name} are {max(volume.spacing):.3g} mm apart, much more than within a slice.")
    if each_channel and volume.channels > 1:
        what = "frames" if volume.meta.get("frames") else "components"
        warnings.append(f"{name} has {volume.channels} {what}; each is processed on its own.")
    return warnings


def told_added(volume: Volume) -> str:
    """The beginning of a sentence on a volume of which `added_to_hounsfield` is not 0."""
    return f"{volume.name or 'The volume'} looks like a CT with 1024 added to its Hounsfield units (water 1024)"


def told_ct(volume: Volume) -> str:
    """The beginning of a sentence where a volume looks like a CT in Hounsfield units; empty where not."""
    if guess_modality(volume) != "CT":
        return ""
    return f"{volume.name or 'The volume'} looks like a CT (values down to {ends(volume.array)[0]:g})"


def told_constant(volume: Volume) -> str:
    """A sentence where a volume has one value everywhere; empty where not."""
    values = sample(volume.array)
    constant = values.size and values.min() == values.max()
    return _told_constant(volume.name or "The volume", float(values.min())) if constant else ""


def _told_constant(name: str, value: float) -> str:
    return f"{name} has the same value, {value:g}, everywhere."


def told_labels(volume: Volume) -> str:
    """A sentence where a volume looks like a label map; empty where not."""
    return _told_labels(volume.name or "The volume") if is_label_map(sample(volume.array)) else ""


def _told_labels(name: str) -> str:
    return f"{name} holds few different values, as a label map does; choose the scan that it belongs to."


def is_label_map(values: npt.NDArray[Any]) -> bool:
    """Whether a sample of a scan's voxels looks like whole numbers that name things."""
    some = values.reshape(-1)[:: max(1, values.size // _LOOKED_AT)]
    return values.dtype.kind in "biu" and some.size > 1000 and len(np.unique(some)) <= _FEW_VALUES


def fitting_model(volume: Volume, bundles: Iterable[Bundle]) -> Bundle | None:
    """The model that suits a volume best: right modality, then right dimensions; None when none is made for it."""
    guess = guess_modality(volume)
    suits = [bundle for bundle in bundles if bundle.spec.modality in (guess, "any") and guess]
    flat = volume.shape[2] < _FEW_SLICES
    return min(suits, key=lambda b: (b.spec.modality == "any", (b.spec.dims == 2) != flat), default=None)
