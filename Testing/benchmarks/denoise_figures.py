"""Figures of one result beside its reference: PSNR, SSIM, shift by tissue, its cost, the choice of a setting."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from benchmarks.costs import measured
from benchmarks.denoise_cases import SPAN, Case, Image, Scan
from benchmarks.denoise_peers import Peer, Setting
from scipy.ndimage import binary_erosion, gaussian_gradient_magnitude

from MedAELib.quality import psnr, ssim

TISSUES = {
    "lung": (-0.95, -0.6), "fat": (-0.15, -0.05), "soft": (-0.02, 0.12), "muscle": (0.03, 0.09),
    "liver": (0.09, 0.16), "bone": (0.3, 2.0),
}  # fmt: skip
_FEWEST = 200  # voxels of flat tissue for a mean


@dataclass(frozen=True, eq=False)
class Result:
    """The image that a peer made with the setting of the best PSNR, and its figures."""

    image: Image
    setting: Setting
    figures: dict[str, Any]


def best(peer: Peer, case: Case, scan: Scan) -> Result:
    """The peer with each of its settings; the result with the best PSNR counts, and only its cost."""
    chosen: Result | None = None
    for setting in peer.settings:
        with measured() as cost:
            image = peer.apply(scan, setting)
        found = psnr(case.clean, image, SPAN[scan.modality], case.mask)
        if chosen is None or found > chosen.figures["psnr"]:
            chosen = Result(image, setting, {"psnr": found, **cost.per_million(image.size)})
    if chosen is None:
        raise ValueError(f"{peer.name} has no setting")
    return Result(chosen.image, chosen.setting, {**chosen.figures, **judged(case, scan, chosen.image)})


def judged(case: Case, scan: Scan, image: Image) -> dict[str, float]:
    """SSIM in the mask and the mean shift in flat tissue."""
    span = SPAN[scan.modality]
    similar = ssim(shown(case.clean, scan.modality), shown(image, scan.modality), span, case.mask)
    return {"ssim": similar, **shifts(case.clean, image, scan.modality)}


def shown(image: Image, modality: str) -> Image:
    """CT as in a soft-tissue window, -160..240 HU, for SSIM and pictures."""
    return np.clip(image, -0.16, 0.24) if modality == "CT" else image


def shifts(clean: Image, image: Image, modality: str) -> dict[str, float]:
    """Mean shift in flat tissue: HU by tissue for CT, per cent of the window for MR."""
    flat = gaussian_gradient_magnitude(clean, 1.0) < (0.03 if modality == "CT" else 0.02)
    found = {}
    for name, (low, high) in (TISSUES if modality == "CT" else {"tissue": (0.15, 2.0)}).items():
        inside = binary_erosion((clean > low) & (clean < high)) & flat
        if inside.sum() >= _FEWEST:
            found[f"shift_{name}"] = float((image - clean)[inside].mean()) * (1000 if modality == "CT" else 100)
    return found


def timed(apply: Callable[[], Any], voxels: int) -> dict[str, float]:
    """What a call costs per million voxels."""
    with measured() as cost:
        apply()
    return cost.per_million(voxels)
