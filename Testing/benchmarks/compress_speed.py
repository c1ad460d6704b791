"""How fast MedAE's files decode on one, two, four and all processors, by mode and quality, and what encoding takes: a
part of `compress.py`.

Where other work keeps the processors busy, no rate is that of a free computer. What holds all the same is a ratio: with
another checkout of the project (`--beside`), its codec and this one take turns, and their processor seconds compare.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.costs import measured

from MedAELib.codec.container import open_container
from MedAELib.codec.reader import decompress
from MedAELib.codec.volumes import Mode, compress
from MedAELib.volume import Volume

REPEATS = 3  # of each, in turn; the quickest counts
_WARM_VOXELS = 250_000  # of a volume for which the encoder tunes its model
_CHUNK_VOXELS, _CHUNK_SLICES = 4_000_000, 32  # of which wavelets make a chunk; a wave front has no more
Decoder = Callable[[bytes], Any]
Encoder = Callable[[Any, Any], bytes]


def long_enough(volume: Volume, chunks: int) -> Volume:
    """The volume, with its slices back and forth until they make so many chunks in any mode."""
    i, j, k = volume.shape
    wanted = max(chunks * _CHUNK_SLICES, -(-chunks * _CHUNK_VOXELS // (i * j)))
    if chunks < 2 or k >= wanted:
        return volume
    there = np.concatenate([volume.array, volume.array[..., ::-1]], axis=3)
    array = np.concatenate([there] * -(-wanted // (2 * k)), axis=3)[..., :wanted]
    return Volume(array, volume.affine, volume.meta)


def codec_of(folder: Path) -> tuple[Encoder, Decoder]:
    """What encodes and decodes in another checkout of the project, with its own modes and volumes."""
    package = folder / "MedAELib"
    spec = importlib.util.spec_from_file_location(
        "beside", package / "__init__.py", submodule_search_locations=[str(package)]
    )
    if spec is None or spec.loader is None or not package.is_dir():
        sys.exit(f"{folder} holds no MedAELib. Name a checkout of the project.")
    sys.modules["beside"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(sys.modules["beside"])
    volumes, reader = (importlib.import_module(f"beside.codec.{name}") for name in ("volumes", "reader"))
    made = importlib.import_module("beside.volume").Volume

    def encode(volume: Volume, mode: Mode) -> bytes:
        their_mode = volumes.Mode(mode.kind, mode.value)
        found: bytes = volumes.compress(made(volume.array, volume.affine, volume.meta), their_mode)
        return found

    return encode, reader.decompress


def speed(volumes: Sequence[Volume], decibels: Sequence[float], bound: float = 2, beside: Path | None = None) -> None:
    """One table: million voxels a second and CPU seconds per million voxels of decoding, for each number of processors;
    with another checkout how many times its decoder takes the CPU seconds of this one on a single processor.

    All files are made first; then the numbers of processors take turns, so that what else runs slows all alike.
    """
    other = codec_of(beside)[1] if beside is not None else None
    counts = processor_counts()
    names = [f"{count} processor{'s' if count > 1 else ''}" for count in counts]
    heads = ["scan", "mode", "chunks", "bits per voxel", *(f"{name}: Mvoxel/s, CPU s" for name in names)]
    heads += ["CPU s of the other"] if other is not None else []
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for volume in volumes:
        for mode in _modes(decibels, bound):
            data = compress(volume, mode)
            decompress(data)  # once beforehand: tables and models are made once
            best, theirs = dict.fromkeys(counts, (np.inf, np.inf)), np.inf
            for _ in range(REPEATS):
                for count in counts:
                    best[count] = min(best[count], _decoding(decompress, data, count))
                if other is not None:
                    theirs = min(theirs, _decoding(other, data, 1)[1])
            rates = [f"{volume.array.size / wall / 1e6:.2f}, {1e6 * cpu / volume.array.size:.2f}" for wall, cpu in
                     best.values()]  # fmt: skip
            rates += [f"{theirs / best[counts[0]][1]:.2f} times as many"] if other is not None else []
            chunks = len(open_container(data, volume.name).header["chunks"])
            row = [volume.name, _told(mode), str(chunks), f"{8 * len(data) / volume.array.size:.3f}", *rates]
            print("| " + " | ".join(row) + " |", flush=True)


def encoding(
    volumes: Sequence[Volume], decibels: Sequence[float], ratios: Sequence[float], beside: Path | None = None
) -> None:
    """One table: seconds and CPU seconds per million voxels of encoding with its checks, and megabytes at the peak.

    With another checkout: how many times as many seconds its encoder takes, its megabytes, and how large its files are
    beside these. Both take turns, on all processors; once.
    """
    other = codec_of(beside)[0] if beside is not None else None
    heads = ["scan", "million voxels", "mode", "bits per voxel", "s", "CPU s", "MB"]
    heads += ["CPU s of the other", "its MB", "its file"] if other is not None else []
    i, j, k = volumes[0].shape
    first = volumes[0].slab(2, 0, min(-(-_WARM_VOXELS // (i * j)), k))
    for encode in (compress, other):
        for mode in (Mode(), Mode("psnr", 40)) if encode is not None else ():
            encode(first, mode)  # once beforehand: tables and models are made once, torch is imported once
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    for volume in volumes:
        for mode in [*_modes(decibels, 2), *(Mode("ratio", wanted) for wanted in ratios)]:
            costs, sizes = [], []
            for encode in (compress, other):
                if encode is not None:
                    with measured() as cost:
                        sizes.append(len(encode(volume, mode)))
                    costs.append(cost)
            taken = [1e6 * value / volume.array.size for value in (costs[0].seconds, costs[0].cpu_seconds)]
            row = [volume.name, f"{volume.array.size / 1e6:.1f}", _told(mode)]
            row += [f"{8 * sizes[0] / volume.array.size:.3f}", *(f"{some:.2f}" for some in taken)]
            row += [f"{costs[0].memory / 1e6:.0f}"]
            if other is not None:
                row.append(f"{costs[1].cpu_seconds / costs[0].cpu_seconds:.2f} times as many")
                row.append(f"{costs[1].memory / 1e6:.0f}")
                row.append(f"{100 * (sizes[1] / sizes[0] - 1):+.2f} %")
            print("| " + " | ".join(row) + " |", flush=True)


def _modes(decibels: Sequence[float], bound: float) -> list[Mode]:
    return [*(Mode("psnr", wanted) for wanted in decibels), Mode("max-error", bound), Mode()]


def _told(mode: Mode) -> str:
    return f"{mode.kind} {mode.value:g}" if mode.value else mode.kind


def processor_counts() -> list[int]:
    """One, two, four and all processors that this process may use; all alone where that cannot be chosen."""
    if not hasattr(os, "sched_setaffinity"):
        return [os.cpu_count() or 1]
    every = len(os.sched_getaffinity(0))
    return sorted({min(count, every) for count in (1, 2, 4, every)})


def _decoding(decode: Decoder, data: bytes, processors: int) -> tuple[float, float]:
    """Seconds on the clock and of processors that decoding takes on so many of them."""
    if not hasattr(os, "sched_setaffinity"):
        with measured() as cost:
            decode(data)
        return cost.seconds, cost.cpu_seconds
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(allowed)[:processors])
    try:
        with measured() as cost:
            decode(data)
    finally:
        os.sched_setaffinity(0, allowed)
    return cost.seconds, cost.cpu_seconds
