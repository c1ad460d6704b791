"""Put a trained normative model into its folder, calibrated: `python -m MedAELib.training.publish_anomaly ...`.

--model NAME       brain-t1-anomaly (default) or head-neck-ct-anomaly
--training FOLDER  of MedAELib.training.anomaly (last.pt), or
--weights MODEL    a model whose weights are calibrated anew
--output FOLDER    the model folder, such as Resources/Models/brain-t1-anomaly; replaced as a whole
--figures FILE     anomaly.json of Testing/benchmarks/anomaly.py; alone it puts them into the card of OUTPUT
--population       alone: the model in OUTPUT gets the calibration in one unit for all scans; all else stays
--data FOLDER      as for the training: the held-out normal scans calibrate the maps
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from MedAELib.anomaly.average import average_of
from MedAELib.anomaly.calibrate import LEARNED
from MedAELib.anomaly.names import POPULATION
from MedAELib.anomaly.normals import learn_normals, listed, maps_and_cases, scores_of
from MedAELib.anomaly.shown import shown_of
from MedAELib.bundle import Spec, Window
from MedAELib.engine.run import Engine
from MedAELib.errors import MedAEError
from MedAELib.model import Model
from MedAELib.training.anomaly import ARGUMENTS, blocks_of
from MedAELib.training.anomaly_cards import ABOUT
from MedAELib.training.anomaly_cohorts import COHORTS
from MedAELib.training.choose_map import choose_shown, in_words
from MedAELib.training.cohort import data_folder

_EACH = 12  # drawn anomalies of each kind: which map is shown, and what makes a region, rest on them
_MAKING, _FIGURES = "## Training\n", "## Held-out figures\n"  # the parts of a card
_LIMITS, _LICENCE = "\n## Limits", "\n## Licence"


def published(name: str, kept: Model, making: str, output: Path, data: Path, found: dict[str, Any] | None) -> Model:
    """Write a model of this name with the weights of another, in float16, calibrated, as a model folder; `making` says
    how the weights were made. Raises MedAEError."""
    about, cohort = ABOUT[name], COHORTS[name]
    model = _with(kept.network.state_dict(), cohort.modality)
    model.network.half().float()  # calibrate what will be stored
    figures = _summary(found) if found else {}
    tuning, seen = cohort.scans(data, cohort.calibration), cohort.scans(data, cohort.training)
    choice = choose_shown(model, tuning, seen=seen, each=_EACH)
    print(choice.tried(), flush=True)
    known = {**learn_normals(model, tuning, choice.shown, seen=seen), **choice.to_json(), LEARNED: cohort.learned}
    if cohort.modality == "CT":
        known["pixel"] = cohort.spacing
    model.network.half()
    licence, address = about.licence
    return model.save(
        output,
        name=name,
        description=about.description,
        card=_card(name, making, figures, in_words(choice)),
        licence=f"{licence}\n\nThe weights in this folder are licensed under {licence}, {address}\n"
        "The scans they were trained on are named in docs/README.md with their own licences.\n",
        figures=figures,
        calibration=known,
        limits=list(about.limits),
        training_data=list(about.training_data),
        weakness=about.weakness,
    )


def told(name: str, folder: Path, figures: dict[str, Any]) -> Model:
    """The model in the folder once more, with figures and the limits as they are known now: neither its weights nor its
    calibration change. Raises MedAEError."""
    model, summary = Model.load(folder), _summary(figures)
    assert model.bundle is not None
    before, after = model.bundle.card.split(_FIGURES)[0], model.bundle.card.split(_LICENCE)[1]
    card = f"{before}{_FIGURES}{_table(summary)}{_LIMITS}\n{_listed(ABOUT[name].limits)}\n{_LICENCE}{after}"
    return _again(name, folder, model, card, summary, model.bundle.calibration)


def with_population(name: str, folder: Path, data: Path) -> Model:
    """The model in the folder once more, with the calibration in one unit for all scans, by the scans that calibrated
    it and the map that it shows; nothing else changes. Raises MedAEError."""
    model, cohort = Model.load(folder), COHORTS[name]
    assert model.bundle is not None
    known = model.bundle.calibration
    shown, average, engine = shown_of(known), average_of(known), Engine("cpu", "float32")
    scans = cohort.scans(data, cohort.calibration)
    kept = [listed(scores_of(scan, model, engine, shown, average=average), scan) for scan in scans]
    more = {POPULATION: maps_and_cases(kept, shown, own_unit=False)}
    return _again(name, folder, model, model.bundle.card, dict(model.bundle.figures), {**known, **more})


def _again(
    name: str, folder: Path, model: Model, card: str, figures: dict[str, Any], calibration: Mapping[str, Any]
) -> Model:
    """Write the model that was read from the folder with another card, figures or calibration; its weights stay."""
    about = ABOUT[name]
    assert model.bundle is not None
    model.network.half()
    return model.save(
        folder, name=name, description=about.description, card=card, licence=(folder / "LICENSE").read_text(),
        figures=figures, calibration=calibration, limits=list(about.limits),
        training_data=list(model.bundle.training_data), weakness=about.weakness,
    )  # fmt: skip


def _weights(name: str, training: Path | None, weights: str) -> tuple[Model, str]:
    """The averaged weights of a training, or those of a model, and how they were made."""
    if training is None:
        model = Model.load(weights)
        if model.bundle is not None and model.bundle.name == name:
            return model, model.bundle.card.split(_MAKING)[1].split("\n\n- ")[0]
        return model, ABOUT[name].making
    kept = torch.load(training / "last.pt", map_location="cpu", weights_only=True)
    model = _with(kept["averaged"], COHORTS[name].modality)
    return model, ABOUT[name].making.replace("STEPS", str(kept["step"]))


def _with(weights: Mapping[str, Tensor], modality: str) -> Model:
    """A normative model with these weights, and as many blocks as they are for."""
    arguments = {**ARGUMENTS, "blocks": blocks_of(weights)}
    model = Model.create(Spec("normative", arguments, 3, "anomaly", modality, Window("fixed", 0.0, 1.0)))
    model.network.load_state_dict(weights)
    return model


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    """Mean average precision by kind and map, and on the real case."""
    table: dict[str, Any] = {}
    for kind in dict.fromkeys(row["kind"] for row in found["drawn"]):
        rows = [row["maps"] for row in found["drawn"] if row["kind"] == kind]
        table[kind] = {name: round(float(np.mean([row[name]["ap"] for row in rows])), 3) for name in rows[0]}
    for scan, maps in found["real"].items():
        table[f"multiple sclerosis, {scan}"] = {name: round(values["ap"], 3) for name, values in maps.items()}
    return table


def _card(name: str, making: str, figures: dict[str, Any], choice: str) -> str:
    about = ABOUT[name]
    return f"""# {name}

