"""The command line of the training: `python -m MedAELib train FOLDER --network ... --output MODEL`. Needs no torch."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..archive import check_replaceable
from ..atomic import check_folder_takes
from ..bundle import Bundle, find_bundle, fused_number
from ..channels import names_of, own_name
from ..errors import BadInput, unwritable
from ..terminal import Terminal

NETWORKS = (
    "dense", "plain", "denoising", "sparse", "variational", "quantised", "conditional", "recurrent", "adversarial",
    "fusion",
)  # fmt: skip

TRANSLATING = "translating"  # it learns pairs only
LARGEST_SEED = 1_000_000_000_000  # of which each step's own seed is made, in 63 bits
PATIENCE = 10  # validations without a better one, after which a training ends
EXAMPLES = """examples:
  train brains --network plain --dims 3 --steps 2000 --output brain-codes
  train chests --network denoising --minutes 60 --device cuda --output my-denoiser
  train ms --network fusion --modalities T1 T2 FLAIR --output ms-fusion
  train ms --network translating --translate T1 T2 --dims 2 --output t1-to-t2
  train heads --network variational --set code='"vector"' --set latent=64 --output head-features
  train mine --start mr-denoise --minutes 30 --output mr-denoise-mine
  train normals --task anomaly --minutes 120 --output my-normals
  torchrun --nproc-per-node 4 -m MedAELib train brains --network quantised --output codes

