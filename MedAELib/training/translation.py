"""Learning to translate: registered pairs of scans, the windows of both, held-out figures, what a gate must know."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from MedAELib.bundle import Kind, Spec, Window, fuses
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput
from MedAELib.modality import guess_modality
from MedAELib.model import Model
from MedAELib.networks import Network
from MedAELib.quality import limits, psnr, ssim
from MedAELib.tasks.translate import translate
from MedAELib.training.corruptions import uniform
from MedAELib.training.folder import Case
from MedAELib.training.sampling import Pairing, Source, middle, middle_voxels
from MedAELib.training.scans import Note
from MedAELib.translation.domain import domain, spread, standard_of, to_standard
from MedAELib.translation.intensities import MeanCurve

Floats = npt.NDArray[np.float32]

_EDGES = {2: (160, 160, 12), 3: (64, 64, 48)}
FIGURE_EDGES = (256, 256, 48)
_MOST_CASES = 4
_SEEN = 0.1  # of either window: where both scans are darker there is air
_BINS = 64
_RANKS = 1001
_SHARES = (0.0, 0.25, 0.5)  # of what intensities alone tell in a translation; the last one where nobody was held out
_NOISE = 0.08  # of the window, at most, that scans of other scanners have besides


def complete(cases: Sequence[Case], names: Sequence[str], fused: bool, note: Note) -> list[Case]:
    """The cases that a pair can be made of: all kinds are there; where missing ones may be, at least two.

    Raises BadInput when there is none.
    """
    kept = []
    for case in cases:
        missing = [name for name, scan in zip(names, case.voxels, strict=True) if not np.isfinite(scan).any()]
        if len(missing) > (len(names) - 2 if fused else 0):
            note(f"{case.name} is left out: it has no {' and no '.join(missing)}.")
        else:
            kept.append(case)
    if not kept:
        raise BadInput(f"No subject has both {names[0]} and {names[-1]}.", "The names are texts in the file names.")
    return kept


def kinds_of(
    cases: Sequence[Case], names: Sequence[str], windows: dict[str, Window], fused: bool
) -> tuple[Kind, ...]:
    """The kinds of scan in these cases: what most of them look like, their window, and their usual intensities.

    The first kind of MRI has a standard contrast too, and where several are fused each, as any may be the source.
    """
    kinds = []
    for number, name in enumerate(names):
        scans = [(case, case.voxels[number]) for case in cases if np.isfinite(case.voxels[number]).any()]
        found = Counter(guess_modality(case.volume().like(scan[None])) for case, scan in scans)
        modality = found.most_common(1)[0][0] if found else ""
        modality = modality if modality in windows else "any"
        window = windows[modality]
        low, high = np.median([limits(window, scan) for _, scan in scans], axis=0) if scans else (0.0, 1.0)
        brought = modality == "MR" and (number == 0 or fused)
        standard = standard_of([spread(scan, limits(window, scan)) for _, scan in scans]) if brought else ()
        kinds.append(Kind(name, modality, window, float(f"{low:.6g}"), float(f"{high:.6g}"), standard))
    return tuple(kinds)


def seen_as(case: Case, kinds: Sequence[Kind]) -> Source:
    """A case of all kinds of scan, each in its own window."""
    found = [
        limits(kind.window, scan) if np.isfinite(scan).any() else (0.0, 1.0)
        for kind, scan in zip(kinds, case.voxels, strict=True)
    ]
    curves = [
        to_standard(spread(scan, window), kind.standard)
        for kind, scan, window in zip(kinds, case.voxels, found, strict=True)
    ]
    return Source(case, tuple(found), curves=tuple(curves))


def from_first_to_last(magnitude: bool) -> Pairing:
    """A pairing of the first channel with the last; the first one, a magnitude, as other scanners would give it."""

    def pair(sample: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        source, target = sample[:1], sample[-1:]
        return (_as_elsewhere(source, generator) if magnitude else source), target

    return pair


def each_from_all(magnitudes: Sequence[bool]) -> Pairing:
    """A pairing of all kinds with themselves; what is shown of the magnitudes is as other scanners would give it."""

    def pair(sample: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        shown = [_as_elsewhere(one, generator) if is_one else one for one, is_one in zip(sample, magnitudes)]
        return torch.stack(shown), sample

    return pair


def _as_elsewhere(scan: Tensor, generator: Generator) -> Tensor:
    """A magnitude in another contrast and with more noise: gain 0.9 to 1.1, gamma 0.55 to 1.8, up to 8 % of noise.

    The middle of the window stays. So wide because fluid is as dark as air where slices are thin; of thick ones, where
    it hardly ever fills a voxel, a network would learn that only air is so dark. Nothing is added where a mask left
    nothing.
    """
    gamma, gain = math.exp(uniform(-0.6, 0.6, generator)), uniform(0.9, 1.1, generator)
    noise = uniform(0, _NOISE, generator) * torch.randn(scan.shape, generator=generator)
    seen = 0.5 * gain * (2 * scan.clamp(min=0)) ** gamma
    return seen + noise * (seen > 0)


def translation_validation(
    sources: Sequence[Source], network: Network, device: torch.device
) -> Callable[[nn.Module], dict[str, float]]:
    """A measure of a network: mean PSNR (dB, range 1 of the window) of translated middle boxes of up to four cases."""
    boxes = [middle_voxels(source, _EDGES[network.dims], network.volume_strides) for source in sources[:_MOST_CASES]]
    boxes = [box for box in boxes if bool(box[0].isfinite().all() and box[-1].isfinite().all())]

    @torch.no_grad()
    def measure(trained: nn.Module) -> dict[str, float]:
        found = []
        for box in boxes:
            x = (box[None] if network.dims == 3 else box.permute(3, 0, 1, 2)).contiguous().to(device)
            if network.in_channels > 1:
                present = torch.zeros(len(x), x.shape[1], device=device)
                present[:, 0] = 1
                made = trained(x, present)[:, -1]
            else:
                made = trained(x[:, :1])[:, 0]
            found.append(psnr(x[:, -1].cpu().numpy(), made.cpu().numpy(), 1.0))
        return {"held_out_psnr": float(np.mean(found))} if found else {}

    return measure


def translation_figures(
    model: Model, sources: Sequence[Source], learned: Sequence[Source], engine: Engine,
    progress: Callable[[str, int, int], None], known: Mapping[str, Any],
) -> list[dict[str, Any]]:  # fmt: skip
    """For each case PSNR (dB) and SSIM of the translation from the first kind to the last, through the task.

    Beside them those of two ways without a network, made of the scans that were learned from: the mean target intensity
    for each source intensity, and histogram matching; and, for an ensemble, how the members' deviation correlates with
    the error. The range is the target's window; the middle 256 x 256 x 48 voxels at most, without air. `known` is what
    `calibration` found.
    """
    rows, pairs = [], [source for source in learned if is_pair(source)]
    regression, matching = (conditional_mean(pairs), histogram_matching(pairs)) if pairs else (None, None)
    for number, source in enumerate(sources):
        progress("Measuring on held-out subjects", number, len(sources))
        pair = translated_pair(model, source, engine, known)
        if pair is None:
            continue
        seen, (wanted, made, deviation) = seen_scan(source, True), pair
        inside = (seen > _SEEN) | (wanted > _SEEN)
        row: dict[str, Any] = {"case": source.case.name}
        guesses = {"": made}
        if regression and matching:
            guesses |= {"regression_": regression(seen), "matching_": matching(seen_scan(source, False), inside)}
        for name, guess in guesses.items():
            row[f"{name}psnr"] = psnr(wanted, guess, 1.0, inside)
            row[f"{name}ssim"] = ssim(wanted, guess, 1.0, inside)
        if deviation is not None:
            row["uncertainty_correlation"] = correlation(np.abs(made - wanted)[inside], deviation[inside])
        rows.append(row)
    progress("Measuring on held-out subjects", len(sources), len(sources))
    return rows


def translated_pair(
    model: Model, source: Source, engine: Engine, known: Mapping[str, Any] | None = None
) -> tuple[Floats, Floats, Floats | None] | None:
    """Target, translation and, for an ensemble, its deviation, [i, j, k] each, in the target's window, of the middle of
    a case; None where it has no target or no source. `known` as for `translate`."""
    volume, box = source.case.volume(), middle(source, FIGURE_EDGES)
    first, last = volume.array[0], volume.array[-1]
    if not is_pair(source):
        return None
    wanted = hasattr(model.network, "each")
    outputs = translate(volume.like(first[None]), model, uncertainty=wanted, engine=engine, known=known)
    kind = model.spec.kinds[-1]
    made = _windowed(outputs["translated"].array[0], (kind.low, kind.high))[box]
    deviation = outputs["uncertainty"].array[0][box] / np.float32(kind.high - kind.low) if wanted else None
    return _windowed(last, source.limits[-1])[box], made, deviation


def seen_scan(source: Source, standard: bool, kind: int = 0) -> Floats:
    """The voxels [i, j, k] of a kind, the source's unless told, in the window, of the middle of a case, in the standard
    contrast or in its own."""
    scan = _windowed(source.case.voxels[kind][middle(source, FIGURE_EDGES)], source.limits[kind])
    curve = source.curves[kind] if source.curves and standard else None
    return curve(scan) if curve else scan


def _windowed(voxels: npt.NDArray[Any], window: tuple[float, float]) -> Floats:
    low, high = window
    found = (np.asarray(voxels, np.float32) - np.float32(low)) / np.float32(high - low)
    return np.nan_to_num(found, nan=0, posinf=0, neginf=0)


def conditional_mean(sources: Sequence[Source], bins: int = _BINS, standard: bool = True) -> MeanCurve:
    """A voxel-wise regression: the mean target for each source intensity, in equally full bins, linear between them.

    It is told what `seen_scan` gives: the standard contrast, or the scan's own.
    """
    return MeanCurve.of(*pairs_of(sources, standard), bins)


def histogram_matching(sources: Sequence[Source]) -> Callable[[Floats, npt.NDArray[np.bool_]], Floats]:
    """What gives a scan the histogram of these cases' targets, both where there is no air.

    It is told what `seen_scan` gives in the scan's own contrast, and a mask of what is not air.
    """
    ranks = np.linspace(0, 1, _RANKS)
    wanted = np.quantile(pairs_of(sources, False)[1], ranks)
    return lambda seen, mask: np.interp(seen, np.quantile(seen[mask], ranks), wanted).astype(np.float32)


def pairs_of(
    sources: Sequence[Source], standard: bool, way: tuple[int, int] = (0, -1), both: bool = False
) -> tuple[Floats, Floats]:
    """Voxels of source and target that are not air, of all cases that have both, in their windows.

    `way`: which kinds these are. `standard`: the source in the standard contrast, with `both` the target too.
    """
    found = []
    for source in [source for source in sources if is_pair(source, way)]:
        first, last = seen_scan(source, standard, way[0]), seen_scan(source, both, way[1])
        inside = (first > _SEEN) | (last > _SEEN)
        found.append((first[inside], last[inside]))
    return np.concatenate([x for x, _ in found]), np.concatenate([y for _, y in found])


def is_pair(source: Source, way: tuple[int, int] = (0, -1)) -> bool:
    return all(bool(np.isfinite(source.case.voxels[n]).any()) for n in way)


def correlation(one: Floats, other: Floats) -> float:
    """Pearson's correlation; 0 where one of them does not vary."""
    if not one.size or one.std() == 0 or other.std() == 0:
        return 0.0
    return float(np.corrcoef(one, other)[0, 1])


