"""`python -m MedAELib explain`: what a network finds typical in a scan, what differs, and why it scores as it does."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import BadInput, unwritable
from ..files import save_all
from ..further import further_scans, load_as, load_further
from ..terminal import (
    Terminal,
    add_paths,
    add_run_options,
    check_paths,
    report_file,
    results_folder,
    run_parameters,
    tell,
)

_PARTS = ("residual", "attribution", "traversal")
_REPORT = "report.json"
_OURS = re.compile(
    r"report\.md|((typical|baseline|attribution|(baseline_)?residual_[0-9_]+mm|traversal_[0-9]+)(_of_[a-z0-9_]+)?"
    r"|input_of_[a-z0-9_]+)\.nii\.gz"
)


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
    parser.add_argument("--modality", default="", metavar="NAME", help="what IN is, of a model that fuses several")
    parser.add_argument(
        "--with", dest="others", action="append", default=[], metavar="NAME=FILE",
        help="a further modality of the same place, for a model that fuses several",
    )  # fmt: skip
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
    others = further_scans(options.others)
    if others and not options.model:
        raise BadInput("Further scans need a model that fuses several.", "Name it with --model.")
    sources = [options.input, *others.values()]
    own = folder / _REPORT
    extra = [options.report] if options.report is not None and options.report.resolve() != own.resolve() else []
    earlier = _earlier(folder)
    check_paths(sources, [], sorted({*earlier, folder / "report.md", own}) + extra)
    volume = load_as(options.input, options.modality, options.series)
    inputs = load_further(others, options.input, volume)
    from ..tasks.run import run_task

    parameters = {
        **run_parameters(options), "parts": options.parts, "point": options.point, "directions": options.directions,
        "channel": options.channel, "steps": options.steps, "modality": options.modality,
        "others": dict(zip(inputs, others)),
    }  # fmt: skip
    result = run_task("explain", {"input": volume, **inputs}, parameters, progress=Terminal())
    report = result.report
    files = {name: folder / f"{name}.nii.gz" for name in result.outputs}
    check_paths(sources, list(files.values()), [])
    tell(report)
    names = [*(path.name for path in files.values()), "report.md"]
    texts = report_file(report, options) if extra else {}
    texts[folder / "report.md"] = _text(report, list(files))
    texts[own] = json.dumps({**report, "files": names}, indent=2, allow_nan=False) + "\n"
    save_all({path: result.outputs[name] for name, path in files.items()}, texts)
    _remove([path for path in earlier if path.name not in names])
    scores = ""
    if "case_score" in report:
        scores = f" difference from typical {report['case_score']:g} (median filter {report['baseline_score']:g}),"
    print(f"{folder}: {len(files)} volumes,{scores} {report['model']}, {report['seconds']:.1f} s")
    return 0


def _earlier(folder: Path) -> list[Path]:
    """The files that an earlier run has left in the folder, as its report names them.

    Raises BadInput for files of such names that are none of its: beside new ones they would pass for one scan's.
    """
    there = [path for path in sorted(folder.iterdir()) if _OURS.fullmatch(path.name)]
    named = _named_by(folder / _REPORT, there)
    others = [path for path in there if path.name not in named]
    if (folder / _REPORT).exists() and _REPORT not in named:
        others.append(folder / _REPORT)
    if others:
        raise BadInput(
            f"{folder} holds {others[0].name}, which no earlier explain run there names as its own.",
            "Name another folder, or move that file away.",
        )
    return there


def _named_by(report: Path, there: list[Path]) -> list[str]:
    """What the report of an earlier run names, and its own name; nothing where there is none of such a run."""
    try:
        told = json.loads(report.read_text(encoding="utf-8"))
        if told["task"] != "explain":
            return []
        # Reports of earlier versions do not name the files.
        return [*map(str, told.get("files", [path.name for path in there])), report.name]
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return []


def _remove(paths: list[Path]) -> None:
    """Take away files of an earlier run."""
    for path in paths:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise unwritable(path, error) from None


def _text(report: Mapping[str, Any], names: list[str]) -> str:
    """The report in words, as Markdown."""
    lines = [
        f"# {report['input'] or 'The scan'}, as {report['model']} sees it", "",
        "Differences are from what the model finds typical: unlike its training data, which may well be normal. "
        "For research use.", "",
        f"- Model: {report['model']} {report['model_version']}, SHA-256 `{report['model_sha256']}`, trained on: "
        + "; ".join(report["trained_on"]) + ".",
        *(f"- {name}: {scan['input'] or 'the scan'}{f', in {u}' if (u := scan['units']) else ''}."
          for name, scan in report.get("scans", {}).items()),
        f"- Point looked at (R A S, mm): {' '.join(f'{x:g}' for x in report['point'])}.",
        *(f"- Note: {warning}" for warning in report["warnings"]),
        *(f"- No {part}: {reason}" for part, reason in report["left_out"].items()),
    ]  # fmt: skip
    if "strongest" in report:
        lines += _differences(report)
    if "attribution" in report:
        found = report["attribution"]
        where = "the whole scan" if found["whole"] else f"the {found['voxels']} voxels around the point, seen alone"
        files = "all its files together" if "scans" in report else "its file"
        lines += ["", "## Attribution", "",
                  f"Integrated gradients over {where}: the score falls from {found['score']:g} to "
                  f"{found['score_of_typical']:g} on the way to the typical scan; the mean of the attribution over the "
                  f"{found['counted']} voxels of {files} that count is that difference but for "
                  f"{100 * found['completeness_gap']:.2g} %."]  # fmt: skip
    if "traversal" in report:
        lines += _moves(report)
    return "\n".join([*lines, "", "## Files", "", *(f"- `{name}.nii.gz`" for name in names), ""])


def _unit(report: Mapping[str, Any]) -> str:
    """The unit for the head of a column; none where each modality has its own."""
    return f" {report['units']}" if report["units"] and "scans" not in report else ""


def _differences(report: Mapping[str, Any]) -> list[str]:
    """Scores, and where the scans differ most."""
    named = "scans" in report
    rows = [f"{row['scale_mm']:g} | {row['difference']:+g} | {row['r']} | {row['a']} | {row['s']} |"
            for row in report["strongest"]]  # fmt: skip
    if named:
        rows = [f"{row['modality']} | {text}" for row, text in zip(report["strongest"], rows, strict=True)]
    return [
        f"- Mean squared difference from the typical scan, in the network's window: {report['case_score']:g}; from "
        f"a median filter of 7 voxels, which learns nothing: {report['baseline_score']:g}.",
        *(f"- Of {name} alone: {scores['case_score']:g}; from the median filter: {scores['baseline_score']:g}."
          for name, scores in report.get("scores", {}).items()),
        "", "## Strongest differences", "",
        f"{'| modality ' if named else ''}| scale (mm) | difference{_unit(report)} | R | A | S |",
        f"{'|---' if named else ''}|---|---|---|---|---|",
        *(f"| {row}" for row in rows),
    ]  # fmt: skip


def _moves(report: Mapping[str, Any]) -> list[str]:
    """What the directions of the code change."""
    found = report["traversal"]
    several = list(report.get("scans", {}))
    lines = [
        "", "## Traversal", "", *([f"Channel {found['channel']} of the code alone."] if found["channel"] else []),
        f"Frames: {found['deviations']} deviations.", "",
        "| direction | share of variance |"
        + "".join(f" largest change per step{f' of {name}' if name else _unit(report)} |" for name in several or [""]),
        "|---|---|" + "---|" * max(1, len(several)),
    ]  # fmt: skip
    for row in found["directions"]:
        changes = row.get("largest_changes", {"": row["largest_change"]})
        told = "".join(f" {changes[name]:g} |" for name in several or [""])
        lines.append(f"| {row['direction']} | {row['share_of_variance']:.3f} |{told}")
    return lines
