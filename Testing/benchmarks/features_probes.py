"""The probe tasks of the features' benchmark: pieces of scans at random places, what each shows, and of whom."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np

from MedAELib.features.code import resampled
from MedAELib.noise import otsu_threshold
from MedAELib.training.cohort import CT_TRAINING, MR_FROM_CT, MR_TRAINING
from MedAELib.volume import Volume

MS_SCANS = [f"ms_longitudinal/patient{p}_study{n}_" for p in ("01", "12") for n in (1, 2)] + ["ms_patient26/"]
SEQUENCES = ("T1", "T2", "FLAIR")
REGIONS = {"head": (56, 104), "neck": (-16, 16), "chest": (-144, -96)}  # mm above the narrowest slice


@dataclass(frozen=True, eq=False)
class Piece:
    """Voxels [i, j, k] in a unit that is the same for the whole probe, as far as scans allow, and what they show."""

    subject: str
    label: str
    voxels: np.ndarray
    spacing: float
    modality: str
    seen_by: tuple[str, ...] = ()  # the bundled models that were trained, without labels, on this subject

    def volume(self) -> Volume:
        """The piece as a scan of its own."""
        affine = np.diag([self.spacing] * 3 + [1.0])
        return Volume(self.voxels[None].astype(np.float32), affine, {"name": "piece", "modality": self.modality})


def trained_on(name: str) -> tuple[str, ...]:
    """The bundled denoisers that have a file of the data folder among their training scans."""
    cohorts = {"ct-denoise": CT_TRAINING, "mr-denoise": MR_TRAINING | MR_FROM_CT}
    return tuple(m for m, patterns in cohorts.items() if any(fnmatch(name, pattern) for pattern in patterns))


def cut(voxels: np.ndarray, centre: np.ndarray, edge: int) -> np.ndarray:
    """A cube around a voxel, moved so far that it lies inside."""
    starts = [int(np.clip(round(c - edge / 2), 0, max(n - edge, 0))) for c, n in zip(centre, voxels.shape, strict=True)]
    return voxels[tuple(slice(start, start + edge) for start in starts)]


def hippocampus(data: Path, each: int) -> Iterator[Piece]:
    """Cubes of 12 mm around random voxels of the anterior and the posterior part, of 60 people."""
    for path in sorted((data / "hippocampus/images").glob("*.nii.gz")):
        volume = Volume.load(path)
        labels = Volume.load(data / "hippocampus/labels" / path.name).array[0]
        voxels = volume.array[0] / np.percentile(volume.array, 99.9)
        random, seen = np.random.default_rng(int(path.name[12:15])), trained_on(f"hippocampus/images/{path.name}")
        for number, name in ((1, "anterior"), (2, "posterior")):
            places = np.argwhere(labels == number)
            for place in places[random.choice(len(places), each, replace=False)]:
                yield Piece(path.name[12:15], name, cut(voxels, place, 12), 1.0, "MR", seen)


def ct_region(data: Path, each: int) -> Iterator[Piece]:
    """Cubes of 64 mm around random voxels of the body at the height of head, neck and chest, at 4 mm.

    The neck is where the body is narrowest; scans without a wider part on both sides of it are left out.
    """
    for path in sorted((data / "ct_openkbp").glob("*.nii.gz")):
        volume = resampled(Volume.load(path), 4.0)
        body = volume.array[0] > -300
        area = np.convolve(body.sum((0, 1)), np.ones(5) / 5, "same")
        there = np.flatnonzero(area > 200)
        if len(there) < 20:
            continue
        low, high = there[0] + 3, there[-1] - 3
        neck = low + int(np.argmin(area[low:high]))
        if min(area[low:neck].max(initial=0), area[neck:high].max(initial=0)) < 1.2 * area[neck]:
            continue
        seen = trained_on(f"ct_openkbp/{path.name}")
        random = np.random.default_rng([7, *path.name.encode()])
        for name, (first, last) in REGIONS.items():
            start, stop = max(neck + first // 4, low), min(neck + last // 4, high)
            places = np.argwhere(body[:, :, start : max(stop, start)]) + [0, 0, start]
            if stop - start >= 4:
                for place in places[random.choice(len(places), each, replace=False)]:
                    yield Piece(path.name.split("_")[1], name, cut(volume.array[0], place, 16), 4.0, "CT", seen)


def mr_sequence(data: Path, each: int) -> Iterator[Piece]:
    """Cubes of 32 mm at random places of the head, at 2 mm, of T1, T2 and FLAIR: 3 people, 5 visits."""
    for scan in MS_SCANS:
        for number, name in enumerate(SEQUENCES):
            path = sorted(data.glob(f"{scan}{name}*"))[0]
            seen = trained_on(f"{path.parent.name}/{path.name}")
            volume = resampled(Volume.load(path), 2.0)
            voxels = volume.array[0] / np.percentile(volume.array, 99.5)
            middle = np.argwhere(voxels > otsu_threshold(voxels[::2, ::2, ::2])).mean(axis=0)
            random = np.random.default_rng([11, number, *scan.encode()])
            for _ in range(each):
                place = middle + random.uniform(-20, 20, 3) * [1, 1, 0.7]
                yield Piece(scan.split("_study")[0], name, cut(voxels, place, 16), 2.0, "MR", seen)


PROBES: dict[str, tuple[Callable[[Path, int], Iterator[Piece]], int]] = {
    "hippocampus part": (hippocampus, 4),
    "CT region": (ct_region, 6),
    "MR sequence": (mr_sequence, 12),
}
