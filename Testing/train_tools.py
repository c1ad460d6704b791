"""What the tests of the train command share: small networks, small patches, one line to run a command."""

from importlib.util import find_spec

import pytest

from MedAELib.__main__ import main
from MedAELib.training.recipes import RECIPES

needs_nvflare = pytest.mark.skipif(  # looked for and not imported, which takes seconds wherever tests are collected
    find_spec("nvflare") is None, reason="NVIDIA FLARE is not installed: pip install -r requirements-federated.txt"
)

TINY = ["--set", "channels=[4,6]", "--set", "strides=[2,2]"]
SMALL = {
    "dense": ["--set", "grid=16", "--set", "hidden=[8]", "--set", "latent=4"],
    "denoising": ["--set", "channels=4", "--set", "blocks=1", "--set", "deep_channels=0", "--set", "deep_blocks=0"],
}


def run(*arguments: object) -> int:
    """The exit status of a command."""
    try:
        return main([str(argument) for argument in arguments])
    except SystemExit as end:
        return int(end.code or 0)


def arguments(name: str) -> list[str]:
    """A network so small that a step takes milliseconds."""
    tiny = TINY + (["--set", "keep=2"] if name == "sparse" else [])
    return ["--network", name, *SMALL.get(name, tiny), "--device", "cpu"]


def shrink_patches(monkeypatch) -> None:
    """The recipes with patches of few voxels."""
    for recipe in RECIPES.values():
        monkeypatch.setitem(recipe.__dict__, "patches", {2: (16, 16), 3: (16, 16, 8)})
        monkeypatch.setitem(recipe.__dict__, "batches", {2: 2, 3: 2})
