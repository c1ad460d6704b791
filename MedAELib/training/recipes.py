"""How each network of the family is trained unless told otherwise: its size, its patches, its objective."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Codes of a quarter (2D) or an eighth (3D) of the voxels, in cells of four voxels' edge: a third halving of the grid
# needs many more steps to come to the same quality.
_PLAIN = {2: {"channels": [16, 32, 4], "strides": [2, 2, 1]}, 3: {"channels": [16, 32, 8], "strides": [2, 2, 1]}}
_WIDE = {"channels": [16, 32], "strides": [2, 2]}  # for networks that narrow the code themselves
_LATENTS = {2: 4, 3: 8}
_PATCHES = {2: (64, 64), 3: (48, 48, 48)}
_BATCHES = {2: 32, 3: 2}  # with fewer slices what a step costs whatever their number would show


@dataclass(frozen=True)
class Recipe:
    """Arguments of the network, patch edges and samples of a batch by dimensions; weights of the objective's terms.

    ``warmup`` is the share of the steps over which terms that spoil an untrained code rise.
    """

    good_for: str
    terms: Mapping[str, float] = field(default_factory=lambda: {"mse": 1.0})
    arguments: Mapping[int, Mapping[str, Any]] = field(default_factory=lambda: _PLAIN)
    patches: Mapping[int, tuple[int, ...]] = field(default_factory=lambda: _PATCHES)
    batches: Mapping[int, int] = field(default_factory=lambda: _BATCHES)
    learning_rate: float = 5e-3
    warmup: float = 0.2


RECIPES: dict[str, Recipe] = {
    "dense": Recipe(
        "one short code for a whole slice; the textbook baseline; small grids only",
        arguments={2: {"grid": 64, "hidden": [512], "latent": 128}},
        learning_rate=1e-3,
    ),
    "plain": Recipe("compact codes that decode faithfully; the baseline of the family"),
    "denoising": Recipe(
        "removing noise; used by the denoise task at once",
        terms={},
        arguments={
            2: {"channels": 24, "blocks": 4},
            3: {"channels": 16, "blocks": 2, "deep_channels": 32, "deep_blocks": 2},
        },
        patches={2: (96, 96), 3: (48, 48, 48)},
        batches={2: 8, 3: 2},
    ),
    "sparse": Recipe(
        "codes in which few values speak, each for something that can be looked at",
        terms={"mse": 1.0, "sparsity": 1e-3},
        arguments={dims: {"channels": [16, 64], "strides": [2, 2], "keep": 2 * _LATENTS[dims]} for dims in (2, 3)},
    ),
    "variational": Recipe(
        "smooth codes with an uncertainty: traversals, sampling, how unlike the training data a scan is",
        terms={"mse": 1.0, "kl": 1e-4},
        arguments={dims: {**_WIDE, "latent": _LATENTS[dims]} for dims in (2, 3)},
    ),
    "quantised": Recipe(
        "codes of whole numbers: compression, and models of sequences of codes",
        terms={"mse": 1.0, "commitment": 0.1},
        arguments={dims: {**_WIDE, "entries": 512, "width": 8} for dims in (2, 3)},
    ),
    "conditional": Recipe("one model for scans made in different ways: spacing, dose, kernel, age"),
    "recurrent": Recipe(
        "stacks of any number of thick slices, each coded in the knowledge of the others",
        arguments={2: {"channels": [16, 16], "strides": [2, 2]}, 3: {"channels": [16, 32, 4], "strides": [2, 2, 1]}},
        patches={2: (64, 32), 3: (48, 48, 12)},
        batches={2: 16, 3: 4},
    ),
    "adversarial": Recipe(
        "codes that fill a normal distribution (judged: code), or sharper reconstructions (judged: image)",
        terms={"mse": 1.0, "adversarial": 1e-3},
        arguments={dims: {**_WIDE, "latent": _LATENTS[dims]} for dims in (2, 3)},
    ),
    "fusion": Recipe("several modalities of a subject in one code, some of which may be missing"),
}
TRANSLATING = Recipe(
    "one kind of scan from another, such as T2 from T1, with an ensemble's uncertainty",
    arguments={dims: {"channels": [12, 24, 32, 48, 48], "strides": [1, 2, 2, 2]} for dims in (2, 3)},
    batches={2: 16, 3: 2},
    # Squared errors alone blur what the source does not settle, and carried over worse to another protocol.
    terms={"mse": 1.0, "ssim": 0.5},
    learning_rate=3e-3,
)
FUSING = Recipe(
    "one kind of scan from those of several that are there",
    # A code of cells of four voxels would blur what is made of it.
    arguments={dims: {"channels": [24, 48, 24], "strides": [1, 2, 1]} for dims in (2, 3)},
    batches={2: 16, 3: 2},
    terms={"mse": 1.0, "ssim": 1.0},
    learning_rate=3e-3,
)
SIZES = {"small": 0.5, "medium": 1.0, "large": 2.0}
_CODE_AT_END = 3  # entries of `channels`, the last of which is the length of the code


def recipe_of(network: str, translates: bool = False) -> Recipe:
    """How a network is trained: a fusion that translates otherwise than one that only reconstructs."""
    return FUSING if translates and network == "fusion" else RECIPES.get(network, TRANSLATING)


def sized(network: str, dims: int, size: str, translates: bool = False) -> dict[str, Any]:
    """The arguments of a network in a size: its layers are half or twice as wide, its code is as long as ever."""
    factor, arguments = SIZES[size], dict(recipe_of(network, translates).arguments.get(dims, {}))
    for name in ("channels", "deep_channels", "hidden"):
        value = arguments.get(name)
        if isinstance(value, list):
            code = value[-1:] if name == "channels" and len(value) == _CODE_AT_END else []
            arguments[name] = [int(factor * width) for width in value[: len(value) - len(code)]] + code
        elif value is not None:
            arguments[name] = int(factor * value)
    return arguments
