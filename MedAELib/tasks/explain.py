"""Explain: the nearest typical scan, what differs at which scale, which voxels made the score, what the code means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..anomaly.grid import from_grid
from ..channels import fused_names
from ..engine.run import Engine
from ..errors import BadInput
from ..explain.gradients import LARGEST, integrated_gradients
from ..explain.names import endings
from ..explain.residuals import (
    SCALES,
    at_scales,
    case_score,
    is_normative,
    looked_at,
    median_of,
    nearest_typical,
    part_of,
    spread_from,
)
from ..explain.traversal import STEPS, Traversal, around, traverse
from ..features.code import Floats, Seen
from ..model import Model
from ..networks import Network
from ..networks.quantised import QuantisedAutoencoder
from ..volume import Volume
from .denoise import Progress

PARTS = ("residual", "attribution", "traversal")
_CHOICE = "The network's code is a choice among entries of a codebook"
_ENDS = (-np.inf, np.inf)  # what does not count is neither the most nor the least
_GAP = 0.05  # of the score's difference: more than the steps of a path should miss


@dataclass
class ExplainResult:
    """`outputs` by name, float32; the traversals' frames are the steps. `report` has the figures as plain values."""

    outputs: dict[str, Volume] = field(default_factory=dict)
    report: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Scan:
    """One of the scans that a network sees: its channel, the modality where there are several, and how its outputs end.

    `volume` has that scan alone, `seen` too.
    """

    number: int
    volume: Volume
    seen: Seen
    modality: str = ""
    ending: str = ""

    def of(self, found: Floats) -> Floats:
        """Its own [..., i, j, k] of what was found for all channels, [..., c, i, j, k], or for the only one."""
        return found if not self.modality else found[..., self.number, :, :, :]


