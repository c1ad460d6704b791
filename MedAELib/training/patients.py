"""Who is the same person: folders that hold DICOM files of one patient are one subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from MedAELib.training.scans import Note, Scan

_ALL_ALIKE = (
    "All DICOM files have the same patient number, so folders tell who is a person; say --subject with a regular "
    "expression where one of them is in several folders."
)


def joined(scans: Sequence[Scan], subject: Callable[[str], str], remark: Note) -> dict[str, str]:
    """The subject of each scan by its name: one for all that share a folder's subject or a patient.

    Where every DICOM file of several folders is of the same patient, as after a careless removal of names, only the
    folders count, which is remarked. Series right in the folder that say whose they are belong to nobody else's.
    """
    patients = {scan.patient for scan in scans if scan.series}
    folders = {subject(place) for scan in scans if scan.series for place in scan.places if place != "."}
    alike = len(patients) == 1 and "" not in patients and len(folders) > 1
    if alike:
        remark(_ALL_ALIKE)
    people = _People()
    first: dict[str, str] = {}
    for scan in scans:
        places = scan.places or (["."] if alike else [])
        names = [subject(place) for place in places] or [first.setdefault(scan.patient, scan.name)]
        people.of[scan.name] = names[0]
        for other in names[1:]:
            people.join(names[0], other)
        if scan.patient and not alike:
            people.join(first.setdefault(scan.patient, names[0]), names[0])
    return {name: people.eldest(member) for name, member in people.of.items()}


class _People:
    """Names of subjects that are found to be the same, each set called by its first in order."""

    def __init__(self) -> None:
        self.of: dict[str, str] = {}
        self._above: dict[str, str] = {}

    def eldest(self, name: str) -> str:
        """What the set of a name is called."""
        while self._above.get(name, name) != name:
            name = self._above[name]
        return name

    def join(self, one: str, other: str) -> None:
        """Two names are of the same subject."""
        low, high = sorted((self.eldest(one), self.eldest(other)))
        self._above[high] = low