{about.summary} For research use; not a medical device.

{_MAKING}{making}

{_listed(about.training_data)}

{about.parts} No subject is in two parts.

## The map
{choice} ({about.tuning}.)

{_FIGURES}{_table(figures)}{_LIMITS}
{_listed(about.limits)}
{_LICENCE}
The weights: {" ".join(about.licence)} (the sources above keep their own).
"""


def _listed(lines: Sequence[str]) -> str:
    return "\n".join(f"- {line}" for line in lines)


def _table(figures: dict[str, Any]) -> str:
    if not figures:
        return "Not measured yet.\n"
    names = list(next(iter(figures.values())))
    lines = [f"| anomaly | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for kind, row in figures.items():
        lines.append(f"| {kind} | " + " | ".join(f"{row[n]:.3f}" if n in row else "" for n in names) + " |")
    known = ("combined", "unlike", "residual", "average", "asymmetry", "smooth", "bright", "contrast")
    others = ", ".join(f"`{name}`" for name in names if name not in known)
    smooth = "`smooth` (how little fine detail), " if "smooth" in names else ""
    peers = f"; {others}: residuals of such autoencoders, which `train` made of the same people" if others else ""
    return f"""Average precision (1 is perfect, chance is the share of tissue, 0.1 to 1 %) of each map on drawn
anomalies of 3 to 6 cells radius, on many spots of 1 to 3 at once, and on real lesions, made by
`Testing/benchmarks/anomaly.py`. `{names[0]}` is the map that is shown, `unlike` the model's log-odds, `residual` scan
minus typical scan; `average` how far the scan is from the mean of the training scans; `asymmetry` (how far from the
other side), {smooth}`bright` and `contrast` are baselines without any training{peers}.

{chr(10).join(lines)}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    summary = __doc__.split("\n", 1)[0]
    parser = argparse.ArgumentParser(prog="python -m MedAELib.training.publish_anomaly", description=summary)
    parser.add_argument("--model", choices=COHORTS, default=next(iter(COHORTS)))
    parser.add_argument("--training", type=Path, default=None)
    parser.add_argument("--weights", default="")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--figures", type=Path, default=None)
    parser.add_argument("--population", action="store_true")
    parser.add_argument("--data", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    name, found = chosen.model, json.loads(chosen.figures.read_text()) if chosen.figures else None
    try:
        if chosen.training or chosen.weights:
            kept, making = _weights(name, chosen.training, chosen.weights)
            published(name, kept, making, chosen.output, chosen.data or data_folder(), found)
        elif found:
            told(name, chosen.output, found)
        elif chosen.population:
            with_population(name, chosen.output, chosen.data or data_folder())
        else:
            parser.error("name --training, --weights, --figures or --population")
    except MedAEError as error:
        print(f"{error} {error.next_step}", file=sys.stderr)
        return 2
    print(f"{chosen.output}: {name}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
