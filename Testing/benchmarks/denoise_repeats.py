"""Repeated scans of one thing, without any simulated noise: what the noise map and a denoised sequence must agree with.

The deviation between repeats is the noise, and in a living body its pulsation. A sequence is denoised with one noise
level for all frames, and each frame alone; what is left of the deviation over time tells whether frames flicker.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.denoise_pairs import DOSES, REPEATS, STEADY
from benchmarks.denoise_report import table

from MedAELib.errors import BadInput
from MedAELib.model import Model
from MedAELib.tasks.denoise import denoise, denoise_and_map
from MedAELib.volume import Volume

CORD = "mr_misc/spine_epi_30reps.nii.gz"
_TISSUE = {"MR": 0.3, "CT": -300.0}  # of the 99th percentile; HU


def sequences(data: Path, modality: str) -> Iterator[tuple[str, Volume]]:
    """Name and frames of each repeated scan; those of a simulated CT are single slices. Raises BadInput."""
    if modality == "MR":
        frames = [_volume(data / REPEATS / f"epi_ascending_rep{number}.nii.gz") for number in STEADY]
        yield "phantom", frames[0].like(np.concatenate([frame.array for frame in frames]))
        yield "cervical cord", _volume(data / CORD)
        return
    for dose in (10, 55, 100):
        stack = _volume(data / DOSES / f"lcd_fbp_dose{dose:03d}_signal_present_10reals.nii.gz")
        slices = np.moveaxis(stack.array[0].astype(np.float32) - 1000, 2, 0)[..., None]
        yield f"phantom, {dose} % dose, single slices", Volume(slices.copy(), stack.affine, {"modality": "CT"})


def _volume(path: Path) -> Volume:
    if not path.is_file():
        raise BadInput(f"{path} is missing.", "Name the data folder with --data or MEDAE_DATA.")
    volume = Volume.load(path)
    return Volume(volume.array, volume.affine, {"modality": "MR"})


def figures(model: Model, name: str, volume: Volume) -> dict[str, Any]:
    """Root mean squares over tissue, as shares of the deviation between the repeats."""
    together, noise = denoise_and_map(volume, model)
    alone = [denoise(volume.like(frame[None], frames=False), model).array[0] for frame in volume.array]
    frames = volume.array.astype(np.float64)
    mean, deviation = frames.mean(axis=0), frames.std(axis=0, ddof=1)
    modality = model.spec.modality
    tissue = mean > _TISSUE[modality] * (np.percentile(mean, 99) if modality == "MR" else 1)

    def level(voxels: Any) -> float:
        return float(np.sqrt(np.mean(np.square(voxels[tissue], dtype=np.float64))))

    real = level(deviation)
    return {
        "scan": name, "frames": len(frames), "deviation": real, "noise_map": level(noise.array[0]) / real,
        "sequence": level(together.array.astype(np.float64).std(axis=0, ddof=1)) / real,
        "frame_by_frame": level(np.stack(alone).astype(np.float64).std(axis=0, ddof=1)) / real,
    }  # fmt: skip


def repeats(data: Path, model: Model) -> str:
    """The figures of all repeated scans of the model's modality, as a Markdown table."""
    rows = [figures(model, name, volume) for name, volume in sequences(data, model.spec.modality)]
    head = ["scan", "frames", "deviation", "noise map, over that", "left over time: sequence", "frame by frame"]
    return table(
        head,
        [
            [row["scan"], str(row["frames"]), f"{row['deviation']:.1f}"]
            + [f"{row[name]:.3f}" for name in ("noise_map", "sequence", "frame_by_frame")]
            for row in rows
        ],
    )
