"""The codec's networks in real numbers, rounded as their integer form is: what training and tuning move.

The loss is the code length of a residual in bits, with straight-through gradients of the rounding.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from .context import CORRECTION_FACTOR, INPUTS, OCTAVE, UNIT_LOG, Floats
from .lattice import CASES
from .tables import POINTS, SHAPES, SMALLEST

SCALES = (0.5, 1.0, 2.0, 4.0, 10.0)  # of the normal distributions that a shape mixes
HIDDEN = (32, 24)
ONE = 256.0  # an integer weight of 1


def rounded(value: Tensor) -> Tensor:
    """Rounded to integers, with the gradient of the identity."""
    return value + (value.round() - value).detach()


class CodecNetwork(nn.Module):
    """The three layers of every case, in real numbers that are rounded as they will be stored; and the shapes."""

    w3: nn.Parameter
    b3: nn.Parameter
    gain: Tensor
    start: Tensor

    def __init__(self, cases: int = len(CASES), inputs: int = INPUTS, hidden: tuple[int, int] = HIDDEN) -> None:
        super().__init__()
        first, second = hidden
        for name, inside, outside, spread in (
            ("1", inputs, first, 1.0),
            ("2", first, second, 1.0),
            ("3", second, 3, 0.5),
        ):
            values = torch.randn(cases, inside, outside) * spread / inside**0.5
            setattr(self, f"w{name}", nn.Parameter(values))
            setattr(self, f"b{name}", nn.Parameter(torch.zeros(cases, 1, outside)))
        self.shapes = nn.Parameter(
            torch.tensor([[-2.0, 3, 1, -3, -5], [0, 3, 2, 0, -3], [1, 2, 2, 1, 0], [2, 2, 1, 1, 1]])
        )
        self.register_buffer("gain", torch.tensor([12.8, 48.0, 32.0]) / 32)
        self.register_buffer("start", torch.tensor([0.0, -8.0, 32.0]))

    def integers(self) -> dict[str, Tensor]:
        """Weights and biases as they are stored, still differentiable; a bias of 32 * 256 is an activation of 32."""
        layers = {f"w{n}": getattr(self, f"w{n}") * ONE for n in "12"} | {"w3": self.w3 * ONE * self.gain}
        layers |= {f"b{n}": getattr(self, f"b{n}") * ONE * 32 for n in "12"}
        layers |= {"b3": (self.b3 * 32 * self.gain + self.start) * ONE}
        return {name: rounded(value) for name, value in layers.items()}

    def forward(self, inputs: Tensor) -> Tensor:
        """Correction, scale and shape [case, n, 3], as integers, from inputs [case, n, 37]."""
        layers, current = self.integers(), inputs
        for n in "12":
            current = rounded(torch.baddbmm(layers[f"b{n}"], current, layers[f"w{n}"]) / ONE).clamp(0, 255)
        return torch.baddbmm(layers["b3"], current, layers["w3"]) / ONE


def code_length(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """Bits per voxel of a batch: inputs [case, n, 37], unit, residual in eighths, step [case, n]."""
    if not isinstance(network, CodecNetwork):
        raise TypeError("only the codec's network has a code length")
    inputs, unit, residual, step = batch
    outputs = network(inputs)
    centre = outputs[..., 0] * torch.from_numpy(CORRECTION_FACTOR)[unit]
    log_scale = (torch.from_numpy(UNIT_LOG)[unit] + outputs[..., 1]) / OCTAVE - 6 - step.log2()
    scale = torch.exp2(log_scale.clamp(SMALLEST / OCTAVE, 14))  # in quantisation steps
    shape = (outputs[..., 2] / 32).clamp(0, SHAPES - 1)
    low = shape.detach().floor().clamp(0, SHAPES - 2).long()
    part = (shape - low)[..., None]
    mixture = torch.softmax(network.shapes, 1)
    weights = mixture[low] * (1 - part) + mixture[low + 1] * part
    distance = ((residual - centre) / (8 * step))[..., None]
    width = scale[..., None] * torch.tensor(SCALES) * math.sqrt(2)
    mass = 0.5 * (torch.erf((distance + 0.5) / width) - torch.erf((distance - 0.5) / width))
    floor = 1e-3 / (1 + distance[..., 0].abs() + scale) * 0.1 + 1e-7  # the escape, roughly
    return -torch.log2((mass * weights).sum(-1) * (1 - 1e-3) + floor).mean()


def exported(network: CodecNetwork) -> tuple[dict[str, Floats], npt.NDArray[np.int64]]:
    """The layers and the tails of the trained network in their stored form."""
    with torch.no_grad():
        layers = {name: value.numpy() for name, value in network.integers().items()}
        mixture = torch.softmax(network.shapes.double(), 1)
        distance = torch.arange(POINTS, dtype=torch.float64) / 64
        tails = 0.5 * torch.erfc(distance[None, :, None] / (torch.tensor(SCALES, dtype=torch.float64) * math.sqrt(2)))
        tails = (tails * mixture[:, None, :]).sum(-1)
    weights = {f"w{n}": np.ascontiguousarray(layers[f"w{n}"].transpose(0, 2, 1)) for n in "123"}
    weights |= {f"b{n}": np.ascontiguousarray(layers[f"b{n}"][:, 0]) for n in "123"}
    whole = np.rint(tails.numpy() * 2**30).astype(np.int64)
    whole[:, 0] = 1 << 29
    return weights, whole
