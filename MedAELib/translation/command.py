"""`python -m MedAELib translate`: what a scan would look like as another kind of scan."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ..errors import BadInput
from ..files import check_holds, save_all
from ..further import further_scans, load_as, load_further
from ..terminal import (
    Terminal,
    add_paths,
    add_run_options,
    check_paths,
    report_file,
    run_parameters,
    tell,
)


def add_to(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "translate",
        help="make another kind of scan of a volume",
        description="Write what a scan would look like as another kind, such as T2 for T1. A translation is a guess, "
        "no measurement: a lesion may be invented or lost. For research use.",
    )
    add_paths(parser)
    parser.add_argument("--model", default="", metavar="NAME|FOLDER", help="made by train --translate")
    parser.add_argument("--from", dest="source", default="", metavar="KIND", help="what IN is, if the model knows more")
    parser.add_argument("--to", dest="target", default="", metavar="KIND", help="what to make, if it knows more")
    parser.add_argument(
        "--with", dest="others", action="append", default=[], metavar="KIND=FILE",
        help="a further scan of the same place, for a model that fuses several",
    )  # fmt: skip
    parser.add_argument("--uncertainty", type=Path, metavar="FILE", help="also write how sure the model is, in units")
    add_run_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    others = further_scans(options.others)
    check_paths([options.input, *others.values()], [options.output, options.uncertainty], [options.report])
    volume = load_as(options.input, options.source, options.series)
    if others and not options.model:
        raise BadInput("Further scans need a model that fuses several.", "Name it with --model.")
    inputs = load_further(others, options.input, volume)
    results = {"translated": options.output, "uncertainty": options.uncertainty}
    for path in filter(None, results.values()):
        check_holds(path, (1, *volume.shape), "uint8")  # the type of the result is the model's
    from ..tasks.run import run_task

    parameters = {
        **run_parameters(options),
        "source": options.source,
        "target": options.target,
        "uncertainty": options.uncertainty is not None,
        "others": dict(zip(inputs, others)),
    }
    result = run_task("translate", {"input": volume, **inputs}, parameters, progress=Terminal())
    report = result.report
    tell(report)
    written = {path: result.outputs[name] for name, path in results.items() if path is not None}
    save_all(written, report_file(report, options))
    print(
        f"{options.output}: {report['source']} -> {report['target']}, {report['model']}, {report['device']}, "
        f"{report['seconds']:.1f} s"
    )
    return 0
