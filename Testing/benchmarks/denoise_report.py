"""The denoising benchmark's tables in Markdown: means over the cases, and the worst case against the best peer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from benchmarks.denoise_medae import NAME, OURS
from benchmarks.denoise_trust import LESIONS

Row = dict[str, Any]
_COSTS = {"seconds_per_million": "s", "cpu_seconds_per_million": "CPU-s", "megabytes_per_million": "MB"}


def text(result: dict[str, Any], modality: str) -> str:
    """The whole page."""
    rows = result["rows"]
    cases = len({row["case"] for row in rows})
    span = "1" if modality == "MR" else "400 HU"
    parts = [
        f"# Denoising, {modality}: {cases} held-out cases\n",
        f"PSNR (dB, range {span}) / SSIM in the body, means over the cases. Every peer has its best setting for each "
        "case and level and is told the noise's true level unless its name says otherwise; MedAE is told nothing.\n",
        means(rows, modality),
        "## MedAE minus the best peer\n",
        margins(rows, modality),
        costs(result["speed"]),
        trust(rows, result["trust"], modality),
        real(result["pairs"]),
        noise_maps(result["noise_map"]),
        unsuited(result["unsuited"], result["apart"], modality),
        notes("Absent", result["absent"]),
        notes("Not usable", result["failed"]),
    ]
    return "\n".join(part for part in parts if part)


def table(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table."""
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows) + "\n"


def shown(level: float, modality: str) -> str:
    """A noise level in the units that users know."""
    return f"{100 * level:g} %" if modality == "MR" else f"{1000 * level:g} HU"


def unsuited(left_out: list[Row], rows: list[Row], modality: str) -> str:
    """The cases and levels that are in no mean, because the reference seems noisier than what was added, and how they
    came out all the same. How noisy it is was measured by MedAE, which takes fine anatomy for noise where none is flat.
    """
    if not left_out:
        return ""
    margins = {(r["case"], r["level"]): r for r in against_best_peer(rows, "psnr")}
    lines = []
    for row in left_out:
        found = margins.get((row["case"], row["level"]))
        told = [f"{found['margin']:+.2f}", found["peer"]] if found else ["-", "-"]
        lines.append([row["case"], shown(row["level"], modality), f"{100 * row['own_noise']:.1f} %", *told])
    return (
        "## Set apart, in no figure above\n\nBy MedAE's own estimate the reference holds more noise than was added; "
        "fine anatomy can pass for noise.\n\n"
        + table(["case", "noise added", "in the reference", "MedAE minus best peer, dB", "best peer"], lines)
    )


def distinct(rows: Iterable[Row], name: str) -> list[Any]:
    """The values of a column, each once, in order."""
    return list(dict.fromkeys(row[name] for row in rows))


def mean(rows: Iterable[Row], name: str) -> float:
    """The mean of a column over the rows that have it; NaN when none has."""
    values = [row[name] for row in rows if row.get(name) is not None]
    return float(np.mean(values)) if values else float("nan")


def means(rows: list[Row], modality: str) -> str:
    """Methods down, levels across."""
    levels, lines = distinct(rows, "level"), []
    for method in distinct(rows, "method"):
        cells = [method]
        for level in levels:
            chosen = [r for r in rows if r["level"] == level and r["method"] == method]
            cells.append(f"{mean(chosen, 'psnr'):.2f} / {mean(chosen, 'ssim'):.3f}" if chosen else "-")
        lines.append(cells)
    return table(["method", *(shown(level, modality) for level in levels)], lines)


def against_best_peer(rows: list[Row], figure: str) -> list[Row]:
    """For each case and level MedAE's figure minus that of the peer with the best one."""
    found = []
    for case in distinct(rows, "case"):
        for level in distinct(rows, "level"):
            here = {r["method"]: r[figure] for r in rows if r["case"] == case and r["level"] == level}
            others = {method: value for method, value in here.items() if method not in (*OURS, "noisy")}
            if NAME in here and others:
                peer = max(others, key=lambda method: others[method])
                found.append({"case": case, "level": level, "peer": peer, "margin": here[NAME] - others[peer]})
    return found


def margins(rows: list[Row], modality: str) -> str:
    """By level: mean and worst margin over the best peer of each case, in PSNR and in SSIM."""
    lines = []
    for level in distinct(rows, "level"):
        cells = [shown(level, modality)]
        for figure, form in (("psnr", "+.2f"), ("ssim", "+.3f")):
            found = [r for r in against_best_peer(rows, figure) if r["level"] == level]
            if found:
                worst = min(found, key=lambda r: r["margin"])
                cells.append(format(mean(found, "margin"), form))
                cells.append(f"{worst['margin']:{form}} ({worst['case']}; {worst['peer']})")
                cells.append(f"{sum(r['margin'] > 0 for r in found)} of {len(found)}")
        lines.append(cells)
    if not lines or len(lines[0]) == 1:
        return "No peer was run.\n"
    head = ["noise", "PSNR, mean", "worst case (against)", "better in"]
    return table([*head, "SSIM, mean", "worst case (against)", "better in"], lines)


