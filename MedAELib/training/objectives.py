"""What training makes small."""

from __future__ import annotations

import torch
from torch import Tensor


def log_error(output: Tensor, target: Tensor, floor: float = 1e-3) -> Tensor:
    """Mean over the batch of half the logarithm of each patch's mean squared error: -PSNR, in other units.

    Batches mix noise from 0.4 to 20 %, whose squared errors differ by a factor of a thousand: in the logarithm every
    level counts the same decibels, which is how results are judged, while within a patch the squared error keeps the
    mean (a Rician bias is removed, a Hounsfield unit is not shifted). ``floor`` is the error, in units of the window,
    below which nothing is gained, so that patches without noise do not rule the rest. The plain root of the error was
    tried instead: it smooths fine anatomy away at 3 % noise. Shapes [b, c, ...]; returns a scalar.
    """
    error = (output.float() - target.float()).square().flatten(1).mean(1)
    return 0.5 * torch.log(error + floor**2).mean()
