"""Train the codec's restoration: `python -m MedAELib.training.codec_restoration --output FOLDER`; resumable.

The network is trained with the rounding of its integer form; the loss is what is left of the error of a low band.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from torch import Tensor, nn

from MedAELib.codec.context import Floats
from MedAELib.codec.differentiable import ONE, rounded
from MedAELib.codec.model_file import (
    EARLIER_RESTORATION,
    RESTORATION,
    load_codec_model,
    load_restoration_model,
    load_subband_model,
    pack_restoration,
)
from MedAELib.codec.restoration import RESTORATION_INPUTS, SIXTEENTHS, RestorationModel
from MedAELib.codec.restoration_fit import restore_level
from MedAELib.codec.subband import Coefficients
from MedAELib.codec.subband_encoder import encode_waves
from MedAELib.codec.subband_levels import Cascade, WaveGrid
from MedAELib.codec.wavelet import Axes, Doubles
from MedAELib.training.codec import keep_further, training_options
from MedAELib.training.codec_samples import codec_volumes, imitated, middle_of
from MedAELib.training.cohort import kept
from MedAELib.training.loop import Schedule, train

HIDDEN = (64, 48)
BATCH = 4096
_SAMPLES = 12_000  # of the finest level of a volume at one quality; half as many of each coarser one
_MOST_VOXELS = (144, 144, 28)  # of a large volume's middle
_DECIBELS = (18, 56)  # roughly, of the files that are imitated
_QUALITIES = 3  # of each volume
_OUTLIER = 50.0  # times the mean squared error of a level: more does not count
_LAST, _LAST_BIAS = 2.0**11, 2.0**8  # a weight and a bias of 1 of the last layer, as they are stored

Columns = list[npt.NDArray[np.generic]]


class RestorationNetwork(nn.Module):
    """The three layers in real numbers, which are rounded as they will be stored."""

    w3: nn.Parameter
    b3: nn.Parameter

    def __init__(self, hidden: tuple[int, int] = HIDDEN) -> None:
        super().__init__()
        first, second = hidden
        self.w1 = nn.Parameter(torch.randn(RESTORATION_INPUTS, first) / RESTORATION_INPUTS**0.5)
        self.w2 = nn.Parameter(torch.randn(first, second) / first**0.5)
        self.w3 = nn.Parameter(torch.zeros(second, 1))
        self.b1, self.b2 = nn.Parameter(torch.zeros(first)), nn.Parameter(torch.zeros(second))
        self.b3 = nn.Parameter(torch.zeros(1))

    def integers(self) -> dict[str, Tensor]:
        """Weights and biases as they are stored, still differentiable."""
        layers = {"w1": self.w1 * ONE, "w2": self.w2 * ONE, "w3": self.w3 * _LAST}
        layers |= {"b1": self.b1 * ONE * 32, "b2": self.b2 * ONE * 32}
        found = {name: rounded(value) for name, value in layers.items()}
        return found | {"b3": rounded(self.b3 * _LAST_BIAS) * (2.0**SIXTEENTHS / _LAST_BIAS)}

    def forward(self, inputs: Tensor) -> Tensor:
        """Corrections in steps [n] from inputs [n, 52]."""
        layers, current = self.integers(), inputs
        for number in "12":
            current = rounded(torch.addmm(layers[f"b{number}"], current, layers[f"w{number}"]) / ONE).clamp(0, 255)
        return torch.addmm(layers["b3"], current, layers["w3"])[:, 0] / 2**SIXTEENTHS


def left_over(network: nn.Module, batch: tuple[Tensor, ...]) -> Tensor:
    """The squared error that is left, relative to the mean one of its level: inputs, what is missing, its weight."""
    inputs, missing, weight = batch
    return ((network(inputs) - missing) ** 2 * weight).clamp(max=_OUTLIER).mean()


def collect(values: Floats, grid: WaveGrid, generator: np.random.Generator) -> list[Columns]:
    """Of some voxels of all levels of a volume: inputs [n, 52], what is missing in steps, and its weight.

    The coarser levels are restored by the model before this one.
    """
    found: list[Columns] = []
    earlier = load_restoration_model(None, EARLIER_RESTORATION).restoration

    def look(cascade: Cascade, bands: dict[Axes, Coefficients], truth: Doubles) -> bytes:
        around = cascade.around(bands)
        most = min(_SAMPLES >> cascade.place, len(around.voxels))
        if most:
            chosen = generator.choice(around.voxels, most, replace=False)
            missing = around.missing(truth, chosen).astype(np.float32)
            weight = np.full(most, 1 / max(float(np.mean(missing**2)), 1e-6), np.float32)
            found.append([around.inputs(chosen).T.astype(np.int8), missing, weight])
        return restore_level(cascade, bands, truth, earlier)

    encode_waves(values.astype(np.int64), grid, load_subband_model().subband, load_codec_model().context, look)
    return found


def gather(data: Path, validation: bool, seed: int) -> list[Tensor]:
    """The samples of all volumes, each at some qualities."""
    generator = np.random.default_rng(seed)
    parts: list[Columns] = []
    for name, values, spacing in codec_volumes(data, validation):
        values = middle_of(values, _MOST_VOXELS)
        for grid in imitated(values, spacing, _DECIBELS, _QUALITIES, generator):
            parts += collect(values, grid, generator)
        print(name, values.shape, flush=True)
    return [torch.from_numpy(np.concatenate(column)) for column in zip(*parts, strict=True)]


def export(network: RestorationNetwork) -> RestorationModel:
    """The trained network in its stored form."""
    with torch.no_grad():
        layers = {name: np.ascontiguousarray(value.numpy().T) for name, value in network.integers().items()}
    return RestorationModel(layers)


def main() -> None:
    """Collect the samples (kept in the folder), train, and write `model.safetensors`."""
    options = training_options("Train the codec's restoration.", 20_000)
    stored = kept(
        options.output / "samples.pt",
        lambda: {"training": gather(options.data, False, 1), "validation": gather(options.data, True, 2)},
    )
    columns, check = stored["training"], [stored["validation"][0].float(), *stored["validation"][1:]]

    def batch(number: int) -> tuple[Tensor, ...]:
        drawn = torch.randint(len(columns[0]), (BATCH,), generator=torch.Generator().manual_seed(number))
        return columns[0][drawn].float(), columns[1][drawn], columns[2][drawn]

    def validate(current: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {"left_over": float(left_over(current, tuple(check)))}

    schedule = Schedule(options.steps, learning_rate=5e-3, checkpoint_every=1000, validate_every=1000)
    network = RestorationNetwork()
    averaged, _ = train(network, batch, left_over, schedule, options.output, resume=options.resume, validate=validate)
    if not isinstance(averaged, RestorationNetwork):
        raise TypeError("the training returned another network")
    weights = safetensors.numpy.save(pack_restoration(export(averaged)))
    keep_further(weights, options, RESTORATION)


if __name__ == "__main__":
    main()
