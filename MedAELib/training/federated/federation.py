"""What the sites of a federation agree on before it starts, as one file of the job: it holds no path and no data."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from MedAELib.bundle import Spec, spec_to_json
from MedAELib.errors import BadInput

FILE = "federation.json"
PRIVACIES = {
    "none": {},
    "percentile": {"percentile": 10, "gamma": 0.01},
    "svt": {"fraction": 0.1, "epsilon": 0.1, "noise_var": 0.1, "gamma": 1e-5, "tau": 1e-6},
}
"""The filters of NVIDIA FLARE that a site's update can pass before it leaves the site, with FLARE's own settings."""


@dataclass(frozen=True)
class Federation:
    """The network and its training, rounds and steps of each, the server's momentum, the privacy filter's settings."""

    network: str
    dims: int
    modality: str
    rounds: int
    steps: int  # of a site in a round
    sites: int  # that must take part
    seed: int = 0
    precision: str = "float32"
    subject: str = ""
    arguments: Mapping[str, Any] = field(default_factory=dict)
    terms: Mapping[str, float] = field(default_factory=dict)
    corrupt: tuple[str, ...] = ()
    learn_from: str = "clean"
    momentum: float = 0.0  # of the server; see `server.MomentumAveraging`
    privacy: str = "none"
    privacy_settings: Mapping[str, float] = field(default_factory=dict)

    def options(self) -> argparse.Namespace:
        """The same as the options of a training alone."""
        alone: dict[str, Any] = dict.fromkeys(("start", "size"), "")
        alone |= {"modalities": [], "translate": [], "condition": [], "table": None, "patience": 0}
        own = {name: getattr(self, name) for name in _SHARED}
        return argparse.Namespace(**alone, **own, arguments=dict(self.arguments), terms=dict(self.terms))

    def spec(self) -> Spec:
        """The model that comes out; its window is the same at every site."""
        from MedAELib.training.plan import make_spec

        return make_spec(self.options(), self.modality)

    def write(self, path: Path) -> None:
        """Write the agreement, with the specification that follows from it."""
        text = json.dumps({**asdict(self), "spec": spec_to_json(self.spec())}, indent=2, allow_nan=False)
        path.write_text(text + "\n", encoding="utf-8")

    @staticmethod
    def read(path: Path) -> Federation:
        """Read an agreement. Raises BadInput when it is none, or would mean another model in this version of MedAE."""
        try:
            kept = json.loads(path.read_text(encoding="utf-8"))
            spec = kept.pop("spec")
            found = Federation(**{**kept, "corrupt": tuple(kept["corrupt"])})
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            raise BadInput(f"{path} is no agreement of a federation.", "Export the job again.") from None
        if json.loads(json.dumps(spec_to_json(found.spec()))) != spec:
            raise BadInput(
                f"{path} describes another model than this version of MedAE would train.",
                "Use the same version of MedAE at all sites.",
            )
        return found


def agree(options: argparse.Namespace, sites: int) -> Federation:
    """The agreement that a command line asks for. Raises BadInput, before any work, when it cannot be."""
    from MedAELib.training.plan import check_network, check_options

    settings = dict(PRIVACIES[options.privacy])
    for name, value in options.privacy_settings.items():
        if name not in settings:
            raise BadInput(
                f"The privacy filter {options.privacy!r} has no setting {name!r:.60}.",
                f"It has {', '.join(settings) or 'none'}.",
            )
        settings[name] = value
    if "adversarial" in options.terms:
        raise BadInput("A critic cannot be shared by a federation.", "Leave the term adversarial out.")
    federation = Federation(
        **{name: getattr(options, name) for name in _SHARED if name != "corrupt"}, corrupt=tuple(options.corrupt),
        rounds=options.rounds, steps=options.steps_per_round, sites=sites, arguments=options.arguments,
        terms=options.terms, momentum=options.momentum, privacy=options.privacy, privacy_settings=settings,
    )  # fmt: skip
    check_options(federation.options(), federation.modality)
    check_network(federation.options())
    return federation


_SHARED = ("network", "dims", "modality", "seed", "precision", "subject", "corrupt", "learn_from")


def start(name: str, dims: int, arguments: Mapping[str, Any], seed: int) -> Any:
    """The network that all sites begin with: as in a training alone, its weights follow from the seed."""
    import torch

    from MedAELib.networks import build

    torch.manual_seed(seed)
    return build(name, dims, arguments)
