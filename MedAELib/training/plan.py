"""What will be trained and on what: the network, its batches, objective and validation, from options and cases."""

from __future__ import annotations

import argparse
import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from MedAELib.bundle import Kind, Spec, Window
from MedAELib.conditions import SPACING, condition, read_table
from MedAELib.errors import BadInput, BadModel
from MedAELib.modality import guess_modality
from MedAELib.model import Model
from MedAELib.networks import Network, build
from MedAELib.networks.conditional import UNHEARD
from MedAELib.networks.ensemble import MEMBERS
from MedAELib.plain import plain_text
from MedAELib.training.denoise import denoising_error
from MedAELib.training.faults import CORRUPTIONS, damaged
from MedAELib.training.folder import Case, Split
from MedAELib.training.glimpse import Picture, denoised_slice, reconstructed_slice
from MedAELib.training.held_out import validation
from MedAELib.training.loop import Batch, Critic, Objective
from MedAELib.training.noisy import denoising_batches, denoising_validation
from MedAELib.training.objectives import TERMS, added_up, critic_error
from MedAELib.training.parallel import shareable
from MedAELib.training.recipes import Recipe, recipe_of, sized
from MedAELib.training.sampling import Pairing, Shape, Source, batches, fills, windowed
from MedAELib.training.self_supervised import blind_spot, neighbours, repeats
from MedAELib.training.translation import each_from_all, from_first_to_last, kinds_of, seen_as, translation_validation

WINDOWS = {
    "CT": Window("fixed", -1000.0, 1000.0),
    "MR": Window("percentile", 0.0, 99.9),
    "any": Window("percentile", 0.0, 99.9),
}
NOISE_WINDOWS = {"MR": Window("white noise", 0.0, 1.0), "CT": Window("correlated noise", 0.0, 1.0)}
_GIVEN_BY = {"kl": "variational", "commitment": "quantised", "adversarial": "adversarial"}  # every network has a code
_SEEN_CLEAN = {"MR": Window("percentile", 0.0, 99.9), "CT": Window("fixed", 0.0, 1000.0)}


@dataclass
class Plan:
    """Everything that the training loop needs, and the specification of the model that comes out.

    `tested` are the sources of the test subjects, or of the validation's where there are no others.
    """

    spec: Spec
    network: Network
    recipe: Recipe
    terms: dict[str, float]
    batch: Callable[[int], Batch]
    objective: Callable[[int], Objective]  # for so many steps
    validate: Callable[[nn.Module], dict[str, float]] | None
    critic: Critic | None
    tested: list[Source]
    pairing: Pairing | None
    fused: bool
    device: torch.device
    best: str = "held_out_psnr"  # the figure of the validation that says which weights are best
    picture: Picture | None = None
    sources: Mapping[str, list[Source]] = field(default_factory=dict)  # of training, validation and test
    samples: int = 0  # of a batch, all processes together


