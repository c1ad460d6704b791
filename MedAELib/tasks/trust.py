"""How far a denoised volume can be trusted: figures measured on this very scan, each judged, and a plain verdict."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from ..volume import Volume
from .edges import sharpness
from .evidence import Evidence, gather
from .figures import LOOK, POOR, Figure, measured
from .lesions import Again, lesions_kept
from .noise_levels import noise_levels
from .residual import bias, structure, whiteness
from .strongest import NAME as STRONGEST
from .strongest import left_where_strongest

Progress = Callable[[str, int, int], None]

STAGE = "Judging the result"
REMOVED = "Noise removed"
_NOTHING = 0.02  # of the noise: who removed less removed nothing


def trust(
    volume: Volume,
    denoised: Volume,
    again: Again,
    noise: Volume | None = None,
    progress: Progress = lambda stage, done, total: None,
    levels: tuple[float, float] | None = None,
    zero: float = 0.0,
) -> list[Figure]:
    """The trust figures of a denoised volume, in the order in which they are shown; none of them is ever not a number.

    `again` denoises voxels `[i, j, k]`, float32, of the same scan in the same way: `[i, j, k]` to `[i, j, k]`. It is
    called once or twice, with a third of a large volume at most in all. `noise` is the noise map; without one, a single
    level is estimated. Of a sequence the middle frame is judged, of those that vary. A figure that cannot be measured
    has no value, and its explanation says why. Where nothing was removed there are no more figures. `levels` are
    the two `noise_levels` where they are known. `zero` is the intensity of no signal, from which on `again` counts.
    `progress` may raise Cancelled.
    """
    progress(STAGE, 0, 5)
    evidence = gather(volume, denoised, noise, zero)
    figures = _levels(*(levels or noise_levels(volume, denoised, zero=zero)), evidence)
    if figures[-1].value == 0:
        return figures
    parts: list[Callable[[], list[Figure]]] = [
        lambda: [left_where_strongest(evidence), bias(evidence)],
        lambda: whiteness(evidence, volume.affine),
        lambda: [structure(evidence)],
        lambda: [sharpness(evidence)],
        lambda: lesions_kept(evidence, again, volume.shape),
    ]
    for done, part in enumerate(parts):
        progress(STAGE, done, len(parts))
        figures += part()
    progress(STAGE, len(parts), len(parts))
    return figures


def _levels(before: float, after: float, evidence: Evidence) -> list[Figure]:
    """Noise before and after, and how much was removed: 0 where that is next to nothing."""
    units = "HU" if evidence.modality == "CT" else ""
    spread = evidence.removed[evidence.tissue] if evidence.tissue.any() else evidence.removed
    removed = math.sqrt(float(np.square(spread, dtype=np.float64).mean()))
    if not removed > _NOTHING * evidence.typical_noise:
        removed = 0.0
    told = "Nothing was removed."
    if removed:
        told = "In all tissue, also where the noise is stronger, so it can be more than before."
    return [
        measured("Noise before", before, units, "", "In the quiet part of the tissue (a fifth of it has less noise)."),
        measured("Noise after", after, units, "", "What is left in flat tissue, slow changes too."),
        measured(REMOVED, removed, units, "", told),
    ]


def conclusion(figures: Sequence[Figure]) -> str:
    """The verdict on a result, from its figures, as one plain sentence or two."""
    poor = [figure.name for figure in figures if figure.verdict == POOR]
    look = [figure.name for figure in figures if figure.verdict == LOOK]
    if any(figure.name == REMOVED and figure.value == 0 for figure in figures):
        return "Nothing was removed: the result is the scan itself."
    if poor:
        return f"Do not rely on this result without comparing it with the scan. Poor: {_listed(poor)}."
    if look:
        return f"Compare the result with the scan before relying on details. Look at: {_listed(look)}."
    if not any(figure.verdict for figure in figures):
        return "Too little could be measured on this scan to judge the result."
    told = "What was removed looks like noise and nothing else, as far as these figures reach."
    if any(figure.name == STRONGEST and figure.value is None for figure in figures):
        told += " Whether noise is left where it is stronger than elsewhere could not be measured."
    return told


def _listed(names: Sequence[str]) -> str:
    return "; ".join(name[0].lower() + name[1:] for name in names)
