"""Train the codec's model of wavelets: `python -m MedAELib.training.codec_subband --output FOLDER`; resumable.

As in `codec.py`, the network is trained with the rounding of its integer form, and the loss is a code length in bits.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from torch import Tensor

from MedAELib.codec.context import FRACTION, Floats
from MedAELib.codec.differentiable import CodecNetwork, exported
from MedAELib.codec.model_file import (
    EARLIER_RESTORATION,
    EARLIER_SUBBAND,
    SUBBAND,
    load_codec_model,
    load_restoration_model,
    load_subband_model,
    pack_subband,
)
from MedAELib.codec.restoration_fit import restore_level
from MedAELib.codec.subband import CASES, SUBBAND_INPUTS
from MedAELib.codec.subband_encoder import encode_waves
from MedAELib.codec.subband_known import Seen
from MedAELib.codec.subband_levels import WaveGrid
from MedAELib.codec.subband_network import SubbandModel
from MedAELib.training.codec import keep_further, trained, training_options
from MedAELib.training.codec_samples import codec_volumes, imitated, middle_of
from MedAELib.training.cohort import kept

HIDDEN = (64, 48)
BATCH = 1024  # of each case
_BUSY, _QUIET = 1500, 200  # samples of one parity of a band, at most
_MOST_VOXELS = (192, 192, 48)  # of a large volume's middle
_DECIBELS = (18, 56)  # roughly, of the files that are imitated
_SMALLEST_RATE = 0.03  # bits a voxel: less do not make a volume count more
_LARGE = 300_000  # voxels of a volume that is taken at four qualities, not three

Columns = list[npt.NDArray[np.generic]]


def collect(values: Floats, grid: WaveGrid, generator: np.random.Generator) -> list[list[Columns]]:
    """Inputs, unit, residual in eighths and weight of some coefficients of a volume, by case.

    The encoder chooses them with the model before this one. The weights of a volume's file add up to its voxels over
    its bits per voxel, so that small files count as much as large ones.
    """
    cases: list[list[Columns]] = [[] for _ in range(CASES)]

    def watch(case: int, seen: Seen, chosen: npt.NDArray[np.int64]) -> None:
        cases[case] += _sampled(seen, chosen, generator)

    restore = partial(restore_level, model=load_restoration_model(None, EARLIER_RESTORATION).restoration)
    subband, lattice = load_subband_model(None, EARLIER_SUBBAND).subband, load_codec_model().context
    coded = encode_waves(values.astype(np.int64), grid, subband, lattice, restore, watch)
    rate = 8 * sum(map(len, coded.parts)) / values.size + _SMALLEST_RATE
    return [[[*some, weight.astype(np.float32) / rate] for *some, weight in found] for found in cases]


def _sampled(seen: Seen, values: npt.NDArray[np.int64], generator: np.random.Generator) -> list[Columns]:
    found: list[Columns] = []
    for all_of_them, most in ((seen.busy, _BUSY), (seen.quiet, _QUIET)):
        if len(all_of_them):
            chosen = generator.choice(all_of_them, min(most, len(all_of_them)), replace=False)
            which = seen.which[chosen]
            stands_for = np.full(len(chosen), len(all_of_them) / len(chosen), np.float32)
            made, unit = seen.inputs(which).T.astype(np.int8), seen.unit[which].astype(np.uint8)
            found.append([made, unit, FRACTION * values[chosen].astype(np.float32), stands_for])
    return found


def gather(data: Path, validation: bool, seed: int) -> list[list[Tensor]]:
    """Inputs, unit, residual and running chance of the samples of all volumes, by case."""
    generator = np.random.default_rng(seed)
    cases: list[list[Columns]] = [[] for _ in range(CASES)]
    for name, values, spacing in codec_volumes(data, validation):
        values = middle_of(values, _MOST_VOXELS)
        for grid in imitated(values, spacing, _DECIBELS, 4 if values.size > _LARGE else 3, generator):
            for case, found in enumerate(collect(values, grid, generator)):
                cases[case] += found
        print(name, values.shape, flush=True)
    joined = [[np.concatenate(column) for column in zip(*found, strict=True)] for found in cases]
    return [[torch.from_numpy(column) for column in (*some, _chances(weight))] for *some, weight in joined]


def _chances(weight: npt.NDArray[np.generic]) -> npt.NDArray[np.float64]:
    """Samples that stand for many coefficients are drawn more often."""
    chance = np.cumsum(weight.astype(np.float64) ** 0.8)
    return chance / chance[-1]


def batch_of(cases: list[list[Tensor]], number: int, size: int = BATCH) -> tuple[Tensor, ...]:
    """The batch of a step: it depends on the step alone."""
    generator = torch.Generator().manual_seed(number)
    columns: list[list[Tensor]] = [[], [], []]
    for *parts, chance in cases:
        drawn = torch.searchsorted(chance, torch.rand(size, generator=generator, dtype=torch.float64))
        for column, part in zip(columns, parts, strict=True):
            column.append(part[drawn.clamp_max(len(chance) - 1)])
    inputs, unit, residual = (torch.stack(column) for column in columns)
    return inputs.float(), unit.long(), residual, torch.ones_like(residual)


def main() -> None:
    """Collect the samples (kept in the folder), train, and write `model.safetensors`."""
    options = training_options("Train the codec's model of wavelet coefficients.", 4_000)
    stored = kept(
        options.output / "samples.pt",
        lambda: {"training": gather(options.data, False, 1), "validation": gather(options.data, True, 2)},
    )
    checks = [batch_of(stored["validation"], number, 4096) for number in range(2)]

    def batches(number: int) -> tuple[Tensor, ...]:
        return batch_of(stored["training"], number)

    averaged = trained(CodecNetwork(CASES, SUBBAND_INPUTS, HIDDEN), batches, checks, options, 250)
    weights = safetensors.numpy.save(pack_subband(SubbandModel(*exported(averaged))))
    keep_further(weights, options, SUBBAND)


if __name__ == "__main__":
    main()
