"""Whether adapting a denoiser to one scan makes it better: PSNR before, with what was learned, and of what is used."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.denoise_cases import SPAN, Case, Crop, Scan, cases
from benchmarks.denoise_medae import SCALE, scanned

from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput
from MedAELib.model import Model
from MedAELib.quality import psnr
from MedAELib.tasks.denoise import denoise
from MedAELib.tasks.seen import see
from MedAELib.training.adapt import adapt

HEADER = "| scan | noise | PSNR before | adapted | kept | used | score before | after | steps | seconds |"


def adapted(
    model: Model, modality: str, data: Path, crop: Crop, seconds: int, levels: Sequence[float], names: Sequence[str],
    output: Path,
) -> list[dict[str, Any]]:  # fmt: skip
    """Adapt to the crops whose names begin so (none: all), at these levels; written after each as Markdown and JSON."""
    rows = []
    for case, scan in _scans(data, modality, crop, levels, names):
        rows.append({"scan": case.name, "noise": scan.level, **figures(model, case, scan, seconds)})
        (output / f"adapted-{modality}.json").write_text(json.dumps(rows, indent=1))
        (output / f"adapted-{modality}.md").write_text(text(rows, modality))
        print(text(rows, modality).splitlines()[-1], flush=True)
    return rows


def figures(model: Model, case: Case, scan: Scan, seconds: int) -> dict[str, Any]:
    """PSNR of the model, of the adapted one, and which is kept; without the latter two where it cannot adapt."""
    volume, engine = scanned(scan.noisy, scan.modality), Engine()
    seen = see(volume, model)

    def quality(used: Model) -> float:
        image = denoise(volume, used, seen=seen, engine=engine).array[0] / SCALE
        return psnr(case.clean, image, SPAN[scan.modality], case.mask)

    before, began = quality(model), time.monotonic()
    try:
        found = adapt(model.network, seen.volume.array[0], seen.window, seconds, engine, scan.modality == "MR")
    except BadInput as error:
        return {"before": before, "refused": str(error)}
    took = time.monotonic() - began
    after = quality(replace(model, network=found.learned)) if found.steps else before
    row = {"before": before, "adapted": after, "kept": found.kept, "used": after if found.kept else before}
    return row | {"scores": [found.before, found.after], "steps": found.steps, "seconds": took}


def text(rows: Sequence[dict[str, Any]], modality: str) -> str:
    """A table of all rows."""
    lines = [HEADER, "|" + "---|" * (HEADER.count("|") - 1)]
    for row in rows:
        noise = f"{100 * row['noise']:g} %" if modality == "MR" else f"{1000 * row['noise']:g} HU"
        cells = [row["scan"], noise, f"{row['before']:.2f}"]
        if "refused" in row:
            cells += [row["refused"], "no", f"{row['before']:.2f}", *[""] * 4]
        else:
            kept = "yes" if row["kept"] else "no"
            cells += [f"{row['adapted']:.2f}", kept, f"{row['used']:.2f}", *(f"{s:.3f}" for s in row["scores"])]
            cells += [str(row["steps"]), f"{row['seconds']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _scans(
    data: Path, modality: str, crop: Crop, levels: Sequence[float], names: Sequence[str]
) -> Iterator[tuple[Case, Scan]]:
    for case in cases(data, modality, crop, names=names):
        for level, scan in case.scans.items():
            if not levels or any(math.isclose(level, wanted) for wanted in levels):
                yield case, scan
