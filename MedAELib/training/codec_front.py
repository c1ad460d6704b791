"""Train the codec's model of wave fronts: `python -m MedAELib.training.codec_front --output FOLDER`; resumable.

As in `codec.py`, the network is trained with the rounding of its integer form, and the loss is a code length in bits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import safetensors.numpy
import torch
from torch import Tensor

from MedAELib.codec.context import Doubles, Floats
from MedAELib.codec.differentiable import CodecNetwork, exported
from MedAELib.codec.front import OFFSETS, Front
from MedAELib.codec.front_coder import front_setting
from MedAELib.codec.front_context import FRONT_INPUTS
from MedAELib.codec.front_network import SPACINGS, FrontModel, spacing_class
from MedAELib.codec.model_file import FRONT, pack_front
from MedAELib.codec.predictive import Grid
from MedAELib.codec.tuning import Columns, sampled
from MedAELib.training.codec import keep_further, trained, training_options
from MedAELib.training.codec_samples import codec_volumes
from MedAELib.training.cohort import kept

HIDDEN = (48, 32)
BATCH = 8192
SAMPLES = 60_000  # of a volume of a million voxels or more
_MOST_VOXELS = 4_000_000
_STEPS = (3, 5, 9)  # of the quantisation; a quarter of the samples of a larger volume
_NO_ERROR = 4  # the unit where no voxel around had an error: there is little to learn
_SHARES = {"LIDC-IDRI-0314_native": 4.0}  # the only scan at a scanner's own resolution


def untrained_defaults() -> Doubles:
    """Default first predictions [3, 2, 40] before any volume was seen: the voxel before."""
    made = np.zeros((SPACINGS, 2, len(OFFSETS)))
    made[:, :, 0] = 4096
    return made


def _grid(values: Floats, spacing: tuple[float, float, float], step: int) -> Grid:
    """What a chunk of these whole numbers would be coded with."""
    low, high = (int(value) for value in np.percentile(values, [1, 99]))
    (a, b, c), (i, j, k) = values.shape, (int(1000 * along) for along in spacing)
    return Grid((a, b, c), (i, j, k), low, high, int(values.max()), step)


def gather(data: Path, validation: bool, seed: int) -> tuple[list[Tensor], Doubles]:
    """Inputs, unit, residual, step and running chance of the samples of all volumes; and the mean first predictions."""
    generator = np.random.default_rng(seed)
    columns: list[Columns] = []
    fitted: dict[int, list[tuple[Doubles, Doubles]]] = {}
    start = untrained_defaults()[0, 0], untrained_defaults()[0, 1]
    for name, values, spacing in codec_volumes(data, validation):
        thick = max(16, _MOST_VOXELS // values[..., 0].size)
        middle = max(values.shape[2] - thick, 0) // 2
        values = values[:, :, middle : middle + thick]
        count = int(SAMPLES * min(1, values.size / 1e6) ** 0.5)
        share = max((share for start, share in _SHARES.items() if name.startswith(start)), default=1.0)
        steps = (1, int(generator.choice(_STEPS))) if values.size > 300_000 else (1,)
        for step in steps:
            grid = _grid(values, spacing, step)
            made, first = sampled(values, grid, start, count if step == 1 else count // 3, generator)
            columns.append([*made, share * np.where(made[1] > _NO_ERROR, 1.0, 0.3)])
            if step == 1:
                ratio = front_setting(grid, Front.of(grid.shape, grid.spacing)).ratio
                fitted.setdefault(spacing_class(ratio), []).append(first)
        print(name, values.shape, flush=True)
    joined = [np.concatenate(column) for column in zip(*columns, strict=True)]
    chance = np.cumsum(joined.pop())
    return [torch.from_numpy(column) for column in (*joined, chance / chance[-1])], _means(fitted)


def _means(fitted: dict[int, list[tuple[Doubles, Doubles]]]) -> Doubles:
    """Default first predictions [3, 2, 40]; a class of spacing that was never met takes those of the nearest one."""
    made = untrained_defaults()
    for place in range(SPACINGS) if fitted else ():
        nearest = min(fitted, key=lambda other: (abs(other - place), other))
        made[place] = np.rint(np.mean(fitted[nearest], axis=0))
    return made


def batch_of(columns: list[Tensor], number: int) -> tuple[Tensor, ...]:
    """The batch of a step: it depends on the step alone."""
    *parts, chance = columns
    generator = torch.Generator().manual_seed(number)
    drawn = torch.searchsorted(chance, torch.rand(BATCH, generator=generator, dtype=torch.float64))
    inputs, unit, residual, step = (part[drawn.clamp_max(len(chance) - 1)][None] for part in parts)
    return inputs.float(), unit.long(), residual, step


def _collected(data: Path) -> dict[str, object]:
    """The samples of both parts and the default predictions."""
    training, predictions = gather(data, False, 1)
    held_out, _ = gather(data, True, 2)
    return {"training": training, "validation": held_out, "predictions": torch.from_numpy(predictions)}


def main() -> None:
    """Collect the samples (kept in the folder), train, and write `model.safetensors`."""
    options = training_options("Train the codec's model of wave fronts.", 10_000)
    stored = kept(options.output / "samples.pt", lambda: _collected(options.data))
    checks = [batch_of(stored["validation"], number) for number in range(4)]

    def batches(number: int) -> tuple[Tensor, ...]:
        return batch_of(stored["training"], number)

    averaged = trained(CodecNetwork(1, FRONT_INPUTS, HIDDEN), batches, checks, options, 500)
    layers, tails = exported(averaged)
    model = FrontModel({name: value[0] for name, value in layers.items()}, tails, stored["predictions"].numpy())
    weights = safetensors.numpy.save(pack_front(model))
    keep_further(weights, options, FRONT)


if __name__ == "__main__":
    main()
