"""What the codec's context model learns from: contexts and residuals of real volumes, as the encoder meets them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from MedAELib.codec.context import FRACTION, LARGEST, Doubles, Setting, inputs, neighbours, predict
from MedAELib.codec.fit import fit_weights, sample_rows
from MedAELib.codec.lattice import CASES, NEIGHBOURS, OFFSETS, PASSES, Floats, Lattice
from MedAELib.codec.network import RATIO_CLASSES, ratio_class
from MedAELib.codec.predictive import Grid, base_steps
from MedAELib.codec.subband_levels import WaveGrid
from MedAELib.codec.wavelet import FRACTION_BITS, choose_axes
from MedAELib.errors import BadInput
from MedAELib.training.cohort import CT_TRAINING, CT_VALIDATION, MR_TRAINING, MR_VALIDATION
from MedAELib.volume import Volume

SAMPLES = 12_000  # of the finest pass of a large volume; coarser ones give fewer
_WORTH_VOXELS = 600  # a smaller pass is predicted with the default weights


@dataclass(frozen=True)
class Samples:
    """Of one case: inputs [n, 37] (int8), unit index [n], the residual of the linear prediction in eighths [n], the
    quantisation step [n], and how many voxels a sample stands for [n]."""

    inputs: npt.NDArray[np.int8]
    unit: npt.NDArray[np.uint8]
    residual: Floats
    step: Floats
    weight: Floats

    @staticmethod
    def joined(parts: list[Samples]) -> Samples:
        """All parts, one after the other."""
        names = ("inputs", "unit", "residual", "step", "weight")
        return Samples(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def whole_values(volume: Volume) -> Floats:
    """The first channel as the codec models it: integers from 0, below 2^16; floats off any grid get 13 bits."""
    voxels = np.asarray(volume.array[0])
    if voxels.dtype.kind == "f":
        known = np.unique(voxels)
        small = len(known) < 4096
        voxels = np.searchsorted(known, voxels) if small else np.rint((voxels - known[0]) * (8191 / np.ptp(known)))
    voxels = voxels.astype(np.int64)
    return np.minimum(voxels - voxels.min(), LARGEST - 1).astype(np.float32)


def codec_volumes(data: Path, validation: bool) -> Iterator[tuple[str, Floats, tuple[float, float, float]]]:
    """Name, whole values and spacing of the training (or the validation) volumes of both modalities.

    The subjects are those of the denoisers' cohort. Raises BadInput when the folder lacks one.
    """
    patterns = [MR_VALIDATION, CT_VALIDATION] if validation else [*MR_TRAINING, *CT_TRAINING]
    patterns = [pattern for pattern in patterns if not pattern.startswith("hippocampus")]  # cuts without a border
    for pattern in patterns:
        paths = sorted(data.glob(pattern))
        if not paths:
            raise BadInput(f"{data} holds no {pattern}.", "Name the data folder with --data or MEDAE_DATA.")
        for path in paths:
            volume = Volume.load(path)
            yield volume.name, whole_values(volume), volume.spacing


def imitated(
    values: Floats, spacing: tuple[float, float, float], decibels: tuple[float, float], count: int,
    generator: np.random.Generator,
) -> Iterator[WaveGrid]:  # fmt: skip
    """The wavelets of so many files of a volume [i, j, k], whose qualities are spread over a range; roughly."""
    i, j, k = (max(round(1000 * along), 1) for along in spacing)
    a, b, c = values.shape
    axes = tuple(choose_axes((a, b, c), (i, j, k)))
    for wanted in np.linspace(*decibels, count, endpoint=False):
        wanted += generator.uniform(0, (decibels[1] - decibels[0]) / count)
        step = int(2**FRACTION_BITS * np.ptp(values) * 10 ** (-wanted / 20) * 12**0.5)
        yield WaveGrid((a, b, c), (i, j, k), axes, max(step, 32), int(values.max()))


def middle_of(values: Floats, most: tuple[int, int, int]) -> Floats:
    """The middle of a large volume [i, j, k], of so many voxels at most along each axis."""
    start = [max(size - largest, 0) // 2 for size, largest in zip(values.shape, most, strict=True)]
    return values[tuple(slice(s, s + largest) for s, largest in zip(start, most, strict=True))]


def interpolation(case: tuple[bool, tuple[int, int]]) -> Doubles:
    """Weights [28] of the mean of the face neighbours: where the fitting of default predictions begins."""
    weights = np.array([float(sum(map(abs, offset)) == 1) for offset in OFFSETS[case]])
    whole = np.rint(weights / weights.sum() * 4096)
    whole[0] += 4096 - whole.sum()
    return whole


def untrained_predictions() -> Doubles:
    """Default predictions [8, 9, 28] before any volume was seen."""
    return np.stack([np.tile(interpolation(case), (RATIO_CLASSES**2, 1)) for case in CASES])


def collect(
    voxels: Floats, spacing: tuple[float, float, float], step: int, predictions: Doubles, generator: np.random.Generator
) -> tuple[dict[int, list[Samples]], dict[tuple[int, int], list[Doubles]]]:
    """Samples by case, and fitted weights by case and class of spacing, of one volume coded with a quantisation step.

    The closed loop is that of the encoder, with the linear prediction alone.
    """
    i, j, k = (int(1000 * along) for along in spacing)
    low, high = (int(value) for value in np.percentile(voxels, [1, 99]))
    a, b, c = voxels.shape
    grid = Grid((a, b, c), (i, j, k), low, high, int(voxels.max()), step)
    stages = grid.stages()
    current = voxels[base_steps(stages)]
    samples: dict[int, list[Samples]] = {}
    fitted: dict[tuple[int, int], list[Doubles]] = {}
    for place, stage in enumerate(stages):
        lattice = Lattice(stage, current)
        setting = grid.setting(stages, place)
        cut = tuple(slice(None, None, along) for along in stage.steps)
        truth = voxels[cut].transpose(lattice.order)
        for parity in PASSES:
            if 0 in lattice.pass_shape(parity):
                continue
            case = CASES.index((stage.flat, parity))
            default = predictions[case, ratio_class(stage.ratios)]
            own, _ = fit_weights(lattice, truth, parity, default)
            large = int(np.prod(lattice.pass_shape(parity))) >= _WORTH_VOXELS
            if large:
                fitted.setdefault((case, ratio_class(stage.ratios)), []).append(own)
            found = _pass_samples(lattice, truth, parity, own if large else default, setting, generator)
            samples.setdefault(case, []).append(found)
        current = lattice.voxels()
    return samples, fitted


def _pass_samples(
    lattice: Lattice, truth: Floats, parity: tuple[int, int], weights: Doubles, setting: Setting,
    generator: np.random.Generator,
) -> Samples:  # fmt: skip
    """Samples of one pass, spread over it; the pass is entered into the lattice as it would be decoded."""
    voxels = int(np.prod(lattice.pass_shape(parity)))
    most = max(int(SAMPLES * 2 ** (-setting.remaining / 2)), 500)
    target = truth[1::2, parity[0] :: 2, parity[1] :: 2]
    rows_of_samples = sample_rows(lattice, parity, most)
    available = sum(target[rows].size for rows in rows_of_samples)
    parts = []
    for rows in rows_of_samples:
        reference, differences = neighbours(lattice, parity, rows)
        chosen = np.flatnonzero(generator.random(len(reference)) < most / available)
        reference, differences = reference[chosen], differences[:, chosen]
        predicted = predict(reference, differences, weights)
        made, unit = inputs(reference, differences, predicted, setting)
        residual = FRACTION * target[rows].reshape(-1)[chosen] - predicted
        count, stands_for = len(chosen), voxels / max(min(most, available), 1)
        like = np.full(count, setting.step, np.float32), np.full(count, stands_for, np.float32)
        parts.append(Samples(made.T.astype(np.int8), unit.astype(np.uint8), residual, *like))
    _enter(lattice, target, parity, weights, setting)
    return Samples.joined(parts)


def _enter(lattice: Lattice, target: Floats, parity: tuple[int, int], weights: Doubles, setting: Setting) -> None:
    """Put the pass's voxels into the lattice, quantised around the linear prediction where the step is above 1."""
    decoded = [target.reshape(-1)]
    if setting.step > 1:
        decoded = []
        for rows in lattice.blocks(parity):
            reference, differences = neighbours(lattice, parity, rows)
            centre = np.floor(predict(reference, differences, weights) / FRACTION + 0.5)
            quantised = np.rint((target[rows].reshape(-1) - centre) / setting.step)
            decoded.append(np.clip(centre + setting.step * quantised, 0, setting.largest))
    lattice.set(parity, np.concatenate(decoded).astype(np.int64))


assert len(OFFSETS[CASES[0]]) == NEIGHBOURS
