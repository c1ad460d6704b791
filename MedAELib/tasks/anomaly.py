"""Anomaly: where a scan is unlike normal ones, as a calibrated map, regions, and the nearest typical scan."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import numpy.typing as npt

from ..anomaly.artefacts import artefacts
from ..anomaly.average import average_of
from ..anomaly.calibration import calibrations, in_one_unit, own_z, z_of
from ..anomaly.case_score import ENOUGH, case_score, case_scores_of, percentile, sentence
from ..anomaly.gaps import not_finite
from ..anomaly.gate import doubts
from ..anomaly.grid import Floats, from_grid
from ..anomaly.hidden import hidden_place, quiet_part
from ..anomaly.names import CALIBRATIONS, POPULATION, SCAN
from ..anomaly.normals import scores_of, z_maps
from ..anomaly.prepare import Prepared, prepared_for
from ..anomaly.regions import PLAIN, Placed, Region, regions_on, rule_of
from ..anomaly.scores import Scores, baseline_scores
from ..anomaly.shown import COMBINED, shown_of
from ..engine.run import Engine
from ..errors import BadInput
from ..model import Model
from ..volume import Volume
from .denoise import Progress

LEAST_ML = 0.1
_FOREIGN = 3.0  # times the rate: normal scans of the same scanner have up to twice as much


@dataclass
class AnomalyResult:
    """What was found, in the input's geometry.

    `map` is z, float32: 0 is normal, and `threshold` is exceeded by the chosen share of normal tissue. `others` are the
    further maps by name, made and calibrated alike. `labels` are the regions, uint8, `typical` the nearest typical scan
    in the input's units (None without a model), `residual` scan minus typical scan.
    """

    map: Volume
    threshold: float
    labels: Volume
    regions: list[Region]
    others: dict[str, Volume] = field(default_factory=dict)
    typical: Volume | None = None
    residual: Volume | None = None
    report: dict[str, Any] = field(default_factory=dict)


def anomaly(
    volume: Volume,
    model: Model | None,
    *,
    rate: float = 0.01,
    least_ml: float = LEAST_ML,
    calibration: str = SCAN,
    engine: Engine | None = None,
    progress: Progress = lambda stage, done, total: None,
    prepared: Prepared | None = None,
) -> AnomalyResult:
    """Find where the first channel of a scan is unlike normal ones.

    `rate` is the share of normal tissue that may lie above the threshold (false alarms), where scores are expressed in
    the scan's own unit, or with the `calibration` "population" in that of the normal scans, as images always are.
    Without a model the plain intensity, which is strong on FLAIR, is the map; then the rate is only nominal, as the
    report says. `prepared` is the scan on its grid, where that is known already.
    Raises BadInput, BadModel, OutOfMemory; `progress` may raise Cancelled.
    """
    threshold = z_of(rate)
    if not 0 <= least_ml < math.inf:
        raise BadInput(f"The smallest region of {least_ml:g} ml is not possible.", "Choose 0 or more.")
    known = _known(model, calibration)
    progress("Preparing the scan", 0, 1)
    if prepared is None or (model is not None and model.spec.dims != prepared.dims):
        prepared = prepared_for(volume, model)
    scores, maps = _scored(prepared, model, known, engine or Engine(), progress)
    progress("Finding regions", 0, 1)
    found = _found(volume, maps, prepared, model, known, scores, rate, least_ml)
    if model and calibration == SCAN:  # in whose own unit what is large hides itself
        quiet = quiet_part(_alone(maps), found.labels, prepared)
        if quiet is not None:
            maps = z_maps(scores, calibrations(known), shown_of(known), prepared, quiet)
            found = _found(volume, maps, prepared, model, known, scores, rate, least_ml)
    first, shown_z = next(iter(maps.items()))
    # Without a model z is no rarity.
    regions = found.regions if model else [replace(region, rate=None) for region in found.regions]
    result = AnomalyResult(
        map=_placed(shown_z, prepared, volume, "anomaly map"),
        threshold=threshold,
        labels=volume.like(found.on_voxels[None], name=f"{volume.name} regions".strip(), frames=False),
        regions=regions,
        others={name: _placed(z, prepared, volume, f"{name} map") for name, z in maps.items() if name != first},
    )
    if scores.typical is not None:
        result.typical = _placed(prepared.intensities(scores.typical), prepared, volume, "nearest typical")
        residual = prepared.differences(prepared.voxels - scores.typical)
        result.residual = _placed(residual, prepared, volume, "residual")
    told_unit = POPULATION if prepared.dims == 2 and model else calibration
    result.report = {
        "false_alarm_rate": rate, "calibration": told_unit, "threshold": _meaning(rate, told_unit, model, known),
        **_report(volume, model, known, prepared, scores, shown_z, result),
    }  # fmt: skip
    result.report["warnings"] += _between(found.between)
    if told_unit == SCAN:  # in which what is large was measured on right scans
        result.report["warnings"] += _hidden(model, _alone(maps), first, found.labels, prepared)
    elif calibration == POPULATION:
        result.report["warnings"] += _foreign(result.report["above_threshold"], rate)
    return result


def _found(
    volume: Volume, maps: Mapping[str, Floats], prepared: Prepared, model: Model | None, known: Mapping[str, Any],
    scores: Scores, rate: float, least_ml: float,
) -> Placed:  # fmt: skip
    """The regions of the map that is shown first."""
    rule = PLAIN if model is None else rule_of(known)
    peak = rule.peak(rate) if prepared.dims == 3 else None
    z, typical = next(iter(maps.values())), scores.typical
    return regions_on(volume, z, z_of(rate), prepared, least_ml, typical, peak, rule.outline, _alone(maps))


def _alone(maps: Mapping[str, Floats]) -> dict[str, Floats]:
    """The maps that are made of one score."""
    return {name: z for name, z in maps.items() if name != COMBINED}


def _foreign(above: float, rate: float) -> list[str]:
    """That a scan is unlike the normal scans as a whole, so that their rate means nothing, as a list of one or none."""
    if above <= _FOREIGN * rate:
        return []
    return [
        f"{100 * above:.3g} % of the tissue lies above the threshold, which {100 * rate:.3g} % of that of the normal "
        "scans does: the scan comes from another scanner or protocol, and the rate does not hold (choose scores "
        "relative to this scan), or very much of it is unlike normal."
    ]


def _known(model: Model | None, calibration: str) -> Mapping[str, Any]:
    """What the model knows of normal scans, in this unit; nothing without a model. Raises BadInput, BadModel."""
    if calibration not in CALIBRATIONS:
        told = f"The calibration {calibration!r:.60} is not known."
        raise BadInput(told, f"Known calibrations: {', '.join(CALIBRATIONS)}.")
    if model is None and calibration == POPULATION:
        told = "Without a model no normal scans are known, in whose unit scores could be expressed."
        raise BadInput(told, "Name a model, or choose the calibration scan.")
    known = model.bundle.calibration if model and model.bundle else {}
    return in_one_unit(known) if model and calibration == POPULATION and model.spec.dims == 3 else known


def _scored(
    prepared: Prepared, model: Model | None, known: Mapping[str, Any], engine: Engine, progress: Progress
) -> tuple[Scores, dict[str, Floats]]:
    """The scores of the scan, and all maps of z by name, the one that is shown first."""
    if model is None:
        scores = baseline_scores(prepared)
        return scores, {name: own_z(score, prepared.mask) for name, score in scores.maps.items()}
    shown, told = shown_of(known), partial(progress, "Comparing with normal scans")
    scores = scores_of(prepared, model, engine, shown, told, average_of(known))
    return scores, z_maps(scores, calibrations(known), shown, prepared)


def _meaning(rate: float, calibration: str, model: Model | None, known: Mapping[str, Any]) -> str:
    """What lies above the threshold, in a sentence."""
    threshold, normals = z_of(rate), len(case_scores_of(known))
    if model is None:
        return f"z {threshold:.2f} is nominal: so many robust standard deviations of this scan above its median."
    told = f"{100 * rate:.3g} % of normal tissue lies above z {threshold:.2f}"
    if calibration == SCAN:
        return f"{told}, where each scan's scores are expressed in its own unit."
    scans = {0: "normal scans", 1: "1 normal scan"}.get(normals, f"{normals} normal scans")
    return (
        f"{told}, where scores are expressed in the unit of the model's {scans}: what makes the whole of this scan "
        "unlike these, as another scanner does, counts, too."
    )


def _weakness(model: Model | None) -> list[str]:
    """That the model is not good enough to help, where it says so of itself, as a list of one sentence or none."""
    bundle = model.bundle if model else None
    return [f"The card of {bundle.name} says: {bundle.weakness}"] if bundle and bundle.weakness else []


def _between(count: int) -> list[str]:
    """That regions lie where no voxel of the scan does, as a list of one sentence or none."""
    if not count:
        return []
    told = "1 region is" if count == 1 else f"{count} regions are"
    return [f"{told} left out: between the voxels of this coarse scan, none of which shows it."]


def _placed(voxels: Floats, prepared: Prepared, volume: Volume, title: str) -> Volume:
    """A map of the grid where the input is, at the input's voxels."""
    return volume.like(
        from_grid(voxels, prepared.grid, volume)[None], name=f"{volume.name} {title}".strip(), frames=False
    )