def costs(speed: list[Row]) -> str:
    """Seconds and memory per million voxels, one method after the other on one volume."""
    if not speed:
        return ""
    lines = [[row["method"], *(f"{row[name]:.3g}" for name in _COSTS)] for row in speed]
    return "## Cost per million voxels, same run\n\n" + table(["method", *_COSTS.values()], lines)


def lesions(rows: list[Row], modality: str) -> str:
    """Contrast kept by inserted lesions, by level; each cell has all contrasts, from faint to plain."""
    names = sorted({name for row in rows for name in row.get("trust", {}) if name.startswith(LESIONS)})
    if not names:
        return ""
    levels, lines = distinct(rows, "level"), []
    for method in distinct((row for row in rows if row.get("trust")), "method"):
        cells = [method]
        for level in levels:
            chosen = [r["trust"] for r in rows if r["level"] == level and r["method"] == method]
            values = (mean(chosen, name) for name in names)
            cells.append(" / ".join("-" if np.isnan(value) else f"{value:.0f}" for value in values))
        lines.append(cells)
    contrasts = ", ".join(name.removeprefix(LESIONS).strip(", ") for name in names)
    head = f"Contrast kept by balls of 5 voxels, %, at {contrasts}; means over the cases.\n\n"
    return head + table(["method", *(shown(level, modality) for level in levels)], lines)


def trust(rows: list[Row], safety: dict[str, float], modality: str) -> str:
    """The largest shift of each tissue, the other trust figures as means over all cases and levels, and safety."""
    shifts = list(dict.fromkeys(name for row in rows for name in row if name.startswith("shift")))
    others = list(dict.fromkeys(name for row in rows for name in row.get("trust", {}) if not name.startswith(LESIONS)))
    lines = []
    for method in distinct(rows, "method"):
        chosen = [row for row in rows if row["method"] == method]
        summaries = [max((abs(row[name]) for row in chosen if name in row), default=np.nan) for name in shifts]
        summaries += [mean((row.get("trust", {}) for row in chosen), name) for name in others]
        lines.append([method, *("-" if np.isnan(value) else f"{value:.3g}" for value in summaries)])
    unit = "HU" if modality == "CT" else "% of the window"
    parts = [f"## Trust\n\nShifts from the reference: the largest of all cases and levels, {unit}; others: means.\n"]
    parts.append(table(["method", *(name.replace("_", " ") for name in [*shifts, *others])], lines))
    parts.append(lesions(rows, modality))
    if safety:
        parts.append("\n".join(f"- {name.replace('_', ' ')}: {value:.3g} %" for name, value in safety.items()) + "\n")
    return "\n".join(parts)


def real(pairs: list[Row]) -> str:
    """PSNR against the cleaner scan of each real pair; the best of a pair is bold."""
    if not pairs:
        return ""
    names, lines = distinct(pairs, "case"), []
    best = {name: max(r["psnr"] for r in pairs if r["case"] == name) for name in names}
    for method in distinct(pairs, "method"):
        here = {r["case"]: r for r in pairs if r["method"] == method}
        cells = [method]
        for name in names:
            figure = f"{here[name]['psnr']:.2f}" if name in here else "-"
            cells.append(f"**{figure}**" if name in here and here[name]["psnr"] == best[name] else figure)
        lines.append(cells)
    against = {row["case"]: row["against"] for row in pairs}
    head = ["method", *(f"{name} {against[name]}" for name in names)]
    return "## Real pairs: PSNR against the cleaner scan\n\n" + table(head, lines)


def noise_maps(found: list[Row]) -> str:
    """How far the noise map is from the truth."""
    if not found:
        return ""
    ratios = [row["ratio"] for row in found]
    worst = max(found, key=lambda row: abs(np.log(max(row["ratio"], 1e-6))))
    return (
        "## Noise map\n\nEstimated over real deviation of the noise (1 is right): "
        f"median {np.median(ratios):.2f}, {min(ratios):.2f} to {max(ratios):.2f}; "
        f"worst {worst['case']} at {worst['level']:.3g}.\n"
    )


def notes(title: str, found: dict[str, str]) -> str:
    """A list of names and reasons."""
    lines = [f"- {name}: {reason}" for name, reason in found.items()]
    return f"## {title}\n\n" + "\n".join(lines) + "\n" if found else ""
