"""Which map a normative model shows: the score, or the two together, that find drawn anomalies best in tuning scans."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from MedAELib.anomaly.asymmetry import ASYMMETRY
from MedAELib.anomaly.average import AVERAGE, Average
from MedAELib.anomaly.calibration import Calibration
from MedAELib.anomaly.figures import average_precision
from MedAELib.anomaly.grid import Floats
from MedAELib.anomaly.masks import Mask, box_around
from MedAELib.anomaly.normals import (
    Progress,
    calibrate_combined,
    calibrate_parts,
    listed,
    silent,
    with_average,
    z_parts,
    z_shown,
)
from MedAELib.anomaly.prepare import Prepared, prepared_again
from MedAELib.anomaly.regions import REGIONS, RegionRule
from MedAELib.anomaly.scores import Scores, answers, scores_from, untrained
from MedAELib.anomaly.shown import Shown
from MedAELib.anomaly.smoothness import SMOOTH
from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.training.anomalies import KINDS, SPOTS, draw_anomaly, draw_spots
from MedAELib.training.anomaly import as_on_another_scanner
from MedAELib.training.tune_map import FAR, Tried, best_join, best_regions

STRENGTH = {"bright": 2 / 3, "dark": 2 / 3, "texture": 1.0, "blur": 1.0, "copy": 1.0, "bulge": 1.0}
RADII = (3.0, 6.0)  # voxels of the grid
_AROUND = 8  # cells around the mask that are kept of a tuning scan
_SMOOTHINGS = (0.0, 1.0, 1.5, 2.0)
_SCORES = ("unlike", "residual")
_PARTS = ((_SCORES[:1], "sum"), (_SCORES[1:], "sum"), (_SCORES, "sum"), (_SCORES, "max"))
_RULES = ("sum", "max")
_WITH_SIDES = tuple(((*parts, ASYMMETRY), rule) for parts in (_SCORES[:1], _SCORES[1:], _SCORES) for rule in _RULES)
_BESIDE_SMOOTH = tuple(
    (parts, "sum") for parts in (*(parts for parts, rule in _PARTS if rule == "sum"), (*_SCORES, ASYMMETRY))
)  # what is too smooth is told by no other map, and by it nothing else
_WITH_AVERAGE = tuple(((*parts, AVERAGE), rule) for parts in (_SCORES, (*_SCORES, ASYMMETRY)) for rule in _RULES)


def drawn_case(scan: Prepared, kind: str, seed: Sequence[int]) -> tuple[Prepared, Mask]:
    """The scan with one anomaly of a usual size and strength, or many spots, as the seed says, and where it is.

    It is prepared anew, as a file that holds it would be: what its mask leaves out is lost to the map.
    """
    random = np.random.default_rng(seed)
    if kind == SPOTS:
        changed, where = draw_spots(scan.voxels, scan.mask, random)
    else:
        radius, strength = float(random.uniform(*RADII)), STRENGTH[kind]
        changed, where = draw_anomaly(scan.voxels, scan.mask, kind, radius, strength, random)
    return prepared_again(scan, changed), where


def _tuning_case(scans: Sequence[Prepared], kind: str, turn: int, number: int) -> tuple[Prepared, Mask]:
    """The anomaly of this number: scans in turns, every second turn of a volume as on another scanner."""
    scan = scans[turn % len(scans)]
    if turn % 2 and scan.dims == 3:
        other = as_on_another_scanner(scan.voxels, scan.hounsfield, np.random.default_rng([998, number]))
        scan = replace(scan, voxels=np.where(scan.mask, other, 0).astype(np.float32))
    return drawn_case(scan, kind, [999, number])


@dataclass(frozen=True, eq=False)
class _Told:
    """What every way rests on: the network's answers about a scan, and the scores that it has no part in."""

    odds: Floats
    typical: Floats
    others: dict[str, Floats]

    def scores(self, scan: Prepared, width: float) -> Scores:
        return Scores({**scores_from(scan, self.odds, self.typical, width).maps, **self.others})


