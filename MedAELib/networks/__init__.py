"""The autoencoder family: one idea a file, each with encode, decode, forward, stride, halo, offset and dims."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from MedAELib.errors import BadModel
from MedAELib.networks import (
    adversarial,
    conditional,
    denoising,
    dense,
    ensemble,
    fusion,
    normative,
    plain,
    quantised,
    recurrent,
    sparse,
    translating,
    variational,
)
from MedAELib.networks.mirrored import Mirrored
from MedAELib.networks.network import Given, Network, Wrapped

NETWORKS: dict[str, Callable[..., Network]] = {
    "dense": dense.build,
    "plain": plain.build,
    "denoising": denoising.build,
    "sparse": sparse.build,
    "variational": variational.build,
    "quantised": quantised.build,
    "conditional": conditional.build,
    "recurrent": recurrent.build,
    "adversarial": adversarial.build,
    "fusion": fusion.build,
    "normative": normative.build,
    "translating": translating.build,
    "ensemble": ensemble.build,
}


def build(name: str, dims: int, arguments: Mapping[str, Any]) -> Network:
    """The untrained network ``name`` for ``dims`` (2 or 3) dimensions with ``arguments`` as a model folder gives them.

    Raises BadModel for an unknown name, an unknown argument, a wrong type or a size out of bounds, before anything
    large is allocated.
    """
    if not isinstance(name, str) or name not in NETWORKS:
        raise BadModel(f"The network {name!r:.60} is unknown; known are {', '.join(sorted(NETWORKS))}.")
    builder = NETWORKS[name]
    unknown = sorted(set(arguments) - (set(inspect.signature(builder).parameters) - {"dims"}), key=str)
    if unknown:
        raise BadModel(f"The network '{name}' has no argument {unknown[0]!r:.60}.")
    return builder(dims=dims, **arguments)


__all__ = ["NETWORKS", "Given", "Mirrored", "Network", "Wrapped", "build"]
