"""A plain folder of volumes as training data: what is unfit is named, the rest is kept memory-mapped, in subjects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from MedAELib.channels import fused
from MedAELib.errors import BadInput, DiskFull, MedAEError, OutOfMemory, is_disk_full
from MedAELib.modality import added_to_hounsfield, guess_modality
from MedAELib.naming import ending, told_kind, without_kind, without_kind_folders
from MedAELib.noise import otsu_threshold
from MedAELib.quality import sample
from MedAELib.terminal import tell_note
from MedAELib.training.label_maps import LabelMap, told_label_maps
from MedAELib.training.patients import People, joined, named_alike, told_apart
from MedAELib.training.scans import Note, Scan, load_scan, scans_in, told_formats
from MedAELib.volume import Volume

_SLICE_BY_SLICE = (0, 3, 2, 1)  # [c, i, j, k] to [c, k, j, i] and back: voxels of a slice lie together in the file


@dataclass(frozen=True, eq=False)
class Case:
    """A volume of the folder, or all modalities of a subject: memory-mapped voxels [c, i, j, k] and what is known.

    ``tissue`` is the intensity of each channel above which there is something to see (Otsu 1979). Channels that are
    missing hold no numbers; their tissue is minus infinity.
    """

    name: str
    subject: str
    modality: str
    voxels: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    tissue: tuple[float, ...]
    header: dict[str, Any] = field(default_factory=dict)

    @property
    def first(self) -> int:
        """The first channel that is there."""
        return int(np.argmax(np.isfinite(self.tissue)))

    def volume(self) -> Volume:
        """The case as a volume."""
        return Volume(self.voxels, self.affine, {"name": self.name, "header": self.header})


def read_folder(
    folder: Path, cache: Path, modalities: Sequence[str], subject: str, note: Note, write: bool = True,
    remark: Note = tell_note,
) -> list[Case]:  # fmt: skip
    """Every usable scan below a folder, by name; what is unreadable, empty, constant or labels is noted and left out.

    Voxels go into `cache` as .npy files and are memory-mapped from there (only read there without `write`). With
    `modalities`, texts that file names contain, the files of a subject become one case, all on one grid. `subject` is a
    regular expression for the part of a path that names the subject; without it that is what begins with "sub-", else
    the first folder, else the file, and DICOM files of one patient are one subject wherever they lie. What is odd about
    the subjects goes to `remark`. Raises BadInput when there is no folder, no volume, or none that can be used, and
    DiskFull.
    """
    if not folder.is_dir():
        raise BadInput(f"{folder} is no folder.", "Name a folder of volumes.")
    pattern = _pattern(subject)
    scans = scans_in(folder, note)
    groups: dict[str, list[Scan]] = {}
    for scan in scans:
        groups.setdefault(_group(scan, modalities) if modalities else scan.name, []).append(scan)
    people = _people(scans, pattern, remark, groups, modalities)
    if not groups:
        raise BadInput(f"{folder} holds no volumes.", f"MedAE reads {told_formats()}.")
    cases: list[Case] = []
    labels: list[str] = []
    for number, (group, members) in enumerate(sorted(groups.items())):
        name = group + ending(members[0].name) if modalities else group
        try:
            loaded = _fused(members, modalities) if modalities else load_scan(members[0])
            cases.append(_case(loaded, name, people[members[0].name], cache / f"{number:05d}.npy", write))
        except (OutOfMemory, DiskFull):
            raise
        except LabelMap:
            labels += [member.name for member in members]
        except MedAEError as error:
            note(f"{name} is left out: {error}")
    if labels:
        note(told_label_maps(labels))
    if len(labels) == len(scans):
        raise BadInput(f"{folder} holds label maps only, no scans.", "Name a folder of scans.")
    if not cases:
        raise BadInput(f"No volume in {folder} can be used.", "See why above.")
    return cases


def _people(
    scans: Sequence[Scan], pattern: re.Pattern[str] | None, remark: Note, groups: Mapping[str, Sequence[Scan]],
    modalities: Sequence[str],
) -> dict[str, str]:  # fmt: skip
    """The subject of each scan by its name: what the pattern finds, else by its folders and the patient of its DICOM.

    The patient's number joins folders, and is not told to anybody. Folders of a kind of scan are nobody's, and cases
    (`groups`) that are named alike but for the kind are of one person.
    """

    def by_folder(name: str) -> str:
        return _subject_by_path(without_kind_folders(name, modalities))

    sure = {scan.name: _subject(scan.name, pattern) for scan in scans if pattern and pattern.search(scan.name)}
    same = _same(groups, modalities, pattern, remark) if modalities else []
    return sure | joined([scan for scan in scans if scan.name not in sure], by_folder, remark, same)


def _same(
    groups: Mapping[str, Sequence[Scan]], modalities: Sequence[str], pattern: re.Pattern[str] | None, remark: Note
) -> list[tuple[str, str]]:
    """Pairs of scans of one person: those of a case, and of cases named alike, unless the pattern finds who they are.

    That files which may be meant to be one case are several is remarked.
    """
    files = {
        name: [scan.name for scan in members if not (pattern and pattern.search(scan.name))]
        for name, members in groups.items()
    }
    open_ones = {name: members for name, members in files.items() if members}
    pairs = named_alike(open_ones, modalities)
    told = told_apart({name: [scan.name for scan in members] for name, members in groups.items()}, pairs, modalities)
    if told:
        remark(told)
    return [pair for names in open_ones.values() for pair in pairwise(names)] + [
        (open_ones[one][0], open_ones[other][0]) for one, other in pairs
    ]


def _group(scan: Scan, modalities: Sequence[str]) -> str:
    """What the files of a case have in common: their names without the modality; series of a folder, the folder."""
    return f"{scan.beside}/" if scan.beside else without_kind(scan.name, modalities)


def cases_of(
    volumes: Mapping[str, Volume], subjects: Mapping[str, str], note: Note, modalities: Sequence[str] = (),
    remark: Note = tell_note,
) -> list[Case]:  # fmt: skip
    """Volumes by name as cases, their voxels where they are; `subjects` tells whom a volume shows, else nobody else.

    With `modalities`, texts in the names, the volumes of a subject become one case, all on one grid; those of several
    visits are told apart by the rest of their names. Cases without a subject that are named alike are of one person,
    which goes to `remark`. What holds nothing to learn from is noted and left out. Raises BadInput if nothing is left.
    """
    cases = []
    groups = _grouped(volumes, subjects, modalities) if modalities else {name: [name] for name in volumes}
    people = People()
    people.of = {name: subjects.get(members[0]) or name for name, members in groups.items()}
    if modalities:
        pairs = named_alike({name: files for name, files in groups.items() if not subjects.get(files[0])}, modalities)
        for one, other in pairs:
            people.join(one, other)
        if told := told_apart(groups, pairs, modalities):
            remark(told)
    persons = people.told()
    for name, members in groups.items():
        try:
            volume = fused({member: volumes[member] for member in members}, modalities) if modalities else volumes[name]
            cases.append(_case(volume, name, persons[name], None, False))
        except BadInput as error:
            note(f"{name} is left out: {error}")
    if not cases:
        raise BadInput("None of the chosen volumes can be used.", "Choose others.")
    return cases


def _grouped(names: Iterable[str], subjects: Mapping[str, str], modalities: Sequence[str]) -> dict[str, list[str]]:
    """The names of each case by what they have in common: a subject's, or where it has several of a kind, a visit's."""
    people: dict[str, list[str]] = {}
    for name in names:
        people.setdefault(subjects.get(name) or without_kind(name, modalities), []).append(name)
    groups: dict[str, list[str]] = {}
    for person, members in people.items():
        kinds = list(filter(None, (told_kind(member, modalities) for member in members)))
        for member in members:
            visit = without_kind(member, modalities).strip(" _-.")
            several = len(set(kinds)) < len(kinds)
            groups.setdefault(f"{person} {visit}".strip() if several else person or visit, []).append(member)
    return {name or " and ".join(members): members for name, members in groups.items()}


def _pattern(subject: str) -> re.Pattern[str] | None:
    try:
        return re.compile(subject) if subject else None
    except re.error:
        raise BadInput(f"{subject!r} is no regular expression.", "Example: --subject '[A-Z]+[0-9]+'") from None


def _subject(name: str, pattern: re.Pattern[str] | None) -> str:
    """Who a volume is of: what the pattern finds in its path (its first group, if it has one).

    Else what begins with "sub-" as in BIDS: a folder, or the beginning of the file's name. Else the first folder, which
    holds all visits of a person, or the file where there is none.
    """
    found = pattern.search(name) if pattern else None
    if found:
        return found.group(1) if found.groups() else found.group(0)
    return _subject_by_path(name)


def _subject_by_path(name: str) -> str:
    """`_subject` without a pattern."""
    bids = re.search(r"(?:^|/)(sub-[^/]+(?=/)|sub-[^/_.]+)", name)
    return bids.group(1) if bids else name.split("/")[0]


def _fused(scans: Sequence[Scan], modalities: Sequence[str]) -> Volume:
    """The files of a subject as the channels of one volume, no numbers where there is no file; no label maps.

    Raises BadInput, LabelMap where there is nothing else.
    """
    volumes, labels = {}, None
    for scan in scans:
        if told_kind(scan.short, modalities):
            try:
                volumes[scan.short] = load_scan(scan)
            except LabelMap as found:
                labels = found
    if labels and not volumes:
        raise labels
    return fused(volumes, modalities)


def _case(volume: Volume, name: str, subject: str, path: Path | None, write: bool) -> Case:
    """A volume in the cache, or where it is without a path.

    Raises BadInput when there is nothing to learn from, DiskFull.
    """
    values = sample(volume.array)
    if not values.size:
        raise BadInput("it holds no finite value.")
    if values.min() == values.max():
        raise BadInput(f"it has the same value, {float(values.min()):g}, everywhere.")
    if added_to_hounsfield(volume):
        raise BadInput("it looks like a CT with 1024 added to its Hounsfield units; subtract 1024 first.")
    if path is not None and write:
        _keep(volume.array, path)
    voxels = np.load(path, mmap_mode="r").transpose(_SLICE_BY_SLICE) if path is not None else volume.array
    header = dict(volume.meta.get("header", {}))
    tissue = tuple(otsu_threshold(sample(channel)) for channel in volume.array)
    return Case(name, subject, guess_modality(volume), voxels, volume.affine, tissue, header)


def _keep(array: npt.NDArray[Any], path: Path) -> None:
    """Write voxels into the cache. Raises DiskFull."""
    array = array.astype(np.uint8) if array.dtype == bool else array
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, np.ascontiguousarray(array.transpose(_SLICE_BY_SLICE)))
    except OSError as error:
        if error.errno and not is_disk_full(error):
            raise
        # numpy tells that less was written than asked for, but not why
        raise DiskFull(
            f"The volumes could not be kept in {path.parent}: the disk is full.",
            "Free some disk space, then try again.",
        ) from error


@dataclass(frozen=True)
class Split:
    """Who is learned from, who decides when to stop, and who is only measured on: different subjects."""

    training: list[Case]
    validation: list[Case]
    test: list[Case]

    def told(self) -> dict[str, list[str]]:
        """The names of the volumes of each part."""
        return {part: [case.name for case in getattr(self, part)] for part in ("training", "validation", "test")}


def split(cases: Sequence[Case], seed: int) -> Split:
    """A fifth of the subjects for the validation and a fifth for the test, at least one each from three on.

    Two subjects: one is learned from, one for the validation. One subject: nothing is held out. The seed decides who.
    """
    subjects = sorted({case.subject for case in cases})
    order = np.random.default_rng(seed).permutation(len(subjects))
    fifth = max(1, round(len(subjects) / 5))
    tested = fifth if len(subjects) > 2 else 0
    validated = fifth if len(subjects) > 1 else 0
    part = {subjects[index]: place for place, index in enumerate(order)}

    def of(low: int, high: int) -> list[Case]:
        return [case for case in cases if low <= part[case.subject] < high]

    return Split(of(tested + validated, len(subjects)), of(tested, tested + validated), of(0, tested))
