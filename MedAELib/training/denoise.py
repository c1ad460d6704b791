"""Train a blind denoiser for MR or CT: `python -m MedAELib.training.denoise --modality MR --output FOLDER`.

    --data FOLDER     the data folder (default: the environment variable MEDAE_DATA, else ../shared/data), or a file
                      of MedAELib.training.packed
    --steps N         length of the cosine schedule (default 8000; about 0.25 s a step on two cores with AMX bfloat16)
    --minutes M       instead: as many steps as fit into that time, from now on (resumed: so many more)
    --device D        auto, cpu (default), cuda, cuda:N or mps
    --voxels N        of a batch, about (default 221,184: two patches); a card is faster with four times as many
    --feeders N       processes that make batches beside the training (default: a thread, beside a CUDA card several;
                      not on Windows)
    --seed S          another training (default 0); the same seed and thread count repeat the same weights
    --resume          go on from FOLDER/last.pt
    --rate R          the highest learning rate (default 0.001; half of that for a network that has been trained long)
    --start FILE      begin with the averaged weights of another training's last.pt, or with a published
                      model.safetensors; channels, gates, blocks and a deep code that it lacks begin without effect
    --threads N, --precision float32|bfloat16, --channels C, --blocks N, --deep-channels C, --deep-blocks N

FOLDER receives last.pt (resumable), history.json (the learning curve on a validation subject) and model.safetensors
(the averaged weights). Subjects are split by hand in `cohort.py`: training, validation and test subjects are
different people.
"""

from __future__ import annotations

import argparse
import copy
import math
import multiprocessing
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from safetensors.torch import save_file
from torch import Generator, Tensor, nn

from MedAELib.atomic import whole_file
from MedAELib.engine.device import choose_device
from MedAELib.errors import BadInput, MedAEError
from MedAELib.networks import build
from MedAELib.noise import LEAST
from MedAELib.training.begin import begin_with
from MedAELib.training.cohort import data_folder, training_sources, validation_volume
from MedAELib.training.corruptions import corrupt_ct, corrupt_mr, magnitude_noise, projection_noise
from MedAELib.training.loop import Batch, Schedule, kept_step, train
from MedAELib.training.objectives import lost_contrast, relative_error
from MedAELib.training.parallel import mean_over_all
from MedAELib.training.patches import VOXELS, Source, draw_batch, zero_filled

LEVEL_SHARE = 0.03  # of the objective, for an error of the noise level by a factor of e
LOST_SHARE = 0.4  # of the objective, for all contrast of small lesions that is lost
_TIMED = 60  # steps, the third time so many
_PLANNED = 0.94  # of the time that is left
VALIDATION_LEVELS = {"MR": (0.03, 0.09), "CT": (0.02, 0.08)}


def batches(sources: Sequence[Source], modality: str, seed: int, voxels: int = VOXELS) -> Callable[[int], Batch]:
    """The batch of a step as a function of the step: (noisy, clean, level, lesions), each patch in units of its noise.

    Noisy, clean and lesions, what small lesions added to clean, are [b, 1, i, j, k]; level is the logarithm of the
    noise's deviation in cells of two voxels, [b, 1, i / 2, j / 2, k / 2], not a number where it is unknown.
    """

    def batch(step: int) -> Batch:
        generator = Generator().manual_seed(seed * 1_000_003 + step)
        clean, lesions, maps, generated, bands = draw_batch(sources, modality, generator, voxels)
        noisy, deviation, unit = torch.empty_like(clean), torch.empty_like(clean), torch.empty(len(clean), 1, 1, 1, 1)
        for index in range(len(clean)):
            if modality == "MR":
                made = corrupt_mr(clean[index, 0], generator, bands[index])
            else:
                body, scan = maps[index]
                made = corrupt_ct(clean[index, 0], body, scan, generator)
            noisy[index, 0], deviation[index, 0], unit[index] = made
        level = _level(deviation, clean, modality, torch.tensor(generated)) - unit.log()
        return noisy / unit, clean / unit, level, lesions / unit

    return batch


def _level(deviation: Tensor, clean: Tensor, modality: str, generated: Tensor) -> Tensor:
    """What the network shall say of the noise. Real scans have some of their own, so there only strong noise counts."""
    known = generated.view(-1, 1, 1, 1, 1) | (deviation > 0.03)
    if modality == "CT":
        known &= clean > -0.95  # scanners cut air off
    level = torch.where(known, deviation.clamp(min=LEAST), math.nan)
    return torch.nn.functional.avg_pool3d(level, 2).log()


def denoising_error(network: nn.Module, batch: Batch) -> Tensor:
    """How far the denoised patches are from the clean ones; their lesions and the noise level count of their own."""
    noisy, clean, level, lesions = batch
    denoised, told = network.denoised_and_level(noisy)  # type: ignore[operator]
    known = level.isfinite()
    count = mean_over_all(known.sum().float()).clamp(min=1e-6)  # a share of one where few processes know any
    miss = torch.where(known, told - level, 0).abs().sum() / count
    lost = lost_contrast(denoised, clean, lesions)
    return relative_error(denoised, clean, noisy) + LOST_SHARE * lost + LEVEL_SHARE * miss


