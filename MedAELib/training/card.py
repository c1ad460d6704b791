"""The card of a trained model, written from what really happened."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from MedAELib.plain import plain_text
from MedAELib.translation.intensities import BINS

_ROWS = 12  # of the curve
_BESIDE = {  # figures of what needs no training, which a model has to beat
    "regression_psnr": "plain regression of the intensities",
    "matching_psnr": "histogram matching",
    "noisy_psnr": "the noisy scan as it is",
    "shown_psnr": "what the network is shown, as it is,",
}
_FROM_NOISE = {  # what stays of the noise where it was learned from noisy scans
    "blind-spot": "It learned from noisy scans alone; noise that neighbouring voxels share is taken for anatomy.",
    "neighbours": "It learned from noisy scans alone; noise that neighbouring voxels share is taken for anatomy.",
    "repeats": "It learned from repeated noisy scans; what all repeats share is kept, and what moved is blurred.",
}


@dataclass(frozen=True)
class Course:
    """How a training went, with all runs of one that was resumed: why it ended in a sentence, seconds, and devices."""

    end: str
    seconds: float
    device: str


@dataclass(frozen=True)
class Story:
    """What a training was: its command, its data in parts, its steps, curve and figures, and what was left out.

    `split` lists the volumes of training, validation and test; `subjects` how many people (or objects) are in each.
    `unfit` are the sentences on volumes that were left out, `box` says which voxels the figures are of.
    """

    name: str
    command: str
    network: str
    dims: int
    modality: str
    task: str
    parameters: int
    objective: str
    split: Mapping[str, Sequence[str]]
    subjects: Mapping[str, int]
    steps: int
    course: Course
    history: Sequence[Mapping[str, Any]]
    figures: Sequence[Mapping[str, Any]]
    measured_on: str
    unfit: Sequence[str]
    kinds: Sequence[str] = ()  # of a translation: first what it takes, last what it makes
    channels: Sequence[str] = ()  # of a fusion: what they are, in their order
    members: int = 1
    share: float = 0.0  # of a translation: what intensities alone tell
    share_chosen: bool = False  # by the validation subjects
    learn_from: str = "clean"
    box: str = ""
    sha256: str = ""


def summary(story: Story) -> dict[str, Any]:
    """The figures for the model folder: means over the held-out cases; empty where nothing was held out."""
    if not story.figures:
        return {}
    names = [name for name in story.figures[0] if name != "case"]
    means = {name: round(float(np.mean([row[name] for row in story.figures])), 4) for name in names}
    return {**means, "cases": len(story.figures), "measured_on": story.measured_on}


def limits(story: Story) -> list[str]:
    """What to know before using the model, each as one sentence."""
    learned = f"{counted(len(story.split['training']), 'volume')} of {counted(story.subjects['training'], 'subject')}"
    found = [f"Learned from {learned} only; nothing is known of how it does on other scanners or parts of the body."]
    if story.measured_on == "":
        found.append(f"{_unmeasured(story)}, so no figure says how good the model is.")
    elif story.measured_on == "validation":
        found.append("There were only two subjects: the figures are of the one that also decided when to stop.")
    found += _beaten(summary(story))
    if story.learn_from in _FROM_NOISE:
        found += [_FROM_NOISE[story.learn_from], "The figures compare with scans that are as noisy themselves."]
    elif story.task == "denoise":
        found.append("The clean scans that it learned from hold noise of their own, which caps what was learned.")
    elif story.task == "translate":
        found += [
            f"A translation is a guess, no measurement: what {story.kinds[0]} does not show is made up or missing, and "
            "a lesion may be invented or lost.",
            "Of MRI the unit of what is made is that of the training scans, not that of the scanner in use.",
        ]
        if "uncertainty_correlation" in summary(story):
            found.append("The uncertainty shows where the members disagree; errors that all make are not seen in it.")
    else:
        found.append("A reconstruction is no measurement: what the code does not hold is missing or made up.")
    return found


def _unmeasured(story: Story) -> str:
    """Why there are no figures, as the beginning of a sentence."""
    if story.split.get("validation") or story.split.get("test"):
        return f"No held-out subject has both {story.kinds[0]} and {story.kinds[-1]}"
    return "Nothing was held out: there was only one subject"


def _beaten(figures: Mapping[str, Any]) -> list[str]:
    """That the model does not help, where what needs no training is as good."""
    return [
        f"It does not help yet: {what} is as good or better on the held-out subjects ({figures[name]:.2f} against "
        f"{figures['psnr']:.2f} dB). Train it longer, or on more volumes."
        for name, what in _BESIDE.items()
        if figures.get(name, -np.inf) >= figures.get("psnr", np.inf)
    ]


def card(story: Story) -> str:
    """The card as Markdown; for research use."""
    parts = [f"# {story.name}", "", f"{title(story)} For research use; not a medical device.", "", "## Training", ""]
    parts += [f"`{plain_text(story.command)}`", ""]
    parts += [
        f"{story.parameters} parameters; objective: {story.objective}; {story.steps} steps in "
        f"{story.course.seconds:.0f} s on {story.course.device}. {story.course.end}",
        "",
        f"SHA-256 of specification and weights: `{story.sha256}`.",
        "",
    ]
    if story.kinds:
        told = "best on the validation subjects" if story.share_chosen else "nobody was left to choose that by"
        parts += [
            f"{100 * story.share:.0f} % of a translation is what intensities alone tell (the mean target in each of "
            f"{BINS} bins of the source), the rest is the network's: {told}.",
            "",
        ]
    if story.channels:
        told = f"The channels of a volume are {', '.join(story.channels)}, in this order"
        parts += [f"{told}; one that is missing holds no finite number.", ""]
    for part in ("training", "validation", "test"):
        names = story.split[part]
        people = counted(story.subjects[part], "subject")
        parts.append(f"- {part}: {counted(len(names), 'volume')} of {people}{listed(names)}")
    parts += ["", "No subject is in two parts.", ""]
    if story.unfit:
        parts += ["Left out:", "", *(f"- {sentence}" for sentence in story.unfit), ""]
    parts += ["## Learning curve", "", *table(thinned(story.history)), "", "## Held-out figures", ""]
    if story.figures:
        box = story.box
        if story.kinds:
            box = "the middle 256 x 256 x 48 voxels at most, without air; the regression maps each intensity to a "
            box += "mean, and the matching gives the scan the histogram of the training targets"
        parts += [f"Of the {story.measured_on} subjects, in {box}.", ""]
        parts += table(story.figures)
    else:
        parts += [f"None. {_unmeasured(story)}."]
    parts += ["", "## Limits", "", *(f"- {sentence}" for sentence in limits(story)), ""]
    parts += ["## Licence", "", "The weights were made from the volumes above; their licences and consents apply.", ""]
    return "\n".join(parts)


def counted(number: int, thing: str) -> str:
    """So many of a thing, in words: 1 volume, 2 volumes."""
    return f"{number} {thing}" if number == 1 else f"{number} {thing}s"


def listed(names: Sequence[str]) -> str:
    """The first of the names after a colon, without letters that would break the line; nothing where there is none."""
    more = f" and {len(names) - 20} more" if len(names) > 20 else ""
    return f": {plain_text(', '.join(names[:20]))}{more}" if names else ""


def folder_told(folder: Path | None) -> str:
    """The folder of volumes in a command that anybody may see: its name; FOLDER where it has none, as in a scene."""
    return (Path(os.path.normpath(folder.absolute())).name if folder else "") or "FOLDER"


def without_place(sentence: str, folder: Path | None) -> str:
    """A sentence on a file with the file's name only: where it lies on this computer is nobody else's matter."""
    for place in {str(folder), str(folder.resolve())} if folder else ():
        sentence = re.sub(rf"(?<![^\s'\"(]){re.escape(place)}[/\\]", "", sentence)
        if len(Path(place).parts) > 1:
            sentence = sentence.replace(place, Path(place).name)
    return re.sub(r"(?<![^\s'\"(])([A-Za-z]:\\|/)([^\s/\\]+[/\\])+", "", sentence)


def title(story: Story) -> str:
    """What the model is, as one sentence."""
    if story.task == "translate":
        many = f", {story.members} members" if story.members > 1 else ""
        return f"Translates {story.kinds[0]} to {story.kinds[-1]} ({story.network}, {story.dims}D{many})."
    kind = {"CT": "CT", "MR": "MRI"}.get(story.modality, "CT or MRI")
    return f"A {story.network} autoencoder ({story.dims}D) for {kind}, task: {story.task}."


def thinned(history: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most a dozen lines of the history, the last one among them."""
    if len(history) <= _ROWS:
        return list(history)
    return [history[round(n)] for n in np.linspace(0, len(history) - 1, _ROWS)]


def table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The rows as lines of a Markdown table, with the names of the last one."""
    if not rows:
        return ["No step was measured."]
    names = list(rows[-1])
    lines = ["| " + " | ".join(name.replace("_", " ") for name in names) + " |", "|---" * len(names) + "|"]
    return [*lines, *("| " + " | ".join(_shown(row.get(name, "")) for name in names) + " |" for row in rows)]


def _shown(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else plain_text(str(value))
