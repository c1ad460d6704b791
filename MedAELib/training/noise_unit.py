"""Learn the correction of the noise estimate: `python -m MedAELib.training.noise_unit --modality MR --output FOLDER`.

    --data FOLDER     the data folder (default: the environment variable MEDAE_DATA, else ../shared/data)
    --scans N         scans with known noise (default 3000; about 0.3 s each on one core); those that FOLDER holds
                      already are not made again, so a run that was ended goes on where it was
    --seed S          of the generated anatomy (default 0)
    --file FILE       the file of weights that is written anew for this modality (default: the one that is used)

A scan is a box of random size, from a small crop to a whole volume, of a training subject of `cohort.py` or of
generated anatomy, averaged down, magnified and turned as in the training of the denoisers, with their noise. Learned is
the logarithm of the true noise over the plain estimate, from the statistics of the scan's blocks. Prints the error on
the sources that were left out in turn; all of them make the weights.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import Generator, Tensor, nn

from MedAELib.atomic import whole_file
from MedAELib.errors import MedAEError
from MedAELib.noise import look
from MedAELib.noise_correction import BOUNDS, FILE, Weights, read, write
from MedAELib.training.cohort import data_folder, training_sources
from MedAELib.training.corruptions import chance, corrupt_ct, corrupt_mr, log_uniform
from MedAELib.training.patches import Source, draw_patch

Floats = npt.NDArray[np.float64]

_CHUNK = 50  # scans in a file
_LEVELS = {"MR": (0.008, 0.015), "CT": (0.004, 0.01)}  # least noise on generated anatomy, and on scans with their own
_TISSUE = {"MR": 0.06, "CT": -0.5}  # of the window: brighter voxels are tissue
_FEWEST, _MOST = 1000, 1_000_000  # voxels of tissue
QUIET = 0.2  # of the tissue has less noise than what is to be told
_GENERATED = 3  # times as often as in the training of the denoisers
_FOLDS, _HIDDEN, _MEMBERS, _STEPS, _BATCH, _DECAY, _JITTER = 5, 16, 3, 2000, 256, 0.1, 0.05


def scans(sources: Sequence[Source], modality: str, seeds: range) -> Iterator[tuple[int, float, Floats]]:
    """For each seed the number of the source, the logarithm of true over plainly estimated noise, and the statistics.

    The true noise is its deviation in the quiet part of the tissue: a fifth of the tissue has less. Seeds whose scan is
    too small are left out.
    """
    weights = torch.tensor([source.weight * (_GENERATED if source.generated else 1) for source in sources])
    for seed in seeds:
        generator = Generator().manual_seed(77_000_003 + seed)
        number = int(torch.multinomial(weights, 1, generator=generator))
        clean, noisy, deviation = _scan(sources[number], modality, generator)
        found = look(noisy.numpy(), modality == "CT")
        tissue = clean > _TISSUE[modality]
        told = (deviation[tissue] if tissue.sum() >= _FEWEST else deviation).flatten()
        truth = float(told[:: 1 + len(told) // _MOST].quantile(QUIET))
        if found.statistics is not None:
            yield number, float(np.log(truth / found.plain)), found.statistics


def _scan(source: Source, modality: str, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A box of a source without noise and with it, and the deviation of the noise, each [i, j, k]."""
    shape = [min(size, 128) for size in source.voxels.shape]
    if chance(0.75, generator):
        shape = [int(log_uniform(18, 110, generator)), int(log_uniform(18, 110, generator))]
        shape.append(int(log_uniform(7, 90, generator)))
    (clean, _, *maps), band = draw_patch(source, shape, modality, generator)
    while True:
        if modality == "MR":
            noisy, deviation, _ = corrupt_mr(clean, generator, band)
        else:
            noisy, deviation, _ = corrupt_ct(clean, maps[0], maps[1], generator)
        if float(deviation.median()) >= _LEVELS[modality][0 if source.generated else 1]:
            return clean, noisy, deviation


