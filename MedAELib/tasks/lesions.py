"""Trust figure from small lesions that are drawn into the scan: how much of their contrast the denoising keeps."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.ndimage import gaussian_gradient_magnitude, uniform_filter

from .evidence import Evidence, Floats, densest_box, fitting
from .figures import Figure, absent, judged, measured

CONTRASTS = (1, 2, 4)  # noise standard deviations
_RADIUS = 2.5  # voxels
_EACH, _FEWEST = 24, 6  # lesions of each contrast
_SPACING = 12  # voxels: lesions do not touch each other, not even after a strong filter
_MARGIN = 6  # voxels to the border of what is processed
_ROOM = 7  # voxels along an edge that must be tissue, and should be flat
_LEAST_SIGNAL = 6.0  # of the noise, in MRI: so that a dark lesion of four stays above zero
_SMALL, _SHARE = 600_000, 6  # voxels that are always processed, and the share of the scan: twice a sixth is a third
# What a result must keep, and below what it is poor, in %: 90 % at two deviations is the bar of a good denoiser. At one
# a lesion drowns in the noise voxel by voxel, and some of it must go with it; at four it is plain to see.
_BARS = {1: (70.0, 40.0), 2: (90.0, 70.0), 4: (95.0, 85.0)}
Again = Callable[[Floats], Floats]


@dataclass(frozen=True)
class Kept:
    """How much of the contrast (1 is all) of each lesion was kept, by contrast in noise standard deviations."""

    fractions: dict[int, npt.NDArray[np.float64]]
    passes: int


def lesions_kept(evidence: Evidence, again: Again, frame: tuple[int, ...]) -> list[Figure]:
    """The contrast kept by balls of 5 voxels, in %, at one, two and four noise standard deviations.

    Twenty-four of each, half brighter and half darker, are added to the scan on a fixed grid, in the flattest tissue
    first. That is denoised once more, and the difference of the two results is compared with what was inserted.
    `frame` is the size of the whole frame, from which follows how much of it may be processed again.
    """
    kept = insert(evidence, again, frame)
    figures = []
    for contrast in CONTRASTS:
        name = f"Small lesions kept, {contrast} x noise"
        found = 100 * kept.fractions.get(contrast, np.zeros(0))
        if len(found) < _FEWEST:
            figures.append(absent(name, "there is too little tissue to insert lesions into"))
            continue
        mean, error = float(found.mean()), float(found.std(ddof=1)) / math.sqrt(len(found))
        told = f"{len(found)} balls of 5 voxels were inserted; they keep {mean:.0f} ± {error:.0f} % of their contrast."
        # Within its standard error a result is given the benefit of the doubt.
        figures.append(measured(name, mean, "%", judged(mean + error, *_BARS[contrast]), told))
    return figures


def insert(evidence: Evidence, again: Again, frame: tuple[int, ...]) -> Kept:
    """Insert lesions into as much of the scan as may be processed again, and measure what is kept of each."""
    voxels = math.prod(frame)
    box = densest_box(evidence.before, fitting(evidence.before.shape, max(_SMALL, voxels / _SHARE)))
    part, noise = evidence.before[box], evidence.noise[box]
    places = _places(evidence, box)
    each = min(_EACH, len(places) // len(CONTRASTS))
    if each < _FEWEST:
        return Kept({}, 0)
    inserted, lesions = part.copy(), []
    for rank, place in enumerate(places[: each * len(CONTRASTS)]):
        contrast, sign = CONTRASTS[rank % len(CONTRASTS)], 1 if rank // len(CONTRASTS) % 2 else -1
        around, ball = _ball(place, part.shape)
        amount = sign * contrast * float(noise[place])
        inserted[around] += np.float32(amount) * ball
        lesions.append((contrast, around, ball, amount))
    # The result that is there already serves where all of the frame is processed: then it comes from the same voxels.
    whole = part.shape == frame and evidence.complete
    plain = evidence.after[box] if whole else again(part)
    change = again(inserted) - plain
    fractions: dict[int, list[float]] = {contrast: [] for contrast in CONTRASTS}
    for contrast, around, ball, amount in lesions:
        fractions[contrast].append(float((change[around] * ball).sum()) / (amount * float(np.square(ball).sum())))
    return Kept({contrast: np.array(found) for contrast, found in fractions.items()}, 1 if whole else 2)


def _places(evidence: Evidence, box: tuple[slice, ...]) -> list[tuple[int, int, int]]:
    """Voxels of the box on a fixed grid, amid tissue, the flattest first."""
    part, noise = evidence.before[box], np.maximum(evidence.noise[box], 1e-30)
    suits = uniform_filter(evidence.tissue[box].astype(np.float32), _ROOM, mode="nearest") > 0.999
    suits &= evidence.noise[box] > 0
    if evidence.magnitude:
        suits &= uniform_filter(part, 5, mode="nearest") > _LEAST_SIGNAL * noise
    steepness = gaussian_gradient_magnitude(part, 1.5, mode="nearest") / noise
    steepness = uniform_filter(np.minimum(steepness, 10), _ROOM, mode="nearest")
    ranges = []
    for size in part.shape:
        margin = min(_MARGIN, (size - 1) // 2)
        ranges.append(range(margin, size - margin, _SPACING))
    places = [(i, j, k) for i, j, k in itertools.product(*ranges) if suits[i, j, k]]
    return sorted(places, key=lambda place: (float(steepness[place]), place))


def _ball(place: tuple[int, ...], shape: tuple[int, ...]) -> tuple[tuple[slice, ...], Floats]:
    """The box around a place, within the volume, and the part (0..1) of each of its voxels that the ball fills."""
    reach = math.ceil(_RADIUS)
    around = tuple(slice(max(c - reach, 0), min(c + reach + 1, n)) for c, n in zip(place, shape, strict=True))
    axes = [np.arange(box.start, box.stop) - c for box, c in zip(around, place, strict=True)]
    i, j, k = np.meshgrid(*axes, indexing="ij")
    distance = np.sqrt(i**2 + j**2 + k**2)
    return around, np.clip(_RADIUS + 0.5 - distance, 0, 1).astype(np.float32)
