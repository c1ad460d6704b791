"""Explain: the nearest typical scan, what differs at which scale, which voxels made the score, what the code means."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np

from ..anomaly.grid import from_grid
from ..engine.run import Engine
from ..errors import BadInput
from ..explain.gradients import LARGEST, integrated_gradients
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
from ..explain.traversal import STEPS, around, traverse
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


def explain(
    volume: Volume,
    model: Model,
    *,
    parts: Sequence[str] = PARTS,
    point: Sequence[float] = (),
    directions: int = 3,
    channel: int = 0,
    steps: int = 16,
    engine: Engine | None = None,
    progress: Progress = lambda stage, done, total: None,
) -> ExplainResult:
    """What a network makes of the first frame of a volume, and why.

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
    if network.in_channels > 1:
        raise BadInput("A network that fuses modalities cannot be explained yet.", "Choose a model of one modality.")
    if model.spec.task == "translate":  # from its guess at T2, T1 would differ everywhere
        raise BadInput(
            "A translating model makes another kind of scan, so there is no typical scan to compare with.",
            "Choose a model for another task.",
        )
    left_out = {part: reason for part in wanted if (reason := _why_not(model, part))}
    if left_out and set(wanted) == set(left_out):
        raise BadInput(next(iter(left_out.values())), "Choose another part, or another model.")
    progress("Preparing the scan", 0, 1)
    seen = looked_at(model, volume)
    made = ExplainResult(report={"left_out": left_out, "warnings": _notes(volume)})
    place = tuple(map(float, point))
    typical = None
    if not place or wanted != ["traversal"]:
        typical, different = _compare(made, network, volume, seen, engine, progress)
        place = place or different
    _check_inside(volume, seen, place)
    made.report["point"] = [round(x, 2) for x in place]
    if "attribution" in wanted and "attribution" not in left_out and typical is not None:
        _attribute(made, model, volume, seen, typical, place, steps, engine, progress)
    if "traversal" in wanted and "traversal" not in left_out:
        _traverse(made, model, volume, seen, place, directions, channel, engine, progress)
    return made


def _compare(
    made: ExplainResult, network: Network, volume: Volume, seen: Seen, engine: Engine, progress: Progress
) -> tuple[Floats, tuple[float, ...]]:
    """Put typical scan, baseline and residuals into the result; the typical scan, and where the scan differs most."""
    typical = nearest_typical(network, seen, engine, partial(progress, "Finding the nearest typical scan"))
    show = partial(_placed, seen, volume)
    made.outputs["typical"] = show(seen.intensities(typical), "nearest typical")
    residuals = at_scales(seen, typical, SCALES, partial(progress, "Smoothing"))
    plain = median_of(seen, network.dims, partial(progress, "Finding the baseline"))
    for title, prefix, found in (
        ("residual", "residual", residuals),
        ("baseline residual", "baseline_residual", at_scales(seen, plain, SCALES, partial(progress, "Smoothing"))),
    ):
        for scale, voxels in found.items():
            made.outputs[f"{prefix}_{scale:g}mm".replace(".", "_")] = show(voxels, f"{title} {scale:g} mm")
    made.outputs["baseline"] = show(seen.intensities(plain), "median filtered")
    made.report |= {"case_score": _round(case_score(seen, typical)), "baseline_score": _round(case_score(seen, plain))}
    made.report["strongest"] = _strongest(residuals, seen)
    return typical, _most_different(seen, residuals[SCALES[-1]])


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


def _notes(volume: Volume) -> list[str]:
    if volume.channels == 1:
        return []
    return [f"{volume.name or 'The volume'} has {volume.channels} frames; only the first is explained."]


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


def _most_different(seen: Seen, residual: Floats) -> tuple[float, ...]:
    """Where the size of a residual, 0 where nothing counts, is largest, in RAS millimetres."""
    peak = np.unravel_index(int(np.abs(residual).argmax()), residual.shape)
    return tuple(float(x) for x in (seen.affine @ [*peak, 1])[:3])


