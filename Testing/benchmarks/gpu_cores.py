"""Sections of `gpu.py` that concern the processors beside the card: denoising on four of them, and the codec."""

from __future__ import annotations

import os
import time
from dataclasses import replace

import torch
from benchmarks.gpu_section import Section

from MedAELib.codec.chunk_threads import processors
from MedAELib.codec.container import open_container
from MedAELib.codec.reader import decompress, read_volume
from MedAELib.codec.volumes import Mode, compress
from MedAELib.tasks.run import run_task

FEW = 4  # cores that a plain computer has
_MODES = {"lossless": Mode(), "max-error": Mode("max-error", 4), "psnr": Mode("psnr", 45)}
_BARS = {"lossless": 1, "max-error": 1, "psnr": 5}  # million voxels a second on four cores
_SHORT = 64  # slices that are decoded on four cores


def use_processors(first: int, count: int) -> None:
    """Restrict this process to some of the processors that it may use; where that cannot be done, to all of them."""
    if hasattr(os, "sched_setaffinity"):
        allowed = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, allowed[first : first + count] or allowed)
    torch.set_num_threads(processors())


def cores_denoise(section: Section) -> None:
    """Denoise a CT on four cores, once, as a user without a card would."""
    use_processors(0, FEW)
    volume = section.volume("ct", (*section.sizes.large[:2], section.sizes.cores_slices))
    start = time.perf_counter()
    result = run_task("denoise", {"input": volume}, {"device": "cpu"}, progress=lambda *_: None)
    taken = time.perf_counter() - start
    precision, tile = result.report["precision"], "x".join(map(str, result.report["tile"]))
    told = f"CT of {_told(volume.shape)} on {processors()} cores, {precision}, {result.report['passes']} passes, {tile}"
    section.tell(told, taken, "s")
    section.tell(f"{told}: a million voxels", taken / volume.array.size * 1e6, "s", "60 s for 512 x 512 x 300: 0.76")


def encoding(section: Section) -> None:
    """Compress a CT in each mode; the files stay for `decoding`."""
    volume = section.volume("ct", (*section.sizes.large[:2], section.sizes.codec_slices))
    for name, mode in _MODES.items():
        start = time.perf_counter()
        data = compress(replace(volume, meta={**volume.meta, "name": "CT"}), mode)
        taken = time.perf_counter() - start
        partial = section.folder / f"{name}.partial"
        partial.write_bytes(data)
        partial.replace(section.folder / f"{name}.maez")
        rate, bits = volume.array.size / taken / 1e6, 8 * len(data) / volume.array.size
        section.tell(f"{name}: encoding {_told(volume.shape)} on {processors()} cores", rate, "Mvoxel/s")
        section.tell(f"{name}: size", bits, "bits a voxel")


def decoding(section: Section) -> None:
    """Decode the files of `encoding` on all processors, and a part of them on four."""
    files = {name: section.folder / f"{name}.maez" for name in _MODES}
    files = {name: path.read_bytes() for name, path in files.items() if path.is_file()}
    if not files:
        raise FileNotFoundError("no file was encoded")
    large = section.sizes.large[0] * section.sizes.large[1] * section.sizes.large[2]
    for name, data in files.items():
        taken, voxels = _fastest(section, lambda data=data: decompress(data).array.size)
        section.tell(f"{name}: decoding on {processors()} processors", voxels / taken / 1e6, "Mvoxel/s")
        section.tell(f"{name}: so {_told(section.sizes.large)} take", large / voxels * taken, "s", "3 s")
    use_processors(0, FEW)
    for name, data in files.items():
        container = open_container(data, name)
        slices = (0, min(_SHORT, section.sizes.codec_slices))
        taken, voxels = _fastest(section, lambda c=container, s=slices: read_volume(c, slices=s).array.size)
        section.tell(
            f"{name}: decoding on {processors()} processors", voxels / taken / 1e6, "Mvoxel/s", f"{_BARS[name]}"
        )


def _fastest(section: Section, call) -> tuple[float, int]:
    """Seconds of the quicker of two turns, and voxels; the first turn also makes tables that are made once."""
    found = []
    for _ in range(2):
        start = time.perf_counter()
        voxels = call()
        found.append(time.perf_counter() - start)
    return min(found), voxels


def _told(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
