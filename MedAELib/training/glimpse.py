"""What a network makes of one slice of a held-out subject, beside what it was shown: to look at while it learns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from scipy.ndimage import binary_erosion
from torch import Tensor, nn

from MedAELib.anomaly.masks import box_around
from MedAELib.anomaly.prepare import Prepared
from MedAELib.networks import Network
from MedAELib.networks.normative import NormativeAutoencoder
from MedAELib.training.anomalies import draw_anomaly
from MedAELib.training.held_out import shown_pair
from MedAELib.training.noisy import SHOWN, with_noise
from MedAELib.training.sampling import Pairing, Source, middle_voxels

Picture = Callable[[nn.Module], npt.NDArray[np.float32]]
"""From a network to [i, j], 0 to 1: what was shown on the left, what the network made of it on the right."""
_EDGES = {2: (192, 192, 1), 3: (128, 128, 16)}
_RADIUS, _PLAIN = 5.0, 1.0  # voxels, and how plain the place is that is drawn into a normal scan


def reconstructed_slice(
    source: Source, network: Network, fused: bool, pairing: Pairing | None, device: torch.device
) -> Picture:
    """The middle slice of a case as an autoencoder is shown it, and as it gives it back."""
    seen, target, second = shown_pair(source, network, fused, pairing, 0, device, _EDGES[network.dims])

    @torch.no_grad()
    def picture(trained: nn.Module) -> npt.NDArray[np.float32]:
        parts = (_middle(seen), _middle(trained(seen, *second)), _middle(target))
        return _beside(*(_upright(part, source.case.affine) for part in parts))

    return picture


def denoised_slice(source: Source, dims: int, stride: int, modality: str, device: torch.device) -> Picture:
    """The middle slice of a case with the noise of the held-out figures added, and denoised."""
    steps = (stride, stride, stride if dims == 3 else 1)
    clean = middle_voxels(source, _EDGES[dims], steps, 0)[0]
    noisy = with_noise(clean, modality, 0)
    unit = SHOWN[modality]
    seen = (noisy.permute(2, 0, 1)[:, None] if dims == 2 else noisy[None, None]).contiguous().to(device) / unit
    wanted = clean[..., clean.shape[2] // 2]

    @torch.no_grad()
    def picture(trained: nn.Module) -> npt.NDArray[np.float32]:
        parts = (_middle(seen * unit), _middle(trained(seen) * unit), wanted)
        return _beside(*(_upright(part, source.case.affine) for part in parts))

    return picture


def typical_slice(scan: Prepared, network: NormativeAutoencoder, device: torch.device) -> Picture:
    """A slice of a normal scan with a dark place drawn into it, and the typical slice that is nearest to it."""
    deep = binary_erosion(scan.mask, np.ones((3, 3, 3 if scan.dims == 3 else 1)), iterations=int(_RADIUS))
    inside = deep if deep.any() else scan.mask
    changed, where = draw_anomaly(scan.voxels, inside, "dark", _RADIUS, _PLAIN, np.random.default_rng(7))
    plane = int(where.sum(axis=(0, 1)).argmax())
    around = _EDGES[scan.dims][2] // 2
    box = (*box_around(scan.mask[..., plane : plane + 1])[:2], slice(max(0, plane - around), plane + around + 1))
    wanted, slab = torch.from_numpy(scan.voxels[box]), torch.from_numpy(changed[box])
    shown = plane - box[2].start
    step = network.stride
    missing = [-size % step if axis < scan.dims else 0 for axis, size in enumerate(slab.shape)]
    seen = nn.functional.pad(slab, [n for more in reversed(missing) for n in (0, more)])[None, None].to(device)

    @torch.no_grad()
    def picture(trained: nn.Module) -> npt.NDArray[np.float32]:
        made = trained(seen if scan.dims == 3 else seen[..., shown]).float().cpu()
        typical = made[0, 0, ..., shown] if scan.dims == 3 else made[0, 0]
        parts = (slab[..., shown], typical[: slab.shape[0], : slab.shape[1]], wanted[..., shown])
        return _beside(*(_upright(part, scan.grid.affine) for part in parts))

    return picture


def _middle(batch: Tensor) -> Tensor:
    """The middle slice [i, j] of the first channel of [b, c, i, j] or [b, c, i, j, k]."""
    if batch.ndim == 4:
        return batch[len(batch) // 2, 0].float().cpu()
    return batch[0, 0, ..., batch.shape[4] // 2].float().cpu()


def _upright(part: Tensor, affine: npt.NDArray[np.float64]) -> Tensor:
    """The slice as radiologists look at it, where it is axial: the patient's right on the left, the front on top."""
    axes = affine[:2, :2]
    flips = [n for n in (0, 1) if axes[n, n] > abs(axes[n, 1 - n])]
    return part.flip(flips) if flips else part


def _beside(shown: Tensor, made: Tensor, wanted: Tensor) -> npt.NDArray[np.float32]:
    """Two slices side by side, in grey values that suit what the second one should be."""
    known = wanted[wanted.isfinite()].numpy()
    low, high = (float(v) for v in np.percentile(known, (1, 99))) if known.size else (0.0, 1.0)
    both = torch.cat([shown, made])
    return ((both - low) / max(high - low, 1e-6)).nan_to_num(0.0, 1.0, 0.0).clamp(0, 1).numpy()