def _check_inside(volume: Volume, seen: Seen, point: Sequence[float]) -> None:
    index = (np.linalg.inv(seen.affine) @ [*point, 1])[:3]
    if (index < -0.5).any() or (index > np.array(seen.voxels.shape[1:]) - 0.5).any():
        where = " ".join(f"{x:g}" for x in point)
        raise BadInput(f"The point {where} lies outside of {volume.name or 'the volume'}.", "Name one inside.")


def _strongest(residuals: dict[float, Floats], seen: Seen) -> list[dict[str, float]]:
    """Where the scan is most above and below what is typical, at each scale."""
    rows = []
    for scale, voxels in residuals.items():
        above, below = (voxels if seen.counted is None else np.where(seen.counted, voxels, end) for end in _ENDS)
        for extreme in (above.argmax(), below.argmin()):
            peak = np.unravel_index(int(extreme), voxels.shape)
            r, a, s = (seen.affine @ [*peak, 1])[:3]
            rows.append({
                "scale_mm": scale, "difference": _round(float(voxels[peak])),
                "r": round(float(r), 1), "a": round(float(a), 1), "s": round(float(s), 1),
            })  # fmt: skip
    return rows


def _attribute(
    made: ExplainResult, model: Model, volume: Volume, seen: Seen, typical: Floats, point: Sequence[float], steps: int,
    engine: Engine, progress: Progress,
) -> None:  # fmt: skip
    """Integrated gradients of the whole scan, or, of a large one, of the part around the point, seen alone."""
    network, told = model.network, partial(progress, "Finding which voxels made the score")
    part, box = seen, None
    if seen.voxels[0].size > LARGEST:
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
    shown, name = _with_gaps(part, found.voxels)[None], f"{volume.name} attribution".strip()
    if box is None and seen.prepared is None:
        made.outputs["attribution"] = volume.like(shown, name=name, frames=False)
    else:  # on the voxels that the network saw: brought to others, it would no longer add up to the score
        made.outputs["attribution"] = Volume(shown, part.affine, {"name": name})
    made.report["attribution"] = {
        "score": _round(found.score), "score_of_typical": _round(found.typical), "completeness_gap": _round(found.gap),
        "steps": steps, "voxels": int(found.voxels.size), "counted": found.counted, "whole": box is None,
    }  # fmt: skip
    if found.gap > _GAP:
        made.report["warnings"].append(
            f"The attribution misses {100 * found.gap:.0f} % of the score's difference; more steps are needed."
        )


def _traverse(
    made: ExplainResult, model: Model, volume: Volume, seen: Seen, point: Sequence[float], directions: int,
    channel: int, engine: Engine, progress: Progress,
) -> None:  # fmt: skip
    r, a, s = point
    told, rows = partial(progress, "Moving the code"), []
    for number, found in enumerate(traverse(model.network, seen, (r, a, s), directions, engine, told, channel), 1):
        part, steps = found.part, np.abs(np.diff(found.part.differences(found.frames), axis=0))
        change = steps if part.counted is None else steps[:, part.counted]
        frames = _with_gaps(part, part.intensities(found.frames))
        meta = {"name": f"{volume.name} traversal {number}".strip(), "frames": True, "frame_spacing": 1.0}
        made.outputs[f"traversal_{number}"] = Volume(frames, part.affine, meta)
        rows.append({
            "direction": number, "share_of_variance": _round(found.share),
            "largest_change": _round(float(change.max(initial=0))),
        })  # fmt: skip
    made.report["traversal"] = {"deviations": list(STEPS), "directions": rows, "channel": channel,
                                "near_the_point_only": _local(model)}  # fmt: skip


def _local(model: Model) -> bool:
    return model.network.tiles or is_normative(model.network)


def _round(value: float) -> float:
    return float(f"{value:.4g}")
