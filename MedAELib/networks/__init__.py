"""The autoencoder family: one idea a file, all with encode, decode, forward, stride, halo and dims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from torch import nn

from MedAELib.errors import BadModel
from MedAELib.networks import denoising, plain

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "denoising": denoising.build,
    "plain": plain.build,
}


def build_network(name: str, arguments: Mapping[str, Any]) -> nn.Module:
    """The untrained network ``name`` with ``arguments`` as a model folder gives them.

    Raises BadModel for an unknown name, an unknown argument, a wrong type or a size out of bounds; nothing large is
    allocated before the check.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise BadModel(f"The network {name!r:.60} is unknown; known are {', '.join(sorted(NETWORKS))}.")
    builder = NETWORKS[name]
    known = builder.__annotations__.keys() - {"return"}
    unknown = sorted(set(arguments) - known)
    if unknown:
        raise BadModel(f"The network '{name}' has no argument {unknown[0]!r:.60}.")
    return builder(**arguments)


__all__ = ["NETWORKS", "build_network"]
