"""One site of a federation: its own volumes and split, and the one training loop, run round by round."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from MedAELib.training.federated.federation import Federation
from MedAELib.training.folder import Case, read_folder, split
from MedAELib.training.loop import Round, train
from MedAELib.training.plan import make_plan, without_empty
from MedAELib.training.session import make_schedule

Note = Callable[[str], None]


class Site:
    """The volumes of one site and what it keeps between rounds (its optimizer); only weights and figures leave it."""

    def __init__(self, federation: Federation, folder: Path, workplace: Path, device: torch.device, note: Note) -> None:
        """Read and split the folder. Raises BadInput when it holds nothing that can be used."""
        options = federation.options()
        cases = without_empty(read_folder(folder, workplace / "cache", [], federation.subject, note), options, note)
        self.federation, self.workplace = federation, workplace
        self.parts = split(cases, federation.seed)
        torch.manual_seed(federation.seed)
        self.plan = make_plan(options, self.parts, device)
        whole = make_schedule(federation.rounds * federation.steps, self.plan, options)
        steps = federation.steps
        self.schedule = replace(whole, checkpoint_every=steps, validate_every=steps, best="", patience=0)

    @property
    def samples(self) -> int:
        """How many volumes it learns from: its weight in the mean of the sites."""
        return len(self.parts.training)

    @property
    def held_out(self) -> list[Case]:
        """The volumes that it never learns from."""
        return [*self.parts.validation, *self.parts.test]

    def measure(self, weights: Mapping[str, Tensor]) -> dict[str, float]:
        """The figure of the weights on the site's validation subjects; empty where it has none."""
        self.plan.network.load_state_dict(dict(weights))
        return self.plan.validate(self.plan.network.eval()) if self.plan.validate else {}

    def learn(self, number: int, weights: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], float]:
        """Round `number` (0, 1, ...) from the weights of all: the weights afterwards, on the CPU, and the mean loss.

        The rounds share one schedule: the learning rate, and the patches of a step, are those of a training alone.
        """
        federation, network = self.federation, self.plan.network.train()
        _, history = train(
            network,
            self.plan.batch,
            self.plan.objective(self.schedule.steps),
            self.schedule,
            self.workplace / "training",
            resume=number > 0 and (self.workplace / "training" / "last.pt").is_file(),
            given=Round(number * federation.steps, weights),
            stop_after=(number + 1) * federation.steps,
            report=lambda row: None,
        )
        learned = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
        return learned, float(history[-1]["loss"])

    def close(self) -> None:
        """Remove what it kept."""
        shutil.rmtree(self.workplace, ignore_errors=True)
