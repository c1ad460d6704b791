"""Compression beside ready codecs on held-out scans: lossless and near-lossless size, rate-distortion, time, memory.

`python Testing/benchmarks/compress.py [--lossless] [--near E ...] [--lossy DB ...] [--speed DB ...] [--slices N]
[--encode DB ...] [--ratios R ...] [--chunks N] [--beside FOLDER] [--cases NAME ...] [--codecs NAME ...] [--rows FILE]
[--pictures FOLDER]`. With a file of rows, a point of a lossy curve that is in it is not measured again. For the tables
of --lossless and --lossy each codec has a process of its own, so that its memory is its own.
The other codecs come from imagecodecs and PyAV where they are installed (Testing/benchmarks/requirements.txt); those of
images see slice after slice. No volume here was used to train the codec.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import zlib
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.compress_lossy import CPU, MEMORY, OURS, Points, chosen_peers, lossy, means, ours
from benchmarks.compress_peers import BARE, lossy_peers, sperr_bounded
from benchmarks.compress_pictures import rate_distortion
from benchmarks.compress_speed import encoding, long_enough, speed
from benchmarks.costs import Cost, apart, measured

from MedAELib.codec.volumes import Mode, largest_error
from MedAELib.training.cohort import data_folder
from MedAELib.volume import Volume

try:
    import imagecodecs
except ImportError:
    imagecodecs = None

CASES = {
    "head CT": "ct_head/human_head_GE.nii.gz",
    "chest CT, soft": "ct_kernel_pairs/*B40f*",
    "planning CT": "ct_openkbp/pt_11_ct*",
    "abdomen CT": "totalseg_examples/example_ct.nii.gz",
    "spine T1": "mr_misc/spine_t1w*",
    "head T2": "ms_longitudinal/patient12_study1_T2W*",
    "head FLAIR": "ms_longitudinal/patient12_study1_FLAIR*",
    "head T1": "ms_longitudinal/patient12_study1_T1W*",
}
Codec = tuple[Callable[..., bytes], Callable[[bytes], Any]]  # of one slice, or of all voxels as bytes
Lossless = Callable[[Volume], tuple[float, Cost, Cost]]  # bits per voxel, and what encoding and decoding take
ZSTD_LEVEL = 19  # the highest that takes no more memory than usual


def cases(names: list[str], slices: int) -> list[Volume]:
    """The named held-out scans (default: all), their middle slices, as integers."""
    found = []
    for name in names or CASES:
        paths = sorted(data_folder().glob(CASES[name]))
        if not paths:
            sys.exit(f"{data_folder()} holds no {CASES[name]}. Name the data folder with MEDAE_DATA.")
        volume = Volume.load(paths[0])
        thick = min(slices or volume.shape[2], volume.shape[2])
        first = (volume.shape[2] - thick) // 2
        cut = volume.slab(2, first, first + thick)
        found.append(Volume(cut.array.astype(np.int16), cut.affine, {"name": name}))
    return found


def lossless_codecs() -> dict[str, Lossless]:
    """What is installed, by name."""
    found: dict[str, Lossless] = {"nii.gz": partial(as_bytes, codec=(lambda b: zlib.compress(b, 6), zlib.decompress))}
    if imagecodecs is None:
        return found | {OURS: ours_exact}
    ic = imagecodecs
    found["zstd"] = partial(as_bytes, codec=(lambda b: ic.zstd_encode(b, level=ZSTD_LEVEL), ic.zstd_decode))
    slices: dict[str, Codec] = {
        "JPEG-LS": (ic.jpegls_encode, ic.jpegls_decode),
        "HTJ2K": (lambda s: ic.htj2k_encode(s, reversible=True), ic.htj2k_decode),
        "JPEG 2000": (lambda s: ic.jpeg2k_encode(s, level=0, reversible=True, codecformat=BARE), ic.jpeg2k_decode),
        "JPEG-XL e7": (lambda s: ic.jpegxl_encode(s, lossless=True, effort=7), ic.jpegxl_decode),
        "JPEG-XL e9": (lambda s: ic.jpegxl_encode(s, lossless=True, effort=9), ic.jpegxl_decode),
    }
    return found | {name: partial(by_slice, codec=codec) for name, codec in slices.items()} | {OURS: ours_exact}


def unsigned(volume: Volume) -> list[np.ndarray]:
    """The slices with the lowest value at 0."""
    low = int(volume.array.min())
    return [np.ascontiguousarray((volume.array[0, :, :, k].astype(np.int32) - low).astype(np.uint16)) for k in
            range(volume.shape[2])]  # fmt: skip


def as_bytes(volume: Volume, codec: Codec) -> tuple[float, Cost, Cost]:
    """Bits per voxel of all voxels as bytes, in the order of a NIfTI file; what encoding and decoding take."""
    voxels = volume.array.tobytes("F")
    with measured() as encoding:
        coded = codec[0](voxels)
    with measured() as decoding:
        again = codec[1](coded)
    if again != voxels:
        sys.exit("A lossless codec did not return the voxels.")
    return 8 * len(coded) / volume.array.size, encoding, decoding


def by_slice(volume: Volume, codec: Codec, exact: bool = True) -> tuple[float, Cost, Cost]:
    """Bits per voxel, and what encoding and decoding take."""
    slices = unsigned(volume)
    with measured() as encoding:
        coded = [codec[0](part) for part in slices]
    with measured() as decoding:
        decoded = [codec[1](part) for part in coded]
    if exact and not all(np.array_equal(a, b) for a, b in zip(slices, decoded, strict=True)):
        sys.exit("A lossless codec did not return the voxels.")
    return 8 * sum(map(len, coded)) / volume.array.size, encoding, decoding


def ours_exact(volume: Volume) -> tuple[float, Cost, Cost]:
    """Bits per voxel of a lossless .maez file; what encoding with its check and decoding take, once torch is loaded,
    with which the encoder tunes its model."""
    importlib.import_module("MedAELib.codec.differentiable")
    size, encoding, decoding, again = ours(volume, Mode())
    if not np.array_equal(again, volume.array):
        sys.exit(f"{volume.name} did not come back.")
    return size, encoding, decoding


def lossless(volumes: list[Volume], names: list[str]) -> None:
    """Two tables, of the named codecs (none named: all): bits per voxel of each scan, what a million voxels cost."""
    if imagecodecs is None:
        print("imagecodecs is not installed (Testing/benchmarks/requirements.txt): nothing but .nii.gz beside MedAE.\n")
    installed = lossless_codecs()
    if missing := [name for name in names if name not in installed]:
        sys.exit(f"{' and '.join(missing)} cannot be run here. Name some of: {', '.join(installed)}.")
    codecs = {name: codec for name, codec in installed.items() if not names or name in names}
    rivals = [name for name in codecs if "XL" in name] or [name for name in codecs if name == "nii.gz"]
    compared = OURS in codecs and bool(rivals)
    against = "against nii.gz" if "nii.gz" in rivals else "against the better JPEG-XL"
    heads = ["scan", *codecs, *([against] if compared else [])]
    print("| " + " | ".join(heads) + " |\n" + "|---" * len(heads) + "|")
    ratios: list[float] = []
    costs: dict[str, list[list[dict[str, float]]]] = {name: [] for name in codecs}
    for volume in volumes:
        sizes = {}
        for name in codecs:
            sizes[name], *taken = apart(_lossless_of, name, volume)
            costs[name].append([cost.per_million(volume.array.size) for cost in taken])
        row = [volume.name, *(f"{value:.2f}" for value in sizes.values())]
        if compared:
            ratios.append(sizes[OURS] / min(sizes[name] for name in rivals))
            row.append(f"{100 * (ratios[-1] - 1):+.1f} %")
        print("| " + " | ".join(row) + " |", flush=True)
    if ratios:
        print(f"Mean: {100 * (np.mean(ratios) - 1):+.1f} %")
    print_costs(costs)


def _lossless_of(name: str, volume: Volume) -> tuple[float, Cost, Cost]:
    """What a codec gives, by its name: in another process, to which no codec can be sent."""
    return lossless_codecs()[name](volume)


def print_costs(costs: dict[str, list[list[dict[str, float]]]]) -> None:
    """One table: means of all scans; MedAE's encoding includes the check."""
    print("\n| per million voxels | encode, CPU s | decode, CPU s | encode, MB | decode, MB |\n|---|---|---|---|---|")
    for name, pairs in costs.items():
        encoding, decoding = (means([pair[place] for pair in pairs]) for place in (0, 1))
        told = " | ".join(f"{mean[CPU]:.3f}" for mean in (encoding, decoding))
        told += "".join(f" | {mean[MEMORY]:.0f}" for mean in (encoding, decoding))
        print(f"| {name} | {told} |", flush=True)


