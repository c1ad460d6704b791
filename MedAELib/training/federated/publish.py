"""The model that a federation made: an ordinary model folder with a card from what happened."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MedAELib.errors import BadInput
from MedAELib.model import Model
from MedAELib.networks import build
from MedAELib.training.card import counted, table, thinned
from MedAELib.training.federated.federation import Federation
from MedAELib.training.federated.outcome import Outcome
from MedAELib.training.federated.site import Site
from MedAELib.training.held_out import told_box
from MedAELib.training.result import LICENCE, Progress, held_out_figures


@dataclass(frozen=True)
class SiteStory:
    """What is known of a site afterwards: its volumes in parts, why others were left out, the model's figures there."""

    split: Mapping[str, Sequence[str]]
    unfit: Sequence[str]
    figures: Sequence[Mapping[str, Any]]


def model_of(outcome: Outcome) -> Model:
    """The model with the federation's weights. Raises BadInput when they belong to another network."""
    spec = outcome.federation.spec()
    network = build(spec.network, spec.dims, spec.arguments)
    try:
        network.load_state_dict(outcome.weights)
    except RuntimeError as error:
        raise BadInput("The weights do not belong to the network of the job.", "Name one finished job.") from error
    return Model(spec, network.eval())


def story_of(site: Site, model: Model, unfit: Sequence[str], progress: Progress) -> SiteStory:
    """Measure the model on the volumes that a site of this machine held out."""
    return SiteStory(site.parts.told(), unfit, held_out_figures(site.plan, model, progress))


def publish(outcome: Outcome, sites: Mapping[str, SiteStory], output: Path, seconds: float | None) -> Model:
    """Write the model folder, wholly or not at all. Without `sites` nothing was measured here, and the card says so."""
    model = model_of(outcome)
    name = re.sub(r"[^A-Za-z0-9._-]", "-", output.name).lstrip("._-")[:64] or "model"
    rows = [{"site": site, **row} for site, story in sites.items() for row in story.figures]
    means = {key: round(float(np.mean([row[key] for row in rows])), 4) for key in _figures(rows)}
    taking_part = sorted({site for row in outcome.rounds for site in row["sites"]}) or sorted(sites)
    return model.save(
        output,
        name=name,
        description=f"A {model.spec.network} autoencoder ({model.spec.dims}D), trained at {len(taking_part)} sites "
        "that shared weights only (research use).",
        card=_card(name, outcome, model, sites, rows, seconds),
        licence=LICENCE,
        figures={**means, "cases": len(rows), "measured_on": "held-out volumes of the sites"} if rows else {},
        limits=_limits(outcome, bool(rows)),
        training_data=[f"the volumes of site {site}" for site in taking_part],
    )


