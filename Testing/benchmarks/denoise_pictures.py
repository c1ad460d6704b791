"""The denoising benchmark's pictures: crops of one case side by side, and PSNR by level."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.denoise_cases import Case, Image
from benchmarks.denoise_medae import NAME, OURS

PEERS_SHOWN, PEERS_CHARTED = 3, 7
_SCALE = 2  # inches


def crops(case: Case, level: float, slices: dict[str, Image], psnr: dict[str, float], path: Path) -> None:
    """Noisy, the best peers, MedAE and the reference in a row, all in the same window."""
    modality = case.scans[level].modality
    peers = sorted(set(slices) - {"noisy", *OURS}, key=lambda name: -psnr[name])[:PEERS_SHOWN]
    names = [name for name in ("noisy", *peers, NAME) if name in slices]
    panels = {f"{name}\n{psnr[name]:.1f} dB": slices[name] for name in names}
    panels["reference\n"] = case.clean[:, :, case.clean.shape[2] // 2]
    low, high = (-0.16, 0.24) if modality == "CT" else (0.0, float(np.percentile(case.clean, 99.5)))
    figure = blank(_SCALE * len(panels), _SCALE * 1.25)
    for number, (title, image) in enumerate(panels.items(), 1):
        axes = figure.add_subplot(1, len(panels), number)
        axes.imshow(np.asarray(image, dtype=np.float32).T, cmap="gray", vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(title, fontsize=7)
        axes.axis("off")
    figure.tight_layout(pad=0.3)
    figure.savefig(path, dpi=200, bbox_inches="tight", pad_inches=0.05)


def chart(rows: list[dict[str, Any]], modality: str, path: Path) -> None:
    """Mean PSNR by level: how much MedAE and the best peers gain over the noisy input."""
    levels = sorted({row["level"] for row in rows})
    methods = [name for name in dict.fromkeys(row["method"] for row in rows) if name != "noisy"]

    def mean(method: str, level: float) -> float:
        found = [row["psnr"] for row in rows if row["method"] == method and row["level"] == level]
        return float(np.mean(found)) if found else float("nan")

    best = sorted(methods, key=lambda name: -sum(mean(name, level) for level in levels))
    methods = [*[name for name in best if name not in OURS][:PEERS_CHARTED], *[NAME] * (NAME in methods)]
    figure = blank(7, 4)
    axes = figure.add_subplot()
    for method in methods:
        gains = [mean(method, level) - mean("noisy", level) for level in levels]
        emphasis = {"linewidth": 3, "color": "black"} if method == NAME else {"linewidth": 1}
        axes.plot(range(len(levels)), gains, marker="o", label=method, **emphasis)
    unit, factor = ("% of the 99.9th percentile", 100) if modality == "MR" else ("HU", 1000)
    axes.set_xticks(range(len(levels)), [f"{factor * level:g}" for level in levels])
    axes.set_xlabel(f"noise, {unit}")
    axes.set_ylabel("gain in PSNR, dB")
    axes.legend(fontsize=6, loc="center left", bbox_to_anchor=(1, 0.5))
    figure.tight_layout()
    figure.savefig(path, dpi=150)


def blank(width: float, height: float) -> Any:
    """An empty figure of so many inches."""
    from matplotlib.figure import Figure  # draws without any window system

    return Figure(figsize=(width, height))
