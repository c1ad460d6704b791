"""The end of a training: the model folder with its held-out figures and its card."""

from __future__ import annotations

import argparse
import re
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from torch import nn

from MedAELib.channels import names_of
from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.training.card import Course, Story, card, counted, folder_told, limits, summary, title
from MedAELib.training.command import PATIENCE
from MedAELib.training.folder import Case, Split
from MedAELib.training.held_out import figures, paired_figures, told_box
from MedAELib.training.noisy import denoising_figures
from MedAELib.training.plan import Plan
from MedAELib.training.translation import calibration, is_pair, translation_figures

Progress = Callable[[str, int, int], None]

LICENCE = """As the training data

The weights in this folder were made from the volumes named in docs/README.md; their licences and consents apply.
"""


def write_model(
    options: argparse.Namespace, plan: Plan, network: nn.Module, history: list[dict[str, Any]], parts: Split,
    unfit: list[str], course: Course, progress: Progress,
) -> Model:  # fmt: skip
    """Measure the trained network on the held-out subjects and write its folder, wholly or not at all."""
    plan.network.load_state_dict(network.state_dict())
    model = Model(plan.spec, plan.network.eval())
    known = None
    if plan.spec.task == "translate":
        learned, validation = plan.sources["training"], plan.sources["validation"]
        engine = Engine(str(plan.device), "float32")
        known = calibration(model, learned, validation or plan.tested, engine, validation)
    rows = held_out_figures(plan, model, progress, known)
    story = Story(
        name=re.sub(r"[^A-Za-z0-9._-]", "-", options.name or options.output.name).lstrip("._-")[:64] or "model",
        command=_command(options),
        network=options.network,
        dims=plan.spec.dims,
        modality=plan.spec.modality,
        task=plan.spec.task,
        parameters=sum(parameter.numel() for parameter in plan.network.parameters()),
        objective=" + ".join(f"{weight:g} {name}" for name, weight in plan.terms.items()) or "relative noise error",
        split=parts.told(),
        subjects={name: len({case.subject for case in getattr(parts, name)}) for name in parts.told()},
        steps=history[-1]["step"] if history else 0,
        course=course,
        history=history,
        figures=rows,
        measured_on=("test" if parts.test else "validation") if rows else "",
        unfit=unfit,
        kinds=[kind.name for kind in plan.spec.kinds],
        channels=names_of(plan.spec),
        members=options.members,
        share=known["intensities"]["share"] if known else 0.0,
        share_chosen=known is not None and any(map(is_pair, plan.sources["validation"])),
        learn_from=options.learn_from,
        box=told_box(plan.network, options.learn_from, plan.pairing is not None),
        sha256=model.sha256,
    )
    volumes = counted(len(parts.training), "volume")
    saved = Model(plan.spec, plan.network.cpu()).save(
        options.output,
        name=story.name,
        description=f"{title(story)[:-1]}, trained on {volumes} of one's own (research use).",
        card=card(story),
        licence=LICENCE,
        figures=summary(story),
        limits=limits(story),
        training_data=_data(parts.training),
        calibration=known,
    )
    assert saved.bundle is not None
    means = "".join(f", {name} {value:g}" for name, value in summary(story).items() if isinstance(value, float))
    print(f"{options.output}: {story.network} {story.dims}D, {story.steps} steps{means}, {saved.bundle.sha256[:12]}")
    return saved


def held_out_figures(
    plan: Plan, model: Model, progress: Progress, known: Mapping[str, Any] | None = None
) -> list[dict[str, Any]]:
    """The figures of each held-out case, of the kind that fits what the network is for; `known` as for `translate`."""
    engine = Engine(str(plan.device), "float32")
    if plan.spec.network == "denoising":
        return denoising_figures(model, plan.tested, engine, progress)
    if plan.spec.task == "translate":
        return translation_figures(model, plan.tested, plan.sources["training"], engine, progress, known or {})
    if plan.pairing:
        return paired_figures(plan.tested, model.network, plan.fused, plan.pairing, plan.device)
    return figures(model, plan.tested, engine, progress)


def _command(options: argparse.Namespace) -> str:
    """The command that makes this model again, without where the data lie on this computer."""
    words = ["train", folder_told(options.folder)]
    words += ["--start", Path(options.start).name] if options.start else ["--network", options.network]
    words += ["--dims", options.dims]
    words += ["--steps", options.steps] if options.minutes is None else ["--minutes", f"{options.minutes:g}"]
    words += ["--size", options.size] if options.size else []
    words += ["--seed", options.seed]
    for setting in options.set:
        words += ["--set", setting]
    for name in ("objective", "subject", "modality"):
        words += [f"--{name}", getattr(options, name)] if getattr(options, name) else []
    for name in ("modalities", "condition", "corrupt"):
        if getattr(options, name) and not (name == "modalities" and len(options.modalities) == len(options.translate)):
            words += [f"--{name}", *getattr(options, name)]
    words += ["--table", Path(options.table).name] if options.table else []
    words += ["--translate", *options.translate, "--members", options.members] if options.translate else []
    words += ["--learn-from", options.learn_from] if options.learn_from != "clean" else []
    for name, usual in (("precision", "float32"), ("patience", PATIENCE)):
        words += [f"--{name}", getattr(options, name)] if getattr(options, name) != usual else []
    return "python -m MedAELib " + shlex.join(map(str, words))


def _data(cases: list[Case]) -> list[str]:
    """The training volumes by name, at most fifty of them."""
    names = [case.name for case in cases]
    return names[:50] + ([f"and {len(names) - 50} more"] if len(names) > 50 else [])