def _figures(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return [name for name in rows[0] if name not in ("site", "case")] if rows else []


def _limits(outcome: Outcome, measured: bool) -> list[str]:
    found = ["Learned from the scanners of its sites only; nothing is known of how it does on others."]
    if not measured:
        found.append("The final weights were not measured; the last figures are of those that began the last round.")
    if outcome.federation.privacy == "none":
        found.append("The weights travelled without a privacy filter; they can hold traces of single volumes.")
    elif outcome.federation.privacy == "percentile":
        found.append("The percentile filter limits what an update tells, without a guarantee, and costs quality.")
    else:
        found.append("The svt filter protects each round's update within its settings only, and costs quality.")
    if outcome.federation.spec().task != "denoise":
        found.append("A reconstruction is no measurement: what the code does not hold is missing or made up.")
    return found


def _card(
    name: str, outcome: Outcome, model: Model, sites: Mapping[str, SiteStory], rows: list[dict[str, Any]],
    seconds: float | None,
) -> str:  # fmt: skip
    """The card as Markdown; for research use."""
    federation, spec = outcome.federation, model.spec
    kind = {"CT": "CT", "MR": "MRI"}.get(spec.modality, "CT or MRI")
    parameters = sum(parameter.numel() for parameter in model.network.parameters())
    parts = [f"# {name}", ""]
    parts += [f"A {spec.network} autoencoder ({spec.dims}D) for {kind}, task: {spec.task}. For research use; not a "
              "medical device.", "", "## Training", ""]  # fmt: skip
    took = f" in {seconds:.0f} s, simulated on one machine" if seconds is not None else ""
    parts += [
        f"Federated averaging by NVIDIA FLARE: {len(outcome.rounds)} rounds{took}; in each every site made "
        f"{federation.steps} steps from the mean of all, with its own optimizer. {parameters} parameters travelled, no "
        f"volume did; a site counts as many times as it has training volumes. {_momentum(federation)} "
        f"Seed {federation.seed}. "
        f"{_privacy(federation)}",
        "",
        f"`federate {' '.join(['simulate --sites', *sites]) if sites else 'export'} {_command(federation)}`",
        "",
    ]  # fmt: skip
    for site, story in sites.items():
        for part in ("training", "validation", "test"):
            names = story.split[part]
            shown = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
            parts.append(f"- {site}, {part}: {counted(len(names), 'volume')}{': ' if names else ''}{shown}")
        parts += [f"- {site}, left out: {sentence}" for sentence in story.unfit]
    parts += ["", "At no site is a subject in two parts.", ""] if sites else _volumes(outcome)
    parts += ["## Rounds", "", "Means over the sites, as the weights are weighted; the PSNR (dB, validation subjects) "
              "is of the weights that began the round.", "", *table(_curve(outcome)), ""]  # fmt: skip
    parts += ["## Held-out figures", ""]
    if rows:
        paired = bool(federation.corrupt) or federation.learn_from != "clean"
        box = told_box(model.network, federation.learn_from, paired)
        parts += [f"Of the final weights, in {box}, on each site's test subjects (validation subjects where it has no "
                  "others).", "", *table(rows)]  # fmt: skip
    else:
        parts += ["None of the final weights: only the sites can measure them."]
    parts += ["", "## Limits", "", *(f"- {sentence}" for sentence in _limits(outcome, bool(rows))), ""]
    parts += ["## Licence", "", "The weights were made from the volumes above; their licences and consents apply.", ""]
    return "\n".join(parts)


def _momentum(federation: Federation) -> str:
    if not federation.momentum:
        return "The mean of the sites was taken as it is."
    told = f"Nesterov momentum {federation.momentum:g}"
    return f"The server carried each mean on in the direction of the rounds before ({told})."


def _privacy(federation: Federation) -> str:
    if federation.privacy == "none":
        return "No privacy filter was used."
    settings = ", ".join(f"{name} {value:g}" for name, value in federation.privacy_settings.items())
    return f"Every update passed FLARE's {federation.privacy} filter ({settings})."


def _command(federation: Federation) -> str:
    """The options that make this federation again, wherever its volumes lie."""
    words = [f"--network {federation.network} --dims {federation.dims} --modality {federation.modality}"]
    words.append(f"--rounds {federation.rounds} --steps-per-round {federation.steps} --seed {federation.seed}")
    for name, value in federation.arguments.items():
        words.append(f"--set {name}={json.dumps(value, separators=(',', ':'))}")
    if federation.terms:
        words.append("--objective " + ",".join(f"{name}={weight:g}" for name, weight in federation.terms.items()))
    if federation.corrupt:
        words.append(f"--corrupt {' '.join(federation.corrupt)}")
    if federation.learn_from != "clean":
        words.append(f"--learn-from {federation.learn_from}")
    if federation.subject:
        words.append(f"--subject '{federation.subject}'")
    words.append(f"--momentum {federation.momentum:g}")
    if federation.privacy != "none":
        words.append(f"--privacy {federation.privacy}")
        words += [f"--privacy-set {name}={value:g}" for name, value in federation.privacy_settings.items()]
    return " ".join(words)


def _curve(outcome: Outcome) -> list[dict[str, Any]]:
    """A line for each round, with each site's PSNR."""
    lines = []
    for row in thinned(outcome.rounds):
        line = {name: value for name, value in row.items() if name != "sites"}
        found = {site: told.get("held_out_psnr", "") for site, told in sorted(row["sites"].items())}
        lines.append({**line, **{f"{site} psnr": value for site, value in found.items()}})
    return lines


def _volumes(outcome: Outcome) -> list[str]:
    """How many volumes each site learned from, as it told the server."""
    last = outcome.rounds[-1]["sites"] if outcome.rounds else {}
    return [*(f"- {site}: {told['volumes']:g} training volumes" for site, told in sorted(last.items())), ""]
