"""MRI whose noise was interpolated to more voxels, as scanners and whoever resamples a scan leave it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.denoise_cases import Case, Crop, Image, Scan, body, cases
from benchmarks.denoise_report import distinct, mean, shown, table
from scipy.ndimage import zoom

LEVELS = (0.03, 0.09)
# How, and to how many times as many voxels along each axis.
KINDS: tuple[tuple[str, tuple[float, float, float]], ...] = (
    ("zero filling", (2, 2, 1)),
    ("zero filling", (1.5, 1, 1)),
    ("zero filling", (1, 1, 2)),
    ("cubic", (1.6, 1.6, 1)),
    ("linear", (2, 2, 1)),
    ("linear", (1.5, 1.5, 1.5)),
)


def interpolated_cases(data: Path, crop: Crop, count: int | None) -> Iterator[Case]:
    """Each held-out MRI, interpolated in every way without noise and with noise that was there before.

    The levels are those of the noise before; a peer is told the deviation that is left of it.
    """
    for case in cases(data, "MR", crop, count):
        generator = np.random.default_rng(0)
        parts = [generator.normal(size=case.clean.shape) for _ in range(2)]
        for kind, factors in KINDS:
            shape = tuple(round(size * factor) for size, factor in zip(case.clean.shape, factors, strict=True))
            clean = _enlarged(case.clean.astype(complex), shape, kind)
            scans = {}
            for level in LEVELS:
                noisy = _enlarged(case.clean + level * (parts[0] + 1j * parts[1]), shape, kind)
                bright = clean > 3 * level
                scans[level] = Scan(noisy, "MR", float(np.std((noisy - clean)[bright])))
            name = f"{case.name}, {kind} {' x '.join(f'{factor:g}' for factor in factors)}"
            yield Case(name, clean, body(clean, "MR"), scans)


def _enlarged(voxels: Image, shape: tuple[int, ...], kind: str) -> Image:
    """The magnitude of complex voxels [i, j, k] on a finer grid: a scanner fills before, others interpolate it."""
    if kind == "zero filling":
        waves = np.fft.fftshift(np.fft.fftn(voxels))
        missing = [wide - size for wide, size in zip(shape, waves.shape, strict=True)]
        waves = np.fft.ifftshift(np.pad(waves, [(lack // 2, lack - lack // 2) for lack in missing]))
        return np.asarray(np.abs(np.fft.ifftn(waves)) * (np.prod(shape) / voxels.size), np.float32)
    factors = [wide / size for wide, size in zip(shape, voxels.shape, strict=True)]
    return np.asarray(zoom(np.abs(voxels), factors, order=1 if kind == "linear" else 3), np.float32)


def by_kind(result: dict[str, Any]) -> str:
    """Mean PSNR (dB, range 1) by kind, level and method, and the noise map over the truth, as Markdown."""
    methods, lines = distinct(result["rows"], "method"), []
    for kind, factors in KINDS:
        name = f"{kind} {' x '.join(f'{factor:g}' for factor in factors)}"
        for level in LEVELS:
            rows = [row for row in result["rows"] if row["case"].endswith(name) and row["level"] == level]
            found = [f"{mean([row for row in rows if row['method'] == method], 'psnr'):.2f}" for method in methods]
            count = len({row["case"] for row in rows})
            told = [row["ratio"] for row in result["noise_map"] if row["case"].endswith(name) and row["level"] == level]
            ratios = f"{min(told):.2f} to {max(told):.2f}" if told else "-"
            lines.append([name, shown(level, "MR"), str(count), *found, ratios])
    head = ["interpolation", "noise", "scans", *methods, "noise map over the truth, all scans"]
    return "# MRI whose noise was interpolated\n\nPSNR (dB, range 1), means.\n\n" + table(head, lines)
