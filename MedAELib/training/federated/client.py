"""What NVIDIA FLARE runs at every site: receive the weights of all, learn from the site's own volumes, send them back.

The folder of volumes is the site's own matter: the environment variable MEDAE_SITE names it. No job does.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from pathlib import Path

import nvflare.client as flare
import torch

from MedAELib.atomic import write_text
from MedAELib.engine.device import choose_device
from MedAELib.errors import BadInput
from MedAELib.training.federated.federation import Federation
from MedAELib.training.federated.site import Site
from MedAELib.worker.failures import explain


def folder_of(site: str) -> Path:
    """The site's folder of volumes: MEDAE_SITE, or where that is a .json file, what it says under the site's name."""
    named = Path(os.environ.get("MEDAE_SITE", ""))
    if named.suffix == ".json" and named.is_file():
        named = Path(json.loads(named.read_text(encoding="utf-8")).get(site, ""))
    if named == Path():
        raise BadInput(
            "The environment variable MEDAE_SITE does not name this site's folder of volumes.",
            "Set it in the environment that starts the FLARE client.",
        )
    return named


def tell(site: str, **what: object) -> None:
    """Leave word for a simulation on this machine, if there is one."""
    if "MEDAE_FEDERATION" in os.environ:
        write_text(Path(os.environ["MEDAE_FEDERATION"], f"{site}.json"), json.dumps({"process": os.getpid(), **what}))


def take_part(agreement: Path) -> None:
    """Take part in the federation of this agreement, from its first round to its last."""
    flare.init()
    name = flare.get_site_name()
    tell(name)
    try:
        federation = Federation.read(agreement)
        device = choose_device(os.environ.get("MEDAE_DEVICE", "auto"))
        with tempfile.TemporaryDirectory(prefix="medae-site-") as workplace:
            site = Site(federation, folder_of(name), Path(workplace), device, lambda note: print(note, file=sys.stderr))
            tell(name, volumes=site.samples)
            _rounds(site, name)
    except Exception as error:
        fault = explain(error)
        tell(name, fault=str(fault), next_step=fault.next_step)
        raise


def _rounds(site: Site, name: str) -> None:
    """Answer the server until it has no more rounds."""
    device = next(site.plan.network.parameters()).device
    while flare.is_running():
        received = flare.receive()
        if received is None:
            break
        weights = {key: torch.as_tensor(value).to(device) for key, value in received.params.items()}
        number = int(received.current_round)
        figures = site.measure(weights)
        learned, loss = site.learn(number, weights)
        meta = {"NUM_STEPS_CURRENT_ROUND": site.samples}  # FLARE weights the sites by this number
        if number + 1 == site.federation.rounds:
            tell(name, done=True)
        flare.send(flare.FLModel(params=learned, metrics={"loss": loss, **figures}, meta=meta))
