"""The linear prediction of a pass, fitted to the volume while it is encoded and sent along in a few bytes."""

from __future__ import annotations

import numpy as np

from .context import WEIGHT_BITS, Doubles, neighbours, predict
from .lattice import NEIGHBOURS, Floats, Lattice

_MOST_SAMPLES = 20_000
_RIDGE = 0.003  # of the mean squared deviation, towards the default weights
LARGEST_WEIGHT = 2**15 - 1


def sample_rows(lattice: Lattice, parity: tuple[int, int], most: int) -> list[slice]:
    """Blocks of rows, spread evenly over a pass: about `most` voxels together, or 16 blocks where that is more."""
    blocks = list(lattice.blocks(parity, 2048))
    voxels = max(int(np.prod(lattice.pass_shape(parity))), 1)
    keep = min(len(blocks), max(16, round(len(blocks) * most / voxels)))
    return [blocks[int(len(blocks) * (place + 0.5) / keep)] for place in range(keep)]


def fit_weights(lattice: Lattice, truth: Floats, parity: tuple[int, int], default: Doubles) -> tuple[Doubles, float]:
    """Integer weights [28] that predict a pass best, and about how many bits they save over the default ones.

    `truth` holds the lattice's true voxels in the stage's order of axes. Deviations are weighed by the local spread,
    as a code length weighs them; the solution of the normal equations leans a little towards the default.
    """
    parts, chosen = [], sample_rows(lattice, parity, _MOST_SAMPLES)
    whole = truth[1::2, parity[0] :: 2, parity[1] :: 2]
    thin = slice(None, None, max(1, sum(whole[rows].size for rows in chosen) // _MOST_SAMPLES))
    for rows in chosen:
        reference, differences = neighbours(lattice, parity, rows)
        reference, differences = reference[thin], differences[:, thin]
        target = whole[rows].reshape(-1)[thin]
        predicted = predict(reference, differences, default)
        spread = np.abs(differences[:10] * 8 + (8 * reference - predicted)).sum(axis=0) / 80 + 0.5
        parts.append((differences / spread, (target - reference) / spread, (target - predicted / 8) / spread))
    if not parts:
        return default, 0.0
    x, y, before = (np.concatenate(columns, axis=-1).astype(np.float64) for columns in zip(*parts, strict=True))
    heavy = np.abs(before) < 8  # outliers say little about the rest
    x, y, before = x[:, heavy], y[heavy], before[heavy]
    start = default / 2**WEIGHT_BITS
    gram = x @ x.T
    ridge = (_RIDGE * np.trace(gram) / NEIGHBOURS + 1e-9) * np.eye(NEIGHBOURS)
    weights = start + np.linalg.solve(gram + ridge, x @ (y - start @ x))
    rounded = np.clip(np.rint(weights * 2**WEIGHT_BITS), -LARGEST_WEIGHT, LARGEST_WEIGHT)
    after = y - (rounded / 2**WEIGHT_BITS) @ x
    gain = float(np.log2((np.abs(before).mean() + 0.05) / (np.abs(after).mean() + 0.05))) if len(y) else 0.0
    return rounded, gain * float(np.prod(lattice.pass_shape(parity)))