def near_lossless(volumes: list[Volume], bounds: list[int]) -> None:
    """Bits per voxel at the same bound, beside JPEG-LS and SPERR."""
    print("| scan | bound | JPEG-LS | SPERR | MedAE | largest error |\n|---|---|---|---|---|---|")
    for volume in volumes:
        whole = (volume.array[0].astype(np.int64) - int(volume.array.min())).astype(np.int64)
        for bound in bounds:
            others = ["-", "-"]
            if imagecodecs is not None:
                codec = (lambda s, e=bound: imagecodecs.jpegls_encode(s, level=e), imagecodecs.jpegls_decode)
                others[0] = f"{by_slice(volume, codec, exact=False)[0]:.2f}"
                others[1] = f"{8 * sperr_bounded(whole, bound) / whole.size:.2f}"
            size, _, _, again = ours(volume, Mode("max-error", bound))
            error = largest_error(volume.array, again)
            print(f"| {volume.name} | {bound} | {others[0]} | {others[1]} | {size:.2f} | {error:g} |", flush=True)


def main() -> None:
    """What was asked for, table after table."""
    parser = argparse.ArgumentParser(description="Compression beside ready codecs, on held-out scans.")
    parser.add_argument("--cases", nargs="*", default=[], choices=[*CASES], metavar="NAME")
    parser.add_argument("--slices", type=int, default=0, help="only so many slices of the middle (0: all)")
    parser.add_argument("--lossless", action="store_true")
    parser.add_argument("--near", type=int, nargs="*", default=[], metavar="E")
    parser.add_argument("--lossy", type=float, nargs="*", default=[], metavar="DB")
    parser.add_argument("--speed", type=float, nargs="*", metavar="DB", help="how fast files of MedAE alone decode")
    parser.add_argument("--encode", type=float, nargs="*", metavar="DB", help="what encoding files of MedAE takes")
    parser.add_argument("--ratios", type=float, nargs="*", default=[], metavar="R", help="with --encode: these, too")
    parser.add_argument("--chunks", type=int, default=1, help="of --speed and --encode: repeat slices until so many")
    parser.add_argument("--beside", type=Path, help="with --speed or --encode: a checkout that is measured, too")
    parser.add_argument("--codecs", nargs="*", default=[], metavar="NAME", help="only these (lossy: beside JPEG 2000)")
    parser.add_argument("--pictures", type=Path, help="folder for a picture of the curves of --lossy")
    parser.add_argument("--rows", type=Path, help="JSON of the lossy points: those that it lacks are measured")
    options = parser.parse_args()
    if options.pictures and not options.lossy:
        parser.error("--pictures draws the curves of --lossy: name the qualities of --lossy, too")
    volumes = cases(options.cases, options.slices)
    long = [long_enough(volume, options.chunks) for volume in volumes]
    if options.speed is not None:
        speed(long, options.speed, beside=options.beside)
    if options.encode is not None:
        encoding(long, options.encode, options.ratios, options.beside)
    timed = options.speed is not None or options.encode is not None
    if options.lossless or not (options.near or options.lossy or timed):
        lossless(volumes, options.codecs)
    if options.near:
        near_lossless(volumes, options.near)
    if options.lossy:
        chosen = chosen_peers(lossy_peers(), options.codecs)
        curves = lossy(volumes, options.lossy, chosen, Points(options.rows), apart)
        if options.pictures:
            rate_distortion(curves, options.pictures / "rate-distortion.png")


if __name__ == "__main__":
    main()
