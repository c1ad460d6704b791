"""`python -m MedAELib calibrate`: a normative model learns from local normal scans how its maps are to be read."""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..bundle import CARD, LICENCE, METADATA, WEIGHTS, Bundle, read_bundle
from ..errors import BadInput, BadModel, MedAEError, OutOfMemory, unwritable
from ..terminal import Terminal, tell_note

if TYPE_CHECKING:
    from ..model import Model
    from ..volume import Volume
    from .prepare import Prepared

LEARNED = "learned_from"  # in the calibration: patterns of the file names of training scans
_OTHERS = (LICENCE, WEIGHTS)  # taken over as they are
_HEADING = "\n## Calibrated again\n"
_AGAIN = "Its maps, scores and gate were calibrated again on "
_BEFORE = "Calibrated on "  # begins the limit of a model that tells who calibrated it before
_FIGURES_OF = re.compile(r"The figures above are those of ([A-Za-z0-9._-]+), before that\.")

Note = Callable[[str], None]
Progress = Callable[[str, int, int], None]


def add_to(commands: Any) -> None:
    """Add the command to a parser's subcommands."""
    parser: argparse.ArgumentParser = commands.add_parser(
        "calibrate",
        help="calibrate an anomaly model on normal scans of one's own",
        description="Write a copy of an anomaly model whose maps, gate and scores rest on normal scans of one's own.",
    )
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="normal scans, in sub-folders too; 20 to 50")
    parser.add_argument("--model", required=True, metavar="NAME|FOLDER", help="the anomaly model")
    parser.add_argument("--output", required=True, metavar="MODEL", type=Path, help="the model folder to write")
    parser.add_argument("--device", default="auto", help="auto (default), cpu, cuda, cuda:N or mps")
    parser.set_defaults(run=_run)


def _run(options: argparse.Namespace) -> int:
    from ..training.command import check_output

    check_output(options.output)
    bundle = calibrated_again(options.folder, options.model, options.output, options.device, Terminal(), tell_note)
    print(f"{options.output}: {bundle.name}, calibrated on {_scans(len(bundle.calibration['cases']), 'normal ')}")
    return 0


def calibrated_again(
    folder: Path, named: str, output: Path, device: str, progress: Progress, note: Note = lambda sentence: None
) -> Bundle:
    """Write a copy of the model whose calibration rests on the normal scans in a folder; weights and hash stay.

    What cannot be read or is no scan of the model's kind is noted and left out; too few scans, and scans that the model
    seems to have learned from, are noted.
    `progress` may raise Cancelled; then nothing is written. Raises BadInput, BadModel, OutOfMemory, DiskFull.
    """
    from ..engine.run import Engine
    from ..model import Model
    from .average import average_of
    from .calibration import calibrations
    from .normals import FEW, learn_normals
    from .prepare import other_task
    from .shown import shown_of

    model = Model.load(named)
    if model.spec.task != "anomaly" or model.bundle is None:
        raise other_task(model)
    known = model.bundle.calibration
    calibrations(known)
    scans = _normals(folder, model, known, progress, note)
    if len(scans) < FEW:
        note(f"Only {_scans(len(scans))}: rates of false alarms are uncertain; {FEW} to 50 are better.")
    found = learn_normals(
        model, scans, shown_of(known), engine=Engine(device, "float32"), average=average_of(known),
        progress=lambda done, total: progress("Calibrating", done, total),
    )  # fmt: skip
    return _written(model.bundle, output, {**known, **found}, len(scans), FEW)


def _normals(
    folder: Path, model: Model, known: Mapping[str, Any], progress: Progress, note: Note
) -> list[Prepared]:
    """The prepared scans below the folder. Raises BadInput when there is none that can be used."""
    from ..training.scans import load_scan, scans_in
    from .prepare import prepared_for

    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder.", "Name a folder of normal scans.")
    files, found, names = scans_in(folder, note), [], []
    seen: dict[str, str] = {}  # names by voxels
    for number, file in enumerate(files):
        progress("Reading the scans", number, len(files))
        name = file.name
        try:
            volume = load_scan(file)
            first = seen.setdefault(_voxels_of(volume), name)
            reason = f"it holds the same voxels as {first}" if first != name else _told_other_kind(volume, model)
            scan = None if reason else prepared_for(volume, model)
        except OutOfMemory:
            raise
        except MedAEError as error:
            note(f"{name} is left out: {error}")
            continue
        reason = reason if scan is None else _unfit(scan, known)
        if scan is None or reason:
            note(f"{name} is left out: {reason}.")
            continue
        found.append(scan)
        names.append(name)
    progress("Reading the scans", len(files), len(files))
    if not found:
        raise BadInput(f"{folder} holds no scan that the model can be calibrated on.", "Name a folder of normal scans.")
    learned = _learned(names, model.bundle.training_data if model.bundle else (), learned_from(known))
    if learned:
        note(
            f"The model learned from scans of these names: {', '.join(learned)}. What was learned from looks more "
            "normal than any new scan, so there would be more false alarms than the rate says; calibrate on others."
        )
    return found


