"""What a network makes of one slice of a held-out subject, beside what it was shown: to look at while it learns."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from MedAELib.networks import Network
from MedAELib.training.held_out import shown_pair
from MedAELib.training.noisy import SHOWN, with_noise
from MedAELib.training.sampling import Pairing, Source, middle_voxels

Picture = Callable[[nn.Module], npt.NDArray[np.float32]]
"""From a network to [i, j], 0 to 1: what was shown on the left, what the network made of it on the right."""
_EDGES = {2: (192, 192, 1), 3: (128, 128, 16)}


def reconstructed_slice(
    source: Source, network: Network, fused: bool, pairing: Pairing | None, device: torch.device
) -> Picture:
    """The middle slice of a case as an autoencoder is shown it, and as it gives it back."""
    seen, target, second = shown_pair(source, network, fused, pairing, 0, device, _EDGES[network.dims])

    @torch.no_grad()
    def picture(trained: nn.Module) -> npt.NDArray[np.float32]:
        parts = (_middle(seen), _middle(trained(seen, *second)), _middle(target))
        return _beside(*(_upright(part, source) for part in parts))

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
        return _beside(*(_upright(part, source) for part in parts))

    return picture


def _middle(batch: Tensor) -> Tensor:
    """The middle slice [i, j] of the first channel of [b, c, i, j] or [b, c, i, j, k]."""
    if batch.ndim == 4:
        return batch[len(batch) // 2, 0].float().cpu()
    return batch[0, 0, ..., batch.shape[4] // 2].float().cpu()


def _upright(part: Tensor, source: Source) -> Tensor:
    """The slice as radiologists look at it, where it is axial: the patient's right on the left, the front on top."""
    axes = source.case.affine[:2, :2]
    flips = [n for n in (0, 1) if axes[n, n] > abs(axes[n, 1 - n])]
    return part.flip(flips) if flips else part


def _beside(shown: Tensor, made: Tensor, wanted: Tensor) -> npt.NDArray[np.float32]:
    """Two slices side by side, in grey values that suit what the second one should be."""
    known = wanted[wanted.isfinite()].numpy()
    low, high = (float(v) for v in np.percentile(known, (1, 99))) if known.size else (0.0, 1.0)
    both = torch.cat([shown, made])
    return ((both - low) / max(high - low, 1e-6)).nan_to_num(0.0, 1.0, 0.0).clamp(0, 1).numpy()