@dataclass(frozen=True, eq=False)
class Choice:
    """How the first map is made and what makes a region of it (None of images), and what was tried, the best first:
    `ways` (see `choose_shown`), `joins` (see `best_join`) and `rules` (see `best_regions`)."""

    shown: Shown
    rule: RegionRule | None
    ways: list[dict[str, Any]]
    joins: list[dict[str, Any]]
    rules: list[dict[str, Any]]

    def to_json(self) -> dict[str, Any]:
        """What the calibration of a model folder says of regions."""
        return {} if self.rule is None else {REGIONS: self.rule.to_json()}

    def tried(self) -> str:
        """All that was tried, a line each, as it is printed."""
        lines = []
        for row in (*self.ways, *self.joins):
            way: Shown = row["shown"]
            lines.append(f"{way.in_words()}, smoothed by {way.smoothing:g}: {_listed(row, 'shown')}")
        lines += [f"regions {row['rule'].to_json()}: {_listed(row, 'rule')}" for row in self.rules]
        return "\n".join(lines)


def _listed(row: dict[str, Any], but: str) -> str:
    return ", ".join(f"{key} {value:.3g}" for key, value in row.items() if key != but)


def choose_shown(
    model: Model, scans: Sequence[Prepared], *, seen: Sequence[Prepared] = (), each: int = 4, mirrored: bool = True,
    engine: Engine | None = None, progress: Progress = silent,
) -> Choice:  # fmt: skip
    """The best way to make the first map, how it joins its parts, and what makes a region.

    So many anomalies of each kind, and of volumes small spots, are drawn into the scans, which must not have been
    trained on, half of them as on another scanner; those that were `seen` in the training make the average scan. The
    best finds the most kinds ("found" of "kinds": average precision at least five times chance), and of these has the
    highest mean. A row of `ways` holds "shown", these numbers, and the mean average precision by kind and over all
    ("mean"). On the same anomalies handicap and agreement are chosen then, and peak and outline of regions.
    `progress(done, total)` may raise Cancelled.
    """
    engine = engine or Engine("cpu")
    volumes = scans[0].dims == 3
    average = Average.of(seen) if seen and volumes else None

    def told(scan: Prepared) -> _Told:
        others = with_average(Scores(untrained(scan)), scan, average).maps
        return _Told(*answers(scan, model, engine, silent, mirrored), others)

    normal = [(scan, told(scan)) for scan in scans]
    ways = _ways(volumes, average is not None, SMOOTH in normal[0][1].others, mirrored)
    alone: dict[float, dict[str, Calibration]] = {}
    known: dict[Shown, dict[str, Calibration]] = {}
    for width in _SMOOTHINGS:
        kept = [listed(said.scores(scan, width), scan) for scan, said in normal]
        alone[width] = calibrate_parts(kept)
        usual = [(z_parts(scores, alone[width], scan), scan) for scores, scan in kept]
        known |= {way: calibrate_combined(usual, way) for way in ways if way.smoothing == width}
    kinds = (*KINDS, SPOTS) if volumes else KINDS
    found: dict[Shown, dict[str, list[float]]] = {way: {kind: [] for kind in kinds} for way in ways}
    chances: dict[str, list[float]] = {kind: [] for kind in kinds}
    cases: list[tuple[str, Prepared, Mask, _Told]] = []
    count = each * len(kinds)
    for number in range(count):
        progress(number, 3 * count)
        turn, place = divmod(number, len(kinds))
        kind = kinds[place]
        scan, where = _tuning_case(scans, kind, turn, number)
        said = told(scan)
        inside = scan.mask | where
        chances[kind].append(float(where[inside].mean()))
        cases.append(_cut(kind, scan, where, said))
        for width in _SMOOTHINGS:
            scores, tissue = listed(said.scores(scan, width), scan, inside)
            z = z_parts(scores, alone[width], tissue)
            for way in (way for way in ways if way.smoothing == width):
                shown = z_shown(z, known[way], way, tissue)
                found[way][kind].append(average_precision(shown, where[inside]))
    rows = [{"shown": way, **_means(by_kind, chances)} for way, by_kind in found.items()]
    rows.sort(key=lambda row: (-row["found"], -row["mean"]))
    width = rows[0]["shown"].smoothing
    drawn = [Tried(kind, scan, where, said.scores(scan, width)) for kind, scan, where, said in cases]
    kept = [listed(said.scores(scan, width), scan) for scan, said in normal]
    joining, outlining = (lambda done, _, before=n * count: progress(before + done, 3 * count) for n in (1, 2))
    best, joins = best_join(rows[0]["shown"], kept, alone[width], drawn, joining)
    rule, rules = best_regions(best, kept, alone[width], drawn, outlining) if volumes else (None, [])
    return Choice(best, rule, rows, joins, rules)