def _voxels_of(volume: Volume) -> str:
    """A hash that two files share when they hold the same scan, in whatever type it was saved."""
    voxels = np.ascontiguousarray(volume.array[0], np.float32)
    return hashlib.sha256(repr(voxels.shape).encode() + voxels.tobytes()).hexdigest()


def _told_other_kind(volume: Volume, model: Model) -> str:
    """Why a CT is none of the scans of a model for MRI; empty of all else."""
    from ..modality import told_ct

    told = told_ct(volume) if model.spec.modality == "MR" else ""
    return f"{told}, and the model was made for MRI" if told else ""


def _unfit(scan: Prepared, known: Mapping[str, Any]) -> str:
    """Why a scan is none of the model's kind; empty where it may be one, also from another scanner."""
    from .anatomies import anatomies_of
    from .gate import coarse_of, gate_of, inward, other_sequence
    from .orientation import quarter_turned

    gate, anatomies = gate_of(known), anatomies_of(known)
    brain = gate["brain"][0] > 0.5
    if scan.labels:
        return "it holds few different values, as a label map does"
    if brain and not scan.brain:
        return "no brain was found in it"
    if brain and quarter_turned(coarse_of(scan)):
        return "the head seems to lie turned by a quarter"
    if other_sequence(inward(scan), gate):
        return "white and grey matter differ otherwise than in the training scans: another sequence"
    if anatomies is not None and not anatomies.knows(coarse_of(scan).ravel()):
        return "the anatomy is unlike that of every normal scan of the model"
    return ""


def _learned(names: Sequence[str], training: Sequence[str], patterns: Sequence[str]) -> list[str]:
    """Which of these paths below a folder name a scan of the training, whose paths may begin elsewhere, or have a file
    name that fits one of the patterns."""
    return [
        name
        for name in names
        if any(f"/{name}".endswith(f"/{other}") or f"/{other}".endswith(f"/{name}") for other in training if other)
        or any(fnmatchcase(name.rpartition("/")[2], pattern) for pattern in patterns)
    ]


def learned_from(known: Mapping[str, Any]) -> list[str]:
    """The patterns of the file names of the training scans, as the calibration of a model folder gives them; none where
    it gives none. Raises BadModel unless they are texts."""
    found = known.get(LEARNED, [])
    if not isinstance(found, list) or not all(isinstance(pattern, str) for pattern in found):
        raise BadModel("The model's names of training scans are no texts.", "Get the model again.")
    return found


def _written(bundle: Bundle, output: Path, calibration: dict[str, Any], count: int, enough: int) -> Bundle:
    """The copy of the model with this calibration. Raises DiskFull, BadInput."""
    from ..archive import INFERENCE, check_replaceable, inference
    from ..atomic import replace_folder

    metadata = json.loads((bundle.folder / METADATA).read_text(encoding="utf-8"))
    sentence = f"{_AGAIN}{_scans(count, 'normal ')} by its user, in place of every calibration before."
    if count < enough:
        sentence += f" Fewer than {enough} are few: rates of false alarms are uncertain."
    own = metadata["medae"]
    own["name"] = re.sub(r"[^A-Za-z0-9._-]", "-", output.name).lstrip("._-")[:64] or "model"
    limits = [limit for limit in own.get("limits", []) if not limit.startswith((_AGAIN, _BEFORE))]
    own["calibration"], own["limits"] = calibration, [*limits, sentence]
    before, _heading, again = bundle.card.partition(_HEADING)
    before = "\n".join(line for line in before.splitlines() if not line.startswith(f"- {_BEFORE}"))
    first = _FIGURES_OF.search(again)
    figures = f"The figures above are those of {first[1] if first else bundle.name}, before that."
    card = f"{before.rstrip()}\n{_HEADING}\n{sentence} {figures}\n"
    files = {name: (bundle.folder / name).read_bytes() for name in _OTHERS}
    files[INFERENCE] = inference(bundle.spec)
    files |= {METADATA: (json.dumps(metadata, indent=2, allow_nan=False) + "\n").encode(), CARD: card.encode()}
    check_replaceable(output)
    try:
        replace_folder(output, files)
    except OSError as error:
        raise unwritable(output, error) from error
    return read_bundle(output)


def _scans(count: int, kind: str = "") -> str:
    """So many scans, in words."""
    return f"{count} {kind}{'scan' if count == 1 else 'scans'}"
