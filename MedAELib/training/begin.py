"""Begin a denoiser's training with what another one has learned, in a network of the same size or a larger one."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from MedAELib.errors import BadInput


def begin_with(network: nn.Module, path: Path) -> None:
    """Load another training's averaged weights into a network that may be wider, or have more blocks or a deep code.

    The network then computes what the other one did: blocks that the other lacks begin without effect, and channels
    that it lacks hold features at random that nothing has learned to heed yet (Chen et al., Net2Net, ICLR 2016, with
    new channels instead of copies). Raises BadInput when the weights belong to another or a larger network.
    """
    weights, own = averaged_weights(path), network.state_dict()
    last = max((name.split(".")[1] for name in own if name.startswith("deep.")), default="0", key=int)
    theirs = max((name.split(".")[1] for name in weights if name.startswith("deep.")), default="0", key=int)
    weights = {re.sub(rf"^deep\.{theirs}\.", f"deep.{last}.", name): value for name, value in weights.items()}
    if any(name not in own or not _fits(own[name], value) for name, value in weights.items()):
        raise BadInput(f"{path} belongs to another network.", "Start with the arguments it was trained with.")
    widened = {
        name: _widened(own[name], value, transposed=name.startswith(f"deep.{last}.")) for name, value in weights.items()
    }
    network.load_state_dict(widened, strict=False)
    for name, parameter in network.named_parameters():
        if name not in weights and (".unit1." in name or name.startswith((f"deep.{last}.", "gate.", "level."))):
            nn.init.zeros_(parameter)
        elif name not in weights and not name.startswith(("encoder.", "decoder.", "deep.")):
            raise BadInput(f"{path} belongs to another network.", "Start with the arguments it was trained with.")


def _fits(own: Tensor, other: Tensor) -> bool:
    """Whether a parameter has as many axes, as large a kernel, and no fewer channels."""
    same = own.ndim == other.ndim and own.shape[2:] == other.shape[2:]
    return same and all(mine >= theirs for mine, theirs in zip(own.shape[:2], other.shape[:2], strict=True))


def _widened(own: Tensor, other: Tensor, transposed: bool) -> Tensor:
    """The parameter of a wider layer that makes of the known channels what the narrow one made, whatever the new hold.

    New outputs keep what the network began with. Of a transposed convolution the inputs come first.
    """
    made = own.clone()
    if own.ndim == 1:
        made[: len(other)] = other
        return made
    made, known = (made.transpose(0, 1), other.transpose(0, 1)) if transposed else (made, other)
    made[: known.shape[0]] = 0
    made[: known.shape[0], : known.shape[1]] = known
    return made.transpose(0, 1) if transposed else made


def averaged_weights(path: Path) -> dict[str, Tensor]:
    """The averaged weights of a training's last.pt, or those of a published model.safetensors, in float32."""
    if path.suffix == ".safetensors":
        return {name: value.float() for name, value in load_file(path).items()}
    averaged: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["averaged"]
    return averaged
