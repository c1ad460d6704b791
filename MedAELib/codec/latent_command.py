"""The command line's part for latents to compute with: `compress --latent-only`, and `decompress` of a latent."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .. import latent as latents
from ..dicom import holds_series
from ..errors import BadInput
from ..terminal import Terminal, check_paths
from ..volume import Volume

ENDINGS = (".npz", ".nrrd")


def add_encoding(compress: argparse.ArgumentParser) -> None:
    """Add the options of latents to `compress`."""
    compress.add_argument(
        "--latent-only", action="store_true", help="write one volume's code, to compute with: OUT is .npz or .nrrd"
    )
    compress.add_argument(
        "--model", default="", metavar="NAME|FOLDER", help="of --latent-only; default: the codec's coarse lattice"
    )
    compress.add_argument("--device", default="auto", help="of --latent-only: auto (default), cpu, cuda, cuda:N or mps")


def add_decoding(decompress: argparse.ArgumentParser) -> None:
    """Add the options of latents to `decompress`."""
    decompress.add_argument("--model", default="", metavar="FOLDER", help="of a latent: the model that made it")
    decompress.add_argument("--device", default="auto", help="of a latent: auto (default), cpu, cuda, cuda:N or mps")


def check_options(options: argparse.Namespace) -> None:
    """Raise BadInput for options that say nothing: the codec itself computes with whole numbers on the processor."""
    if options.model or options.device != "auto":
        raise BadInput("--model and --device are for latents only.", "Add --latent-only, or leave them out.")


def encode(options: argparse.Namespace) -> dict[str, Any]:
    """Write the latent of a volume; what is said of it."""
    from ..tasks import latents as work

    if options.input.is_dir() and not holds_series(options.input):
        told = f"{options.input} holds no DICOM series, and --latent-only takes one volume."
        raise BadInput(told, "Name a file, or a folder of DICOM files.")
    if not options.output.name.lower().endswith(ENDINGS):
        raise BadInput(f"{options.output} cannot be written: a latent is a .npz or .nrrd file.", "Use one of these.")
    bounds = options.max_error, options.psnr, options.ratio
    if any(bound is not None for bound in bounds) or options.lossless or options.with_model:
        raise BadInput("A latent promises nothing about the error.", "Leave the promise out.")
    check_paths([options.input], [], [options.output])
    volume = Volume.load(options.input, options.series)
    if options.model:
        from ..model import Model

        model = Model.load(options.model)
        made = work.encode(volume, model, device=options.device, progress=Terminal())
    else:
        made = work.coarse_lattice(volume)
    made.save(options.output)
    return {"model": made.model, "sha256": made.sha256, "shape": list(made.code.shape), "affine": made.affine.tolist()}


def decode(source: Path, target: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Decode a latent into an image file; what is said of it."""
    from ..tasks import latents as work

    if options.coarser or options.slices or options.prefix:
        raise BadInput(
            f"{source} is a latent, of which no coarser volume, slices or prefix are decoded.",
            "Leave --coarser, --slices and --prefix out, or name a .maez file.",
        )
    model: Any = None
    if options.model:
        from ..model import Model

        model = Model.load(options.model)
    volume = work.decode(latents.load(source), model, device=options.device)
    volume.save(target)
    return {"shape": list(volume.shape), "spacing": [round(along, 6) for along in volume.spacing]}
