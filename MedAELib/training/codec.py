"""Train the codec's context model: `python -m MedAELib.training.codec --output FOLDER`; minutes on one core, resumable.

The network is trained with the rounding of its integer form (straight-through gradients), so what is exported computes
what was trained. The loss is the code length of a residual in bits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from torch import Tensor, nn

from MedAELib.atomic import write_text
from MedAELib.codec.context import CORRECTION_FACTOR, INPUTS, OCTAVE, UNIT_LOG, Doubles, Floats
from MedAELib.codec.lattice import CASES
from MedAELib.codec.model_file import METADATA, WEIGHTS, pack_model
from MedAELib.codec.network import RATIO_CLASSES, ContextModel
from MedAELib.codec.tables import POINTS, SHAPES, SMALLEST
from MedAELib.training.codec_samples import Samples, codec_volumes, collect, untrained_predictions
from MedAELib.training.cohort import data_folder
from MedAELib.training.loop import Schedule, train

SCALES = (0.5, 1.0, 2.0, 4.0, 10.0)  # of the normal distributions that a shape mixes
HIDDEN = (32, 24)
BATCH = 1024  # of each case
_MOST_VOXELS = (176, 176, 40)  # of a large volume's middle
_ONE = 256.0  # an integer weight of 1


def _rounded(value: Tensor) -> Tensor:
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
        layers = {f"w{n}": getattr(self, f"w{n}") * _ONE for n in "12"} | {"w3": self.w3 * _ONE * self.gain}
        layers |= {f"b{n}": getattr(self, f"b{n}") * _ONE * 32 for n in "12"}
        layers |= {"b3": (self.b3 * 32 * self.gain + self.start) * _ONE}
        return {name: _rounded(value) for name, value in layers.items()}

    def forward(self, inputs: Tensor) -> Tensor:
        """Correction, scale and shape [case, n, 3], as integers, from inputs [case, n, 37]."""
        layers, current = self.integers(), inputs
        for n in "12":
            current = _rounded(torch.baddbmm(layers[f"b{n}"], current, layers[f"w{n}"]) / _ONE).clamp(0, 255)
        return torch.baddbmm(layers["b3"], current, layers["w3"]) / _ONE


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


def export(network: CodecNetwork, predictions: Doubles) -> ContextModel:
    """The trained network in its stored form."""
    return ContextModel(*exported(network), predictions)


@dataclass
class _Data:
    """All samples by case, as tensors, with the running sum of their chances to be drawn."""

    cases: list[tuple[Tensor, ...]]  # inputs, unit, residual, step, chance

    @staticmethod
    def of(samples: dict[int, list[Samples]]) -> _Data:
        """Samples that stand for many voxels are drawn more often."""
        cases: list[tuple[Tensor, ...]] = []
        for case in range(len(CASES)):
            joined = Samples.joined(samples[case])
            chance = torch.from_numpy(joined.weight.astype(np.float64) ** 0.7).cumsum(0)
            parts = joined.inputs, joined.unit, joined.residual, joined.step
            cases.append((*(torch.from_numpy(part) for part in parts), chance / chance[-1]))
        return _Data(cases)

    def batch(self, number: int, size: int = BATCH) -> tuple[Tensor, ...]:
        """The batch of a step: it depends on the step alone."""
        generator = torch.Generator().manual_seed(number)
        columns: list[list[Tensor]] = [[], [], [], []]
        for *parts, chance in self.cases:
            drawn = torch.searchsorted(chance, torch.rand(size, generator=generator, dtype=torch.float64))
            for column, part in zip(columns, parts, strict=True):
                column.append(part[drawn.clamp_max(len(chance) - 1)])
        inputs, unit, residual, step = (torch.stack(column) for column in columns)
        return inputs.float(), unit.long(), residual, step


def gather(
    data: Path, validation: bool, predictions: Doubles, seed: int, lossy: bool = True
) -> tuple[dict[int, list[Samples]], Doubles]:
    """Samples of all volumes, and the means of their fitted predictions.

    If `lossy`, the larger ones are taken twice, once with a larger step; else a third of the volumes is taken.
    """
    generator = np.random.default_rng(seed)
    samples: dict[int, list[Samples]] = {}
    fitted: dict[tuple[int, int], list[Doubles]] = {}
    for name, voxels, spacing in islice(codec_volumes(data, validation), 0, None, 1 if lossy else 3):
        start = [max(size - most, 0) // 2 for size, most in zip(voxels.shape, _MOST_VOXELS, strict=True)]
        middle = tuple(slice(s, s + most) for s, most in zip(start, _MOST_VOXELS, strict=True))
        voxels = voxels[middle] if voxels.size > np.prod(_MOST_VOXELS) * 1.1 else voxels
        steps = (1, int(generator.choice([3, 5, 9, 17]))) if lossy and voxels.size > 200_000 else (1,)
        for step in steps:
            found, weights = collect(voxels, spacing, step, predictions, generator)
            for case, parts in found.items():
                samples.setdefault(case, []).extend(parts)
            for key, some in weights.items() if step == 1 else ():
                fitted.setdefault(key, []).extend(some)
        print(name, voxels.shape, flush=True)
    return samples, _mean_predictions(fitted, predictions)


def _mean_predictions(fitted: dict[tuple[int, int], list[Doubles]], before: Doubles) -> Doubles:
    """Means of the fitted weights; a class of spacing that was never met takes those of the nearest one that was."""
    made = before.copy()
    for case in range(len(CASES)):
        met = [ratio for ratio in range(RATIO_CLASSES**2) if (case, ratio) in fitted]
        for ratio in range(RATIO_CLASSES**2) if met else ():
            nearest = min(met, key=lambda other: (abs(other - ratio), other))
            made[case, ratio] = np.rint(np.mean(fitted[case, nearest], axis=0))
    return made


def main() -> None:
    """Collect the samples (kept in the folder), train, and write `model.safetensors`."""
    parser = argparse.ArgumentParser(description="Train the codec's context model.")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--steps", type=int, default=16_000)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--publish", type=Path, help="also put the model into this model folder, beside its card")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    options.output.mkdir(parents=True, exist_ok=True)
    kept = options.output / "samples.pt"
    if not kept.is_file():
        torch.save(_collected(options.data), kept)
    stored = torch.load(kept, weights_only=True)
    training, held_out = _Data(stored["training"]), _Data(stored["validation"])
    network = CodecNetwork()
    checks = [held_out.batch(number, 4096) for number in range(4)]

    def validate(current: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {"held_out_bits": float(sum(code_length(current, check) for check in checks)) / len(checks)}

    schedule = Schedule(options.steps, learning_rate=3e-3, checkpoint_every=1000, validate_every=1000)
    averaged, _ = train(
        network, training.batch, code_length, schedule, options.output, resume=options.resume, validate=validate
    )
    if not isinstance(averaged, CodecNetwork):
        raise TypeError("the training returned another network")
    model = export(averaged, stored["predictions"].numpy())
    weights = safetensors.numpy.save(pack_model(model))
    (options.output / "model.safetensors").write_bytes(weights)
    if options.publish:
        publish(weights, options.publish)


def publish(weights: bytes, folder: Path) -> None:
    """Put weights and their description into a model folder; its card and licence are written by hand."""
    told = {"name": folder.name, "version": "1.0.0", "sha256": hashlib.sha256(weights).hexdigest()}
    told["description"] = "Predicts voxels of CT and MRI from their neighbours, for lossless and near-lossless coding"
    (folder / "configs").mkdir(parents=True, exist_ok=True)
    (folder / "models").mkdir(exist_ok=True)
    (folder / WEIGHTS).write_bytes(weights)
    write_text(folder / METADATA, json.dumps(told, indent=2) + "\n")


def _collected(data: Path) -> dict[str, object]:
    """Samples and default predictions: the predictions are fitted first, then used."""
    _, predictions = gather(data, False, untrained_predictions(), 0, lossy=False)
    training, predictions = gather(data, False, predictions, 1)
    validation, _ = gather(data, True, predictions, 2)
    for case in range(len(CASES)):  # the validation subjects need not meet every case
        validation.setdefault(case, training[case][:1])
    return {
        "training": _Data.of(training).cases,
        "validation": _Data.of(validation).cases,
        "predictions": torch.from_numpy(predictions),
    }


if __name__ == "__main__":
    main()
