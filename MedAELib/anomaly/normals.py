"""What a model must know of normal scans: how its scores are spread, what the gate compares with, which map to show."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np

from ..engine.run import Engine
from ..model import Model
from .anatomies import ANATOMIES, Anatomies
from .average import AVERAGE, Average
from .calibration import Calibration
from .case_score import case_score
from .gate import measures, population
from .grid import Floats
from .masks import Mask, box_around
from .names import POPULATION
from .prepare import Prepared
from .scores import Scores, mean_within, model_scores
from .shown import COMBINED, TOGETHER, Shown

_MARGIN = 4  # cells around the mask
FEW = 20  # normal scans: with fewer, the rate of false alarms of a new scan is uncertain

Progress = Callable[[int, int], None]


def silent(done: int, total: int) -> None:
    """Nobody watches."""


def scores_of(
    prepared: Prepared, model: Model, engine: Engine, shown: Shown, progress: Progress = silent,
    average: Average | None = None,
) -> Scores:  # fmt: skip
    """The scores of a scan as the shown map needs them, with that of the average of normal scans if there is one."""
    found = model_scores(prepared, model, engine, progress, mirrored=shown.mirrored, smoothing=shown.smoothing)
    return with_average(found, prepared, average)


def with_average(scores: Scores, prepared: Prepared, average: Average | None) -> Scores:
    """The scores, and how far the scan is from the average of normal scans if there is one."""
    more = {} if average is None else {AVERAGE: average.score(prepared)}
    return Scores({**scores.maps, **more}, scores.typical)


def calibrate_parts(
    normals: Sequence[tuple[Scores, Prepared]], own_unit: bool = True
) -> dict[str, Calibration]:
    """The calibration of every map but the combined one by the scores of normal scans.

    Volumes are measured in units of their own, so that what is focal stands out, unless `own_unit` is False; images in
    one unit for all, as most of an image may be unlike.
    """
    own = own_unit and normals[0][1].dims == 3
    return {
        name: Calibration.of([(scores.maps[name], scan.mask) for scores, scan in normals], own)
        for name in normals[0][0].maps
    }


def calibrate_combined(
    normals: Sequence[tuple[Mapping[str, Floats], Prepared]], shown: Shown, own_unit: bool = True
) -> dict[str, Calibration]:
    """What the combined map needs besides the calibration of its parts, from the z of these in normal scans."""
    own = own_unit and normals[0][1].dims == 3
    found: dict[str, Calibration] = {}
    if shown.name == COMBINED:
        for name in (TOGETHER, COMBINED) if TOGETHER in shown.needed else (COMBINED,):
            scores = [(_score(name, z, found, shown, scan), scan.mask) for z, scan in normals]
            found[name] = Calibration.of(scores, own)
    return found


def calibrate_maps(
    normals: Sequence[tuple[Scores, Prepared]], shown: Shown, own_unit: bool = True
) -> dict[str, Calibration]:
    """The calibration of every map by the scores of normal scans; that of the combined map rests on its parts'."""
    found = calibrate_parts(normals, own_unit)
    z = [(z_parts(scores, found, scan), scan) for scores, scan in normals]
    return {**found, **calibrate_combined(z, shown, own_unit)}


def maps_and_cases(
    normals: Sequence[tuple[Scores, Prepared]], shown: Shown, own_unit: bool = True
) -> dict[str, Any]:
    """The calibrations of the maps and the case scores of normal scans, as a model folder holds them: in each scan's
    own unit, or all in that of the population."""
    known = calibrate_maps(normals, shown, own_unit)
    cases = [case_score(z_maps(scores, known, shown, scan)[shown.name], scan.mask) for scores, scan in normals]
    return {"maps": {name: calibration.to_json() for name, calibration in known.items()}, "cases": cases}


def z_parts(
    scores: Scores, known: Mapping[str, Calibration], scan: Prepared, quiet: Mask | None = None
) -> dict[str, Floats]:
    """The maps of z by name, but for the combined one; the scan's own units are those within `quiet`, if given."""
    return {name: known[name].z(score, scan.mask, quiet) for name, score in scores.maps.items() if name in known}


