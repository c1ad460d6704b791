"""Denoising figures: MedAE beside classical filters at their best setting, on held-out subjects and generated anatomy.

    python Testing/benchmarks/denoise.py [--modality MR] [--model NAME|FOLDER] [--data FOLDER] [--output FOLDER]

Noise is put on each reference: Rician of 3, 5, 9 and 15 % of the 99.9th percentile for MR, projection-simulated of
20, 40 and 80 HU in soft tissue for CT. PSNR (range 1 for MR, 400 HU for CT) and SSIM are taken in the foreground.
Every filter is given the setting with the best PSNR for each volume and level; MedAE is told nothing. Writes
denoise-MR.json, denoise-MR.md.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import binary_erosion, gaussian_filter, gaussian_gradient_magnitude, median_filter

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from MedAELib.model import Model
from MedAELib.quality import psnr, ssim
from MedAELib.tasks.denoise import denoise
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.cohort import CT_TEST, MR_TEST, averaged_down, clean_volumes, data_folder
from MedAELib.training.corruptions import magnitude_noise
from MedAELib.training.projection import scan_noise
from MedAELib.volume import Volume

LEVELS = {"MR": (0.03, 0.05, 0.09, 0.15), "CT": (0.02, 0.04, 0.08)}
SPAN = {"MR": 1.0, "CT": 0.4}
TISSUES = {"lung": (-0.95, -0.6), "fat": (-0.15, -0.05), "soft": (-0.02, 0.12), "bone": (0.3, 2.0)}
CROP = (96, 96, 64)
Filter = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Case:
    """A reference [i, j, k] (MR: 99.9th percentile at 1; CT: HU / 1000), where to judge it, its noisy versions."""

    name: str
    clean: np.ndarray
    mask: np.ndarray
    noisy: dict[float, np.ndarray]


def cases(data: Path, modality: str, quick: bool = False) -> Iterator[Case]:
    """The held-out subjects and generated volumes that training never drew; when quick, one of each source."""
    for pattern, factors in (MR_TEST if modality == "MR" else CT_TEST).items():
        for volume, voxels in islice(clean_volumes(data, pattern, modality), 1 if quick else None):
            reference = averaged_down(voxels, factors)
            yield _case(volume.name, reference, modality, volume.spacing[0] * factors[0])
    for number in range(1 if quick else 2):
        yield _case(f"generated {number}", generated_volume(modality, 90_000 + number, 80), modality, 3.0)


def _case(name: str, voxels: np.ndarray, modality: str, spacing: float) -> Case:
    generator = torch.Generator().manual_seed(0)
    slab = _middle(voxels, (*voxels.shape[:2], CROP[2]) if modality == "CT" else CROP)
    clean = torch.from_numpy(slab.copy())
    noisy = {}
    if modality == "MR":
        noisy = {level: magnitude_noise(clean, level, generator).numpy() for level in LEVELS["MR"]}
    else:  # the scan needs whole slices
        noise = scan_noise(clean, spacing, generator, views=min(360, int(1.5 * max(clean.shape))))
        soft = (clean > -0.15) & (clean < 0.15)
        noise /= noise[soft].std()
        noisy = {level: _middle((clean + level * noise).numpy(), CROP) for level in LEVELS["CT"]}
    reference = _middle(slab, CROP)
    return Case(name, reference, reference > (10 / 255 if modality == "MR" else -0.5), noisy)


def _middle(voxels: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    wanted = [min(size, limit) for size, limit in zip(voxels.shape, shape, strict=True)]
    start = [(size - want) // 2 for size, want in zip(voxels.shape, wanted, strict=True)]
    return voxels[tuple(slice(s, s + w) for s, w in zip(start, wanted, strict=True))]


def filters() -> dict[str, list[Filter]]:
    """The peers, each as the list of its settings."""

    def gaussian(width: float, flat: bool) -> Filter:
        return lambda noisy: gaussian_filter(noisy, (width, width, 0 if flat else width))

    def median(size: tuple[int, int, int]) -> Filter:
        return lambda noisy: median_filter(noisy, size)

    peers = {
        "Gaussian": [gaussian(width, False) for width in (0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1, 1.3, 1.7)],
        "Gaussian in plane": [gaussian(width, True) for width in (0.3, 0.4, 0.5, 0.6, 0.7, 0.85, 1, 1.3, 1.7)],
        "median": [median(size) for size in ((3, 3, 1), (3, 3, 3))],
    }
    try:
        from skimage.restoration import denoise_nl_means, estimate_sigma
    except ImportError:
        return peers

    def non_local(strength: float) -> Filter:
        def apply(noisy: np.ndarray) -> np.ndarray:
            sigma = float(estimate_sigma(noisy))
            options: dict[str, Any] = {"patch_size": 3, "patch_distance": 4, "fast_mode": True}
            return np.asarray(denoise_nl_means(noisy, h=strength * sigma, sigma=sigma, **options))

        return apply

    return peers | {"non-local means": [non_local(strength) for strength in (0.5, 0.8, 1.2, 2.0)]}


def medae(model: Model, modality: str) -> Filter:
    """The whole task on windowed voxels, through the library's own door, in the units that a scanner writes."""
    scale = 1000.0

    def apply(noisy: np.ndarray) -> np.ndarray:
        volume = Volume((noisy * scale)[None].astype(np.float32), np.eye(4), {"name": "case", "modality": modality})
        return denoise(volume, model).array[0] / scale

    return apply


