"""What a denoising autoencoder learns to undo, by name: noise, holes, thick slices and faults of k-space."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from MedAELib.training.corruptions import gaussian, log_uniform, magnitude_noise, projection_noise, uniform

Corruption = Callable[[Tensor, Generator], Tensor]  # a clean patch [i, j, k] in its window -> a damaged one


def gaussian_noise(clean: Tensor, generator: Generator) -> Tensor:
    """White Gaussian noise of 1 to 20 % of the window."""
    return clean + log_uniform(0.01, 0.2, generator) * gaussian(clean.shape, generator)


def rician_noise(clean: Tensor, generator: Generator) -> Tensor:
    """Noise of a magnitude MRI scan, 1 to 20 % of the window."""
    return magnitude_noise(clean, log_uniform(0.01, 0.2, generator), generator)


def low_dose(clean: Tensor, generator: Generator) -> Tensor:
    """Noise of a CT scan at a lower dose, 1 to 12 % of the window: correlated in the axial plane (i, j).

    An approximation in image space with the spectrum that filtered back-projection leaves; streaks in one direction.
    """
    streaks = uniform(0, 0.6, generator)
    noise = projection_noise(clean.shape, generator, log_uniform(0.25, 0.9, generator), 0.0, streaks)
    return clean + log_uniform(0.01, 0.12, generator) * noise


def coarse_noise(clean: Tensor, generator: Generator) -> Tensor:
    """Smooth noise over 4 to 16 voxels, 5 to 30 % of the window (Kascenas et al., MIDL 2022)."""
    size = int(uniform(4, 17, generator))
    knots = gaussian((1, 1, *(math.ceil(n / size) + 1 for n in clean.shape)), generator)
    field = torch.nn.functional.interpolate(knots, tuple(clean.shape), mode="trilinear", align_corners=True)[0, 0]
    return clean + log_uniform(0.05, 0.3, generator) * field


def holes(clean: Tensor, generator: Generator) -> Tensor:
    """One to six boxes, up to a third of the edges long, filled with one random value each (Pathak et al. 2016)."""
    damaged = clean.clone()
    for _ in range(int(uniform(1, 7, generator))):
        box = []
        for n in clean.shape:
            length = int(uniform(1, max(n // 3, 1) + 1, generator))
            start = int(uniform(0, n - length + 1, generator))
            box.append(slice(start, start + length))
        damaged[tuple(box)] = uniform(0, 1, generator)
    return damaged


def thick_slices(clean: Tensor, generator: Generator) -> Tensor:
    """Two to six slices along one axis measured as one, then interpolated back to the fine grid.

    In a slice (k of 1) one of its two axes is coarse instead.
    """
    axes = [axis for axis, n in enumerate(clean.shape) if n >= 4]
    if not axes:
        return clean.clone()
    axis = axes[int(uniform(0, len(axes), generator))]
    thickness = int(uniform(2, min(6, clean.shape[axis] // 2) + 1, generator))
    lines = clean.movedim(axis, -1)
    flat = lines.reshape(1, -1, lines.shape[-1])
    coarse = torch.nn.functional.avg_pool1d(flat, thickness, ceil_mode=True)
    return _between(coarse, thickness, lines.shape[-1]).reshape(lines.shape).movedim(-1, axis)


def _between(coarse: Tensor, thickness: int, count: int) -> Tensor:
    """Linear interpolation [..., count] between thick slices [..., s] at their centres: the last may be thinner."""
    places = torch.arange(float(count))
    starts = places[::thickness]
    centres = (starts + (starts + thickness).clamp(max=count) - 1) / 2
    upper = torch.searchsorted(centres, places).clamp(1, len(centres) - 1)
    lower = upper - 1
    share = ((places - centres[lower]) / (centres[upper] - centres[lower])).clamp(0, 1)
    return coarse[..., lower].lerp(coarse[..., upper], share)


def k_space_faults(clean: Tensor, generator: Generator) -> Tensor:
    """One of: a spike, every second line weaker (ghosts), or the outer lines missing (ringing), in (i, j)."""
    spectrum = torch.fft.fftn(clean, dim=(0, 1))
    kind = int(uniform(0, 3, generator))
    rows, columns = clean.shape[:2]
    if kind == 0:
        row, column = int(uniform(0, rows, generator)), int(uniform(0, columns, generator))
        spectrum[row, column] += uniform(0.05, 0.4, generator) * spectrum.abs().amax(dim=(0, 1))
    elif kind == 1:
        spectrum[1::2] *= uniform(0.5, 0.95, generator)
    else:
        kept = max(1, int(rows * uniform(0.06, 0.2, generator)))
        spectrum[kept : rows - kept] = 0
    return torch.fft.ifftn(spectrum, dim=(0, 1)).real


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": gaussian_noise,
    "rician_noise": rician_noise,
    "low_dose": low_dose,
    "coarse_noise": coarse_noise,
    "holes": holes,
    "thick_slices": thick_slices,
    "k_space_faults": k_space_faults,
}


def damaged(clean: Tensor, names: Sequence[str], generator: Generator) -> Tensor:
    """The patch [i, j, k] after these corruptions, one after the other; the patch itself stays as it is."""
    for name in names:
        clean = CORRUPTIONS[name](clean, generator)
    return clean