def z_shown(
    z: Mapping[str, Floats], known: Mapping[str, Calibration], shown: Shown, scan: Prepared, quiet: Mask | None = None
) -> Floats:
    """The map of z that is shown first, from those of the others; `quiet` as in `z_parts`."""
    return (
        known[COMBINED].z(_score(COMBINED, z, known, shown, scan, quiet), scan.mask, quiet)
        if shown.name == COMBINED
        else z[shown.name]
    )


def z_maps(
    scores: Scores, known: Mapping[str, Calibration], shown: Shown, scan: Prepared, quiet: Mask | None = None
) -> dict[str, Floats]:
    """All maps of z by name, the one that is shown first; `quiet` as in `z_parts`."""
    maps = z_parts(scores, known, scan, quiet)
    return {shown.name: z_shown(maps, known, shown, scan, quiet), **maps}


def _score(
    name: str, z: Mapping[str, Floats], known: Mapping[str, Calibration], shown: Shown, scan: Prepared,
    quiet: Mask | None = None,
) -> Floats:  # fmt: skip
    """The score of the parts together, or that of the combined map: with the z of what stands beside them."""
    score = shown.together(z)
    if name == TOGETHER:
        return score
    if shown.besides:
        score = known[TOGETHER].z(score, scan.mask, quiet) if TOGETHER in shown.needed else score
        score = shown.with_besides(score, z)
    return _agreeing(score, scan, shown.agreement) if shown.agreement else score


def _agreeing(score: Floats, scan: Prepared, width: float) -> Floats:
    """The Gaussian mean of what is above 0, over so many cells within the mask: of a map, or of a list of places."""
    if scan.places is None:
        box = box_around(scan.mask, _MARGIN)
        found = np.zeros_like(score)
        found[box] = mean_within(np.maximum(score[box], 0), scan.mask[box], width, scan.dims)
        return found
    whole, mask = np.zeros(scan.places.shape, np.float32), np.zeros(scan.places.shape, bool)
    whole[scan.places], mask[scan.places] = score, scan.mask
    return _agreeing(whole, replace(scan, mask=mask, places=None), width)[scan.places]


def learn_normals(
    model: Model,
    held_out: Sequence[Prepared],
    shown: Shown,
    *,
    seen: Sequence[Prepared] = (),
    average: Average | None = None,
    engine: Engine | None = None,
    progress: Progress = silent,
) -> dict[str, Any]:
    """The `calibration` of a model folder from prepared normal scans.

    Maps, case scores (those of volumes also in one unit for all) and the largest odds rest on the `held_out` scans;
    those that were `seen` in the training count for what is usual in contrast and anatomy, too, and for the average
    scan, which is the given one where none was seen; images have none. `progress(done, total)` counts scans and may
    raise Cancelled.
    """
    engine, scans = engine or Engine("cpu"), [*held_out, *seen]
    measured, kept = [], []
    if seen and held_out[0].dims == 3:
        average = Average.of(seen)
    for number, scan in enumerate(scans):
        progress(number, len(scans))
        progress_of = partial(_told, progress, number, len(scans))
        scores = scores_of(scan, model, engine, shown, progress_of, average)
        measured.append(measures(scan, scores))
        if number < len(held_out):
            kept.append(listed(scores, scan))
    progress(len(scans), len(scans))
    volumes = held_out[0].dims == 3
    bodies = held_out[0].hounsfield and volumes  # of a brain the mask says that it is one
    anatomies = Anatomies.of([measure["coarse"] for measure in measured]) if bodies else None
    return {
        **maps_and_cases(kept, shown),
        "shown": shown.to_json(),
        **({POPULATION: maps_and_cases(kept, shown, own_unit=False)} if volumes else {}),
        "gate": population(measured),
        **({} if average is None else {AVERAGE: average.to_json()}),
        **({} if anatomies is None else {ANATOMIES: anatomies.to_json()}),
    }


def _told(progress: Progress, number: int, count: int, done: int, total: int) -> None:
    """Tells the scan, whatever is done of it: so that the progress can cancel within one."""
    progress(number, count)


def listed(scores: Scores, scan: Prepared, places: Mask | None = None) -> tuple[Scores, Prepared]:
    """Scores and scan as lists of the voxels of the tissue, or of these places: fifty scans must be held at once."""
    places = scan.mask if places is None else places
    tissue = replace(scan, voxels=scan.voxels[places], mask=scan.mask[places], places=places)
    return Scores({name: score[places] for name, score in scores.maps.items()}), tissue
