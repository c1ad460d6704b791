"""How much of the noise is left where it is strongest: the quiet part, on which the other figures rest, hides that."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from ..noise_statistics import mixed_differences
from .evidence import Evidence
from .figures import GOOD, Figure, absent, judged, measured
from .uneven import LIKE_NOISE, NORMAL, UNEVEN

NAME = "Noise left where it is strongest"
_EDGE = 12  # voxels of a block: in so many, chance alone makes a quarter no more than 1.2 times as noisy as another
_TISSUE = 0.7  # of a block at least
_FEWEST = 8  # blocks
_HIGH = 0.9  # of the magnitudes are smaller: what is left of noise is unlike from voxel to voxel
_GOOD, _POOR = 0.33, 0.75  # of the noise
_FEWEST_FLAT = 1000  # voxels


def left_where_strongest(evidence: Evidence) -> Figure:
    """The noise that is left in the quarter of the blocks of tissue with the most noise, in % of that there.

    Measured in second differences along all axes at once, where anatomy is least (Immerkaer 1996): strengths by their
    median, which edges hardly move; what is left by a high quantile. Where the strongest quarter does not look like
    noise, nothing is measured. Where it is hardly noisier than the quietest, its flat tissue is looked at alone, and
    much that is left there is not held against a result: noise after has told it.
    """
    if min(evidence.before.shape) < 3:
        return absent(NAME, "the volume is too thin")
    inside = _blocks(evidence.tissue[1:-1, 1:-1, 1:-1])
    chosen = inside.mean(1) >= _TISSUE
    before, after = (np.abs(_blocks(mixed_differences(voxels))[chosen]) for voxels in (evidence.before, evidence.after))
    strength = np.median(before, 1) / NORMAL
    order = np.argsort(strength, kind="stable")
    if len(order) < _FEWEST or strength[order[0]] == 0:
        return absent(NAME, "there is too little tissue, or it is constant in places")
    quietest, strongest = order[: len(order) // 4], order[-(len(order) // 4) :]
    times = float(np.median(strength[strongest]) / np.median(strength[quietest]))
    spread = np.sqrt(np.square(before[strongest]).mean(1)) / strength[strongest]
    if times >= UNEVEN and np.median(spread) > LIKE_NOISE:
        return absent(NAME, "where the scan is most restless, noise cannot be told from fine anatomy")
    if times < UNEVEN:
        flat = _blocks(evidence.flat[1:-1, 1:-1, 1:-1])[chosen][strongest]
        return _even(before[strongest][flat], after[strongest][flat])
    high, low = (np.quantile(voxels[strongest], _HIGH, axis=1) for voxels in (before, after))
    left = float(np.median(low / high))
    told = f"In the noisiest quarter of the tissue, which has {times:.2g} times the noise of the quietest."
    return measured(NAME, 100 * left, "%", judged(left, _GOOD, _POOR), told)


def _even(before: npt.NDArray[Any], after: npt.NDArray[Any]) -> Figure:
    """The figure where noise is much the same everywhere, from magnitudes in flat tissue."""
    left = math.inf
    if before.size >= _FEWEST_FLAT:
        left = float(np.quantile(after, _HIGH) / max(np.quantile(before, _HIGH), 1e-30))
    if left > _GOOD:
        return absent(NAME, "noise is much the same everywhere, or cannot be told from fine anatomy; see noise after")
    told = "Noise is much the same everywhere in the tissue; this is its flat part."
    return measured(NAME, 100 * left, "%", GOOD, told)


def _blocks(voxels: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """The blocks of a regular grid, each flattened, [n, voxels]; what is left over at the end is left out."""
    edges = [min(_EDGE, size) for size in voxels.shape]
    counts = [size // edge for size, edge in zip(voxels.shape, edges, strict=True)]
    whole = voxels[tuple(slice(0, count * edge) for count, edge in zip(counts, edges, strict=True))]
    parts = whole.reshape([size for pair in zip(counts, edges, strict=True) for size in pair])
    return parts.transpose(0, 2, 4, 1, 3, 5).reshape(math.prod(counts), math.prod(edges))
