"""How good a network is on subjects that it has not learned from: during the training, and of the finished model."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.networks import Network
from MedAELib.quality import limits, psnr, ssim
from MedAELib.training.sampling import Pairing, Source, middle, middle_voxels

_MOST_CASES = 6
_EDGES = {2: (160, 160, 6), 3: (64, 64, 48)}
_FIGURE_EDGES = (96, 96, 48)
_ALL = 1 << 30

Pair = tuple[Tensor, Tensor, list[Tensor]]  # what is seen, what is aimed at, and the network's second input if any


def validation(
    sources: Sequence[Source], network: Network, fused: bool, pairing: Pairing | None, device: torch.device
) -> Callable[[nn.Module], dict[str, float]]:
    """A measure of a network: mean PSNR (dB, range 1 of the window) over the middle boxes of up to six cases.

    With a `pairing` the network is shown damaged boxes, the same ones every time, and compared with what it aims at.
    """
    chosen = enumerate(sources[:_MOST_CASES])
    pairs = [shown_pair(source, network, fused, pairing, seed, device) for seed, source in chosen]

    @torch.no_grad()
    def measure(trained: nn.Module) -> dict[str, float]:
        found = [decibels(trained(seen, *second), target) for seen, target, second in pairs]
        return {"held_out_psnr": float(np.mean(found))}

    return measure


@torch.no_grad()
def paired_figures(
    sources: Sequence[Source], network: Network, fused: bool, pairing: Pairing, device: torch.device
) -> list[dict[str, Any]]:
    """For each case the PSNR (dB) of what is shown and of what the network makes of it, against what it aims at."""
    rows = []
    for seed, source in enumerate(sources):
        seen, target, second = shown_pair(source, network, fused, pairing, seed, device)
        made = network(seen, *second)
        rows.append({
            "case": source.case.name, "psnr": decibels(made, target), "shown_psnr": decibels(seen, target),
        })  # fmt: skip
    return rows


def decibels(made: Tensor, target: Tensor) -> float:
    """PSNR in dB where the window's range 1 is the peak; only finite targets count, and without any error it is 120."""
    known = target.isfinite()
    error = float((made.float() - target.float())[known].square().mean())
    return -10 * math.log10(max(error, 1e-12))


def shown_pair(
    source: Source, network: Network, fused: bool, pairing: Pairing | None, seed: int, device: torch.device,
    edges: tuple[int, int, int] | None = None,
) -> Pair:  # fmt: skip
    """The middle of a case, of at most these edges in voxels, as the network gets it, and what it should make of it."""
    edges = edges or _EDGES[network.dims]
    if network.grid:
        edges = (_ALL, _ALL, _ALL if network.dims == 3 else edges[2])
    stride = [2 * step if axis < network.dims else 1 for axis, step in enumerate(network.volume_strides)]
    # Twice the network's own, because a pairing may halve it.
    sample = middle_voxels(source, edges, stride, None if fused else 0)
    seen, target = pairing(sample, Generator().manual_seed(seed)) if pairing else (sample, sample)
    if network.dims == 2:
        seen, target = seen.permute(3, 0, 1, 2), target.permute(3, 0, 1, 2)
    else:
        seen, target = seen[None], target[None]
    second = []
    if network.in_channels > 1:
        second = [target.isfinite().flatten(2).any(2).float().to(device)]
    elif source.second is not None:
        second = [torch.tensor(source.second, dtype=torch.float32).expand(len(target), -1).to(device)]
    return seen.contiguous().to(device), target.contiguous().to(device), second


def figures(
    model: Model, sources: Sequence[Source], engine: Engine, progress: Callable[[str, int, int], None]
) -> list[dict[str, Any]]:
    """For each case PSNR (dB) and SSIM of its reconstruction, through the engine as a user would get it.

    The middle 96 x 96 x 48 voxels at most (whole slices or volumes for networks that know only those); the range is
    the window's. Modalities are averaged.
    """
    rows = []
    edges = _FIGURE_EDGES
    if model.network.grid:
        edges = (_ALL, _ALL, _ALL if model.network.dims == 3 else edges[2])
    for number, source in enumerate(sources):
        progress("Measuring on held-out subjects", number, len(sources))
        volume = source.case.volume()
        for axis, side in enumerate(middle(source, edges)):
            volume = volume.slab(axis, side.start, side.stop)
        made = model.reconstruct(volume, engine=engine, condition=source.second)
        rows.append({"case": source.case.name, **_quality(model, volume.array, made.array)})
    progress("Measuring on held-out subjects", len(sources), len(sources))
    return rows


def told_box(network: Network, learn_from: str, paired: bool) -> str:
    """Which voxels of a case the figures are of, in words, of a training with a pairing or without."""
    *plane, slices = _EDGES[network.dims] if paired else _FIGURE_EDGES
    if network.grid:
        box = "the whole volume" if network.dims == 3 else f"the middle {slices} slices at most"
    else:
        box = f"the middle {plane[0]} x {plane[1]} x {slices} voxels at most"
    halved = "; of each 2 x 2 voxels in the plane one is shown and another aimed at"
    return box + (halved if learn_from == "neighbours" else "")


def _quality(model: Model, before: npt.NDArray[Any], after: npt.NDArray[Any]) -> dict[str, float]:
    found = []
    for wanted, made in zip(before, after, strict=True):
        known = np.isfinite(wanted)
        if not known.any():
            continue
        low, high = limits(model.spec.window, wanted)
        clean, guess = (np.where(known, image, low).astype(np.float32) for image in (wanted, made))
        found.append((min(psnr(clean, guess, high - low), 120.0), ssim(clean, guess, high - low)))
    return {"psnr": float(np.mean([f[0] for f in found])), "ssim": float(np.mean([f[1] for f in found]))}