def validation(modality: str, clean: Tensor, precision: str) -> Callable[[nn.Module], dict[str, float]]:
    """PSNR in dB (range 1 for MR, 2000 HU for CT) of the noisy and the denoised validation subject at two levels.

    ``flat_kept`` is the deviation that is left of pure noise around a constant, as a share of the noise's. MR is judged
    as it was measured and, ``zero_filled_``, as a scanner makes it 1.75 times finer in plane.
    """
    cases, flat = [], 30 + torch.randn((1, 1, 64, 64, 64), generator=Generator().manual_seed(2))
    for name, seen in _references(modality, clean).items():
        for level in VALIDATION_LEVELS[modality]:
            generator = Generator().manual_seed(1)
            if modality == "MR":
                noisy = magnitude_noise(seen, level, generator)
            else:
                noisy = seen + level * projection_noise(seen.shape, generator, 0.5)
            cases.append((name, level, noisy, seen))
    span = 1.0 if modality == "MR" else 2.0

    def psnr(image: Tensor, seen: Tensor) -> float:
        foreground = seen > (0.06 if modality == "MR" else -0.5)
        return float(10 * torch.log10(span**2 / (image - seen)[foreground].square().mean()))

    @torch.no_grad()
    def measure(network: nn.Module) -> dict[str, float]:
        device, row = next(network.parameters()).device, {}

        def denoised(noisy: Tensor) -> Tensor:
            with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bfloat16"):
                return network(noisy.to(device)).cpu()

        for name, level, noisy, seen in cases:
            row[f"{name}psnr_{level:g}"] = psnr(denoised(noisy[None, None] / level)[0, 0] * level, seen)
            row[f"{name}noisy_{level:g}"] = psnr(noisy, seen)
        row["flat_kept"] = float(denoised(flat)[..., 8:-8, 8:-8, 8:-8].std())
        return row

    return measure


def _references(modality: str, clean: Tensor) -> dict[str, Tensor]:
    """The validation subject as it was measured and, for MR, on a finer grid, by how the names of figures begin."""
    if modality == "CT":
        return {"": clean}
    i, j, k = clean.shape
    measured = [4 * round(size / 1.75 / 4) for size in (i, j)]
    middle = tuple(slice((size - part) // 2, (size + part) // 2) for size, part in zip((i, j), measured, strict=True))
    return {"": clean, "zero_filled_": zero_filled(clean[middle], (i, j, k))}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m MedAELib.training.denoise", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--modality", choices=("MR", "CT"), required=True)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=8000)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--voxels", type=int, default=VOXELS)
    parser.add_argument("--feeders", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--rate", type=float, default=Schedule.learning_rate)
    parser.add_argument("--resume", action="store_true")
    parser.add_argument("--start", type=Path, default=None)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--precision", choices=("float32", "bfloat16"), default="bfloat16")
    parser.add_argument("--channels", type=int, default=32)
    parser.add_argument("--blocks", type=int, default=2)
    parser.add_argument("--deep-channels", type=int, default=96)
    parser.add_argument("--deep-blocks", type=int, default=4)
    chosen = parser.parse_args(arguments)
    try:
        return _run(chosen)
    except MedAEError as error:
        print(f"{error} {error.next_step}", file=sys.stderr)
        return 2


def _run(chosen: argparse.Namespace) -> int:
    if chosen.feeders and "fork" not in multiprocessing.get_all_start_methods():
        raise BadInput("This system cannot make copies of a process.", "Leave --feeders out.")
    begin, done = time.monotonic(), kept_step(chosen.output) if chosen.resume else 0
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    data, device = chosen.data or data_folder(), choose_device(chosen.device)
    network_arguments = {
        "channels": chosen.channels,
        "blocks": chosen.blocks,
        "deep_channels": chosen.deep_channels,
        "deep_blocks": chosen.deep_blocks,
    }
    network = build("denoising", 3, network_arguments).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if chosen.start:
        begin_with(network, chosen.start)
    sources = training_sources(data, chosen.modality, chosen.seed, chosen.output / "noise", chosen.feeders)
    network = network.to(device)  # only now: processes cannot be copied once they hold a card's memory
    print(f"{len(sources)} sources, {sum(p.numel() for p in network.parameters())} parameters", flush=True)
    batch = batches(sources, chosen.modality, chosen.seed, chosen.voxels)
    schedule = Schedule(steps=chosen.steps, learning_rate=chosen.rate, precision=chosen.precision)
    end = math.inf
    if chosen.minutes is not None:
        end = begin + 60 * chosen.minutes
        schedule = replace(schedule, steps=done + _steps_until(end, network, batch, chosen))
    measure = validation(chosen.modality, validation_volume(data, chosen.modality), chosen.precision)
    averaged, _ = train(
        network, batch, denoising_error, schedule, chosen.output, resume=chosen.resume, validate=measure,
        stop=lambda step: time.monotonic() > end, feeders=chosen.feeders,
    )  # fmt: skip
    weights = {name: value.contiguous() for name, value in averaged.to("cpu").state_dict().items()}
    with whole_file(chosen.output / "model.safetensors") as temporary:
        save_file(weights, temporary)
    return 0


def _steps_until(end: float, network: nn.Module, batch: Callable[[int], Batch], chosen: argparse.Namespace) -> int:
    """How many steps a training can make until a time of the monotonic clock; some are made on a copy."""
    schedule = Schedule(steps=3 * _TIMED, validate_every=_TIMED, precision=chosen.precision)
    with TemporaryDirectory() as folder:
        _, history = train(
            copy.deepcopy(network), batch, denoising_error, schedule, Path(folder), feeders=chosen.feeders
        )
    each = history[-1]["seconds_per_step"]
    steps = max(1, int(_PLANNED * (end - time.monotonic()) / each))
    print(f"{each:.4f} s a step, {steps} steps", flush=True)
    return steps


if __name__ == "__main__":
    sys.exit(main())
