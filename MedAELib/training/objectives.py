"""What training makes small."""

from __future__ import annotations

from torch import Tensor


def root_error(output: Tensor, target: Tensor, floor: float = 1e-3) -> Tensor:
    """Mean over the batch of each patch's root mean squared error, in units of the window.

    Batches mix noise from 0.4 to 20 %. The plain squared error would hear the loudest patches alone; its logarithm
    hears the quietest as much, and then the network rather leaves noise in than risk texture that only looks like
    noise. The root lies between. Within a patch the squared error keeps the mean: a Rician bias is removed, a
    Hounsfield unit is not shifted. Below ``floor`` little is gained. Shapes [b, c, ...]; returns a scalar.
    """
    error = (output.float() - target.float()).square().flatten(1).mean(1)
    return (error + floor**2).sqrt().mean()
