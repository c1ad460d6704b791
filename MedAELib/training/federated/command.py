"""The command line of federated training: `python -m MedAELib federate simulate|export|collect`. Needs no torch."""

from __future__ import annotations

import argparse
import re
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...errors import BadInput, InternalFault
from ...terminal import Terminal, tell_note
from ..command import add_network_options, check_output, read_network_options

NETWORKS = ("dense", "plain", "denoising", "sparse", "variational", "quantised", "recurrent")
PRIVACIES = ("none", "percentile", "svt")

EXAMPLES = """examples:
  federate simulate --sites hospital-a hospital-b --network plain --modality MR --rounds 10 --steps-per-round 50
                    --output shared-model
  federate export --min-sites 3 --network plain --modality MR --rounds 50 --steps-per-round 100 --output job
  federate collect downloaded-job --output shared-model

Weights travel, volumes never do. The window is that of the modality, the same at every site. Needs the Python package
nvflare (requirements-federated.txt). See docs/federated.md."""


def add_federate(commands: Any) -> None:
    """Add the command to a command line's sub-commands."""
    federate = commands.add_parser(
        "federate", help="train one model at several sites that share weights only", epilog=EXAMPLES,
        description="Train one model at several sites that share weights only, by NVIDIA FLARE.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    actions = federate.add_subparsers(required=True, metavar="ACTION")
    simulate = actions.add_parser("simulate", help="a federation of two or more folders on this machine")
    simulate.add_argument("--sites", required=True, nargs="+", type=Path, metavar="DIR", help="a folder for each site")
    simulate.add_argument("--output", required=True, metavar="MODEL", type=Path, help="the model folder to write")
    simulate.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    simulate.set_defaults(run=_simulate)
    export = actions.add_parser("export", help="the job that a FLARE deployment takes")
    export.add_argument("--min-sites", type=int, default=2, metavar="N", help="sites that must take part; default: 2")
    export.add_argument("--output", required=True, metavar="JOBFOLDER", type=Path, help="the job folder to write")
    export.set_defaults(run=_export)
    for parser in (simulate, export):
        _add_options(parser)
    collect = actions.add_parser("collect", help="the model of a finished FLARE job")
    collect.add_argument("result", metavar="RESULT", type=Path, help="the folder of the finished job, as downloaded")
    collect.add_argument("--output", required=True, metavar="MODEL", type=Path, help="the model folder to write")
    collect.set_defaults(run=_collect)


def _add_options(parser: argparse.ArgumentParser) -> None:
    add_network_options(parser, NETWORKS)
    parser.set_defaults(start="", size="")
    parser.add_argument("--modality", required=True, choices=("CT", "MR", "any"), help="what all sites' volumes are")
    parser.add_argument("--rounds", type=int, default=50, help="how often the weights are averaged; default: 50")
    parser.add_argument("--steps-per-round", type=int, default=20, metavar="N", help="of each site; default: 20")
    parser.add_argument(
        "--momentum", type=float, default=0.8, metavar="M",
        help="of the server, in the direction of the rounds before; 0 is plain averaging; default: 0.8",
    )  # fmt: skip
    parser.add_argument("--privacy", default="none", choices=PRIVACIES, help="FLARE's filter of updates; default: none")
    parser.add_argument("--privacy-set", action="append", default=[], metavar="NAME=NUMBER", help="one of its settings")


def _agreed(options: argparse.Namespace, sites: int) -> Any:
    """What the sites agree on. Raises BadInput for options that cannot be."""
    if not options.network:
        raise BadInput("No network is named.", f"Say --network, one of {', '.join(NETWORKS)}.")
    read_network_options(options)
    if sites < 2:
        raise BadInput("A federation needs at least two sites.", "With one, use: python -m MedAELib train.")
    if not 1 <= options.rounds <= 100_000 or not 1 <= options.steps_per_round <= 1_000_000:
        raise BadInput("Rounds and steps per round must be whole numbers from 1 on.", "Example: --rounds 10.")
    if not 0 <= options.momentum <= 0.95:
        raise BadInput(f"A momentum of {options.momentum:g} is not possible.", "It is from 0 to 0.95.")
    options.privacy_settings = _numbers(options.privacy_set)
    from .job import check_flare

    check_flare()
    from .federation import agree

    return agree(options, sites)


def _numbers(settings: Sequence[str]) -> dict[str, float]:
    found = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            raise BadInput(f"'{setting}' is not of the form NAME=NUMBER.", "Example: gamma=0.01") from None
        if not 0 < found[name] < float("inf"):
            raise BadInput(f"The setting {name} must be above 0.", "Example: gamma=0.01")
    return found


def _names(folders: Sequence[Path]) -> dict[str, Path]:
    """A site's name for each folder, from the folder's own. Raises BadInput where there are no volumes."""
    from ..scans import holds_scans

    found: dict[str, Path] = {}
    for folder in folders:
        if not folder.is_dir():
            raise BadInput(f"{folder} is no folder.", "Name a folder of volumes for each site.")
        if not holds_scans(folder):
            raise BadInput(f"The site {folder} holds no volumes.", "Name a folder of volumes for each site.")
        if any(folder.resolve() == other.resolve() for other in found.values()):
            raise BadInput(f"The site {folder} is named twice.", "Name another folder for each site.")
        stem = re.sub(r"[^A-Za-z0-9_-]", "-", folder.resolve().name).strip("-_") or "site"
        stem = f"site-{stem}" if stem in ("server", "simulator") else stem
        name = next(name for name in (stem, *(f"{stem}-{n}" for n in range(2, len(folders) + 2))) if name not in found)
        found[name] = folder
    return found


def _simulate(options: argparse.Namespace) -> int:
    check_output(options.output)
    federation = _agreed(options, len(options.sites))
    sites = _names(options.sites)
    print(f"sites: {', '.join(sites)}; {federation.rounds} rounds of {federation.steps} steps", flush=True)
    from ...engine.device import choose_device

    device = choose_device(options.device)
    from ..card import without_place
    from .publish import model_of, publish, story_of
    from .simulation import simulate
    from .site import Site

    started, progress = time.monotonic(), Terminal()
    progress("Federated training", 0, federation.rounds)

    def report(row: dict[str, Any]) -> None:
        progress("Federated training", row["round"], federation.rounds)
        print(_line(row, federation.rounds), flush=True)

    with tempfile.TemporaryDirectory(prefix="medae-", ignore_cleanup_errors=True) as place:
        try:
            outcome = simulate(federation, sites, Path(place), options.device, report)
        except InternalFault as fault:
            log = _free(options.output.with_name(options.output.name + ".log"))
            shutil.copyfile(Path(place, "log.txt"), log)
            raise InternalFault(str(fault), f"FLARE's words are in {log}.") from fault
        seconds, model, stories = time.monotonic() - started, model_of(outcome), {}
        for name, folder in sites.items():
            unfit: list[str] = []
            site = Site(federation, folder, Path(place, "measured", name), device, unfit.append)
            stories[name] = story_of(site, model, [without_place(sentence, folder) for sentence in unfit], progress)
            for sentence in unfit:
                tell_note(f"site {name}: {sentence}")
        saved = publish(outcome, stories, options.output, seconds)
    _tell(saved, options.output, len(outcome.rounds))
    return 0


def _free(path: Path) -> Path:
    """The path, or where somebody's file is there already, the first with a number that is free."""
    numbered = (path.with_stem(f"{path.stem}-{number}") for number in range(2, 1000))
    return next(one for one in (path, *numbered) if not one.exists())


def _line(row: dict[str, Any], rounds: int) -> str:
    held_out = f", began with {row['held_out_psnr']:.2f} dB on held-out subjects" if "held_out_psnr" in row else ""
    return f"round {row['round']} of {rounds}: loss {row['loss']:.4g}{held_out}"


def _tell(saved: Any, output: Path, rounds: int) -> None:
    means = "".join(f", {name} {value:g}" for name, value in saved.bundle.figures.items() if isinstance(value, float))
    print(f"{output}: {saved.spec.network} {saved.spec.dims}D, {rounds} rounds{means}, {saved.bundle.sha256[:12]}")


def _export(options: argparse.Namespace) -> int:
    federation = _agreed(options, options.min_sites)
    if not options.output.parent.is_dir():
        raise BadInput(f"{options.output} cannot be written: its folder does not exist.", "Make the folder first.")
    from .job import write_job

    write_job(federation, options.output)
    print(f"{options.output}: a FLARE job for at least {federation.sites} sites; each sets MEDAE_SITE to its folder")
    return 0


def _collect(options: argparse.Namespace) -> int:
    check_output(options.output)
    from .outcome import read_outcome
    from .publish import publish

    outcome = read_outcome(options.result)
    _tell(publish(outcome, {}, options.output, None), options.output, len(outcome.rounds))
    return 0