def measure(case: Case, modality: str, methods: dict[str, list[Filter]]) -> list[dict[str, Any]]:
    """PSNR, SSIM and seconds of every method at every level; of several settings the one with the best PSNR."""
    rows = []
    for level, noisy in case.noisy.items():
        for method, settings in {"noisy": [np.asarray], **methods}.items():
            best: dict[str, Any] = {}
            for setting in settings:
                begin = time.perf_counter()
                image = setting(noisy)
                seconds = time.perf_counter() - begin
                found = psnr(case.clean, image, SPAN[modality], case.mask)
                if not best or found > best["psnr"]:
                    best = {"psnr": found, "seconds_per_million": seconds / noisy.size * 1e6, "image": image}
            image = best.pop("image")
            similar = ssim(_shown(case.clean, modality), _shown(image, modality), SPAN[modality], case.mask)
            row = {"case": case.name, "level": level, "method": method, "ssim": similar, **best}
            rows.append(row | _bias(case.clean, image, modality))
    return rows


def _shown(image: np.ndarray, modality: str) -> np.ndarray:
    """CT as in a soft-tissue window, -160..240 HU, for SSIM."""
    return np.clip(image, -0.16, 0.24) if modality == "CT" else image


def _bias(clean: np.ndarray, image: np.ndarray, modality: str) -> dict[str, float]:
    """Mean shift in flat tissue: HU by tissue for CT, per cent of the window for MR."""
    flat = gaussian_gradient_magnitude(clean, 1.0) < (0.03 if modality == "CT" else 0.02)
    tissues = TISSUES if modality == "CT" else {"tissue": (0.15, 2.0)}
    shifts = {}
    for name, (low, high) in tissues.items():
        inside = binary_erosion((clean > low) & (clean < high)) & flat
        if inside.sum() >= 200:
            shifts[f"shift_{name}"] = float((image - clean)[inside].mean()) * (1000 if modality == "CT" else 100)
    return shifts


def trust(model: Model, modality: str, found: list[Case]) -> dict[str, float]:
    """What must not happen: change of a clean volume (RMS, % of the window), structure in pure noise (SD kept, %)."""
    apply = medae(model, modality)
    changed = [float(np.sqrt(np.mean((apply(case.clean) - case.clean) ** 2))) for case in found if "gener" in case.name]
    generator = torch.Generator().manual_seed(3)
    flat = torch.full((64, 64, 48), 0.5 if modality == "MR" else 0.04)
    kept = {}
    for level in LEVELS[modality]:
        noise = scan_noise(flat, 3.0, generator)
        noisy = magnitude_noise(flat, level, generator) if modality == "MR" else flat + level * noise / noise.std()
        kept[f"pure_noise_kept_{level:g}"] = 100 * float(apply(noisy.numpy()).std() / noisy.std())
    return {"clean_changed": 100 * max(changed), **kept}


def table(rows: list[dict[str, Any]], modality: str) -> str:
    """Markdown: a line for every case and level, PSNR / SSIM for every method, and the averages."""
    methods = list(dict.fromkeys(row["method"] for row in rows))
    levels = LEVELS[modality]
    lines = ["| case | level | " + " | ".join(methods) + " |", "|" + "---|" * (len(methods) + 2)]
    names = list(dict.fromkeys(row["case"] for row in rows))
    for name in [*names, "mean"]:
        for level in levels:
            cells = []
            for method in methods:
                chosen = [
                    r for r in rows if r["level"] == level and r["method"] == method and name in (r["case"], "mean")
                ]
                cells.append(f"{np.mean([r['psnr'] for r in chosen]):.2f} / {np.mean([r['ssim'] for r in chosen]):.3f}")
            shown = f"{100 * level:g} %" if modality == "MR" else f"{1000 * level:g} HU"
            lines.append(f"| {name} | {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def run(model: Model, modality: str, data: Path, quick: bool) -> dict[str, Any]:
    """All rows, and the trust figures."""
    found = list(cases(data, modality, quick))
    methods = {**filters(), "MedAE": [medae(model, modality)]}
    rows = [row for case in found for row in measure(case, modality, methods)]
    return {
        "model": str(model.bundle.sha256 if model.bundle else ""),
        "rows": rows,
        "trust": trust(model, modality, found),
    }


def main() -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--modality", choices=("MR", "CT"), action="append")
    parser.add_argument("--model", default=None, help="only with one modality; default: the bundled model")
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--output", type=Path, default=Path("benchmark-results"))
    parser.add_argument("--quick", action="store_true", help="the first volume of every source only")
    chosen = parser.parse_args()
    for modality in chosen.modality or ("MR", "CT"):
        model = Model.load(chosen.model or f"{modality.lower()}-denoise")
        result = run(model, modality, chosen.data or data_folder(), chosen.quick)
        text = table(result["rows"], modality)
        chosen.output.mkdir(parents=True, exist_ok=True)
        (chosen.output / f"denoise-{modality}.json").write_text(json.dumps(result, indent=1))
        (chosen.output / f"denoise-{modality}.md").write_text(text)
        shifts = [
            abs(v) for r in result["rows"] for k, v in r.items() if k.startswith("shift") and r["method"] == "MedAE"
        ]
        print(text, json.dumps(result["trust"], indent=1), f"largest shift in flat tissue {max(shifts):.2f}", sep="\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
