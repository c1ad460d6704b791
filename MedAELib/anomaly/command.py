"""`python -m MedAELib anomaly`: where a scan is unlike normal ones."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..files import check_holds, save_all
from ..terminal import (
    Terminal,
    add_paths,
    add_run_options,
    check_paths,
    ending,
    report_file,
    results_folder,
    run_parameters,
    table_text,
    tell,
)
from ..volume import Volume
from .names import CALIBRATIONS, MAP, OTHERS, SCAN, STEP, STEPS

_FILES = ("anomaly", "regions", "typical", "residual")  # the outputs that have an option of their own


def add_to(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "anomaly",
        help="show where a scan is unlike normal ones",
        description="Write a map of where a brain MRI or a CT is unlike normal ones, in z (0 is normal). For research.",
    )
    add_paths(parser, "the map to write")
    parser.add_argument(
        "--model", default="", metavar="NAME|FOLDER|none",
        help="default: the bundled model if the scan fits it, else none; none: the map of plain brightness",
    )  # fmt: skip
    parser.add_argument("--rate", type=float, default=0.01, help="share of normal tissue above the threshold (0.01)")
    parser.add_argument("--least", type=float, default=0.1, metavar="ML", help="smallest region in millilitres (0.1)")
    parser.add_argument(
        "--calibration", choices=CALIBRATIONS, default=SCAN,
        help="scan (default): scores in the scan's own unit, so that another scanner sets off no alarms everywhere; "
        "population: in that of the model's normal scans",
    )  # fmt: skip
    parser.add_argument("--regions", type=ending(".csv"), metavar="FILE.csv", help="also write the table of regions")
    parser.add_argument("--segmentation", type=Path, metavar="FILE", help="also write the regions as labels")
    parser.add_argument("--typical", type=Path, metavar="FILE", help="also write the nearest typical scan")
    parser.add_argument("--residual", type=Path, metavar="FILE", help="also write the scan minus the typical scan")
    parser.add_argument("--others", type=Path, metavar="FOLDER", help="also write the other maps, one file each")
    parser.add_argument(
        "--steps", type=Path, metavar="FOLDER", help="also write the mask, the uneven brightness and the prepared scan"
    )
    add_run_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    with results_folder(options.others), results_folder(options.steps):
        return _anomaly(options)


def _anomaly(options: argparse.Namespace) -> int:
    volumes = [options.output, options.segmentation, options.typical, options.residual]
    further = _in_folder(options.others, MAP, OTHERS) | _in_folder(options.steps, STEP, STEPS)
    check_paths([options.input], [*volumes, *further.values()], [options.regions, options.report])
    typical = options.typical is not None or options.residual is not None
    if typical and options.model == "none":
        raise BadInput("Without a model there is no typical scan to write.", "Name a model with --model.")
    volume = Volume.load(options.input, options.series)
    for path in filter(None, volumes):
        check_holds(path, (1, *volume.shape), "float32" if path != options.segmentation else "uint8")
    from ..tasks.run import run_task

    parameters = {
        **run_parameters(options),
        "rate": options.rate,
        "least_ml": options.least,
        "calibration": options.calibration,
        "typical": typical,
        "others": options.others is not None,
        "steps": options.steps is not None,
    }
    result = run_task("anomaly", {"input": volume}, parameters, progress=Terminal())
    outputs, report = dict(result.outputs), result.report
    tell(report)
    files: dict[Path, Volume] = {}
    for name, path in dict(zip(_FILES, volumes, strict=True)).items():
        made = outputs.pop(name, None)
        if path is not None and made is not None:
            files[path] = made
        elif path is not None:
            print(f"{path} was not written: without a model that fits the scan there is no typical scan.")
    files |= {path: outputs[name] for name, path in further.items() if name in outputs}
    table = {options.regions: _table(report["found"])} if options.regions is not None else {}
    save_all(files, table | report_file(report, options))
    unlike = "unlike the training data" if report["model"] != "none" else "brighter than the rest"
    regions = "1 region" if report["regions"] == 1 else f"{report['regions']} regions"
    print(
        f"{options.output}: {regions} {unlike}, "
        f"{100 * report['above_threshold']:.2f} % of the tissue above z {report['threshold_z']:.2f}, "
        f"{report['model']}, {report['seconds']:.1f} s"
    )
    print(report["threshold"])
    if report["case"]:
        print(report["case"])
    return 0


def _in_folder(folder: Path | None, kind: str, names: Sequence[str]) -> dict[str, Path]:
    """The file of each output of a kind that may be made; none without a folder."""
    return {f"{kind}{name}": folder / f"{name}.nii.gz" for name in names} if folder is not None else {}


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    from .regions import Region

    return table_text(list(rows)) if rows else ",".join(column.name for column in fields(Region)) + "\n"