def make_plan(options: argparse.Namespace, parts: Split, device: torch.device) -> Plan:
    """The plan of a training. Raises BadInput for options that do not fit together, or cases that do not fit them,
    BadModel for arguments that `check_network` would refuse."""
    start = Model.load(options.start) if options.start else None
    recipe = recipe_of(options.network, bool(options.translate))
    cases = [*parts.training, *parts.validation, *parts.test]
    modality = options.modality or _modality(cases)
    if start is not None:
        modality = _modality_like(start, modality)
    denoiser = options.network == "denoising"
    check_options(options, modality)
    if options.learn_from == "repeats" and any(len(case.voxels) < 2 for case in cases):
        raise BadInput("Not every volume holds repeated scans.", "Use 4D files, the repeats as their frames.")
    fusing = options.network == "fusion"
    kinds: tuple[Kind, ...] = ()
    if options.translate:
        kinds = kinds_of(parts.training, options.modalities, WINDOWS, fusing)
    pairing = _pairing_of(kinds, fusing) if kinds else _pairing(options)
    fused = len(options.modalities) > 1 or options.learn_from == "repeats"
    spec = make_spec(options, modality, kinds)
    network = build(spec.network, spec.dims, spec.arguments)
    _check_start(start, spec)
    sources = {name: _sources(getattr(parts, name), options, network, modality, kinds) for name in vars(parts)}
    _learn_scale(network, sources["training"])
    if start is not None:
        network.load_state_dict(start.network.state_dict())
    network = network.to(device)
    shape = _shape(recipe, network, fused)
    terms = options.terms or dict(recipe.terms)
    tested = sources["test"] or sources["validation"]
    measure: Callable[[nn.Module], dict[str, float]] | None = None
    held = sources["validation"]
    shown = (held or sources["training"])[0]
    if denoiser:
        batch = denoising_batches(sources["training"], shape, modality, options.seed)
        if held:
            measure = denoising_validation(held, network.dims, network.stride, modality, device)
        return Plan(
            spec, network, recipe, {}, batch, lambda steps: denoising_error, measure, None, tested, None, False, device,
            picture=denoised_slice(shown, network.dims, network.stride, modality, device), sources=sources,
            samples=shape.batch,
        )  # fmt: skip
    batch = batches(sources["training"], shape, options.seed, pairing)
    critic = _critic(network, terms, device)

    def objective(steps: int) -> Objective:
        return added_up(terms, max(1, int(recipe.warmup * steps)), critic.network if critic else None)

    if held:
        translating = translation_validation(held, network, device) if kinds else None
        measure = translating or validation(held, network, fused, pairing, device)
    return Plan(
        spec, network, recipe, terms, batch, objective, measure, critic, tested, pairing, fused, device,
        picture=reconstructed_slice(shown, network, fused, pairing, device), sources=sources,
        samples=shape.batch,
    )  # fmt: skip


def without_empty(cases: Sequence[Case], options: argparse.Namespace, note: Callable[[str], None]) -> list[Case]:
    """The cases without those of which a window would see next to nothing. Raises BadInput when none is left."""
    window, kept = WINDOWS[options.modality or _modality(cases)], []
    for case in cases:
        seen = [channel for channel in case.voxels if not (options.translate and _is_ct(case, channel))]
        if all(fills(window, channel) for channel in seen):
            kept.append(case)
        else:
            note(f"{case.name} is left out: too few of its voxels are above 0 (not one in a thousand).")
    if not kept:
        raise BadInput("No volume can be used.", "See why above.")
    return kept


def _is_ct(case: Case, channel: npt.NDArray[Any]) -> bool:
    """Whether a kind of scan is a CT, which has a window of its own in a translation."""
    return guess_modality(case.volume().like(channel[None])) == "CT"


def make_spec(options: argparse.Namespace, modality: str, kinds: tuple[Kind, ...] = ()) -> Spec:
    """What the model will be, which the options alone decide: its network, task and window.

    A translation also needs the kinds of scan, and is an ensemble where it has several members.
    """
    if kinds:
        name, arguments = options.network, _arguments(options)
        if options.members > 1:
            name, arguments = "ensemble", {"network": name, "arguments": arguments, "members": options.members}
        return Spec(name, arguments, options.dims, "translate", kinds[0].modality, kinds[0].window, kinds)
    denoiser = options.network == "denoising"
    alone = len(options.modalities) < 2  # the denoise task knows one modality at a time
    task = "denoise" if denoiser or (_pairing(options) and alone) else "reconstruct"
    window = NOISE_WINDOWS[modality] if denoiser else WINDOWS[modality]
    named = () if alone else tuple(options.modalities)
    return Spec(options.network, _arguments(options), options.dims, task, modality, window, modalities=named)


def _modality(cases: Sequence[Case]) -> str:
    """What all cases are, else "any"."""
    found = Counter(case.modality for case in cases)
    return next(iter(found)) if len(found) == 1 and next(iter(found)) in WINDOWS else "any"


def _modality_like(start: Model, found: str) -> str:
    """The modality of the model to start from. Raises BadInput when the volumes are of another one."""
    made_for = start.spec.modality
    if made_for not in ("any", found):
        said = {"CT": "CT", "MR": "MRI", "any": "not all of one kind"}
        raise BadInput(
            f"The model to start from was made for {said[made_for]}, but the volumes are {said[found]}.",
            "Start from another model, or sort the volumes first.",
        )
    return made_for