def calibration(
    model: Model, learned: Sequence[Source], held: Sequence[Source], engine: Engine, validation: Sequence[Source] = ()
) -> dict[str, Any]:
    """What the task needs of the training: the scans that were learned from, what their intensities alone tell and how
    much of it a translation takes (by the validation's errors), and the scale of the uncertainty (by those of `held`).
    """
    kinds = model.spec.kinds
    known: dict[str, Any] = {"domain": {}}
    for number in range(len(kinds) if fuses(model.spec) else 1):
        scans = [source for source in learned if np.isfinite(source.case.voxels[number]).any()]
        if scans:
            spreads = [spread(source.case.voxels[number], source.limits[number]) for source in scans]
            known["domain"][kinds[number].name] = domain(spreads, [source.case.volume().spacing for source in scans])
    known["intensities"] = {"share": _SHARES[-1], "curves": _curves(model.spec, learned)}
    known["intensities"]["share"] = _best_share(model, validation, engine, known)
    pairs = [translated_pair(model, source, engine, known) for source in held[:_MOST_CASES]]
    squares = [
        (float(np.square(made - wanted).mean()), float(np.square(deviation).mean()))
        for wanted, made, deviation in filter(None, pairs) if deviation is not None
    ]  # fmt: skip
    if squares and min(deviation for _, deviation in squares) > 0:
        error, deviation = np.mean(squares, axis=0)
        known["uncertainty"] = float(f"{np.sqrt(error / deviation):.4g}")
    return known


