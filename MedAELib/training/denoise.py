"""Train a blind denoiser for MR or CT: `python -m MedAELib.training.denoise --modality MR --output FOLDER`.

    --data FOLDER     the data folder (default: the environment variable MEDAE_DATA, else ../shared/data)
    --steps N         length of the cosine schedule (default 8000; about 0.25 s a step on two cores with AMX bfloat16)
    --seed S          another training (default 0); the same seed and thread count repeat the same weights
    --resume          go on from FOLDER/last.pt
    --rate R          the highest learning rate (default 0.001; half of that for a network that has been trained long)
    --start FILE      begin with the averaged weights of another training's last.pt, or with a published
                      model.safetensors; gates, blocks and a deep code that it lacks begin without effect
    --threads N, --precision float32|bfloat16, --channels C, --blocks N, --deep-channels C, --deep-blocks N

FOLDER receives last.pt (resumable), history.json (the learning curve on a validation subject) and model.safetensors
(the averaged weights). Subjects are split by hand in `cohort.py`: training, validation and test subjects are
different people.
"""

from __future__ import annotations

import argparse
import math
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Generator, Tensor, nn

from MedAELib.atomic import whole_file
from MedAELib.errors import BadInput, MedAEError
from MedAELib.networks import build
from MedAELib.noise import LEAST
from MedAELib.training.cohort import data_folder, training_sources, validation_volume
from MedAELib.training.corruptions import corrupt_ct, corrupt_mr, magnitude_noise, projection_noise
from MedAELib.training.loop import Batch, Schedule, train
from MedAELib.training.objectives import lost_contrast, relative_error
from MedAELib.training.patches import Source, draw_batch, zero_filled

LEVEL_SHARE = 0.03  # of the objective, for an error of the noise level by a factor of e
LOST_SHARE = 0.4  # of the objective, for all contrast of small lesions that is lost
VALIDATION_LEVELS = {"MR": (0.03, 0.09), "CT": (0.02, 0.08)}


def batches(sources: Sequence[Source], modality: str, seed: int) -> Callable[[int], Batch]:
    """The batch of a step as a function of the step: (noisy, clean, level, lesions), each patch in units of its noise.

    Noisy, clean and lesions, what small lesions added to clean, are [b, 1, i, j, k]; level is the logarithm of the
    noise's deviation in cells of two voxels, [b, 1, i / 2, j / 2, k / 2], not a number where it is unknown.
    """

    def batch(step: int) -> Batch:
        generator = Generator().manual_seed(seed * 1_000_003 + step)
        clean, lesions, maps, generated, bands = draw_batch(sources, modality, generator)
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
    miss = torch.where(known, told - level, 0).abs().sum() / known.sum().clamp(min=1)
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
        row = {}
        for name, level, noisy, seen in cases:
            with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
                row[f"{name}psnr_{level:g}"] = psnr(network(noisy[None, None] / level)[0, 0] * level, seen)
            row[f"{name}noisy_{level:g}"] = psnr(noisy, seen)
        with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bfloat16"):
            row["flat_kept"] = float(network(flat)[..., 8:-8, 8:-8, 8:-8].std())
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
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)
    data = chosen.data or data_folder()
    network_arguments = {
        "channels": chosen.channels,
        "blocks": chosen.blocks,
        "deep_channels": chosen.deep_channels,
        "deep_blocks": chosen.deep_blocks,
    }
    network = build("denoising", 3, network_arguments).to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]
    if chosen.start:
        begin_with(network, chosen.start)
    sources = training_sources(data, chosen.modality, chosen.seed, chosen.output / "noise")
    print(f"{len(sources)} sources, {sum(p.numel() for p in network.parameters())} parameters", flush=True)
    schedule = Schedule(steps=chosen.steps, learning_rate=chosen.rate, precision=chosen.precision)
    measure = validation(chosen.modality, validation_volume(data, chosen.modality), chosen.precision)
    averaged, _ = train(
        network,
        batches(sources, chosen.modality, chosen.seed),
        denoising_error,
        schedule,
        chosen.output,
        resume=chosen.resume,
        validate=measure,
    )
    weights = {name: value.contiguous() for name, value in averaged.state_dict().items()}
    with whole_file(chosen.output / "model.safetensors") as temporary:
        save_file(weights, temporary)
    return 0


def begin_with(network: nn.Module, path: Path) -> None:
    """Load another training's averaged weights into a network that may have more blocks, a deep code or a level.

    What the other one lacks begins without effect. Raises BadInput when they belong to another network.
    """
    weights = averaged_weights(path)
    own = network.state_dict()
    last = max((name.split(".")[1] for name in own if name.startswith("deep.")), default="0", key=int)
    theirs = max((name.split(".")[1] for name in weights if name.startswith("deep.")), default="0", key=int)
    weights = {re.sub(rf"^deep\.{theirs}\.", f"deep.{last}.", name): value for name, value in weights.items()}
    if any(name not in own or own[name].shape != value.shape for name, value in weights.items()):
        raise BadInput(f"{path} belongs to another network.", "Start with the arguments it was trained with.")
    network.load_state_dict(weights, strict=False)
    for name, parameter in network.named_parameters():
        if name not in weights and (".unit1." in name or name.startswith((f"deep.{last}.", "gate.", "level."))):
            nn.init.zeros_(parameter)
        elif name not in weights and not name.startswith(("encoder.", "decoder.", "deep.")):
            raise BadInput(f"{path} belongs to another network.", "Start with the arguments it was trained with.")


def averaged_weights(path: Path) -> dict[str, Tensor]:
    """The averaged weights of a training's last.pt, or those of a published model.safetensors, in float32."""
    if path.suffix == ".safetensors":
        return {name: value.float() for name, value in load_file(path).items()}
    averaged: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)["averaged"]
    return averaged


if __name__ == "__main__":
    sys.exit(main())
