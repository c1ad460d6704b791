"""Residuals of other autoencoders beside an anomaly model's map: trained by `train` on the very same people.

    python Testing/benchmarks/anomaly_peers.py FOLDER [--model brain-t1-anomaly] [--data FOLDER]

writes the people that the model learned from, and those it was tuned on, as its networks see them: masked, on its grid,
with their tissue at one brightness. Each part is one subject for `train`, of which `--seed 3` learns from the first:

    python -m MedAELib train FOLDER --network plain --dims 3 --seed 3 --output plain
    python -m MedAELib train FOLDER --network variational --dims 3 --seed 3 --output variational
    python -m MedAELib train FOLDER --network plain --corrupt coarse_noise --dims 3 --seed 3 --output denoising

`anomaly.py --peers plain variational denoising` then measures their residuals, too.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import median_filter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from MedAELib.anomaly.calibration import Calibration
from MedAELib.anomaly.figures import average_precision
from MedAELib.anomaly.grid import Floats
from MedAELib.anomaly.masks import box_around
from MedAELib.anomaly.prepare import Prepared
from MedAELib.anomaly.scores import scores_from
from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.training.anomalies import KINDS
from MedAELib.training.anomaly_cohorts import COHORTS, volumes
from MedAELib.training.choose_map import drawn_case
from MedAELib.training.cohort import data_folder
from MedAELib.volume import Volume

_AROUND = 8  # voxels beside the mask
# How the residual is smoothed: a median of so many voxels over its size (5: Kascenas et al., 2022), or a Gaussian over
# the signed one.
SMOOTHINGS = (("median", 3.0), ("median", 5.0), ("Gaussian", 1.0), ("Gaussian", 1.5), ("Gaussian", 2.0))


@dataclass(frozen=True, eq=False)
class Peer:
    """An autoencoder whose residual is a map: smoothed as serves it best on tuning scans, and calibrated on these."""

    name: str
    model: Model
    smoothing: tuple[str, float]
    calibration: Calibration

    def z(self, scan: Prepared) -> Floats:
        """The map of z `[i, j, k]`."""
        return self.calibration.z(smoothed(scan, typical(self.model, scan), self.smoothing), scan.mask)


def cut_out(scan: Prepared) -> Volume:
    """The tissue of a prepared scan as a volume of its own, as the peers learn from it."""
    box = box_around(scan.mask, _AROUND)
    affine = scan.grid.affine.copy()
    affine[:3, 3] += affine[:3, :3] @ [side.start for side in box]
    return Volume(scan.voxels[box][None], affine)


def typical(model: Model, scan: Prepared) -> Floats:
    """What an autoencoder makes of a prepared scan `[i, j, k]`, 0 outside the mask."""
    made = np.zeros_like(scan.voxels)
    made[box_around(scan.mask, _AROUND)] = model.reconstruct(cut_out(scan), engine=Engine("cpu")).array[0]
    return np.where(scan.mask, made, 0).astype(np.float32)


def smoothed(scan: Prepared, made: Floats, smoothing: tuple[str, float]) -> Floats:
    """The size of scan minus reconstruction `[i, j, k]`, smoothed in one of the ways."""
    kind, width = smoothing
    if kind == "median":
        return np.asarray(median_filter(np.where(scan.mask, np.abs(scan.voxels - made), 0), int(width)), np.float32)
    return scores_from(scan, np.zeros_like(made), made, width).maps["residual"]


def learned(folders: Sequence[Path], scans: Sequence[Prepared], each: int = 2) -> list[Peer]:
    """The autoencoders in folders, each with the smoothing that finds drawn anomalies best in tuning scans, calibrated
    on these scans. Raises BadModel."""
    models = [Model.load(folder) for folder in folders]
    found: list[dict[tuple[str, float], list[float]]] = [{way: [] for way in SMOOTHINGS} for _ in models]
    for number in range(each * len(KINDS) if models else 0):
        kind, source = KINDS[number % len(KINDS)], scans[number // len(KINDS) % len(scans)]
        scan, where = drawn_case(source, kind, [999, number])
        inside = scan.mask | where
        for model, values in zip(models, found, strict=True):
            made = typical(model, scan)
            for way in SMOOTHINGS:
                values[way].append(average_precision(smoothed(scan, made, way)[inside], where[inside]))
    peers = []
    for folder, model, values in zip(folders, models, found, strict=True):
        best = max(SMOOTHINGS, key=lambda way, values=values: float(np.mean(values[way])))
        spread = Calibration.of([(smoothed(scan, typical(model, scan), best), scan.mask) for scan in scans])
        print(
            f"{folder.name}: {best[0]} of {best[1]:g}, mean AP on tuning scans {np.mean(values[best]):.3f}", flush=True
        )
        peers.append(Peer(folder.name, model, best, spread))
    return peers


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--model", choices=COHORTS, default=next(iter(COHORTS)))
    parser.add_argument("--data", type=Path, default=None)
    chosen = parser.parse_args()
    cohort, data = COHORTS[chosen.model], chosen.data or data_folder()
    for part, patterns in (("training", cohort.training), ("tuning", cohort.calibration)):
        (chosen.folder / part).mkdir(parents=True, exist_ok=True)
        for number, volume in enumerate(volumes(data, patterns)):
            cut_out(cohort.prepare(volume)).save(chosen.folder / part / f"{number:02d}.nii.gz")
    return 0


if __name__ == "__main__":
    sys.exit(main())
