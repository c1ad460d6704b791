"""MedAE as the denoising benchmark runs it: through the library's own door, told nothing; and what must not happen."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch
from benchmarks.denoise_cases import LEVELS, Case, Crop, Image, Scan
from benchmarks.denoise_peers import Peer, Setting

from MedAELib.errors import BadModel
from MedAELib.model import Model
from MedAELib.tasks import denoise as task
from MedAELib.training.corruptions import magnitude_noise
from MedAELib.training.projection import scan_noise
from MedAELib.volume import Volume

NAME, ONE_PASS = "MedAE", "MedAE, one pass"
OURS = (NAME, ONE_PASS)
SCALE = 1000.0  # the units that scanners write
FLAT: Crop = (64, 64, 48)  # voxels of tissue without structure


def medae(model: Model) -> list[Peer]:
    """MedAE beside the peers, told nothing: as a user gets it, and at its fastest."""
    ways = {ONE_PASS: 1, NAME: 0}
    return [Peer(name, partial(_as_peer, model, passes), ({},)) for name, passes in ways.items()]


def _as_peer(model: Model, passes: int, scan: Scan, setting: Setting) -> Image:
    return applied(model, scan.noisy, scan.modality, passes)


def applied(model: Model, noisy: Image, modality: str, passes: int = 0) -> Image:
    """The whole task on windowed voxels."""
    return np.asarray(task.denoise(scanned(noisy, modality), model, passes=passes).array[0]) / SCALE


def noise_map(model: Model, noisy: Image, modality: str) -> Image | None:
    """MedAE's own estimate of the noise's deviation around each voxel; nothing when the model has none."""
    try:
        _, found = task.denoise_and_map(scanned(noisy, modality), model)
    except BadModel:
        return None
    return np.asarray(found.array[0]) / SCALE


def scanned(noisy: Image, modality: str) -> Volume:
    """The voxels as a volume in the units that scanners write."""
    return Volume((noisy * SCALE)[None].astype(np.float32), np.eye(4), {"name": "case", "modality": modality})


def noise_map_ratio(model: Model, case: Case, scan: Scan) -> float | None:
    """Estimated over real deviation of the noise, root mean squares over the body; 1 is right.

    The real one is what repeats show, else what was put on. Of an MR scan only voxels three times above the noise
    count: below, the deviation of a magnitude is smaller than the noise's.
    """
    found = noise_map(model, scan.noisy, scan.modality)
    if found is None:
        return None
    inside = case.mask & (case.clean > 3 * scan.level) if scan.modality == "MR" else case.mask
    if not inside.any():
        return None
    real = (scan.noisy - case.clean) if case.repeats is None else case.repeats
    return float(np.sqrt(np.mean(found[inside] ** 2) / np.mean(real[inside] ** 2)))


def safety(model: Model, modality: str, clean: list[Image], size: Crop = FLAT) -> dict[str, float]:
    """What must not happen: change of a noise-free volume (RMS, % of the window), noise kept around a constant (SD, %).

    Only generated volumes are noise-free; `size` is that of the constant one.
    """
    changed = [float(np.sqrt(np.mean((applied(model, image, modality) - image) ** 2))) for image in clean]
    kept = {}
    for scan in flat_scans(modality, size):
        output = applied(model, scan.noisy, modality)
        kept[f"pure_noise_kept_{scan.level:g}"] = 100 * float(output.std() / scan.noisy.std())
    return ({"clean_changed": 100 * max(changed)} if changed else {}) | kept


def flat_scans(modality: str, size: Crop) -> Iterator[Scan]:
    """Tissue without any structure, at each level of noise."""
    generator = torch.Generator().manual_seed(3)
    flat = torch.full(size, 0.5 if modality == "MR" else 0.04)
    for level in LEVELS[modality]:
        noise = scan_noise(flat, 3.0, generator)
        noisy = magnitude_noise(flat, level, generator) if modality == "MR" else flat + level * noise / noise.std()
        yield Scan(noisy.numpy(), modality, level)