def _report(
    volume: Volume, model: Model | None, known: Mapping[str, Any], prepared: Prepared, scores: Scores, z: Floats,
    made: AnomalyResult,
) -> dict[str, Any]:
    tissue = float(prepared.mask.sum())
    above = float((z[prepared.mask] > made.threshold).mean())
    warnings = [*_weakness(model), *doubts(prepared, scores, known if model else None)]
    if told := not_finite(volume, "air" if prepared.hounsfield else "0"):
        warnings.append(told)
    warnings += artefacts(volume, prepared)
    if volume.channels > 1:
        warnings.append(f"{volume.name or 'The volume'} has {volume.channels} frames; only the first is looked at.")
    score, normals = case_score(z, prepared.mask), case_scores_of(known)
    return {
        "task": "anomaly",
        "input": volume.name,
        "model": model.bundle.name if model and model.bundle else "none",
        "model_sha256": model.bundle.sha256 if model and model.bundle else "",
        "map": "unlike the training data" if model else "brightness",
        "shown": shown_of(known).in_words() if model else "the map bright",
        "region_looked_at": _looked_at(prepared),
        "tissue_ml": round(tissue * prepared.grid.cell_ml, 1),
        "threshold_z": round(made.threshold, 3),
        "above_threshold": float(f"{above:.4g}"),
        "regions": len(made.regions),
        "case_score": score,
        "case_percentile": percentile(score, normals) if len(normals) >= ENOUGH else None,
        "case_normals": len(normals),
        "case": sentence(score, normals),
        "warnings": warnings,
    }


def _hidden(
    model: Model | None, singles: dict[str, Floats], first: str, labels: npt.NDArray[Any], prepared: Prepared
) -> list[str]:
    """What a single map shows and the first map does not, as a list of one sentence or none; without a model z tells
    nothing of what is normal."""
    others = {name: z for name, z in singles.items() if name != first}
    told = hidden_place(others, labels, prepared) if model else ""
    return [told] if told else []


def _looked_at(prepared: Prepared) -> str:
    if prepared.dims == 2:
        return "the image"
    if prepared.hounsfield:
        return "body"
    return "brain" if prepared.brain else "all that is not air"
