"""`python -m MedAELib features`: rows of numbers for scans, slices or segments, and the known cases most like them."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from ..atomic import write_text
from ..errors import BadInput
from ..further import further_scans, load_further
from ..terminal import (
    Terminal,
    add_run_options,
    check_paths,
    ending,
    results_folder,
    run_parameters,
    table_text,
    tell,
)
from ..volume import Volume
from .cases import Case, cases_of, kinds_of, load_case


def add_to(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "features",
        help="describe scans by numbers, and find similar ones",
        description="Write what a model's code says of scans as a table, and tell the known cases most like them.",
    )
    parser.add_argument("input", metavar="IN", type=Path, nargs="+", help="image files, or folders of DICOM files")
    parser.add_argument("output", metavar="OUT.csv", type=Path, help="the table to write: .csv, or .npz")
    parser.add_argument("--model", default="", metavar="NAME|FOLDER", help="default: ct-denoise, for CT and MRI")
    alike = "files named alike but for the modality, as p1_T1.nii and p1_T2.nii, are one case for a model that fuses"
    parser.add_argument("--modalities", action="store_true", help=alike)
    parser.add_argument("--modality", default="", metavar="NAME", help="what IN is, of a model that fuses several")
    parser.add_argument(
        "--with", dest="others", action="append", default=[], metavar="NAME=FILE",
        help="a further modality of the same place, for a model that fuses several (one IN only)",
    )  # fmt: skip
    parser.add_argument("--per", choices=("volume", "slice", "segment"), default="volume", help="what a row describes")
    parser.add_argument("--segments", type=Path, metavar="FILE", help="the label map, per segment (one IN only)")
    parser.add_argument(
        "--spacing", type=float, default=0.0, metavar="MM", help="resample to it first; default: the scan's own voxels"
    )
    parser.add_argument("--air", action="store_true", help="count what is outside of the body, too")
    parser.add_argument("--latent", type=Path, metavar="FOLDER", help="also write the spatial codes as volumes")
    parser.add_argument(
        "--index", type=Path, metavar="FILE", help="the cases known so far (.csv or .npz); these ones are added to it"
    )
    parser.add_argument("--similar", type=int, default=5, metavar="N", help="nearest known cases to tell (5)")
    distance = "each feature in units of its spread over the known cases (default), or the angle between rows"
    parser.add_argument("--distance", choices=("standardised", "cosine"), default="standardised", help=distance)
    also = "also write the similar cases as a table"
    parser.add_argument("--neighbours", type=ending(".csv"), metavar="FILE.csv", help=also)
    add_run_options(parser)
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    kinds = kinds_of(options.model) if options.modalities else ()
    cases = cases_of(options.input, kinds)
    options.others = further_scans(options.others)
    with results_folder(options.latent), _codes_folder(options, cases) as codes:
        return _describe(options, cases, kinds, codes)


@contextmanager
def _codes_folder(options: argparse.Namespace, cases: Sequence[Case]) -> Iterator[Path | None]:
    """A hidden folder for the codes, which come to where they shall be when all goes well; None for no codes."""
    _check(options, cases)
    if options.latent is None:
        yield None
        return
    with TemporaryDirectory(prefix=".medae-", dir=options.latent) as folder:
        yield Path(folder)
        for path in sorted(Path(folder).iterdir()):
            os.replace(path, options.latent / path.name)


def _latent_name(case: str) -> str:
    return f"{case}-latent.nrrd"


def _describe(options: argparse.Namespace, cases: Sequence[Case], kinds: Sequence[str], codes: Path | None) -> int:
    from ..tasks.run import run_task
    from ..tasks.run_features import SIMILAR
    from .neighbours import Table, joining, write_table

    known = options.index is not None and options.index.exists()
    parameters = {
        **run_parameters(options), "per": options.per, "spacing": options.spacing, "air": options.air,
        "latent": options.latent is not None, "index": str(options.index) if known else "",
        "similar": options.similar, "distance": options.distance, "modality": options.modality,
    }  # fmt: skip
    reports: list[dict[str, Any]] = []
    for case in cases:
        volume = load_case(case, kinds, options.modality, options.series)
        further = load_further(options.others, case.paths[0], volume)
        inputs = {"input": volume, **further}
        if options.segments is not None:
            inputs["segments"] = Volume.load(options.segments)
        asked = {**parameters, "file": str(case.paths[0].resolve()), "others": dict(zip(further, options.others))}
        result = run_task("features", inputs, asked, progress=Terminal())
        tell(result.report)
        if codes is not None:
            result.outputs["code"].save(codes / _latent_name(volume.name))
        reports.append(result.report)
    rows = [row for report in reports for row in report["features"]]
    table = Table.of(rows, reports[0]["names"])
    with joining(options.index, table) if options.index is not None else nullcontext():
        write_table(options.output, table)
    similar = [row for report in reports for row in report["similar"]]
    if options.neighbours is not None:
        write_text(options.neighbours, table_text(similar, SIMILAR))
    if options.report is not None:
        told = [{name: value for name, value in report.items() if name != "features"} for report in reports]
        write_text(options.report, json.dumps(told, indent=2, allow_nan=False) + "\n")
    for row in similar:
        near = f"{row['similar_case']} {row['similar_item']}"
        print(f"{row['case']} {row['item']}\t{row['rank']}\t{near}\t{row['distance']:g}")
    seconds = sum(report["seconds"] for report in reports)
    print(f"{options.output}: {len(rows)} x {len(table.names)} features, {reports[0]['model']}, {seconds:.1f} s")
    return 0


def _check(options: argparse.Namespace, cases: Sequence[Case]) -> None:
    """Refuse, before any work, what would fail at its end."""
    inputs = [*options.input, *options.others.values(), *filter(None, [options.segments])]
    codes = [options.latent / _latent_name(case.name) for case in cases] if options.latent else []
    check_paths([*inputs, *filter(None, [options.index])], codes, [])
    check_paths(inputs, [], [options.output, options.index, options.neighbours, options.report])
    for path in filter(None, [options.output, options.index]):
        if path.suffix.lower() not in (".csv", ".npz"):
            raise BadInput(f"{path} is no table that can be written.", "Use the ending .csv or .npz.")
    if options.segments is not None and len(cases) > 1:
        raise BadInput("A label map belongs to one volume.", "Name one volume with --segments.")
    if options.modalities and (options.others or options.modality):
        raise BadInput("Files that --modalities pairs are told by their names.", "Leave out --modality and --with.")
    if options.others and (len(cases) > 1 or not options.model):
        raise BadInput("Further scans belong to one volume and a model that fuses them.", "Name one IN, and --model.")
    named = [case.name for case in cases]
    twice = next((name for name in named if named.count(name) > 1), None)
    if twice is not None:
        raise BadInput(f"Two of the volumes have the name {twice}.", "Rename one: cases are told apart by their names.")
