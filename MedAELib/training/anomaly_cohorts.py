"""Who the bundled normative models learn from, are calibrated on and are tested on: written down by hand, disjoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from MedAELib.anomaly.prepare import BODY_SPACING, SPACING, Prepared, prepare, prepare_body
from MedAELib.errors import BadInput
from MedAELib.volume import Volume


@dataclass(frozen=True)
class Cohort:
    """Patterns of files below the data folder for each part, "MR" or "CT", and the edge in mm of the model's cells."""

    modality: str
    spacing: float
    training: tuple[str, ...]
    calibration: tuple[str, ...]
    test: tuple[str, ...]

    @property
    def learned(self) -> list[str]:
        """Patterns of the file names of what is learned from, by which a model knows them again."""
        return [Path(pattern).name for pattern in self.training]

    def prepare(self, volume: Volume) -> Prepared:
        """The volume as models of this cohort see it. Raises BadInput."""
        return prepare_body(volume, self.spacing) if self.modality == "CT" else prepare(volume)

    def scans(self, data: Path, patterns: Sequence[str]) -> list[Prepared]:
        """The prepared scans that fit the patterns. Raises BadInput when there is none for one of them."""
        return [self.prepare(volume) for volume in volumes(data, patterns)]


def volumes(data: Path, patterns: Sequence[str]) -> list[Volume]:
    """The scans that fit the patterns. Raises BadInput when there is none for one of them."""
    found: list[Volume] = []
    for pattern in patterns:
        paths = sorted(data.glob(pattern))
        if not paths:
            raise BadInput(f"{data} holds no {pattern}.", "Name the data folder with --data or MEDAE_DATA.")
        found += [Volume.load(path) for path in paths]
    return found


def _ixi(*numbers: str) -> tuple[str, ...]:
    return tuple(f"brain_t1_ixi/IXI{number}-*" for number in numbers)


def _planning(*numbers: int) -> tuple[str, ...]:
    return tuple(f"ct_openkbp/pt_{number}_ct*" for number in numbers)


COHORTS = {
    "brain-t1-anomaly": Cohort(
        "MR", SPACING, (*_ixi("012", "013", "014", "015", "039"), "brain_t1_datalad/datalad_T1w_1mm*"),
        _ixi("033"), _ixi("034"),
    ),
    "head-neck-ct-anomaly": Cohort(
        "CT", BODY_SPACING, _planning(100, 101, 103, 104, 105, 106, 108, 109, 10, 111, 112, 113, 114),
        _planning(115, 116, 118, 119, 120), _planning(11, 121, 122, 123),
    ),
}  # fmt: skip
