"""What rows of features describe: a scan, or files of one subject that a model fuses, told apart by their names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..bundle import find_bundle
from ..channels import fused, names_of
from ..errors import BadInput
from ..files import name_of
from ..further import load_as
from ..naming import told_kind, without_kind
from ..volume import Volume


@dataclass(frozen=True)
class Case:
    """What a case is called, and its files (or folders of DICOM): one, or one for each modality."""

    name: str
    paths: list[Path]


def kinds_of(model: str) -> tuple[str, ...]:
    """What the channels of a model are, in its order. Raises BadInput where it does not say, BadModel."""
    kinds = names_of(find_bundle(model).spec) if model else ()
    if not kinds:
        raise BadInput(
            f"{model or 'The usual model'} fuses no modalities that it has names for.",
            "Name such a model with --model, or leave --modalities out.",
        )
    return kinds


def cases_of(paths: Sequence[Path], kinds: Sequence[str]) -> list[Case]:
    """Each path as a case; with `kinds` those in one folder that are named alike but for the kind are one.

    Raises BadInput for a name that tells no kind.
    """
    if not kinds:
        return [Case(name_of(path), [path]) for path in paths]
    alike: dict[tuple[Path, str], list[Path]] = {}
    known: set[Path] = set()
    for path in paths:
        if not told_kind(path.name, kinds):
            raise BadInput(f"The name of {path} tells none of {', '.join(kinds)}.", "Rename it, or leave it out.")
        if path.resolve() in known:
            raise BadInput(f"{path} is named twice.", "Name each file once.")
        known.add(path.resolve())
        alike.setdefault((path.absolute().parent, without_kind(path.name, kinds).strip(" _-.")), []).append(path)
    found = [Case(rest or folder.name, files) for (folder, rest), files in alike.items()]
    for case in found:  # the first file names the case in an index, whatever order they were given in
        case.paths.sort(key=lambda path: kinds.index(told_kind(path.name, kinds) or kinds[-1]))
    return found


def load_case(case: Case, kinds: Sequence[str], modality: str, series: str | None) -> Volume:
    """The volume of a case, with `kinds` a channel for each; without, the scan of that modality. Raises BadInput."""
    if not kinds:
        return load_as(case.paths[0], modality, series)
    scans = {path.name: Volume.load(path, series) for path in case.paths}
    for path, scan in zip(case.paths, scans.values(), strict=True):
        if scan.channels != 1:
            raise BadInput(f"{path} has {scan.channels} frames.", "Scans that are fused have one each.")
    try:
        volume = fused(scans, kinds)
    except BadInput as error:
        raise BadInput(f"{case.name} cannot be described: {error}", "Register and resample its files first.") from None
    return volume.like(volume.array, name=case.name)
