"""`python -m MedAELib anomaly`: where a scan is unlike normal ones."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..atomic import write_text
from ..bundle import bundled_models, find_bundle
from ..errors import BadInput
from ..terminal import Terminal, check_paths, table_text
from ..volume import Volume


def add_to(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "anomaly",
        help="show where a brain is unlike the training data",
        description="Write a map of where a brain MRI is unlike normal ones, in z: 0 is normal. For research use.",
    )
    parser.add_argument("input", metavar="IN", type=Path, help="an image file, or a folder of DICOM files")
    parser.add_argument("output", metavar="OUT", type=Path, help="the map to write: .nii.gz, .nii, .nrrd or .mha")
    parser.add_argument(
        "--model", default="", metavar="NAME|FOLDER|none",
        help="default: the bundled model if the scan fits it, else none; none: the map of plain brightness",
    )  # fmt: skip
    parser.add_argument("--rate", type=float, default=0.01, help="share of normal tissue above the threshold (0.01)")
    parser.add_argument("--least", type=float, default=0.1, metavar="ML", help="smallest region in millilitres (0.1)")
    parser.add_argument("--regions", type=Path, metavar="FILE.csv", help="also write the table of regions")
    parser.add_argument("--segmentation", type=Path, metavar="FILE", help="also write the regions as labels")
    parser.add_argument("--typical", type=Path, metavar="FILE", help="also write the nearest typical scan")
    parser.add_argument("--residual", type=Path, metavar="FILE", help="also write the scan minus the typical scan")
    parser.add_argument("--others", type=Path, metavar="FOLDER", help="also write the other maps, one file each")
    parser.add_argument("--series", help="UID or description of the DICOM series; default: the largest")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.add_argument("--precision", default="auto", help="auto (default), float32, bfloat16 or float16")
    parser.add_argument("--tile", type=int, default=0, metavar="VOXELS", help="edge of a tile; default: automatic")
    parser.add_argument("--report", type=Path, metavar="FILE.json", help="also write a report")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    volumes = [options.output, options.segmentation, options.typical, options.residual]
    check_paths([options.input], volumes, [options.regions, options.report])
    if options.others is not None and not options.others.is_dir():
        raise BadInput(f"{options.others} is not a folder.", "Make the folder first.")
    volume = Volume.load(options.input, options.series)
    from ..engine.run import Engine
    from ..tasks.anomaly import anomaly
    from .prepare import prepare

    started = time.monotonic()
    engine, prepared = Engine(options.device, options.precision, options.tile), prepare(volume)
    model, notes = _model(options.model, volume.name or str(options.input), prepared)
    if model is None and (options.typical or options.residual):
        raise BadInput("Without a model there is no typical scan to write.", "Name a model with --model.")
    found = anomaly(
        volume, model, rate=options.rate, least_ml=options.least, engine=engine, progress=Terminal(), prepared=prepared
    )
    seconds = round(time.monotonic() - started, 2)
    found.report["warnings"] = notes + found.report["warnings"]
    for warning in found.report["warnings"]:
        print(f"medae: note: {warning}", file=sys.stderr)
    made = [found.map, found.labels, found.typical, found.residual]
    for path, result in zip(volumes, made, strict=True):
        if path is not None and result is not None:
            result.save(path)
    for name, other in found.others.items() if options.others is not None else ():
        other.save(options.others / f"{name}.nii.gz")
    if options.regions is not None:
        write_text(options.regions, _table(found.regions))
    report = {**found.report, **engine.used, "seconds": seconds}
    report |= {"input_file": str(options.input), "output_file": str(options.output)}
    report["found"] = [region.row() for region in found.regions]
    if options.report is not None:
        write_text(options.report, json.dumps(report, indent=2, allow_nan=False) + "\n")
    print(
        f"{options.output}: {len(found.regions)} regions unlike the training data, "
        f"{100 * report['above_threshold']:.2g} % of the tissue above z {found.threshold:.2f}, "
        f"{report['model']}, {seconds:.1f} s"
    )
    return 0


def _model(named: str, scan: str, prepared: Any) -> tuple[Any, list[str]]:
    """The named model; without a name the bundled one that fits, or none, and then a sentence on why."""
    from ..model import Model
    from .choice import fitting

    if named == "none":
        return None, []
    if named:
        return Model.load(find_bundle(named).folder), []
    bundle, reason = fitting(prepared, scan, bundled_models("anomaly"))
    return (Model.load(bundle.folder), []) if bundle else (None, [reason])


def _table(regions: Sequence[Any]) -> str:
    from .regions import Region

    if regions:
        return table_text([region.row() for region in regions])
    return ",".join(column.name for column in fields(Region)) + "\n"
