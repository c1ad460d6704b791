"""The features task from plain values to plain values: rows, nearest known cases, spatial latent, report."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from ..channels import fused_names
from ..engine.run import Engine
from ..errors import BadInput
from ..features.neighbours import (
    KNOWN,
    TABLES,
    Meaning,
    Table,
    add_rows,
    check_comparable,
    nearest_of_each,
    read_table,
    settings_end,
)
from ..modality import added_to_hounsfield, check_domain, told_constant, told_labels
from ..quality import all_finite
from ..translation.together import by_kind, taken
from ..volume import Volume
from .common import RunParameters, TaskResult, check_values, load_named, parameters_of, versions
from .denoise import Allocate, Progress
from .features import DEFAULT_MODEL, FeaturesResult, features

_NAMED = 5  # cases in a note
_DARK = "they count as dark"  # what is not finite
SIMILAR = ("case", "item", "rank", "similar_case", "similar_item", "distance", "r", "a", "s", "similar_file")


@dataclass(frozen=True)
class Parameters(RunParameters):
    """What a user can set besides: `per` "volume", "slice" or "segment" (which needs the input "segments"), `spacing`
    in millimetres (0: the scan's own), `air` whether what is no body counts, too; `latent` whether the spatial code is
    an output. `index` is a file of known cases, of which the `similar` nearest are told, by `distance`; `remember` adds
    the rows to it, or begins it. `file` is where the scan comes from, for the rows, and `segment_names` what segments
    are called there, by their labels. For a model that fuses several modalities, `modality` is which of them the volume
    is (empty: what its name tells, or else the first that no further scan is) and `others` names those of the further
    inputs, by the names of these."""

    per: str = "volume"
    spacing: float = 0.0
    air: bool = False
    latent: bool = False
    index: str = ""
    remember: bool = False
    file: str = ""
    segment_names: dict[str, str] = field(default_factory=dict)
    similar: int = 5
    distance: str = "standardised"
    modality: str = ""
    others: dict[str, str] = field(default_factory=dict)


def run_features(
    volume: Volume, parameters: Mapping[str, Any], progress: Progress, allocate: Allocate,
    segments: Volume | None = None, **further: Volume,
) -> TaskResult:  # fmt: skip
    """The features of a volume; `parameters` are those of `Parameters`, by name.

    `further` scans of the same place go with a model that fuses several; those on another grid are resampled. A volume
    of as many channels as the model has modalities holds one of each.

    Output, where wanted: "code", a frame for each channel, with its own affine. In the report "features" are the
    rows, "names" those of their "values", "similar" the nearest known cases of each row.
    """
    wanted, started = parameters_of(Parameters, parameters), time.monotonic()
    if not 0 <= wanted.similar <= 1000:
        raise BadInput(f"{wanted.similar} similar cases cannot be told.", "Choose 0 to 1000.")
    if not all(type(name) is str for name in wanted.segment_names.values()):
        raise BadInput("The names of segments are texts.")
    for scan in (volume, *further.values()):
        check_values(scan)
        if told := told_constant(scan):
            raise BadInput(told, "Choose a volume that holds a scan.")
    index = _known(wanted)
    progress("Loading the model", 0, 1)
    model = load_named(wanted.model or DEFAULT_MODEL)
    assert model.bundle is not None  # it was loaded from a folder
    given, scans, notes = taken(volume, wanted.modality, by_kind(wanted.others, further, model.spec), model.spec)
    # Features are compared with those of other runs and machines, so nothing is rounded to a shorter type unless asked.
    precision = "float32" if wanted.precision == "auto" else wanted.precision
    engine = Engine(wanted.device, precision, wanted.tile)
    made = features(
        given, model, per=wanted.per, labels=segments, spacing=wanted.spacing, air=wanted.air, engine=engine,
        progress=progress,
    )  # fmt: skip
    doubtful = wanted.model or added_to_hounsfield(volume)
    told_of = partial(check_domain, spec=model.spec, each_channel=False, gaps=_DARK) if doubtful else _plain_doubts
    notes = [] if given is volume else notes  # the features tell of its channels themselves
    there, missing = _which(fused_names(model.spec), scans)
    notes += [f"{volume.name or 'The volume'} has no {name}." for name in missing]
    doubts = list(dict.fromkeys(notes + [told for scan in scans.values() for told in told_of(scan)]))
    common = {"case": volume.name, "file": wanted.file, "model": model.bundle.sha256}
    rows = _rows(made, wanted, common | {"settings": _settings(wanted, there)})
    report = {
        "task": "features", "input": volume.name, "model": model.bundle.name, "model_version": model.bundle.version,
        "model_sha256": model.bundle.sha256, "per": wanted.per, "spacing": wanted.spacing, "air": wanted.air,
        **engine.used, "warnings": doubts + made.report["warnings"], "versions": versions(),
    }  # fmt: skip
    outputs = {}
    if wanted.latent:
        placed = made.code.volume(f"{volume.name} code".strip())
        room = allocate("code", placed.array.shape, placed.array.dtype)
        room[...] = placed.array
        outputs["code"] = placed.like(room, provenance=dict(report))
    table = Table.of(rows, made.names)
    similar = _similar(index, table, wanted, partial(progress, "Comparing"))
    report["warnings"] += _not_compared(index, table, wanted)
    if wanted.remember:
        add_rows(Path(wanted.index), table)
    report |= {"features": rows, "names": made.names, "similar": similar}
    report["seconds"] = round(time.monotonic() - started, 3)
    return TaskResult(outputs, report)


def _rows(made: FeaturesResult, wanted: Parameters, common: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The rows of a case as plain values; `common` is what all of them say."""
    called = wanted.segment_names if wanted.per == "segment" else {}
    return [
        {
            **dict(zip("ras", item.centre)), **common, "item": called.get(item.item, item.item), "cells": item.cells,
            "values": list(item.values),
        }
        for item in made.items
    ]  # fmt: skip


def _settings(wanted: Parameters, modalities: list[str]) -> str:
    """What rows were made with, in words; `modalities` that the model fused."""
    settings = f"{wanted.spacing:g} mm" if wanted.spacing else "own voxels"
    settings += ", with air" if wanted.air else ""
    return settings + settings_end(wanted.per, modalities)


def _plain_doubts(volume: Volume) -> list[str]:
    """What speaks against a volume for the model that is taken for any kind of scan, as plain sentences."""
    name, doubts = volume.name or "The volume", [told_labels(volume)]
    if not all_finite(volume.array):
        doubts.append(f"{name} holds voxels that are not finite; {_DARK}.")
    return list(filter(None, doubts))


def _known(wanted: Parameters) -> Table | None:
    """The cases that are known; None where there is no file of them yet. Raises BadInput."""
    path = Path(wanted.index)
    if wanted.remember and path.suffix.lower() not in TABLES:
        raise BadInput(f"{wanted.index or 'Nothing'} is no file to keep features in.", "Name a .csv or .npz file.")
    if wanted.remember and not path.parent.is_dir():
        raise BadInput(f"{path} cannot be written: its folder does not exist.", "Make the folder first.")
    return read_table(path) if wanted.index and (path.exists() or not wanted.remember) else None


def _which(names: tuple[str, ...], scans: Mapping[str, Volume]) -> tuple[list[str], list[str]]:
    """Which of the modalities that a model fuses are there, and which are missing."""
    return [name for name in names if name in scans], [name for name in names if name not in scans]


def _not_compared(index: Table | None, made: Table, wanted: Parameters) -> list[str]:
    """Which of the other known cases are not compared with rows that were made, all of one case, and why, as plain
    sentences."""
    if index is None:
        return []
    case, mine = made.known[0][0], Meaning.of(made.known[0])
    others = [(row[0], Meaning.of(row)) for row in index.known if row[0] != case]
    told = []
    if earlier := [name for name, meaning in others if not meaning.current]:
        told.append(
            f"{wanted.index}: rows of {_some(earlier)} were made by another version of MedAE, whose numbers mean "
            "something else, and are not compared. Embed these cases again, or begin a new index."
        )
    alike = [(name, meaning) for name, meaning in others if meaning.current and meaning.kind == mine.kind]
    if unlike := [name for name, meaning in alike if meaning.modalities != mine.modalities]:
        told.append(f"{wanted.index}: rows of {_some(unlike)} are of other modalities, and are not compared.")
    if not alike and any(meaning.current for _, meaning in others):
        told.append(f"{wanted.index} holds no rows per {mine.kind} of other cases, so nothing is compared.")
    return told


def _some(names: list[str]) -> str:
    """The first of the names, each once, and how many more there are."""
    each = list(dict.fromkeys(names))
    return ", ".join(each[:_NAMED]) + (f" and {len(each) - _NAMED} more" if len(each) > _NAMED else "")


def _similar(
    index: Table | None, made: Table, wanted: Parameters, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """For each row, all of one case, the nearest of other cases, nearest first: plain values."""
    if index is None:
        return []
    check_comparable(index, made, Path(wanted.index))
    case, mine = made.known[0][0], Meaning.of(made.known[0])
    others = [n for n, row in enumerate(index.known) if row[0] != case and Meaning.of(row) == mine]
    there = Table(index.names, tuple(index.known[n] for n in others), np.asarray(index.values[others]))
    near_all = nearest_of_each(there, made.values, wanted.similar, wanted.distance, progress)
    found = []
    for known, near_one in zip(made.known, near_all, strict=True):
        for rank, (n, distance) in enumerate(near_one, 1):
            near = dict(zip(KNOWN, there.known[n]))
            place = [float(near[name]) for name in "ras"]
            told = (known[0], known[1], rank, near["case"], near["item"], distance, *place, near["file"])
            found.append(dict(zip(SIMILAR, told, strict=True)))
    return found
