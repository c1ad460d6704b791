"""The commands compress, decompress and info: one file or a whole folder, one JSON line per case."""

from __future__ import annotations

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from ..dicom import holds_series
from ..errors import BadInput
from ..files import check_holds
from ..modality import guess_modality
from ..terminal import Terminal, check_paths, clear_line
from ..volume import Volume
from ..worker.failures import explain
from . import latent_command

ENDING = ".maez"
_IMAGES = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
_SOON = 1.0  # seconds
Case = tuple[Path, Path]


class _LongWork:
    """Progress on the terminal, from when a case has taken long enough that somebody wonders."""

    def __init__(self) -> None:
        self.terminal, self.started = Terminal(), time.monotonic()

    def __call__(self, stage: str, done: int, total: int) -> None:
        if time.monotonic() - self.started >= _SOON:
            self.terminal(stage, done, total)


def add_commands(commands: Any) -> None:
    """Add the three commands to the command line's table of commands."""
    compress = commands.add_parser(
        "compress",
        help="compress volumes to .maez files",
        description="Compress a volume, or all volumes in a folder, to .maez files.",
    )
    compress.add_argument(
        "input", metavar="IN", type=Path, help="an image file, a DICOM folder, or a folder of volumes"
    )
    compress.add_argument("output", metavar="OUT", type=Path, help="the .maez file to write, or a folder")
    promise = compress.add_mutually_exclusive_group()
    promise.add_argument("--lossless", action="store_true", help="every voxel comes back bit for bit (default)")
    promise.add_argument("--max-error", type=float, metavar="E", help="no voxel differs by more than E (HU for CT)")
    promise.add_argument("--psnr", type=float, metavar="DB", help="at least so many decibels over the volume's range")
    promise.add_argument("--ratio", type=float, metavar="R", help="at least R times smaller than in memory, R from 1")
    compress.add_argument("--with-model", action="store_true", help="put the codec's models (260 kB) into the file")
    latent_command.add_encoding(compress)
    compress.add_argument("--series", help="UID or description of the DICOM series; default: the largest")
    _add_share(compress)
    compress.set_defaults(run=_compress)
    decompress = commands.add_parser(
        "decompress",
        help="restore volumes from .maez files",
        description="Restore a volume from a .maez file, or all volumes in a folder of such files.",
    )
    decompress.add_argument("input", metavar="IN", type=Path, help="a .maez file, a folder of them, or a latent (.npz)")
    decompress.add_argument("output", metavar="OUT", type=Path, help="the image file to write, or a folder")
    decompress.add_argument(
        "--prefix", action="store_true",
        help="take a file that is cut short: as fine as it allows (without loss, or within a small bound: the preview)",
    )
    decompress.add_argument(
        "--coarser", type=int, default=0, metavar="N",
        help="leave out the last N halvings (0 to 5; without loss, or within a small bound, that saves no time)",
    )  # fmt: skip
    decompress.add_argument(
        "--slices", type=int, nargs=2, metavar=("FROM", "TO"), help="only these slices, TO left out"
    )
    latent_command.add_decoding(decompress)
    _add_share(decompress)
    decompress.set_defaults(run=_decompress)
    info = commands.add_parser("info", help="what a .maez file holds and promises, without decoding it")
    info.add_argument("input", metavar="IN.maez", type=Path, nargs="+")
    info.set_defaults(run=_info)


def _add_share(command: argparse.ArgumentParser) -> None:
    command.add_argument("--part", type=int, default=1, metavar="I", help="of a folder, do only the I-th share")
    command.add_argument("--of", type=int, default=1, metavar="N", help="of N shares")


def _compress(options: argparse.Namespace) -> int:
    if options.latent_only:
        _check_alone(options)
        case = [(options.input, options.output)]
        return _report(case, lambda source, target: latent_command.encode(options), alone=True)
    latent_command.check_options(options)
    from .container import open_container, save_bytes
    from .volumes import Mode, compress, ratio_and_rate

    asked = {"max-error": options.max_error, "psnr": options.psnr, "ratio": options.ratio}
    mode = next((Mode(kind, value) for kind, value in asked.items() if value is not None), Mode())

    def work(source: Path, target: Path) -> dict[str, Any]:
        volume = _named(Volume.load(source, options.series))
        data = compress(volume, mode, _LongWork(), options.with_model)
        save_bytes(data, target)
        rates = {name: round(value, 4) for name, value in ratio_and_rate(volume, len(data)).items()}
        made = open_container(data, target.name).header["mode"]  # lossless, where that is smaller than what was asked
        return {"mode": made, "bytes": len(data), **rates}

    if options.output.name.lower().endswith(ENDING):
        _check_alone(options)
        check_paths([options.input], [], [options.output])
        return _report([(options.input, options.output)], work, alone=True)
    cases = [(path, options.output / (_stem(path) + ENDING)) for path in _volumes_in(options.input, options.output)]
    return _all_cases(cases, work, options)


def _named(volume: Volume) -> Volume:
    """The volume with its kind where its values leave no doubt, as Hounsfield units do."""
    if volume.meta.get("modality") or guess_modality(volume) != "CT":
        return volume
    return Volume(volume.array, volume.affine, {**volume.meta, "modality": "CT"})


