"""`python -m MedAELib explain`: what a network finds typical in a scan, what differs, and why it scores as it does."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..files import save_all
from ..terminal import Terminal, add_paths, add_run_options, check_paths, results_folder, run_parameters, tell
from ..volume import Volume

_PARTS = ("residual", "attribution", "traversal")


def add_to(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "explain",
        help="show what a network finds typical in a scan, and why",
        description="Write the nearest typical scan, signed residuals per scale beside those of a median filter, the "
        "voxels that made the score, and what the code's largest directions mean. For research use.",
    )
    add_paths(parser, "a folder for the volumes and the report", "OUTFOLDER")
    parser.add_argument(
        "--model", default="", metavar="NAME|FOLDER", help="default: the anomaly model for MRI, the denoiser for CT"
    )
    parser.add_argument("--parts", nargs="+", choices=_PARTS, default=list(_PARTS), help="default: all three")
    parser.add_argument(
        "--point", nargs=3, type=float, default=[], metavar=("R", "A", "S"),
        help="in millimetres, for traversal and attribution; default: where the scan differs most",
    )  # fmt: skip
    parser.add_argument("--directions", type=int, default=3, metavar="N", help="of the traversal (3)")
    parser.add_argument("--channel", type=int, default=0, metavar="N", help="move this channel of the code instead")
    parser.add_argument("--steps", type=int, default=16, metavar="N", help="of the attribution's path (16)")
    add_run_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    with results_folder(options.output):
        return _explain(options)


def _explain(options: argparse.Namespace) -> int:
    folder: Path = options.output
    check_paths([options.input], [], [folder / "report.md", options.report])
    volume = Volume.load(options.input, options.series)
    from ..tasks.run import run_task

    parameters = {
        **run_parameters(options), "parts": options.parts, "point": options.point, "directions": options.directions,
        "channel": options.channel, "steps": options.steps,
    }  # fmt: skip
    result = run_task("explain", {"input": volume}, parameters, progress=Terminal())
    report = result.report
    files = {name: folder / f"{name}.nii.gz" for name in result.outputs}
    check_paths([options.input], list(files.values()), [])
    tell(report)
    texts = {
        folder / "report.md": _text(report, list(files)),
        options.report or folder / "report.json": json.dumps(report, indent=2, allow_nan=False) + "\n",
    }
    save_all({path: result.outputs[name] for name, path in files.items()}, texts)
    scores = ""
    if "case_score" in report:
        scores = f" difference from typical {report['case_score']:g} (median filter {report['baseline_score']:g}),"
    print(f"{folder}: {len(files)} volumes,{scores} {report['model']}, {report['seconds']:.1f} s")
    return 0


def _text(report: Mapping[str, Any], names: list[str]) -> str:
    """The report in words, as Markdown."""
    unit = f" {report['units']}" if report["units"] else ""
    lines = [
        f"# {report['input'] or 'The scan'}, as {report['model']} sees it", "",
        "Differences are from what the model finds typical: unlike its training data, which may well be normal. "
        "For research use.", "",
        f"- Model: {report['model']} {report['model_version']}, SHA-256 `{report['model_sha256']}`, trained on: "
        + "; ".join(report["trained_on"]) + ".",
        f"- Point looked at (R A S, mm): {' '.join(f'{x:g}' for x in report['point'])}.",
        *(f"- Note: {warning}" for warning in report["warnings"]),
        *(f"- No {part}: {reason}" for part, reason in report["left_out"].items()),
    ]  # fmt: skip
    if "strongest" in report:
        lines += [
            f"- Mean squared difference from the typical scan, in the network's window: {report['case_score']:g}; from "
            f"a median filter of 7 voxels, which learns nothing: {report['baseline_score']:g}.",
            "", "## Strongest differences", "",
            f"| scale (mm) | difference{unit} | R | A | S |", "|---|---|---|---|---|",
            *(f"| {row['scale_mm']:g} | {row['difference']:+g} | {row['r']} | {row['a']} | {row['s']} |"
              for row in report["strongest"]),
        ]  # fmt: skip
    if "attribution" in report:
        found = report["attribution"]
        where = "the whole scan" if found["whole"] else f"the {found['voxels']} voxels around the point, seen alone"
        lines += ["", "## Attribution", "",
                  f"Integrated gradients over {where}: the score falls from {found['score']:g} to "
                  f"{found['score_of_typical']:g} on the way to the typical scan; the mean of the attribution over the "
                  f"{found['counted']} voxels of its file that count is that difference but for "
                  f"{100 * found['completeness_gap']:.2g} %."]  # fmt: skip
    if "traversal" in report:
        lines += ["", "## Traversal", "",
                  *([f"Channel {report['traversal']['channel']} of the code alone."] if report["traversal"]["channel"]
                    else []),
                  f"Frames: {report['traversal']['deviations']} deviations.", "",
                  f"| direction | share of variance | largest change per step{unit} |", "|---|---|---|"]  # fmt: skip
        lines += [f"| {row['direction']} | {row['share_of_variance']:.3f} | {row['largest_change']:g} |"
                  for row in report["traversal"]["directions"]]  # fmt: skip
    return "\n".join([*lines, "", "## Files", "", *(f"- `{name}.nii.gz`" for name in names), ""])
