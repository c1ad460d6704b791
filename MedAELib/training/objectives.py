"""What training makes small."""

from __future__ import annotations

from torch import Tensor


def relative_error(output: Tensor, target: Tensor, given: Tensor, floor: float = 0.3) -> Tensor:
    """Mean over the batch of each patch's root mean squared error, as a share of the error of what was given.

    Batches mix noise from 0.4 to 20 %: as shares of the noise all levels count alike. The logarithm of the error was
    tried instead: flat patches, where ever less can be left, then rule over those with fine anatomy, which comes out
    smoothed. ``floor``, in units of the noise, is added, so that patches with none do not rule the rest.
    Shapes [b, c, ...]; returns a scalar.
    """
    error, noise = ((image.float() - target.float()).square().flatten(1).mean(1) for image in (output, given))
    return ((error + 1e-8).sqrt() / (noise.sqrt() + floor)).mean()
