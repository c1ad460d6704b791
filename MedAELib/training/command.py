"""The command line of the training: `python -m MedAELib train FOLDER --network ... --output MODEL`. Needs no torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..terminal import Terminal

NETWORKS = (
    "dense", "plain", "denoising", "sparse", "variational", "quantised", "conditional", "recurrent", "adversarial",
    "fusion",
)  # fmt: skip

EXAMPLES = """examples:
  train brains --network plain --dims 3 --steps 2000 --output brain-codes
  train chests --network denoising --minutes 60 --device cuda --output my-denoiser
  train ms --network fusion --modalities T1 T2 FLAIR --output ms-fusion
  train heads --network variational --set code='"vector"' --set latent=64 --output head-features
  train normals --task anomaly --minutes 120 --output my-normals
  torchrun --nproc-per-node 4 -m MedAELib train brains --network quantised --output codes

A sub-folder is a subject (see --subject); a fifth of the subjects each is kept for validation and test. Volumes that
cannot be used are named and left out. Ctrl-C ends the training after its step and keeps the best so far as the model,
and OUTPUT.training, from which --resume goes on; a second Ctrl-C ends at once and writes no model."""


def add_train(commands: Any) -> None:
    """Add the command to a command line's sub-commands."""
    train = commands.add_parser(
        "train", help="train a model on a folder of volumes", description="Train a model on a folder of volumes.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    train.add_argument("folder", metavar="FOLDER", type=Path, help="volumes, in sub-folders too")
    train.add_argument("--network", default="", choices=NETWORKS, help="the kind of autoencoder")
    train.add_argument("--task", default="", choices=("anomaly",),
                       help="instead of --network: learn from normal scans what is unlike them")  # fmt: skip
    train.add_argument("--dims", type=int, choices=(2, 3),
                       help="slices or volumes; default: 3, dense: 2, anomaly: as the files")  # fmt: skip
    train.add_argument("--output", required=True, metavar="MODEL", type=Path, help="the model folder to write")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="length of the training; default: 2000")
    length.add_argument("--minutes", type=float, help="length of the training by the clock")
    train.add_argument("--seed", type=int, default=0, help="another training, and another split; default: 0")
    train.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    train.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="default: float32")
    train.add_argument("--modality", default="", choices=("CT", "MR", "any"), help="default: what most volumes are")
    train.add_argument("--subject", default="", metavar="PATTERN", help="what in a path names the subject")
    train.add_argument("--modalities", nargs="+", default=[], metavar="NAME", help="fusion: texts in the file names")
    train.add_argument("--condition", nargs="+", default=[], metavar="FIELD", help="conditional; default: spacing")
    train.add_argument("--table", type=Path, metavar="FILE.csv", help="conditional: numbers of each file")
    train.add_argument("--objective", default="", metavar="TERM=WEIGHT,...", help="default: that of the network")
    train.add_argument("--corrupt", nargs="+", default=[], metavar="NAME", help="learn to undo these")
    train.add_argument("--learn-from", default="clean", choices=("clean", "blind-spot", "neighbours", "repeats"),
                       help="noisy scans only: how to learn to denoise from them")  # fmt: skip
    train.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an argument of the network")
    train.add_argument("--patience", type=int, default=10, metavar="N", help="validations without better; 0: never end")
    train.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    train.set_defaults(run=_train)


def _train(options: argparse.Namespace) -> int:
    _check_task(options)
    if options.task != "anomaly":
        options.dims = options.dims or (2 if options.network == "dense" else 3)
    if options.steps is None and options.minutes is None:
        options.steps = 2000
    if options.steps is not None and not 1 <= options.steps <= 100_000_000:
        raise BadInput(f"{options.steps} steps cannot be trained.", "Use a whole number from 1 on.")
    if options.minutes is not None and not 0 < options.minutes <= 100_000:
        raise BadInput(f"{options.minutes:g} minutes cannot be trained.", "Use a number above 0.")
    if options.patience < 0 or options.seed < 0:
        raise BadInput("Seed and patience cannot be negative.", "Use whole numbers from 0 on.")
    options.arguments = _arguments(options.set)
    options.terms = _terms(options.objective)
    check_output(options.output)
    from .session import run_session

    return run_session(options, Terminal())


def _check_task(options: argparse.Namespace) -> None:
    """Refuse what says neither or both of what to train, and options that the anomaly task has no use for."""
    if bool(options.network) == bool(options.task):
        raise BadInput("Say what to train: either --network NAME or --task anomaly.", "See train --help.")
    if not options.task:
        return
    for name in ("modalities", "condition", "table", "objective", "corrupt"):
        if getattr(options, name):
            raise BadInput(f"--task anomaly does not take --{name}.", "Leave it out.")
    if options.learn_from != "clean":
        raise BadInput("--task anomaly does not take --learn-from.", "Leave it out.")


def _arguments(settings: Sequence[str]) -> dict[str, Any]:
    """The network's arguments from NAME=VALUE texts, values as JSON or plain text."""
    found: dict[str, Any] = {}
    for setting in settings:
        name, equals, value = setting.partition("=")
        if not equals or not name:
            raise BadInput(f"'{setting}' is not of the form NAME=VALUE.", "Example: --set channels=[16,32]")
        try:
            found[name] = json.loads(value)
        except ValueError:
            found[name] = value
    return found


def _terms(objective: str) -> dict[str, float]:
    """The weights of the terms of an objective, from TERM=WEIGHT,..."""
    found: dict[str, float] = {}
    for part in filter(None, objective.split(",")):
        name, equals, weight = part.partition("=")
        try:
            found[name.strip()] = float(weight) if equals else 1.0
        except ValueError:
            raise BadInput(f"The weight {weight!r} of '{name}' is no number.", "Example: mse=1,ssim=0.2") from None
    return found


def check_output(output: Path) -> None:
    """Refuse, before any work, an output that could not be written or that is something else than a model."""
    if output.is_file():
        raise BadInput(f"{output} is a file.", "Name a folder for the model.")
    if not output.parent.is_dir():
        raise BadInput(f"{output} cannot be written: its folder does not exist.", "Make the folder first.")
    if output.is_dir() and any(output.iterdir()) and not (output / "configs" / "metadata.json").is_file():
        raise BadInput(f"{output} is a folder with other things in it.", "Name a new folder for the model.")