def _check_start(start: Model | None, spec: Spec) -> None:
    """Refuse to go on from a model that sees intensities in another way than this training would show them."""
    if start is not None and start.spec.window != spec.window:
        there, here = start.spec.window, spec.window
        raise BadInput(
            f"The model to start from sees intensities as '{there.kind}' {there.low:g} to {there.high:g}, and a "
            f"training shows them as '{here.kind}' {here.low:g} to {here.high:g}.",
            "Start from another model, or train one from scratch.",
        )


def check_options(options: argparse.Namespace, modality: str) -> None:
    """Refuse what does not fit together, in one sentence: also before any volume is read, which may take long.

    `modality` is empty as long as nobody knows it. Raises BadInput.
    """
    network = options.network
    if network == "denoising" and modality == "any":
        raise BadInput("The volumes are not all CT or all MRI.", "Say --modality CT or MR, or sort them first.")
    if network == "denoising" and (options.terms or options.corrupt or options.learn_from != "clean"):
        raise BadInput("The denoising network has its own noise and objective.", "Choose the plain network for others.")
    if options.translate and network not in MEMBERS:
        raise BadInput(f"The {network} network cannot translate.", f"Choose one of {', '.join(MEMBERS)}.")
    if options.translate and (options.corrupt or options.learn_from != "clean"):
        raise BadInput("A translation learns from pairs of clean scans.", "Leave --corrupt and --learn-from out.")
    if options.modalities and network != "fusion" and not options.translate:
        raise BadInput("Only the fusion network takes --modalities.", "Choose --network fusion.")
    if any(plain_text(name) != name for name in (*options.modalities, *options.condition)):
        raise BadInput("A modality's or a condition's name has control characters.", "Choose a name without them.")
    if (options.condition or options.table) and network != "conditional":
        raise BadInput("Only the conditional network takes a condition.", "Choose --network conditional.")
    if options.corrupt and options.learn_from != "clean":
        raise BadInput("--corrupt needs clean scans, --learn-from noisy ones.", "Use one of the two.")
    if len(options.modalities) > 1 and options.learn_from != "clean":
        raise BadInput("The fusion of several modalities learns from clean scans only.", "Leave --learn-from out.")
    for name in (*options.corrupt, *options.terms):
        known = CORRUPTIONS if name in options.corrupt else TERMS
        if name not in known:
            raise BadInput(f"There is no {name!r:.60}.", f"Known are {', '.join(known)}.")
    _check_terms(options)


def _check_terms(options: argparse.Namespace) -> None:
    """Refuse terms that the network gives nothing for, and weights that would not make them small."""
    for name, weight in options.terms.items():
        giver = _GIVEN_BY.get(name, options.network)
        if giver != options.network:
            raise BadInput(
                f"The {options.network} network does not give what the term {name} needs.",
                f"Choose --network {giver}, or leave the term out.",
            )
        if not weight > 0:
            raise BadInput(f"The weight {weight:g} of {name} is not above 0.", "Use a number above 0.")
        if not math.isfinite(weight):
            raise BadInput(f"The weight {weight:g} of {name} is not finite.", "Use a number above 0.")
    judges = "adversarial" in (options.terms or recipe_of(options.network, bool(options.translate)).terms)
    if judges and options.arguments.get("judged") == "image" and options.learn_from == "blind-spot":
        raise BadInput("A critic of images needs whole targets, not blind spots.", "Use --learn-from neighbours.")


def check_network(options: argparse.Namespace) -> None:
    """Refuse arguments that the network does not take, before any volume is read. Raises BadInput.

    It builds the network for that, which draws random numbers: so before the seed is set.
    """
    arguments, fusing = _arguments(options), options.network == "fusion"
    try:
        network = build(options.network, options.dims, arguments)
    except BadModel as error:
        raise BadInput(str(error), "Correct --network, --dims or --set.") from None
    wanted = max(1, len(options.modalities)) if fusing else 1
    if network.in_channels != wanted and fusing:
        raise BadInput(
            f"The fusion network would take {network.in_channels} modalities, but {wanted} "
            f"{'is' if wanted == 1 else 'are'} named.",
            "Name all by --modalities, and leave modalities out of --set.",
        )
    if network.in_channels != wanted or arguments.get("out_channels", 1) != 1:
        raise BadInput(
            f"The {options.network} network learns from one channel at a time, and gives one back.",
            "Leave in_channels and out_channels out of --set.",
        )


