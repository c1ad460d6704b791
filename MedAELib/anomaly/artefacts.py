"""What is wrong with a scan itself, without any model: noise alone, slices that do not fit, ghosts, stripes, folds."""

from __future__ import annotations

import numpy as np

from ..volume import Volume
from .folded import folded_axes
from .gaps import AXES, named
from .ghosts import ghosts_of
from .odd_slices import jumps, steps
from .only_noise import only_noise
from .prepare import Prepared
from .repeated import repeated_slices
from .slices import Slices, slices_of
from .spikes import spiked

_FISSURE, _THICK = 12.0, 3.5  # mm from the middle of the brain, and of a slice: in thinner ones it changes slowly
_STEP = "compare it with its source, and do not believe the map there and beside it."


def artefacts(volume: Volume, prepared: Prepared) -> tuple[str, ...]:
    """A sentence on each thing that is wrong with the first channel; `prepared` is the same scan on its grid.

    Noise alone and slices that repeat are told of any scan but of single images, copies in the air, stripes and folding
    of any MRI, all else of brains alone. Of slices that are already known to be missing or to repeat no more is told,
    of noise nothing else.
    """
    name = volume.name or "The volume"
    if prepared.dims == 2 or min(volume.shape) < 2:
        return ()
    if only_noise(volume):
        told = "holds noise alone, or anatomy that drowns in it: scan it again; the map means nothing."
        return (f"{name} {told}",)
    found = tuple(
        f"{name} repeats slices along its {AXES[axis]} axis ({named(numbers)} hold what others do): slices were lost "
        f"or copied; {_STEP}"
        for axis in range(3)
        if (numbers := repeated_slices(volume, axis))
    )
    if prepared.brain and not found and not prepared.missing:
        found = _odd(volume, prepared, name)
    if prepared.hounsfield:
        return found
    return found + _ghosts(volume, prepared, name) + _stripes(volume, name)


def _odd(volume: Volume, prepared: Prepared, name: str) -> tuple[str, ...]:
    """Sentences on slices of a brain that do not fit between their neighbours; of one that differs, not also that
    others were lost beside it."""
    found = []
    for slices in slices_of(volume, prepared):
        along = f"along its {AXES[slices.axis]} axis"
        if numbers := [k for k in steps(slices) if not _between_halves(k, slices, volume)]:
            found.append(
                f"The brightness of {name} leaps from slice to slice {along} (at {named(numbers)}): slices are too "
                f"dark or too bright; {_STEP}"
            )
        elif numbers := [k for k in jumps(slices) if not _between_halves(k, slices, volume)]:
            found.append(
                f"The anatomy of {name} jumps from slice to slice {along} (at {named(numbers)}): slices were lost, or "
                f"the head moved; {_STEP}"
            )
    return tuple(found)


def _between_halves(number: int, slices: Slices, volume: Volume) -> bool:
    """Whether a slice lies between the halves of the brain, where a thick sagittal one is dark of fluid and unlike
    those beside it."""
    spacing = volume.spacing[slices.axis]
    sideways = spacing > _THICK and int(np.argmax(np.abs(volume.affine[:3, slices.axis]))) == 0
    areas = slices.brain.sum(axis=(1, 2))
    middle = float(np.average(np.arange(len(areas)), weights=areas)) if areas.any() else 0.0
    return sideways and abs(number - middle) * spacing < _FISSURE


def _ghosts(volume: Volume, prepared: Prepared, name: str) -> tuple[str, ...]:
    """Sentences on ghosts in the air, and without copies on folding; other bodies than heads move as they must."""
    copied, smeared = ghosts_of(volume)
    if copied:
        return tuple(
            f"The air in {name} holds a copy of what was scanned, half of the field of view away along its "
            f"{AXES[axis]} axis: a ghost lies over the rest, too; scan it again, or do not believe the map."
            for axis in copied
        )
    return tuple(
        f"The air in line with the head along the {AXES[axis]} axis of {name} is bright: something moved during the "
        "scan, be it blood alone; look for ghosts in the brain, and do not believe the map where they lie."
        for axis in (smeared if prepared.brain else ())
    ) + _folding(volume, name)


def _stripes(volume: Volume, name: str) -> tuple[str, ...]:
    """A sentence on stripes over slices."""
    axis, numbers = spiked(volume)
    if not numbers:
        return ()
    return (
        f"Even stripes lie over slices of {name} along its {AXES[axis]} axis ({named(numbers)}), as a spike in what "
        "the scanner received makes them; scan it again, or do not believe the map there.",
    )


def _folding(volume: Volume, name: str) -> tuple[str, ...]:
    """Sentences on anatomy that was folded over."""
    return tuple(
        f"What {name} shows at one end of its {AXES[axis]} axis goes on at the other: anatomy outside of the field of "
        "view is folded over; do not believe the map where it lies."
        for axis in folded_axes(volume)
    )
