"""Fit the noise map's calibration to generated anatomy: `python -m MedAELib.tasks.calibrate_noise --modality MR`.

    --model NAME|FOLDER   the denoiser (default: the bundled one of the modality)
    --scans N             generated scans (default 100; about four seconds each on one core)

Prints the constants for `MedAELib.tasks.noise_map`, and the mean error of the noise map on a quarter of the scans that
was left out in turn: of scans with even noise, and of those whose noise varies by a third and more.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor

from ..errors import MedAEError
from ..model import Model
from ..quality import limits
from ..training.anatomy import generated_volume
from ..training.corruptions import chance, log_uniform, magnitude_noise, projection_noise, smooth_field, uniform
from .noise_map import log_details

Rows = npt.NDArray[np.float64]

_SIZE, _CELLS, _FEWEST = 56, 800, 500  # voxels along an edge; cells of each scan that count; of tissue at least
_FIRST_SEED = 93_000
_LEVELS = {"MR": (0.01, 0.2), "CT": (0.01, 0.13)}


def scan_rows(model: Model, seed: int) -> tuple[Rows, bool] | None:
    """Cells of one generated scan: log r, d, e and the true log s as columns; and whether the noise varies.

    None for a scan that is nearly all air.
    """
    generator, modality = Generator().manual_seed(seed), model.spec.modality
    clean = torch.from_numpy(generated_volume(modality, seed, _SIZE))
    level, varies = log_uniform(*_LEVELS[modality], generator), chance(0.5, generator)
    field = smooth_field(clean.shape, uniform(0.1, 0.6, generator), generator) if varies else torch.ones(clean.shape)
    deviation = level * field
    if modality == "MR":
        noisy = magnitude_noise(clean, deviation, generator)
    else:
        noisy = clean + deviation * projection_noise(clean.shape, generator, log_uniform(0.3, 0.9, generator))
    # In HU for CT; the unit of an MRI does not matter.
    low, high = limits(model.spec.window, 1000 * noisy.numpy())
    x = ((1000 * noisy - low) / (high - low))[None, None]
    with torch.inference_mode():
        logs = log_details(x, model.network(x))
    truth = _cells(1000 * deviation / (high - low)).log()
    tissue = _cells(clean) > (-0.95 if modality == "CT" else 3 * _cells(deviation))
    chosen = tissue.flatten().nonzero()[:, 0]
    if len(chosen) < _FEWEST:
        return None
    chosen = chosen[torch.randint(len(chosen), (_CELLS,), generator=generator)]
    columns = [values.flatten()[chosen].double() for values in (*logs, truth)]
    return torch.stack(columns, 1).numpy(), varies


def fitted(rows: Sequence[Rows]) -> Rows:
    """Slope of the scan, slope of the result, offset: with the least absolute error."""
    together = np.concatenate(rows)
    wanted, weights, terms = together[:, 3] - together[:, 0], np.ones(len(together)), _terms(together)
    found: Rows = np.zeros(3)
    for _ in range(12):  # iteratively reweighted least squares
        root = np.sqrt(weights)
        found = np.asarray(np.linalg.lstsq(terms * root[:, None], wanted * root, rcond=None)[0])
        weights = 1 / np.maximum(np.abs(terms @ found - wanted), 0.02)
    return found


def error(rows: Rows, constants: Rows) -> float:
    """The mean absolute error of log s, which is about the relative error of s."""
    return float(np.abs(rows[:, 0] + _terms(rows) @ constants - rows[:, 3]).mean())


def _terms(rows: Rows) -> Rows:
    return np.stack([rows[:, 1] - rows[:, 0], rows[:, 2] - rows[:, 0], np.ones(len(rows))], 1)


def _cells(voxels: Tensor) -> Tensor:
    return torch.nn.functional.avg_pool3d(voxels[None, None], 2)[0, 0]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    summary = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(prog="python -m MedAELib.tasks.calibrate_noise", description=summary)
    parser.add_argument("--modality", choices=("MR", "CT"), required=True)
    parser.add_argument("--model", default="")
    parser.add_argument("--scans", type=int, default=100)
    chosen = parser.parse_args(arguments)
    try:
        model = Model.load(chosen.model or f"{chosen.modality.lower()}-denoise")
    except MedAEError as fault:
        print(f"{fault} {fault.next_step}", file=sys.stderr)
        return 2
    found = [row for seed in range(chosen.scans) if (row := scan_rows(model, _FIRST_SEED + seed)) is not None]
    for varies in (False, True):
        errors = []
        for part in range(4):
            learned = fitted([rows for index, (rows, _) in enumerate(found) if index % 4 != part])
            left_out = [rows for index, (rows, kind) in enumerate(found) if index % 4 == part and kind == varies]
            errors += [error(rows, learned) for rows in left_out]
        kind = "varying" if varies else "even"
        print(f"{kind} noise: mean error {np.mean(errors):.3f}, median {np.median(errors):.3f}, {len(errors)} scans")
    slopes = fitted([rows for rows, _ in found])
    print(f"Calibration({slopes[0]:.3f}, {slopes[1]:.3f}, {slopes[2]:.3f})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
