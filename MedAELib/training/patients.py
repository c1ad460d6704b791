"""Who is the same person: folders of DICOM files of one patient, and files that are named alike but for their kind."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import chain, combinations, pairwise

from MedAELib.naming import people_told, told_kind
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
    """Pairs of cases, each with the names of its files, that look like one person's: alike but for what tells kinds.

    Only cases that have no kind in common are, as p0_T1post and p0_FLAIR; and what is before the kind tells people
    only where it is not before all of them, as in brain_T1_anna.
    """
    told = {case: frozenset(told_kind(file.rpartition("/")[2], kinds) for file in cases[case]) - {""} for case in cases}
    found: list[tuple[str, str]] = []
    for way in (0, 1):
        alike: dict[str, dict[str, None]] = {}
        for case, files in cases.items():
            for file in files:
                alike.setdefault(people_told(file, kinds)[way], {})[case] = None
        alike.pop("", None)
        for members in alike.values():
            shown = list(chain.from_iterable(told[case] for case in members))
            if len(alike) > 1 or len(set(shown)) == len(shown):
                found += _apart(members, told)
    return list(dict.fromkeys(found))


def _apart(cases: Iterable[str], told: Mapping[str, frozenset[str]]) -> list[tuple[str, str]]:
    """Pairs that join all of these cases that have no kind in common."""
    by_kinds: dict[frozenset[str], list[str]] = {}
    for case in cases:
        by_kinds.setdefault(told[case], []).append(case)
    found: list[tuple[str, str]] = []
    for one, other in combinations(by_kinds, 2):
        if not one & other:
            found += pairwise([*by_kinds[one], *by_kinds[other]])
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
