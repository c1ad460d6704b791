"""How the parts of a map are joined, and what makes a region of it: as fits anomalies drawn into tuning scans best."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np

from MedAELib.anomaly.calibration import Calibration, z_of
from MedAELib.anomaly.figures import average_precision, dice
from MedAELib.anomaly.grid import Floats
from MedAELib.anomaly.masks import Mask
from MedAELib.anomaly.normals import Progress, calibrate_combined, listed, silent, z_parts, z_shown
from MedAELib.anomaly.prepare import Prepared
from MedAELib.anomaly.regions import RegionRule, find_regions
from MedAELib.anomaly.scores import Scores
from MedAELib.anomaly.shown import COMBINED, Shown

FAR = 5.0  # times chance: a kind is found
_HANDICAPS = (0.0, 0.25, 0.5, 0.75, 1.0)
_AGREEMENTS = (0.0, 0.7, 1.0)
_RARER = (3_000.0, 35_000.0, 500_000.0, 1e7)  # z of 4.5, 5, 5.5 and 6 at a rate of 1 %
_OUTLINES = (0.3, 0.4, 0.5)
_EQUAL = 0.01  # of Dice
_RATE, _LEAST_ML = 0.01, 0.1


@dataclass(frozen=True, eq=False)
class Tried:
    """A tuning scan with an anomaly of some kind, where it is `[i, j, k]`, and the scores at the chosen smoothing."""

    kind: str
    scan: Prepared
    where: Mask
    scores: Scores


def best_join(
    shown: Shown, normals: Sequence[tuple[Scores, Prepared]], alone: Mapping[str, Calibration], cases: Sequence[Tried],
    progress: Progress = silent,
) -> tuple[Shown, list[dict[str, Any]]]:  # fmt: skip
    """The way with the handicap and the agreement that lose least, and what each of these reached, the best first.

    A row holds "shown", the mean average precision by kind and over all ("mean"), and "kept": on the kind that loses
    most, which share of what the best of the parts alone reaches is left (at most 1). Kinds that no part alone finds
    (five times chance) do not count. The best keeps most, and of equals to a hundredth has the highest mean.
    """
    handicaps = _HANDICAPS if shown.besides else (shown.handicap,)
    agreements = _AGREEMENTS if shown.name == COMBINED and cases[0].scan.dims == 3 else (0.0,)
    ways = [replace(shown, handicap=h, agreement=a) for h, a in product(handicaps, agreements)]
    parts = [*shown.parts, *shown.besides]
    usual = [(z_parts(scores, alone, scan), scan) for scores, scan in normals]
    known = {way: calibrate_combined(usual, way) for way in ways}
    found: dict[str, dict[Any, list[float]]] = {}
    chances: dict[str, list[float]] = {}
    for number, case in enumerate(cases):
        progress(number, len(cases))
        inside = case.scan.mask | case.where
        scores, tissue = listed(case.scores, case.scan, inside)
        truth, z = case.where[inside], z_parts(scores, alone, tissue)
        maps: dict[Any, Floats] = {name: z[name] for name in parts}
        maps |= {way: z_shown(z, known[way], way, tissue) for way in ways}
        chances.setdefault(case.kind, []).append(float(truth.mean()))
        for key, values in maps.items():
            found.setdefault(case.kind, {}).setdefault(key, []).append(average_precision(values, truth))
    means = {kind: {key: float(np.nanmean(values)) for key, values in row.items()} for kind, row in found.items()}
    best = {kind: max(row[part] for part in parts) for kind, row in means.items()}
    counted = [kind for kind in means if best[kind] >= FAR * float(np.mean(chances[kind]))]
    rows: list[dict[str, Any]] = []
    for way in ways:
        kept = min((min(1.0, means[kind][way] / best[kind]) for kind in counted), default=1.0)
        by_kind = {kind: row[way] for kind, row in means.items()}
        rows.append({"shown": way, "kept": kept, "mean": float(np.mean(list(by_kind.values()))), **by_kind})
    rows.sort(key=lambda row: (-round(row["kept"], 2), -row["mean"]))
    return rows[0]["shown"], rows


def best_regions(
    shown: Shown, normals: Sequence[tuple[Scores, Prepared]], alone: Mapping[str, Calibration], cases: Sequence[Tried],
    progress: Progress = silent,
) -> tuple[RegionRule, list[dict[str, Any]]]:  # fmt: skip
    """The peak and the outline of regions that fit the drawn anomalies best, and what each reached, the best first.

    A row holds "rule" and the mean Dice of all regions together by kind and over all ("mean"), at a rate of 1 %: an
    anomaly that makes no region counts 0, a region where nothing was drawn lowers it. Of rules within a hundredth of
    the highest mean the one with the rarest peak is the best, as it has the fewest false regions.
    """
    usual = [(z_parts(scores, alone, scan), scan) for scores, scan in normals]
    known = {**alone, **calibrate_combined(usual, shown)}
    rules = [RegionRule(rarer, outline) for rarer, outline in product(_RARER, _OUTLINES)]
    found: dict[RegionRule, dict[str, list[float]]] = {rule: {} for rule in rules}
    for number, case in enumerate(cases):
        progress(number, len(cases))
        z = z_shown(z_parts(case.scores, known, case.scan), known, shown, case.scan)
        for rule in rules:
            peak = rule.peak(_RATE)
            labels, _ = find_regions(z, z_of(_RATE), case.scan, _LEAST_ML, None, peak, rule.outline)
            found[rule].setdefault(case.kind, []).append(dice(labels > 0, case.where))
    rows: list[dict[str, Any]] = []
    for rule, by_kind in found.items():
        means = {kind: float(np.mean(values)) for kind, values in by_kind.items()}
        rows.append({"rule": rule, "mean": float(np.mean(list(means.values()))), **means})
    enough = max(float(row["mean"]) for row in rows) - _EQUAL
    rows.sort(key=lambda row: (row["mean"] < enough, -row["rule"].rarer if row["mean"] >= enough else 0, -row["mean"]))
    return rows[0]["rule"], rows
