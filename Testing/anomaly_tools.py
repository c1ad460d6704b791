"""A tiny normative model for tests, random weights, calibration made up; and brains on few cells."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from MedAELib.anomaly import prepare as preparing
from MedAELib.anomaly.calibration import RATES
from MedAELib.bundle import Spec, Window
from MedAELib.model import Model

SMALL = {"channels": 2, "levels": 1, "blocks": 1}


def tiny_normative(folder: Path, modality: str = "MR", told: float = 0.0, **calibration: object) -> Model:
    """The model, saved to the folder; `calibration` adds to maps and gate, or takes their place.

    What it says is nothing, unless the weights of the last layer are as large as `told`.
    """
    torch.manual_seed(0)
    model = Model.create(Spec("normative", SMALL, 3, "anomaly", modality, Window("fixed", 0.0, 1.0)))
    for parameter in model.network.last.parameters() if told else ():
        torch.nn.init.normal_(parameter, 0, told)
    knots = [float(value) for value in np.linspace(0, 6, len(RATES))]
    maps = dict.fromkeys(("unlike", "residual", "bright", "contrast", "asymmetry"), knots)
    gate = {"histogram": [0.025] * 40, "distance": [0.1], "odds": [0.0], "coarse": [float(n % 7) for n in range(1000)]}
    texts = {"description": "For tests.", "card": "For tests.", "licence": "CC0\n"}
    known = {"maps": maps, "gate": gate, **calibration}
    return model.save(folder, name="tiny", figures={}, limits=[], training_data=[], calibration=known, **texts)


def on_few_cells(monkeypatch: pytest.MonkeyPatch) -> None:
    """Brains are looked at on cells of 4 mm, which takes a tenth of the time: for what does not depend on the cells."""
    monkeypatch.setattr(preparing, "SPACING", 4.0)
