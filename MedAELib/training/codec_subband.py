"""Train the codec's model of wavelets: `python -m MedAELib.training.codec_subband --output FOLDER`; resumable.

As in `codec.py`, the network is trained with the rounding of its integer form, and the loss is a code length in bits.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import safetensors.numpy
import torch
from torch import Tensor

from MedAELib.codec.context import FRACTION, Floats
from MedAELib.codec.differentiable import CodecNetwork, exported
from MedAELib.codec.model_file import SUBBAND, SUBBAND_WEIGHTS, pack_subband
from MedAELib.codec.subband import CASES, SUBBAND_INPUTS
from MedAELib.codec.subband_known import Seen, cut
from MedAELib.codec.subband_levels import SHIFTS, Cascade, OpenBand, WaveGrid
from MedAELib.codec.subband_network import SubbandModel
from MedAELib.codec.wavelet import FRACTION_BITS, Axes, Doubles, analyse, choose_axes
from MedAELib.training.codec import keep_further, trained, training_options
from MedAELib.training.codec_samples import codec_volumes
from MedAELib.training.cohort import kept

HIDDEN = (48, 32)
BATCH = 1024  # of each case
_BUSY, _QUIET = 1500, 200  # samples of one parity of a band, at most
_MOST_VOXELS = (256, 256, 64)  # of a large volume's middle
_DECIBELS = (32, 58)  # roughly, of the files that are imitated
_DEAD = (0.08, 0.24)  # how much further than half a step from zero a magnitude is rounded up
_LARGE = 300_000  # voxels of a volume that is taken at three qualities, not two

Columns = list[npt.NDArray[np.generic]]


def quantised(scaled: Doubles, dead: float) -> npt.NDArray[np.int64]:
    """Whole numbers of steps, rounded towards zero a little more than to the nearest."""
    return (np.sign(scaled) * np.floor(np.abs(scaled) + 0.5 - dead)).astype(np.int64)


def collect(values: Floats, grid: WaveGrid, dead: float, generator: np.random.Generator) -> list[list[Columns]]:
    """Inputs, unit, residual in eighths and weight of some coefficients of a volume, by case."""
    cases: list[list[Columns]] = [[] for _ in range(CASES)]
    low, bands = values.astype(np.float64) * 2**FRACTION_BITS, []
    for level in grid.levels:
        bands.append(analyse(low, level.axes))
        low = bands[-1].pop(())
    cascade = Cascade(grid, np.rint(low / grid.low_step) * grid.low_step)
    while cascade.place:
        truth = bands[cascade.place - 1]

        def code(opened: OpenBand, truth: dict[Axes, Doubles] = truth) -> None:
            high = opened.band.high
            wanted = quantised(opened.band.ordered(truth[high]) / grid.step_of(cascade.place, high), dead)
            for case, parities in opened.passes():
                values = [cut(wanted, parity).reshape(-1) for parity in parities]
                for parity, some in zip(parities, values, strict=True):
                    cases[case] += _sampled(opened.seen(parity), some, generator)
                for parity, some in zip(parities, values, strict=True):
                    opened.enter(parity, some)

        cascade.join(cascade.next(code), np.zeros(SHIFTS, np.int64))
    return cases


def _sampled(seen: Seen, values: npt.NDArray[np.int64], generator: np.random.Generator) -> list[Columns]:
    found: list[Columns] = []
    for all_of_them, most in ((seen.busy, _BUSY), (seen.quiet, _QUIET)):
        if len(all_of_them):
            chosen = generator.choice(all_of_them, min(most, len(all_of_them)), replace=False)
            which = seen.which[chosen]
            stands_for = np.full(len(chosen), len(all_of_them) / len(chosen), np.float32)
            made, unit = seen.made[:, which].T.astype(np.int8), seen.unit[which].astype(np.uint8)
            found.append([made, unit, FRACTION * values[chosen].astype(np.float32), stands_for])
    return found


def gather(data: Path, validation: bool, seed: int) -> list[list[Tensor]]:
    """Inputs, unit, residual and running chance of the samples of all volumes, by case."""
    generator = np.random.default_rng(seed)
    cases: list[list[Columns]] = [[] for _ in range(CASES)]
    for name, values, spacing in codec_volumes(data, validation):
        start = [max(size - most, 0) // 2 for size, most in zip(values.shape, _MOST_VOXELS, strict=True)]
        values = values[tuple(slice(s, s + most) for s, most in zip(start, _MOST_VOXELS, strict=True))]
        i, j, k = (max(round(1000 * along), 1) for along in spacing)
        for _ in range(3 if values.size > _LARGE else 2):
            decibels = generator.uniform(*_DECIBELS)
            step = int(2**FRACTION_BITS * np.ptp(values) * 10 ** (-decibels / 20) * 12**0.5)
            a, b, c = values.shape
            axes = tuple(choose_axes((a, b, c), (i, j, k)))
            grid = WaveGrid((a, b, c), (i, j, k), axes, max(step, 32), int(values.max()))
            for case, found in enumerate(collect(values, grid, generator.uniform(*_DEAD), generator)):
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
    keep_further(weights, options, SUBBAND, SUBBAND_WEIGHTS)


if __name__ == "__main__":
    main()
