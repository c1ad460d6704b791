"""From a folder of normal scans to a normative model: the plan of its training, and the calibrated model at its end."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

from MedAELib.anomaly.asymmetry import ASYMMETRY
from MedAELib.anomaly.average import AVERAGE, average_of
from MedAELib.anomaly.calibration import calibrations, z_of
from MedAELib.anomaly.figures import average_precision
from MedAELib.anomaly.grid import Floats
from MedAELib.anomaly.normals import FEW, learn_normals, scores_of, z_maps
from MedAELib.anomaly.prepare import SPACING, Prepared, prepare, prepare_body, prepare_images
from MedAELib.anomaly.shown import Shown
from MedAELib.anomaly.smoothness import SMOOTH
from MedAELib.bundle import Spec, Window
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput, MedAEError
from MedAELib.model import Model
from MedAELib.networks import build
from MedAELib.networks.normative import NormativeAutoencoder
from MedAELib.training.anomalies import KINDS
from MedAELib.training.anomaly import ARGUMENTS, BATCHES, batches, objective, validation
from MedAELib.training.card import Course, folder_told, listed
from MedAELib.training.choose_map import choose_shown, drawn_case, in_words
from MedAELib.training.folder import Case, Split
from MedAELib.training.glimpse import typical_slice
from MedAELib.training.parallel import shareable
from MedAELib.training.plan import Plan
from MedAELib.training.recipes import Recipe

Progress = Callable[[str, int, int], None]

_RECIPE = Recipe("what is unlike normal scans", terms={}, arguments={2: ARGUMENTS, 3: ARGUMENTS}, learning_rate=1e-3)
_MOST = 50  # scans that are measured one by one: more make no difference
_EACH = 2  # drawn anomalies of each kind for the figures
_TRIED = 4  # of each kind, to choose the map
_PLAIN = ("bright", "contrast", ASYMMETRY, SMOOTH, AVERAGE)  # the maps that need no network

LICENCE = """As the training data