A folder sub-... is a subject, else the first folder below FOLDER, else the file (see --subject); a fifth of the
subjects each is kept for validation and test. Volumes that cannot be used are named and left out. Ctrl-C ends the
training after its step and keeps the best so far as the model, and OUTPUT.training, from which --resume goes on; a
second Ctrl-C ends at once and writes no model."""


def add_train(commands: Any) -> None:
    """Add the command to a command line's sub-commands."""
    train = commands.add_parser(
        "train", help="train a model on a folder of volumes", description="Train a model on a folder of volumes.",
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    train.add_argument("folder", metavar="FOLDER", type=Path, help="volumes, in sub-folders too")
    add_network_options(train, (*NETWORKS, TRANSLATING))
    train.add_argument("--task", default="", choices=("anomaly",),
                       help="instead of --network: learn from normal scans what is unlike them")  # fmt: skip
    train.add_argument("--size", default="", choices=("small", "medium", "large"), help="width; default: medium")
    train.add_argument("--start", default="", metavar="MODEL", help="go on from this model's weights (fine-tuning)")
    train.add_argument("--output", required=True, metavar="MODEL", type=Path, help="the model folder to write")
    length = train.add_mutually_exclusive_group()
    length.add_argument("--steps", type=int, help="length of the training; default: 2000")
    length.add_argument("--minutes", type=float, help="length of the training by the clock")
    train.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    train.add_argument("--modality", default="", choices=("CT", "MR", "any"),
                       help="default: CT or MR where all volumes are, else any")  # fmt: skip
    train.add_argument("--modalities", nargs="+", default=[], metavar="NAME", help="fusion: texts in the file names")
    train.add_argument("--translate", nargs=2, default=[], metavar=("SOURCE", "TARGET"),
                       help="learn to make the second kind of scan of the first: texts in the file names")  # fmt: skip
    train.add_argument("--members", type=int, metavar="N", help="translate: networks of the ensemble; default: 3")
    train.add_argument("--condition", nargs="+", default=[], metavar="FIELD", help="conditional; default: spacing")
    train.add_argument("--table", type=Path, metavar="FILE.csv", help="conditional: numbers of each file")
    train.add_argument("--patience", type=int, default=PATIENCE, metavar="N", help="end after N worse checks; 0: never")
    train.add_argument("--resume", action="store_true", help="go on with an interrupted training")
    train.set_defaults(run=_train, work=None, name="")


def default_options() -> argparse.Namespace:
    """What the command's options are when nothing is said."""
    parser = argparse.ArgumentParser()
    add_train(parser.add_subparsers())
    return parser.parse_args(["train", ".", "--output", "model"])


def add_network_options(parser: argparse.ArgumentParser, networks: Sequence[str]) -> None:
    """The options that say what is learned and how, alone or in a federation."""
    parser.add_argument("--network", default="", choices=networks, help="the kind of autoencoder")
    parser.add_argument("--dims", type=int, choices=(2, 3), help="slices or volumes; default: 3, dense: 2")
    parser.add_argument("--seed", type=int, default=0, help="another training, and another split; default: 0")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"), help="default: float32")
    parser.add_argument("--subject", default="", metavar="PATTERN",
                        help="what in a path names the subject; default: sub-..., or the first folder")  # fmt: skip
    parser.add_argument("--objective", default="", metavar="TERM=WEIGHT,...", help="default: that of the network")
    parser.add_argument("--corrupt", nargs="+", default=[], metavar="NAME", help="learn to undo these")
    parser.add_argument("--learn-from", default="clean", choices=("clean", "blind-spot", "neighbours", "repeats"),
                        help="noisy scans only: how to learn to denoise from them")  # fmt: skip
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE", help="an argument of the network")


def read_network_options(options: argparse.Namespace) -> None:
    """Turn their texts into values: `network`, `dims`, `arguments` and `terms`. Raises BadInput."""
    options.arguments = _arguments(options.set)
    if options.start:
        _start_from(options)
    options.dims = options.dims or (2 if options.network == "dense" else 3)
    if not 0 <= options.seed <= LARGEST_SEED:
        what = "negative" if options.seed < 0 else f"above {LARGEST_SEED}"
        raise BadInput(f"The seed cannot be {what}.", f"Use a whole number from 0 to {LARGEST_SEED}.")
    options.terms = _terms(options.objective)


def _train(options: argparse.Namespace) -> int:
    checked(options)
    check_output(options.output)
    from .session import run_session

    return run_session(options, Terminal())


def checked(options: argparse.Namespace) -> argparse.Namespace:
    """The options with what they leave open filled in. Raises BadInput for what cannot be, BadModel."""
    _check_task(options)
    dims = options.dims
    read_network_options(options)
    _check_translation(options)
    if options.task == "anomaly":
        options.dims = dims  # the files tell
    if options.steps is None and options.minutes is None:
        options.steps = 2000
    if options.steps is not None and not 1 <= options.steps <= 100_000_000:
        raise BadInput(f"{options.steps} steps cannot be trained.", "Use a whole number from 1 on.")
    if options.minutes is not None and not 0 < options.minutes <= 100_000:
        raise BadInput(f"{options.minutes:g} minutes cannot be trained.", "Use a number above 0.")
    if options.patience < 0:
        raise BadInput("The patience cannot be negative.", "Use a whole number from 0 on.")
    return options


def _start_from(options: argparse.Namespace) -> None:
    """Take network, dimensions and arguments from the model to start from; refuse what differs from it."""
    bundle = find_bundle(options.start)
    spec = bundle.spec
    if spec.network not in NETWORKS:
        raise BadInput(
            f"{bundle.name} cannot be trained on: its network '{spec.network}' is none of {', '.join(NETWORKS)}.",
            "Start from another model, or train one from scratch.",
        )
    fields = spec.arguments.get("fields")
    if not isinstance(fields, list) or not all(isinstance(field, str) for field in fields):
        fields = []  # none, or what the network refuses when it is built
    options.condition = options.condition or list(fields)
    told = {
        "network": (options.network or spec.network, spec.network),
        "dims": (options.dims or spec.dims, spec.dims),
        "condition": (options.condition, fields),
    }
    for name, (wanted, there) in told.items():
        if wanted != there:
            reason = f"{bundle.name} has {name} {there}, not {wanted}."
            raise BadInput(reason, f"Leave --{name} out, or start from another model.")
    if spec.network == "fusion":
        _fuse_as(bundle, options)
    if options.translate and options.members not in (None, 1):
        raise BadInput(f"{bundle.name} is one network, so no ensemble can begin with it.", "Leave --members out.")
    options.members = 1 if options.translate else options.members
    if options.arguments or options.size:
        raise BadInput(
            f"The network of {bundle.name} cannot be changed.", "Leave --set and --size out, or train from scratch."
        )
    options.network, options.dims, options.arguments = spec.network, spec.dims, dict(spec.arguments)


def _fuse_as(bundle: Bundle, options: argparse.Namespace) -> None:
    """Take what a fusion fuses from the model to start from; refuse other names, another order, or another number."""
    names, count = list(names_of(bundle.spec)), fused_number(bundle.spec)
    told = [own_name(name, names) for name in options.modalities] or names
    if options.translate:
        source, target = options.translate = [own_name(name, names) for name in options.translate]
        told = [source, *(name for name in told if name not in (source, target)), target]
    if names and told != names:
        reason = f"{bundle.name} fuses {', '.join(names)}, in this order, and not {', '.join(told)}."
        step = "Name them so" if options.translate else "Leave --modalities out"
        raise BadInput(reason, f"{step}, or start from another model.")
    if count == 1 < len(told):
        raise BadInput(f"{bundle.name} sees one scan, not {len(told)}.", "Leave --modalities out.")
    if max(1, len(told)) != count:
        reason = f"not {len(told)}" if told else "but does not say which"
        raise BadInput(
            f"{bundle.name} fuses {count} modalities, {reason}.",
            "Name them with --modalities, in its order, or start from another model.",
        )
    options.modalities = told


def _check_task(options: argparse.Namespace) -> None:
    """Refuse what says neither or both of what to train, and options that the anomaly task has no use for."""
    if bool(options.network or options.start) == bool(options.task):
        raise BadInput(
            "Say what to train: either --network NAME or --task anomaly, or --start a model.",
            f"Networks: {', '.join(NETWORKS)}.",
        )
    if not options.task:
        return
    for name in ("modalities", "translate", "members", "condition", "table", "objective", "corrupt", "size"):
        if getattr(options, name):
            raise BadInput(f"--task anomaly does not take --{name}.", "Leave it out.")
    if options.learn_from != "clean":
        raise BadInput("--task anomaly does not take --learn-from.", "Leave it out.")


def _check_translation(options: argparse.Namespace) -> None:
    """Put the modalities in order, from source to target. Raises BadInput for options that do not fit together."""
    if not options.translate:
        if options.members is not None or options.network == TRANSLATING:
            raise BadInput("Members and the translating network learn pairs.", "Say --translate SOURCE TARGET.")
        options.members = 1
        return
    options.members = 3 if options.members is None else options.members
    source, target = options.translate
    if source == target:
        raise BadInput(f"{source} cannot be translated to itself.", "Name two texts in the file names.")
    if not 1 <= options.members <= 8:
        raise BadInput(f"An ensemble cannot have {options.members} members.", "Use 1 to 8.")
    between = [name for name in options.modalities if name not in (source, target)]
    options.modalities = [source, *between, target]
    if between and options.network != "fusion":
        raise BadInput("Only the fusion network takes further modalities.", "Choose --network fusion.")


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
    """Refuse, before any work, a model folder that could not be written or that is something else. Raises BadInput."""
    try:
        _check_place(output)
        check_folder_takes(output)
    except OSError as error:
        raise unwritable(output, error) from None


def _check_place(output: Path) -> None:
    if output.name in ("", ".."):
        raise BadInput(f"'{output}' is no name of a new folder.", "Name a folder for the model, such as my-model.")
    if not output.parent.is_dir():
        what = "is no folder" if output.parent.exists() else "does not exist"
        raise BadInput(f"{output} cannot be written: {output.parent} {what}.", "Name a folder that is there.")
    check_replaceable(output)
    meanwhile = output.with_name(output.name + ".training")  # what a training keeps until it has ended
    if meanwhile.exists() and not meanwhile.is_dir():
        raise BadInput(f"{meanwhile} is in the way: it is a file.", "Move it away, or name another model.")