def _arguments(options: argparse.Namespace) -> dict[str, Any]:
    """The network's arguments: the recipe's, what the options imply, what the user set."""
    if options.start:
        return dict(options.arguments)
    arguments = sized(options.network, options.dims, options.size or "medium", bool(options.translate))
    if options.network == "fusion":
        arguments["modalities"] = max(1, len(options.modalities))
    if options.network == "conditional":
        arguments["fields"] = options.condition or [SPACING]
    return {**arguments, **options.arguments}


def _pairing_of(kinds: Sequence[Kind], fusing: bool) -> Pairing:
    """How a sample of several kinds of scan becomes what is seen and what is aimed at, to translate."""
    magnitudes = [kind.modality == "MR" for kind in kinds]
    return each_from_all(magnitudes) if fusing else from_first_to_last(magnitudes[0])


def _pairing(options: argparse.Namespace) -> Pairing | None:
    """How a sample becomes what is seen and what is aimed at; None where both are the sample."""
    if options.learn_from == "repeats":
        return lambda sample, generator: tuple(part[None] for part in repeats(sample, generator))  # type: ignore[return-value]
    alone = {"blind-spot": blind_spot, "neighbours": neighbours}.get(options.learn_from)
    if alone is None and not options.corrupt:
        return None

    def pair(sample: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
        if alone is not None:
            pairs = [alone(channel, generator) for channel in sample]
            return torch.stack([seen for seen, _ in pairs]), torch.stack([target for _, target in pairs])
        return torch.stack([damaged(channel, options.corrupt, generator) for channel in sample]), sample

    return pair


def _sources(
    cases: Sequence[Case], options: argparse.Namespace, network: Network, modality: str, kinds: Sequence[Kind]
) -> list[Source]:
    """The cases as the network will see them."""
    if kinds:
        return [seen_as(case, kinds) for case in cases]
    window = _SEEN_CLEAN[modality] if options.network == "denoising" else WINDOWS[modality]
    fields = getattr(network, "fields", None)
    table = read_table(options.table) if options.table else {}

    def told(case: Case) -> list[float] | None:
        if not fields:
            return None
        row = table.get(case.name) or table.get(case.name.rsplit("/", 1)[-1]) or {}
        return condition(case.volume(), fields, row)

    return [windowed(case, window, told(case)) for case in cases]


def _learn_scale(network: Network, sources: Sequence[Source]) -> None:
    """Tell a conditional network the mean and spread of its condition over the training subjects. Raises BadInput.

    Of a field that never varies nothing is learned, so its weights stay random: such a spread makes it 0 for ever.
    """
    if not hasattr(network, "condition_size"):
        return
    numbers = np.array([source.second for source in sources], dtype=np.float64)
    known = np.isfinite(numbers)
    if not known.any(axis=0).all():
        raise BadInput("No training volume tells one of the fields of the condition.", "See --condition and --table.")
    centre = np.nanmean(numbers, axis=0)
    spread = np.nanstd(numbers, axis=0)
    network.centre.copy_(torch.from_numpy(centre))  # type: ignore[operator]
    network.spread.copy_(torch.from_numpy(np.where(spread > 1e-6, spread, UNHEARD)))  # type: ignore[operator]


def _shape(recipe: Recipe, network: Network, fused: bool) -> Shape:
    """How samples are cut: patches of the recipe, a multiple of the stride, or whole on the network's own grid.

    Of whole ones twice as many: such networks have many weights and see few voxels, and what a step costs whatever the
    number of samples would show. Where several processes share a batch it has a sample at least for each.
    """
    dims = network.dims
    steps = zip(recipe.patches.get(dims, (64,) * dims), network.strides, strict=True)
    edges = tuple(max(edge // (2 * step), 1) * 2 * step for edge, step in steps)
    samples = shareable(recipe.batches.get(dims, 8) * (2 if network.grid else 1))
    return Shape(dims, edges, samples, fused, network.grid)


def _critic(network: Network, terms: dict[str, float], device: torch.device) -> Critic | None:
    if "adversarial" not in terms:
        return None
    return Critic(network.critic().to(device), critic_error)  # type: ignore[operator]