def _curves(spec: Spec, learned: Sequence[Source]) -> dict[str, dict[str, list[list[float]]]]:
    """By the names of the kinds from and to which the model translates, the mean target for each source intensity."""
    count, found = len(spec.kinds), dict[str, dict[str, list[list[float]]]]()
    for way in permutations(range(count), 2) if fuses(spec) else [(0, count - 1)]:
        pairs = [source for source in learned if is_pair(source, way)]
        voxels = pairs_of(pairs, True, way, fuses(spec)) if pairs else ()
        if voxels and voxels[0].size:
            curve = MeanCurve.of(*voxels)
            found.setdefault(spec.kinds[way[0]].name, {})[spec.kinds[way[1]].name] = curve.to_json()
    return found


def _best_share(model: Model, validation: Sequence[Source], engine: Engine, known: Mapping[str, Any]) -> float:
    """The share of what intensities alone tell with which the validation's errors are least; a half without any."""
    errors = np.zeros(len(_SHARES))
    for source in [source for source in validation if is_pair(source)][:_MOST_CASES]:
        network = {"intensities": {**known["intensities"], "share": 0.0}}
        found = [translated_pair(model, source, engine, some) for some in (network, known)]
        (wanted, alone, _), (_, blended, _) = (pair for pair in found if pair is not None)
        parts = [alone + np.float32(share / _SHARES[-1]) * (blended - alone) for share in _SHARES]
        errors += [float(np.square(part - wanted).mean()) for part in parts]
    return _SHARES[int(errors.argmin())] if errors.any() else _SHARES[-1]
