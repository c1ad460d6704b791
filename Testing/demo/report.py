"""The demo's report: one JSON file for machines and one Markdown page for people, from the same figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

PROVEN = [
    "The unmodified panel and library ran on Slicer's own MRML scene, readers, writers and slice views.",
    "The voxels went through the worker, a process of its own; Slicer's process imported no torch.",
    "Position, voxel type and window came back; the input was not changed.",
]
NOT_PROVEN = [
    "Nothing ran inside the Slicer application: its Qt widgets, module loading and installation are stand-ins here.",
    "A generated head is not a patient; figures on real scans are in the model cards.",
]


def write_report(folder: Path, figures: dict[str, Any]) -> None:
    """Write report.json and report.md."""
    text = json.dumps(figures, indent=2, allow_nan=False) + "\n"
    (folder / "report.json").write_text(text, encoding="utf-8")
    (folder / "report.md").write_text(markdown(figures), encoding="utf-8")


def markdown(figures: dict[str, Any]) -> str:
    """The page."""
    run, units = figures["run"], figures["run"].get("units") or "units"
    rows = [
        ("input", figures["input"]),
        ("size, spacing", f"{figures['size']} voxels, {figures['spacing']} mm"),
        ("model", f"{run['model']} {run['model_version']}, SHA-256 {run['model_sha256'][:16]}…"),
        ("device", f"{run['device']}, {run['precision']}, tile {run['tile']}"),
        ("estimated noise", f"{run['noise_before']:.3g} → {run['noise_after']:.3g} {units}"),
        ("seconds", f"{figures['seconds']:.1f} from Apply to the result in the scene"),
        ("longest stall of the panel", f"{1000 * figures['longest_stall_seconds']:.0f} ms"),
        ("the same while importing", f"{1000 * figures['longest_import_stall_seconds']:.0f} ms"),
    ]
    lines = ["# MedAE demo", "", "![before, after, removed noise](before-after.png)", ""]
    lines += ["| what | value |", "|---|---|"]
    lines += [f"| {name} | {value} |" for name, value in rows]
    for warning in run.get("warnings", []):
        lines += ["", f"Note: {warning}"]
    if "truth" in figures:
        lines += ["", *truth_lines(figures["truth"], units)]
    lines += ["", "## What this proves", "", *(f"- {line}" for line in PROVEN)]
    lines += ["", "## What it does not", "", *(f"- {line}" for line in NOT_PROVEN), ""]
    return "\n".join(lines)


def truth_lines(truth: dict[str, Any], units: str) -> list[str]:
    """Against the noise-free phantom."""
    span = f"PSNR in dB, for a signal range of {truth['signal_range']:g}:"
    lines = ["## Against the noise-free phantom", "", span, ""]
    lines += ["| region | noisy | Gaussian filter at its best width | MedAE |", "|---|---|---|---|"]
    for row in truth["psnr_db"]:
        width = f"{row['gaussian']:.1f} ({row['gaussian_width_voxels']} voxels)"
        lines.append(f"| {row['region']} | {row['noisy']:.1f} | {width} | {row['denoised']:.1f} |")
    lines += ["", f"Mean shift {truth['mean_shift']:+.2f} {units}. Contrast of the inserted spots ({units}):", ""]
    lines += ["| radius (mm) | true | noisy | Gaussian filter | MedAE |", "|---|---|---|---|---|"]
    for row in truth["lesions"]:
        cells = (str(row[name]) for name in ("radius_mm", "true", "noisy", "gaussian", "denoised"))
        lines.append(f"| {' | '.join(cells)} |")
    return lines