def _decompress(options: argparse.Namespace) -> int:
    from .container import read_container
    from .reader import read_volume

    if not options.input.is_dir():
        _check_alone(options)
    if options.input.name.lower().endswith(".npz"):
        check_paths([options.input], [options.output], [])
        case = [(options.input, options.output)]
        return _report(case, lambda source, target: latent_command.decode(source, target, options), alone=True)
    latent_command.check_options(options)
    if not 0 <= options.coarser <= 5:
        raise BadInput(f"A volume cannot be {options.coarser} halvings coarser.", "Choose 0 to 5.")

    def work(source: Path, target: Path) -> dict[str, Any]:
        container = read_container(source)
        if not options.prefix:
            container.check_whole()
        told = container.header["volume"]
        slices = options.slices[1] - options.slices[0] if options.slices else told["shape"][3]
        if not options.coarser and not options.prefix:
            check_holds(target, (*told["shape"][:3], slices), told["dtype"])
        coarser = None if options.prefix and not options.coarser else options.coarser
        slab = tuple(options.slices) if options.slices else None
        volume = read_volume(container, coarser, slab, _LongWork())
        volume.save(target)
        return {"shape": list(volume.shape), "spacing": [round(along, 6) for along in volume.spacing]}

    if options.input.is_dir():
        paths = sorted(path for path in options.input.iterdir() if path.name.lower().endswith(ENDING))
        cases = [(path, options.output / (path.name[: -len(ENDING)] + ".nii.gz")) for path in paths]
        return _all_cases(cases, work, options)
    check_paths([options.input], [options.output], [])
    return _report([(options.input, options.output)], work, alone=True)


def _info(options: argparse.Namespace) -> int:
    status = 0
    for path in options.input:
        try:
            line = _told_of(path)
        except Exception as error:
            fault = explain(error)
            if len(options.input) == 1:
                raise fault from error
            status, line = 2, {"file": str(path), "error": str(fault)}
            print(f"medae: {fault}", file=sys.stderr)
        print(json.dumps(line), flush=True)
    return status


def _told_of(path: Path) -> dict[str, Any]:
    """What a file holds, promises and needs, from its header alone."""
    from .container import FRONT, PACKED, RESTORATION, WAVES, read_header
    from .model_file import is_installed
    from .values import TYPES

    (header, declared), size = read_header(path), path.stat().st_size  # of a prefix: declared is what the file had
    volume = header["volume"]
    if volume["dtype"] not in TYPES:
        raise BadInput(f"{path} is damaged: it names no type of voxels.", "Copy the file again from its source.")
    kinds = () if header["coder"] == PACKED else ("model", FRONT, WAVES, RESTORATION)
    named = {kind: header[kind] for kind in kinds if kind in header}
    whole = math.prod(volume["shape"]) * np.dtype(volume["dtype"]).itemsize
    return {
        "file": str(path),
        "bytes": size,
        "complete": size == declared,
        "mode": header["mode"],
        "ratio": round(whole / declared, 4),
        "bits_per_voxel": round(8 * declared / math.prod(volume["shape"]), 4),
        **({"figures": header["figures"]} if isinstance(header.get("figures"), dict) else {}),
        "model": header["model"],
        "models": [
            {
                "name": model["name"],
                "sha256": model["sha256"],
                "installed": is_installed(kind, model["sha256"]),
                "inside": "inside" in model,
            }
            for kind, model in named.items()
        ],
        "chunks": len(header["chunks"]),
        **{name: volume[name] for name in ("name", "modality", "dtype", "shape", "affine")},
    }


def _check_alone(options: argparse.Namespace) -> None:
    """Refuse the share of a folder where there is one file only."""
    if (options.part, options.of) != (1, 1):
        raise BadInput("--part and --of share out the files of a folder.", "Leave them out for a single file.")


def _all_cases(cases: list[Case], work: Callable[[Path, Path], dict[str, Any]], options: argparse.Namespace) -> int:
    """A share of the cases of a folder; what exists is skipped."""
    if not 1 <= options.part <= options.of:
        raise BadInput(f"There is no part {options.part} of {options.of}.", "Count the parts from 1.")
    if not cases:
        raise BadInput(f"{options.input} holds nothing to work on.", "Name a file, or a folder that holds some.")
    if options.output.exists() and not options.output.is_dir():
        raise BadInput(f"{options.output} is a file.", "Name a folder for the results.")
    names = [target.name.casefold() for _, target in cases]  # some file systems take A.maez and a.maez for one
    twice = next((target for (_, target), name in zip(cases, names, strict=True) if names.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"Two files would become {twice}.", "Give them different names.")
    options.output.mkdir(parents=True, exist_ok=True)
    return _report(cases[options.part - 1 :: options.of], work, alone=False)


def _report(cases: list[Case], work: Callable[[Path, Path], dict[str, Any]], alone: bool) -> int:
    """Work on the cases, one JSON line each; 2 when one failed. A fault of a single case is raised."""
    status = 0
    for source, target in cases:
        line: dict[str, Any] = {"input": str(source), "output": str(target)}
        started = time.monotonic()
        if not alone and target.exists():
            print(json.dumps(line | {"skipped": "exists"}), flush=True)
            continue
        try:
            line |= work(source, target)
        except Exception as error:
            fault = explain(error)
            if alone:
                raise fault from error
            status = 2
            clear_line()
            print(f"medae: {fault}", file=sys.stderr)
            line = {"input": str(source), "error": str(fault)}
        clear_line()
        print(json.dumps(line | {"seconds": round(time.monotonic() - started, 3)}), flush=True)
    return status


def _volumes_in(folder: Path, output: Path) -> list[Path]:
    """The image files in a folder, and its subfolders that hold DICOM, but for that of the results.

    Raises BadInput when it is no folder.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder, so the result must be a {ENDING} file.", f"Let OUT end with {ENDING}.")
    found = [path for path in folder.iterdir() if path.is_dir() or path.name.lower().endswith(_IMAGES)]
    return sorted(
        path for path in found if not path.is_dir() or (path.resolve() != output.resolve() and holds_series(path))
    )


def _stem(path: Path) -> str:
    ending = next((ending for ending in _IMAGES if path.name.lower().endswith(ending)), "")
    return path.name.removesuffix(path.name[len(path.name) - len(ending) :]) if ending else path.name