def _ways(volumes: bool, average: bool, smooth: bool, mirrored: bool) -> list[Shown]:
    """What is tried: of volumes with asymmetry, with the average of normal scans, and beside the map `smooth`."""
    tried = (*_PARTS, *(_WITH_SIDES if volumes else ()), *(_WITH_AVERAGE if average else ()))
    ways = [Shown(parts, rule, width, mirrored) for parts, rule in tried for width in _SMOOTHINGS]
    beside = _BESIDE_SMOOTH if smooth else ()
    return ways + [Shown(*parts, width, mirrored, (SMOOTH,)) for parts in beside for width in _SMOOTHINGS]


def _cut(kind: str, scan: Prepared, where: Mask, said: _Told) -> tuple[str, Prepared, Mask, _Told]:
    """What lies around the tissue alone: many tuning scans are kept at once. The grid is still that of the whole."""
    box = box_around(scan.mask | where, _AROUND)
    told = _Told(said.odds[box], said.typical[box], {name: score[box] for name, score in said.others.items()})
    return kind, replace(scan, voxels=scan.voxels[box], mask=scan.mask[box]), where[box], told


def _means(by_kind: dict[str, list[float]], chances: dict[str, list[float]]) -> dict[str, Any]:
    """The mean of each kind and over the kinds, and how many kinds are found far better than by chance."""
    means = {kind: float(np.nanmean(values)) for kind, values in by_kind.items()}
    found = sum(mean >= FAR * float(np.mean(chances[kind])) for kind, mean in means.items())
    return {"found": found, "kinds": len(means), "mean": float(np.mean(list(means.values()))), **means}


def in_words(choice: Choice) -> str:
    """Which way won, and by how much over each score alone, for a card."""
    best, way, joined = choice.ways[0], choice.shown, choice.joins[0]
    alone = {part: max(float(row["mean"]) for row in choice.ways if row["shown"].needed == {part}) for part in _SCORES}
    others = ", ".join(f"{value:.3f} of {name} alone" for name, value in alone.items())
    smooth = f", from answers smoothed by {way.smoothing:g} cells" if way.smoothing else ""
    told = (
        f"The map that is shown is {way.in_words()}{smooth}. It was chosen on anomalies drawn into tuning scans: of "
        f"the ways that find the most kinds ({best['found']} of {best['kinds']} at five times chance or more) the one "
        f"with the highest mean average precision ({best['mean']:.3f}, against {others}, at their best smoothing)"
    )
    if len(choice.joins) > 1:
        told += (
            f"; then what is taken off and over how many cells the mean is, so that on the kind that loses most as "
            f"much as possible ({joined['kept']:.0%}) of what the best of the parts alone finds is left, with a mean "
            f"of {joined['mean']:.3f}"
        )
    if choice.rule:
        told += (
            f". Regions have a peak {choice.rule.rarer:g} times rarer than the rate and are outlined at "
            f"{choice.rule.outline:g} of it: mean Dice {choice.rules[0]['mean']:.3f} there"
        )
    return f"{told}."