def explain(
    volume: Volume,
    model: Model,
    *,
    modality: str = "",
    parts: Sequence[str] = PARTS,
    point: Sequence[float] = (),
    directions: int = 3,
    channel: int = 0,
    steps: int = 16,
    engine: Engine | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> ExplainResult:
    """What a network makes of the first frame of a volume, and why.

    The channels of a network that fuses several are its modalities, one without any finite voxel is missing. Outputs of
    the `modality` (empty: the first that is there) are called as those of other networks; those of each other one end
    in its name (`explain.names`), and "input" is there too. Each is in its own units.

    "typical" and its signed "residual_..." at three scales in mm, and beside them those of a median filter, "baseline"
    and "baseline_residual_...". `parts` adds "attribution" (integrated gradients of the case score, with `steps` points
    on the path) and "traversal" (along so many `directions`, or of one `channel` 1, 2, ..., around a `point` in RAS
    millimetres; empty: where the scan differs most). The traversal at a point alone needs nothing else, and then there
    is nothing else. A part that does not apply to the network is left out, and "left_out" says why; if nothing else was
    wanted, that is a BadInput. What is not finite in the scan counts nowhere, and is not
    finite in any output. "attribution" lies on the voxels that the network saw. `progress` may raise Cancelled.
    """
    wanted = _checked(parts, point, directions, steps, channel)
    network, engine = model.network, engine or Engine("auto", "float32")
    check_explainable(model)
    left_out = {part: reason for part in wanted if (reason := _why_not(model, part))}
    if left_out and set(wanted) == set(left_out):
        raise BadInput(next(iter(left_out.values())), "Choose another part, or another model.")
    progress("Preparing the scan", 0, 1)
    seen = looked_at(model, volume)
    scans = _scans(volume, model, seen, modality)
    made = ExplainResult(report={"left_out": left_out, **_told(volume, model, scans)})
    place = tuple(map(float, point))
    typical = None
    if not place or wanted != ["traversal"]:
        typical, different = _compare(made, network, seen, scans, engine, progress)
        place = place or different
    _check_inside(volume, seen, place)
    made.report["point"] = [round(x, 2) for x in place]
    if "attribution" in wanted and "attribution" not in left_out and typical is not None:
        _attribute(made, network, seen, scans, typical, place, steps, engine, progress)
    if "traversal" in wanted and "traversal" not in left_out:
        _traverse(made, network, seen, scans, place, directions, channel, engine, progress)
    return made


def check_explainable(model: Model) -> None:
    """Raises BadInput for a model of a task that leaves nothing to explain."""
    if model.spec.task == "translate":  # from its guess at T2, T1 would differ everywhere
        raise BadInput(
            "A translating model makes another kind of scan, so there is no typical scan to compare with.",
            "Choose a model for another task.",
        )


def _scans(volume: Volume, model: Model, seen: Seen, modality: str) -> list[Scan]:
    """The scans that are there, that of the modality first. Raises BadInput where it is not among them."""
    names = fused_names(model.spec)
    if modality and modality not in names:
        raise BadInput(f"The model does not know {modality!r:.60}.", f"It knows {', '.join(names) or 'one scan only'}.")
    if len(seen.voxels) == 1:
        return [Scan(0, volume, seen)]
    there, ends = seen.there, endings(names)
    first = names.index(modality) if modality else there[0]
    if first not in there:
        raise BadInput(f"There is no scan of {modality}.", f"There is {', '.join(names[n] for n in there)}.")
    scans = []
    for n in [first, *(n for n in there if n != first)]:
        name = volume.name if n == first else f"{volume.name} {names[n]}".strip()
        alone = volume.like(volume.array[n : n + 1], name=name, frames=False)
        scans.append(Scan(n, alone, seen.channel(n), names[n], "" if n == first else ends[names[n]]))
    return scans


def _told(volume: Volume, model: Model, scans: list[Scan]) -> dict[str, Any]:
    """The beginning of a report: notes, and which modalities there are."""
    if not scans[0].modality:
        name = volume.name or "The volume"
        several = volume.channels > 1
        return {"warnings": [f"{name} has {volume.channels} frames; only the first is explained."] if several else []}
    there = [scan.modality for scan in scans]
    missing = [name for name in fused_names(model.spec) if name not in there]
    return {
        "warnings": [f"There is no scan of {', '.join(missing)}; nothing is shown of it."] if missing else [],
        "modalities": there, "missing": missing, "further": {scan.ending: scan.modality for scan in scans[1:]},
    }  # fmt: skip


def _compare(
    made: ExplainResult, network: Network, seen: Seen, scans: list[Scan], engine: Engine, progress: Progress
) -> tuple[Floats, tuple[float, ...]]:
    """Put typical scans, baselines and residuals into the result; the typical scan, and where the scan differs most."""
    typical = nearest_typical(network, seen, engine, partial(progress, "Finding the nearest typical scan"))
    plain = np.zeros_like(typical)
    most, where, strongest = -1.0, (0.0, 0.0, 0.0), []
    for scan in scans:
        residuals = _compare_one(made, network, scan, scan.of(typical), scan.of(plain), progress)
        here, amount = _most_different(scan.seen, residuals[SCALES[-1]])
        if amount > most:
            most, where = amount, here
        strongest += _strongest(residuals, scan)
    made.report |= {"case_score": _round(case_score(seen, typical)), "baseline_score": _round(case_score(seen, plain))}
    made.report["strongest"] = strongest
    return typical, where


def _compare_one(
    made: ExplainResult, network: Network, scan: Scan, typical: Floats, plain: Floats, progress: Progress
) -> dict[float, Floats]:
    """Put what belongs to one scan into the result, and its baseline into `plain`; its residuals by their scales."""
    seen, end = scan.seen, scan.ending
    show = partial(_placed, seen, scan.volume)
    if end:
        made.outputs[f"input{end}"] = scan.volume.like(scan.volume.array.astype(np.float32))
    made.outputs[f"typical{end}"] = show(seen.intensities(typical), "nearest typical")
    residuals = at_scales(seen, typical, SCALES, partial(progress, "Smoothing"))
    plain[...] = median_of(seen, network.dims, partial(progress, "Finding the baseline"))
    for title, prefix, found in (
        ("residual", "residual", residuals),
        ("baseline residual", "baseline_residual", at_scales(seen, plain, SCALES, partial(progress, "Smoothing"))),
    ):
        for scale, voxels in found.items():
            made.outputs[f"{prefix}_{scale:g}mm".replace(".", "_") + end] = show(voxels, f"{title} {scale:g} mm")
    made.outputs[f"baseline{end}"] = show(seen.intensities(plain), "median filtered")
    if scan.modality:
        scores = (_round(case_score(seen, typical)), _round(case_score(seen, plain)))
        made.report.setdefault("scores", {})[scan.modality] = dict(zip(("case_score", "baseline_score"), scores))
    return residuals


def _checked(
    parts: Sequence[str], point: Sequence[float], directions: int, steps: int, channel: int
) -> list[str]:
    """The parts that were asked for, in their order. Raises BadInput."""
    unknown = [part for part in parts if part not in PARTS]
    if unknown:
        raise BadInput(f"The part {unknown[0]!r} is not known.", f"Known: {', '.join(PARTS)}.")
    if len(point) not in (0, 3) or not all(np.isfinite(x) for x in point):
        raise BadInput("A point has three numbers, R A S in millimetres.")
    if not 1 <= directions <= 16:
        raise BadInput(f"{directions} directions are not possible.", "Choose 1 to 16.")
    if channel < 0:
        raise BadInput(f"There is no channel {channel} of a code.", "Choose 1 or more, or 0 for the directions.")
    if not 2 <= steps <= 256:
        raise BadInput(f"A path of {steps} steps is not possible.", "Choose 2 to 256.")
    return [part for part in PARTS if part in parts]


def _why_not(model: Model, part: str) -> str:
    """Why a part does not apply to the model's network; empty when it does."""
    if isinstance(model.network, QuantisedAutoencoder):
        if part == "attribution":
            return f"{_CHOICE}, through which no gradient passes, so voxels cannot be blamed for the score."
        if part == "traversal":
            return f"{_CHOICE}, so there is no direction to move it along."
    return ""


def _placed(seen: Seen, volume: Volume, found: Floats, title: str) -> Volume:
    """What was found, in its final unit, at the input's voxels, as a volume."""
    if seen.prepared is not None:
        if seen.known is not None:  # so that a gap does not darken what lies beside it
            found = spread_from(found, seen.known)
        found = from_grid(found, seen.prepared.grid, volume)
    found = np.where(np.isfinite(volume.array[0]), found, np.float32(np.nan))
    return volume.like(found[None].astype(np.float32), name=f"{volume.name} {title}".strip(), frames=False)


def _with_gaps(seen: Seen, found: Floats) -> Floats:
    """What was found, [..., i, j, k] on the voxels that the network saw: not finite where the scan is not."""
    return found if seen.known is None else np.where(seen.known, found, np.float32(np.nan))


def _most_different(seen: Seen, residual: Floats) -> tuple[tuple[float, float, float], float]:
    """Where the size of a residual, 0 where nothing counts, is largest, in RAS millimetres; and that in the window."""
    size = np.abs(residual)
    peak = np.unravel_index(int(size.argmax()), residual.shape)
    r, a, s = (float(x) for x in (seen.affine @ [*peak, 1])[:3])
    return (r, a, s), float(size[peak]) / seen.scale


def _check_inside(volume: Volume, seen: Seen, point: Sequence[float]) -> None:
    index = (np.linalg.inv(seen.affine) @ [*point, 1])[:3]
    if (index < -0.5).any() or (index > np.array(seen.voxels.shape[1:]) - 0.5).any():
        where = " ".join(f"{x:g}" for x in point)
        raise BadInput(f"The point {where} lies outside of {volume.name or 'the volume'}.", "Name one inside.")


def _strongest(residuals: dict[float, Floats], scan: Scan) -> list[dict[str, Any]]:
    """Where the scan is most above and below what is typical, at each scale."""
    rows, seen = [], scan.seen
    named = {"modality": scan.modality} if scan.modality else {}
    for scale, voxels in residuals.items():
        above, below = (voxels if seen.counted is None else np.where(seen.counted, voxels, end) for end in _ENDS)
        for extreme in (above.argmax(), below.argmin()):
            peak = np.unravel_index(int(extreme), voxels.shape)
            r, a, s = (seen.affine @ [*peak, 1])[:3]
            rows.append({
                **named, "scale_mm": scale, "difference": _round(float(voxels[peak])),
                "r": round(float(r), 1), "a": round(float(a), 1), "s": round(float(s), 1),
            })  # fmt: skip
    return rows


def _attribute(
    made: ExplainResult, network: Network, seen: Seen, scans: list[Scan], typical: Floats, point: Sequence[float],
    steps: int, engine: Engine, progress: Progress,
) -> None:  # fmt: skip
    """Integrated gradients of the whole scan, or, of a large one, of the part around the point, seen alone."""
    told = partial(progress, "Finding which voxels made the score")
    part, box = seen, None
    if seen.voxels.size > LARGEST:
        if not network.tiles:
            reason = "The network sees the scan only as a whole, which is too large for the memory of the gradients."
            made.report["left_out"]["attribution"] = reason
            return
        voxel = np.rint((np.linalg.inv(seen.affine) @ [*point, 1])[:3]).astype(int)
        box = around(voxel, seen.voxels.shape[1:], network)
        part = part_of(seen, box)
        if part.counted is not None and not part.counted.any():
            made.report["left_out"]["attribution"] = "The point lies outside of what the network looks at."
            return
        typical = nearest_typical(network, part, engine, lambda done, total: None)
    found = integrated_gradients(network, part, typical, steps, engine, told)
    for scan in scans:
        own = part.channel(scan.number)
        shown, name = _with_gaps(own, scan.of(found.voxels))[None], f"{scan.volume.name} attribution".strip()
        if box is None and seen.prepared is None:
            made.outputs[f"attribution{scan.ending}"] = scan.volume.like(shown, name=name, frames=False)
        else:  # on the voxels that the network saw: brought to others, it would no longer add up to the score
            made.outputs[f"attribution{scan.ending}"] = Volume(shown, part.affine, {"name": name})
    made.report["attribution"] = {
        "score": _round(found.score), "score_of_typical": _round(found.typical), "completeness_gap": _round(found.gap),
        "steps": steps, "voxels": int(part.voxels[0].size), "counted": found.counted, "whole": box is None,
    }  # fmt: skip
    if found.gap > _GAP:
        made.report["warnings"].append(
            f"The attribution misses {100 * found.gap:.0f} % of the score's difference; more steps are needed."
        )


def _traverse(
    made: ExplainResult, network: Network, seen: Seen, scans: list[Scan], point: Sequence[float], directions: int,
    channel: int, engine: Engine, progress: Progress,
) -> None:  # fmt: skip
    r, a, s = point
    told, rows = partial(progress, "Moving the code"), []
    for number, found in enumerate(traverse(network, seen, (r, a, s), directions, engine, told, channel), 1):
        changes = {scan.modality: _moved(made, f"traversal_{number}", found, scan) for scan in scans}
        rows.append({
            "direction": number, "share_of_variance": _round(found.share),
            "largest_change": changes[scans[0].modality],
            **({"largest_changes": changes} if scans[0].modality else {}),
        })  # fmt: skip
    made.report["traversal"] = {"deviations": list(STEPS), "directions": rows, "channel": channel,
                                "near_the_point_only": network.tiles or is_normative(network)}  # fmt: skip


def _moved(made: ExplainResult, output: str, found: Traversal, scan: Scan) -> float:
    """Put the frames of one scan into the result; the largest change of a voxel from one to the next."""
    own = found.part.channel(scan.number)
    windowed = found.frames[:, scan.number]
    steps = np.abs(np.diff(own.differences(windowed), axis=0))
    change = steps if own.counted is None else steps[:, own.counted]
    meta = {"name": f"{scan.volume.name} {output.replace('_', ' ')}".strip(), "frames": True, "frame_spacing": 1.0}
    made.outputs[f"{output}{scan.ending}"] = Volume(_with_gaps(own, own.intensities(windowed)), own.affine, meta)
    return _round(float(change.max(initial=0)))


def _round(value: float) -> float:
    return float(f"{value:.4g}")
