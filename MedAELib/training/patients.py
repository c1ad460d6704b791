"""Who is the same person: folders of DICOM files of one patient, and files that are named alike but for their kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import pairwise

from MedAELib.naming import person_told, told_kind
from MedAELib.training.scans import Note, Scan

_ALL_ALIKE = (
    "All DICOM files have the same patient number, so folders tell who is a person; say --subject with a regular "
    "expression where one of them is in several folders."
)


def joined(
    scans: Sequence[Scan], subject: Callable[[str], str], remark: Note, same: Iterable[tuple[str, str]] = ()
) -> dict[str, str]:
    """The subject of each scan by its name: one for all that share a folder's subject or a patient, and for each pair
    of scans that are the `same` person's.

    Where every DICOM file of several folders is of the same patient, as after a careless removal of names, only the
    folders count, which is remarked. Series right in the folder that say whose they are belong to nobody else's.
    """
    patients = {scan.patient for scan in scans if scan.series}
    folders = {subject(place) for scan in scans if scan.series for place in scan.places if place != "."}
    alike = len(patients) == 1 and "" not in patients and len(folders) > 1
    if alike:
        remark(_ALL_ALIKE)
    people = People()
    first: dict[str, str] = {}
    for scan in scans:
        places = scan.places or (["."] if alike else [])
        names = [subject(place) for place in places] or [first.setdefault(scan.patient, scan.name)]
        people.of[scan.name] = names[0]
        for other in names[1:]:
            people.join(names[0], other)
        if scan.patient and not alike:
            people.join(first.setdefault(scan.patient, names[0]), names[0])
    for one, another in same:
        people.join(people.of[one], people.of[another])
    return people.told()


def named_alike(cases: Mapping[str, Sequence[str]], kinds: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of cases, each with the names of its files, that are one person's by `naming.person_told`.

    Where that would make everybody one, whole names count.
    """
    found = _by_person(cases, kinds, whole=False)
    if len(found) == 1 < len(cases):
        found = _by_person(cases, kinds, whole=True)
    return list(dict.fromkeys(pair for members in found.values() for pair in pairwise(members)))


def _by_person(cases: Mapping[str, Sequence[str]], kinds: Sequence[str], whole: bool) -> dict[str, dict[str, None]]:
    """Cases, in order, by what their files tell of whom they show."""
    found: dict[str, dict[str, None]] = {}
    for case, files in cases.items():
        for file in files:
            found.setdefault(person_told(file, kinds, whole), {})[case] = None
    found.pop("", None)
    return found


def told_apart(cases: Mapping[str, Sequence[str]], pairs: Sequence[tuple[str, str]], kinds: Sequence[str]) -> str:
    """A note where names let files that may be meant to be one case be several; else empty."""
    what = ", ".join(kinds)
    if pairs:
        one, other = pairs[0]
        more = f" (and so are {len(pairs) - 1} more)" if len(pairs) > 1 else ""
        return (
            f"{one} and {other} are taken as two cases of one subject{more}, as their names differ in more than "
            f"{what}. Name the files of a subject alike to have them in one case; --subject says who is who."
        )
    whole = any({told_kind(file.rpartition("/")[2], kinds) for file in files} >= set(kinds) for files in cases.values())
    if whole or len(cases) < 2 or len(kinds) < 2:
        return ""
    return f"No case has all of {what}: the files of one must be named alike but for these."


class People:
    """Names of subjects that are found to be the same, each set called by its first in order."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self._above: dict[str, str] = {}

    def told(self) -> dict[str, str]:
        """Who everybody is."""
        return {name: self.eldest(member) for name, member in self.of.items()}

    def eldest(self, name: str) -> str:
        """What the set of a name is called."""
        while self._above.get(name, name) != name:
            name = self._above[name]
        return name

    def join(self, one: str, other: str) -> None:
        """Two names are of the same subject."""
        low, high = sorted((self.eldest(one), self.eldest(other)))
        self._above[high] = low
