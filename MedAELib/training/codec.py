"""Train the codec's context model: `python -m MedAELib.training.codec --output FOLDER`; minutes on one core, resumable.

The network is trained with the rounding of its integer form (straight-through gradients), so what is exported computes
what was trained. The loss is the code length of a residual in bits.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor, nn

from MedAELib.atomic import write_text
from MedAELib.codec.context import Doubles
from MedAELib.codec.differentiable import CodecNetwork, code_length, exported
from MedAELib.codec.lattice import CASES
from MedAELib.codec.model_file import METADATA, WEIGHTS, pack_model, weights_of
from MedAELib.codec.network import RATIO_CLASSES, ContextModel
from MedAELib.training.codec_samples import Samples, codec_volumes, collect, untrained_predictions
from MedAELib.training.cohort import data_folder, kept
from MedAELib.training.loop import Batch, Schedule, train

BATCH = 1024  # of each case
_MOST_VOXELS = (176, 176, 40)  # of a large volume's middle


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


def training_options(about: str, steps: int) -> argparse.Namespace:
    """What the command line of a training of the codec says; from here on torch repeats itself on one thread."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--data", type=Path, default=data_folder())
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--publish", type=Path, help="also put the model into this model folder, beside its card")
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    return options


def trained(
    network: CodecNetwork, batch: Callable[[int], Batch], checks: Sequence[Batch], options: argparse.Namespace,
    every: int,
) -> CodecNetwork:  # fmt: skip
    """Train a codec's network by code length, `every` so many steps validated on the checks and kept."""

    def validate(current: nn.Module) -> dict[str, float]:
        with torch.no_grad():
            return {"held_out_bits": float(sum(code_length(current, check) for check in checks)) / len(checks)}

    schedule = Schedule(options.steps, learning_rate=3e-3, checkpoint_every=every, validate_every=every)
    averaged, _ = train(network, batch, code_length, schedule, options.output, resume=options.resume, validate=validate)
    if not isinstance(averaged, CodecNetwork):
        raise TypeError("the training returned another network")
    return averaged


def main() -> None:
    """Collect the samples (kept in the folder), train, and write `model.safetensors`."""
    options = training_options("Train the codec's context model.", 16_000)
    stored = kept(options.output / "samples.pt", lambda: _collected(options.data))
    training, held_out = _Data(stored["training"]), _Data(stored["validation"])
    checks = [held_out.batch(number, 4096) for number in range(4)]
    averaged = trained(CodecNetwork(), training.batch, checks, options, 1000)
    model = export(averaged, stored["predictions"].numpy())
    weights = safetensors.numpy.save(pack_model(model))
    (options.output / "model.safetensors").write_bytes(weights)
    if options.publish:
        publish(weights, options.publish)


def publish(weights: bytes, folder: Path) -> None:
    """Put weights and their description into a model folder; its card and licence are written by hand."""
    told = {"name": folder.name, "version": "1.0.0", "sha256": hashlib.sha256(weights).hexdigest()}
    told["description"] = "Predicts voxels of CT and MRI from their neighbours, for lossless and near-lossless coding"
    _put(weights, folder, WEIGHTS, told)


def keep_further(weights: bytes, options: argparse.Namespace, entry: str) -> None:
    """Write a further model of the codec, and with --publish put it and its hash into the codec's model folder."""
    (options.output / "model.safetensors").write_bytes(weights)
    folder: Path | None = options.publish
    if folder is not None:
        named = {"name": f"{folder.name}-{entry}", "sha256": hashlib.sha256(weights).hexdigest()}
        _put(weights, folder, weights_of(entry), {entry: named})


def _put(weights: bytes, folder: Path, file: str, told: Mapping[str, object]) -> None:
    """Weights into a model folder, and what is told of them into its description, where other models keep theirs."""
    description = folder / METADATA
    before = json.loads(description.read_text(encoding="utf-8")) if description.is_file() else {}
    for path in (folder / file, description):
        path.parent.mkdir(parents=True, exist_ok=True)
    (folder / file).write_bytes(weights)
    write_text(description, json.dumps({**before, **told}, indent=2) + "\n")


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
