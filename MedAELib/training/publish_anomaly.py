"""Put a trained normative model into its folder, calibrated: `python -m MedAELib.training.publish_anomaly ...`.

--training FOLDER  of MedAELib.training.anomaly (last.pt)
--output FOLDER    the model folder, such as Resources/Models/brain-t1-anomaly; replaced as a whole
--figures FILE     anomaly.json of Testing/benchmarks/anomaly.py (optional)
--data FOLDER      as for the training: the held-out normal scans calibrate the maps
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from MedAELib.anomaly.normals import learn_normals
from MedAELib.bundle import Spec, Window
from MedAELib.errors import MedAEError
from MedAELib.model import Model
from MedAELib.training.anomaly import ARGUMENTS, CALIBRATION, TRAINING, subjects
from MedAELib.training.choose_map import choose_shown, in_words
from MedAELib.training.cohort import data_folder

NAME = "brain-t1-anomaly"
LICENCE = ("CC BY-SA 4.0", "https://creativecommons.org/licenses/by-sa/4.0/")
TRAINING_DATA = [
    "IXI 012, 013, 014, 015, 039: T1-weighted heads, healthy adults, 2 mm (CC BY-SA 3.0, brain-development.org)",
    "studyforrest: one healthy adult, T1-weighted, defaced, 1 mm (PDDL)",
]
LIMITS = [
    "Trained on six healthy adults from two scanners: much that is normal (age, sex, variants) was never seen. A map "
    "shows what is unlike these six, which is not the same as disease.",
    "Calibrated on one further subject, on whom the map was chosen, too: rates of false alarms below 0.1 % are "
    "extrapolated, and how usual a scan is as a whole is known beside one normal scan only.",
    "T1-weighted MRI without contrast agent only; whole heads or brains without their skull, at about 2 mm.",
    "Small, low-contrast lesions (multiple sclerosis) are mostly missed: see the figures.",
    "Nothing outside the brain is looked at, and nothing smaller than about 3 mm.",
    "Mirrored sides (left for right) are not noticed.",
    "Dark places at the surface of the brain may be taken for fluid around it and left out of what is looked at.",
]


def published(training: Path, output: Path, data: Path, found: dict[str, Any] | None) -> Model:
    """Write the averaged weights in float16, with calibration and gate, as a model folder. Raises MedAEError."""
    kept = torch.load(training / "last.pt", map_location="cpu", weights_only=True)
    model = Model.create(Spec("normative", ARGUMENTS, 3, "anomaly", "MR", Window("fixed", 0.0, 1.0)))
    model.network.load_state_dict(kept["averaged"])
    model.network.half().float()  # calibrate what will be stored
    figures = _summary(found) if found else {}
    tuning = subjects(data, CALIBRATION)
    shown, ways = choose_shown(model, tuning)
    print(in_words(ways), flush=True)
    known = learn_normals(model, tuning, shown, seen=subjects(data, TRAINING))
    model.network.half()
    name, address = LICENCE
    return model.save(
        output,
        name=NAME,
        description="Shows where a T1-weighted brain is unlike healthy ones (research use).",
        card=_card(kept["step"], figures, in_words(ways)),
        licence=f"{name}\n\nThe weights in this folder are licensed under {name}, {address}\n"
        "The scans they were trained on are named in docs/README.md with their own licences.\n",
        figures=figures,
        calibration=known,
        limits=LIMITS,
        training_data=TRAINING_DATA,
    )


def _summary(found: dict[str, Any]) -> dict[str, Any]:
    """Mean average precision by kind and map, and on the real case."""
    table: dict[str, Any] = {}
    for kind in dict.fromkeys(row["kind"] for row in found["drawn"]):
        rows = [row["maps"] for row in found["drawn"] if row["kind"] == kind]
        table[kind] = {name: round(float(np.mean([row[name]["ap"] for row in rows])), 3) for name in rows[0]}
    for scan, maps in found["real"].items():
        table[f"multiple sclerosis, {scan}"] = {name: round(values["ap"], 3) for name, values in maps.items()}
    return table


def _card(steps: int, figures: dict[str, Any], choice: str) -> str:
    data, limits = ("\n".join(f"- {line}" for line in lines) for lines in (TRAINING_DATA, LIMITS))
    return f"""# {NAME}

A normative autoencoder for T1-weighted brains (3D, 2 mm). For research use; not a medical device.

## Training
`python -m MedAELib.training.anomaly --steps {steps}`, on a CPU. Pieces of brains were turned, scaled and recontrasted;
bright, dark, textured, blurred, copied and bulging places were drawn into them; the network learned to undo these and
to say where they were. In the first 10 500 steps all kinds were drawn alike, and three patches in eight had coarse
noise; then what is hard (dark, blurred, copied, bulging) was drawn more often, and coarse noise into one in eight. The
schedule of the learning rate was begun anew several times.

{data}

Calibrated on IXI 033, tested on IXI 034 and on one case of multiple sclerosis. No subject is in two parts.

## The map
{choice} (On IXI 033.)

## Held-out figures
{_table(figures)}
## Limits
{limits}

## Licence
The weights: {" ".join(LICENCE)} (the sources above keep their own).
"""


def _table(figures: dict[str, Any]) -> str:
    if not figures:
        return "Not measured yet.\n"
    names = list(next(iter(figures.values())))
    lines = [f"| anomaly | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    for kind, row in figures.items():
        lines.append(f"| {kind} | " + " | ".join(f"{row[n]:.3f}" if n in row else "" for n in names) + " |")
    return f"""Average precision (1 is perfect, chance is the share of tissue, about 0.2 %) of each map on drawn
anomalies of 6 to 12 mm radius and on real lesions, made by `Testing/benchmarks/anomaly.py`. `{names[0]}` is the map
that is shown, `unlike` the model's log-odds, `residual` scan minus typical scan; `bright` and `contrast` are baselines
without any training.

{chr(10).join(lines)}
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    summary = __doc__.split("\n", 1)[0]
    parser = argparse.ArgumentParser(prog="python -m MedAELib.training.publish_anomaly", description=summary)
    parser.add_argument("--training", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--figures", type=Path, default=None)
    parser.add_argument("--data", type=Path, default=None)
    chosen = parser.parse_args(arguments)
    found = json.loads(chosen.figures.read_text()) if chosen.figures else None
    try:
        model = published(chosen.training, chosen.output, chosen.data or data_folder(), found)
    except MedAEError as error:
        print(f"{error} {error.next_step}", file=sys.stderr)
        return 2
    print(model.bundle)
    return 0


if __name__ == "__main__":
    sys.exit(main())