def gathered(sources: Sequence[Source], modality: str, count: int, folder: Path) -> tuple[Floats, Floats, Floats]:
    """Numbers of sources, logarithms and statistics of `count` scans; what `folder` lacks is made and kept there."""
    parts = []
    for start in range(0, count, _CHUNK):
        path = folder / f"scans {start}.npz"
        if not path.is_file():
            made = list(scans(sources, modality, range(start, start + _CHUNK)))
            with whole_file(path, ".npz") as temporary:
                np.savez(temporary, *(np.array(column) for column in zip(*made, strict=True)))
            print(f"{start + _CHUNK} scans", flush=True)
        with np.load(path) as kept:
            parts.append([kept[name] for name in kept.files])
    numbers, logs, rows = (np.concatenate(column) for column in zip(*parts, strict=True))
    return numbers, logs, rows


def learned(rows: Floats, logs: Floats, seed: int = 0) -> Weights:
    """A small network from statistics [n, m] to logarithms [n]: the mean of a few with one hidden layer."""
    middle, spread = rows.mean(0), rows.std(0) + 1e-3
    seen = torch.tensor(np.clip((rows - middle) / spread, -BOUNDS, BOUNDS)).float()
    wanted = torch.tensor(logs).float()
    found = [_member(seen, wanted, seed + number) for number in range(_MEMBERS)]
    hidden, threshold, out, offset = (np.concatenate(parts) for parts in zip(*found, strict=True))
    return Weights(middle, spread, hidden, threshold, out / _MEMBERS, float(offset.mean()))


def _member(seen: Tensor, wanted: Tensor, seed: int) -> tuple[Floats, ...]:
    torch.manual_seed(seed)
    first, last = nn.Linear(seen.shape[1], _HIDDEN), nn.Linear(_HIDDEN, 1)
    network = nn.Sequential(first, nn.Tanh(), last)
    optimiser = torch.optim.AdamW(network.parameters(), lr=3e-3, weight_decay=_DECAY)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, _STEPS)
    for _ in range(_STEPS):
        chosen = torch.randint(len(seen), (_BATCH,))
        shaken = seen[chosen] + _JITTER * torch.randn(_BATCH, seen.shape[1])
        error = nn.functional.smooth_l1_loss(network(shaken)[:, 0], wanted[chosen], beta=0.1)
        optimiser.zero_grad()
        error.backward()
        optimiser.step()
        schedule.step()
    parts = (first.weight, first.bias, last.weight[0], last.bias)
    return tuple(part.detach().numpy().astype(np.float64) for part in parts)


def left_out(numbers: Floats, rows: Floats, logs: Floats) -> Floats:
    """The errors of the logarithm of every scan [n], by what was learned without its source."""
    errors = np.empty(len(logs))
    for fold in range(_FOLDS):
        here = numbers % _FOLDS == fold
        weights = learned(rows[~here], logs[~here])
        errors[here] = [weights.log(row) - log for row, log in zip(rows[here], logs[here], strict=True)]
    return errors


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    summary = (__doc__ or "").split("\n", 1)[0]
    parser = argparse.ArgumentParser(prog="python -m MedAELib.training.noise_unit", description=summary)
    parser.add_argument("--modality", choices=("MR", "CT"), required=True)
    parser.add_argument("--data", type=Path, default=None)
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--scans", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--file", type=Path, default=FILE)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
    try:
        data = chosen.data or data_folder()
        sources = training_sources(data, chosen.modality, chosen.seed, chosen.output / "noise")
        numbers, logs, rows = gathered(sources, chosen.modality, chosen.scans, chosen.output)
        errors = left_out(numbers, rows, logs)
        generated = np.array([sources[int(number)].generated for number in numbers])
        for name, kind in (("real", ~generated), ("generated", generated)):
            if kind.any():
                _tell(name, -logs[kind], errors[kind])
        write(chosen.file, {**read(chosen.file), chosen.modality: learned(rows, logs)})
    except MedAEError as fault:
        print(f"{fault} {fault.next_step}", file=sys.stderr)
        return 2
    return 0


def _tell(name: str, plain: Floats, corrected: Floats) -> None:
    told = (f"mean {e.mean():+.3f}, spread {e.std():.3f}, size {np.abs(e).mean():.3f}" for e in (plain, corrected))
    print(f"{name} anatomy, error of the logarithm: plain " + "; corrected ".join(told), flush=True)


if __name__ == "__main__":
    sys.exit(main())