The weights in this folder were made from the volumes named in docs/README.md; their licences and consents apply.
"""


@dataclass
class AnomalyPlan(Plan):
    """The plan of a normative model, with the prepared scans of each part; `pixel` is the edge in mm of what it works
    on, 0 for brains."""

    scans: dict[str, list[Prepared]] | None = None
    pixel: float = 0.0

    def part(self, name: str) -> list[Prepared]:
        """The prepared scans of training, validation or test."""
        return (self.scans or {})[name]


def make_anomaly_plan(options: argparse.Namespace, parts: Split, device: torch.device) -> AnomalyPlan:
    """The plan of a normative model of the scans in the folder.

    Files of one slice each are images (2D); what is no such file among them, or cannot be prepared, ends the training.
    Raises BadInput, also when there is only one subject, BadModel for odd arguments.
    """
    if not parts.validation:
        raise BadInput("One subject is not enough: another calibrates the maps.", "Add scans, or see --subject.")
    cases = [*parts.training, *parts.validation, *parts.test]
    flat = all(case.voxels.shape[-1] == 1 for case in cases)
    dims = options.dims or (2 if flat else 3)
    arguments = {**ARGUMENTS, **options.arguments}
    modalities = {case.modality for case in cases}
    modality = options.modality or (modalities.pop() if len(modalities) == 1 else "any")
    pixel = _pixel(cases, dims, modality)
    scans = {name: [_prepared(case, dims, pixel) for case in getattr(parts, name)] for name in vars(parts)}
    spec = Spec("normative", arguments, dims, "anomaly", modality if modality in ("CT", "MR") else "any",
                Window("fixed", 0.0, 1.0))  # fmt: skip
    measure = validation(scans["validation"])

    def validate(network: nn.Module) -> dict[str, float]:
        found = measure(network)
        return {"held_out_ap": float(np.mean(list(found.values()))), **found}

    network = build("normative", dims, arguments).to(device)
    assert isinstance(network, NormativeAutoencoder)
    return AnomalyPlan(
        spec, network, _RECIPE, {}, batches(scans["training"], options.seed), lambda steps: objective, validate, None,
        [], None, False, device, "held_out_ap", typical_slice(scans["validation"][0], network, device),
        scans=scans, pixel=pixel, samples=shareable(BATCHES[dims]),
    )  # fmt: skip


def _pixel(cases: Sequence[Case], dims: int, modality: str) -> float:
    """The edge in mm of what the model works on: the usual pixel of images, the usual voxel of CT (of 2 mm at least, as
    for brains); 0 where that is fixed."""
    if dims == 2:
        return float(np.median([np.linalg.norm(case.affine[:3, :2], axis=0).mean() for case in cases]))
    if modality != "CT":
        return 0.0
    edges = [float(abs(np.linalg.det(case.affine[:3, :3]))) ** (1 / 3) for case in cases]
    return max(SPACING, round(float(np.median(edges)), 1))


def _prepared(case: Case, dims: int, pixel: float) -> Prepared:
    """The case as the network sees it. Raises BadInput that names the file."""
    try:
        if dims == 2:
            return prepare_images(case.volume(), pixel)
        return prepare_body(case.volume(), pixel) if pixel else prepare(case.volume())
    except MedAEError as error:
        raise BadInput(f"{case.name} cannot be learned from: {error}", "Take it out of the folder.") from error


def write_anomaly_model(
    options: argparse.Namespace, plan: Plan, network: nn.Module, history: list[dict[str, Any]], parts: Split,
    unfit: list[str], course: Course, progress: Progress,
) -> Model:  # fmt: skip
    """Choose the map, calibrate, measure on the test subjects and write the folder, wholly or not at all."""
    assert isinstance(plan, AnomalyPlan)
    plan.network.load_state_dict(network.state_dict())
    model = Model(plan.spec, plan.network.eval())
    model.network.half().float()  # what will be stored
    engine, held_out = Engine(str(plan.device), "float32"), plan.part("validation")[:_MOST]
    seen = plan.part("training")[:_MOST]

    def told(stage: str) -> Callable[[int, int], None]:
        return lambda done, total: progress(stage, done, total)

    choice = choose_shown(
        model, held_out, seen=seen, each=_TRIED, mirrored=plan.spec.dims == 3, engine=engine,
        progress=told("Choosing the map"),
    )  # fmt: skip
    shown = choice.shown
    known = learn_normals(model, held_out, shown, seen=seen, engine=engine, progress=told("Calibrating"))
    known |= choice.to_json()
    if plan.pixel:
        known["pixel"] = float(f"{plan.pixel:.6g}")
    tested = plan.part("test")[:_MOST]
    figures = measured(model, tested, known, shown, engine, told("Measuring")) if tested else {}
    name = re.sub(r"[^A-Za-z0-9._-]", "-", options.name or options.output.name).lstrip("._-")[:64] or "model"
    weakness = weakness_of(figures)
    limits = [*([weakness] if weakness else []), *limits_of(parts, held_out, figures)]
    card = _card(name, options, plan, parts, history, unfit, course, in_words(choice), figures, limits)
    plan.network.cpu().half()
    saved = Model(plan.spec, plan.network).save(
        options.output, name=name, card=card, licence=LICENCE, figures=figures, limits=limits, calibration=known,
        weakness=weakness,
        description=f"Shows what is unlike {len(parts.training)} normal scans of one's own (research use).",
        training_data=[case.name for case in parts.training][:_MOST],
    )  # fmt: skip
    assert saved.bundle is not None
    mean = f", mean average precision {_mean(figures):.3f}" if figures else ""
    print(f"{options.output}: normative {plan.spec.dims}D{mean}, {saved.bundle.sha256[:12]}")
    return saved


def measured(
    model: Model, scans: Sequence[Prepared], known: dict[str, Any], shown: Shown, engine: Engine,
    progress: Callable[[int, int], None],
) -> dict[str, Any]:  # fmt: skip
    """Average precision of every map by kind of drawn anomaly, and the share of normal tissue above the threshold."""
    spread, total, average = calibrations(known), _EACH * len(KINDS) + len(scans), average_of(known)

    def maps(scan: Prepared) -> dict[str, Floats]:
        return z_maps(scores_of(scan, model, engine, shown, average=average), spread, shown, scan)

    found: dict[str, dict[str, list[float]]] = {kind: {} for kind in KINDS}
    for number in range(_EACH * len(KINDS)):
        progress(number, total)
        kind = KINDS[number % len(KINDS)]
        scan, where = drawn_case(scans[number % len(scans)], kind, [4242, number])
        inside = scan.mask | where
        for name, z in maps(scan).items():
            found[kind].setdefault(name, []).append(average_precision(z[inside], where[inside]))
    above: dict[str, list[float]] = {}
    for number, scan in enumerate(scans):
        progress(_EACH * len(KINDS) + number, total)
        for name, z in maps(scan).items():
            above.setdefault(name, []).append(float((z[scan.mask] > z_of(0.01)).mean()))
    progress(total, total)
    table = {kind: {name: round(float(np.mean(v)), 3) for name, v in maps.items()} for kind, maps in found.items()}
    return {**table, "normal tissue above 1 %": {name: float(f"{np.mean(v):.3g}") for name, v in above.items()}}


def weakness_of(figures: Mapping[str, Any]) -> str:
    """That the model does not help, in a sentence: where the first map finds no more of what is drawn into held-out
    scans, as a mean over the kinds, than the best of those that need no network; else empty."""
    if not figures:
        return ""
    means = {name: float(np.mean([figures[kind][name] for kind in KINDS])) for name in figures[KINDS[0]]}
    first, best = next(iter(means)), max((name for name in means if name in _PLAIN), key=means.__getitem__)
    if means[first] > means[best]:
        return ""
    return (
        f"Not good enough to help: of what is drawn into held-out scans its map finds no more than {best} alone "
        f"(mean average precision {means[first]:.3f}, {means[best]:.3f})."
    )


def limits_of(parts: Split, held_out: Sequence[Prepared], figures: dict[str, Any]) -> list[str]:
    """What to know before using the model, each as one sentence."""
    found = [
        f"Learned from {len(parts.training)} scans: a map shows what is unlike these, which is no disease by itself.",
        f"The maps, the choice between them and the stop rest on {len(held_out)} other scans.",
    ]
    if len(held_out) < FEW:
        found.append(f"Fewer than {FEW} scans calibrate it: rates of false alarms are uncertain.")
    if not figures:
        found.append("There were only two subjects: nothing was measured on a third.")
    return found


def _mean(figures: dict[str, Any]) -> float:
    """Of the first map over the kinds."""
    return float(np.mean([next(iter(figures[kind].values())) for kind in KINDS]))


def _card(
    name: str, options: argparse.Namespace, plan: AnomalyPlan, parts: Split, history: list[dict[str, Any]],
    unfit: list[str], course: Course, choice: str, figures: dict[str, Any], limits: list[str],
) -> str:  # fmt: skip
    """The card as Markdown; for research use."""
    length = f"--minutes {options.minutes:g}" if options.minutes is not None else f"--steps {options.steps}"
    what = shlex.quote(folder_told(options.folder))
    command = f"python -m MedAELib train {what} --task anomaly {length} --seed {options.seed}"
    lines = [f"# {name}", "", f"A normative autoencoder ({plan.spec.dims}D). For research use; not a medical device."]
    lines += ["", "## Training", "", f"`{command}`", ""]
    done = history[-1]["step"] if history else 0
    lines += [f"{done} steps in {course.seconds:.0f} s on {course.device}. {course.end}", ""]
    for part, names in parts.told().items():
        lines.append(f"- {part}: {len(names)} scans{listed(names)}")
    lines += ["", "No subject is in two parts.", ""]
    lines += ["Left out:", "", *(f"- {sentence}" for sentence in unfit), ""] if unfit else []
    lines += ["## The map", "", choice, "", "## Held-out figures", "", *_table(figures), ""]
    lines += ["## Limits", "", *(f"- {sentence}" for sentence in limits), ""]
    lines += ["## Licence", "", "The weights were made from the scans above; their licences and consents apply.", ""]
    return "\n".join(lines)


def _table(figures: dict[str, Any]) -> list[str]:
    if not figures:
        return ["None: nothing was held out for a test."]
    names = list(next(iter(figures.values())))
    lines = [f"| average precision | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    return lines + [f"| {kind} | " + " | ".join(f"{row[n]:.3g}" for n in names) + " |" for kind, row in figures.items()]
