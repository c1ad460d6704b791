"""Who is in which part: training, validation and test subjects of the denoisers, written down by hand and disjoint."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from MedAELib.atomic import whole_file
from MedAELib.errors import BadInput
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.corruptions import log_uniform
from MedAELib.training.packed import packed_names, packed_volumes
from MedAELib.training.patches import Source, body_around, windowed_ct, windowed_mr
from MedAELib.training.projection import scan_noise
from MedAELib.volume import Volume

_PLANNING = (100, 101, 103, 104, 105, 106, 108, 109, 10, 111, 112, 113, 114, 115, 116, 118)  # of OpenKBP
# pattern: (smallest averaging factors along i, j, k that make its own noise low enough for a target; how often drawn)
MR_TRAINING: dict[str, tuple[tuple[int, int, int], float]] = {
    "brain_t1_ixi/IXI012-*": ((1, 1, 1), 1.5),
    "brain_t1_ixi/IXI013-*": ((1, 1, 1), 1.5),
    "brain_t1_ixi/IXI014-*": ((1, 1, 1), 1.5),
    "brain_t1_ixi/IXI015-*": ((1, 1, 1), 1.5),
    "brain_t1_ixi/IXI039-*": ((1, 1, 1), 1.5),
    "brain_t1_datalad/datalad_T1w_1mm*": ((1, 1, 1), 1.5),
    "brain_t1_datalad/datalad_T1w_2mm*": ((1, 1, 1), 1.5),
    "ms_patient26/T1*": ((1, 1, 1), 1.5),
    "ms_patient26/T2*": ((1, 1, 1), 1.5),
    "ms_patient26/FLAIR*": ((1, 1, 1), 1.5),
    "ms_longitudinal/patient01_*": ((2, 2, 1), 0.5),
    "mr_misc/VS-SEG-001*": ((2, 2, 1), 1.0),
    "mr_misc/cardiac_mr*": ((2, 2, 1), 1.0),
    "hippocampus/images/hippocampus_00*": ((1, 1, 1), 0.1),
    "hippocampus/images/hippocampus_02*": ((1, 1, 1), 0.1),
    "hippocampus/images/hippocampus_04*": ((1, 1, 1), 0.1),
}
# Scans of another modality widen what the MR denoiser sees: their anatomy, seen through random curves of intensity.
MR_FROM_CT: dict[str, tuple[tuple[int, int, int], float]] = {
    **{f"ct_openkbp/pt_{number}_ct*": ((1, 1, 1), 0.4) for number in _PLANNING},
    "ct_lidc0314/LIDC-IDRI-0314_native_512*": ((2, 2, 2), 1.0),
    "ct_lidc0314/LIDC-IDRI-0314_3mm*": ((1, 1, 1), 0.5),
}
MR_VALIDATION = "brain_t1_ixi/IXI033-*"
# pattern: the averaging factors that make the reference's own noise low enough, by the same rule as for training
MR_TEST: dict[str, tuple[int, int, int]] = {
    "brain_t1_ixi/IXI034-*": (1, 1, 1),
    "ms_longitudinal/patient12_*": (2, 2, 1),
    "mr_misc/spine_t1w*": (1, 1, 1),
    "mr_misc/spine_t2w*": (1, 1, 1),
    "hippocampus/images/hippocampus_09*": (1, 1, 1),
    "totalseg_examples/example_mr_sm*": (1, 1, 1),
}
CT_TRAINING: dict[str, tuple[tuple[int, int, int], float]] = {
    **{f"ct_openkbp/pt_{number}_ct*": ((1, 1, 1), 1.0) for number in _PLANNING},
    "ct_lidc0314/LIDC-IDRI-0314_native_512*": ((2, 2, 2), 4.0),
    "ct_lidc0314/LIDC-IDRI-0314_3mm*": ((1, 1, 1), 2.0),
}
CT_VALIDATION = "ct_openkbp/pt_119_ct*"
CT_TEST: dict[str, tuple[int, int, int]] = {
    "ct_openkbp/pt_11_ct*": (1, 1, 1),
    "ct_openkbp/pt_121_ct*": (1, 1, 1),
    "ct_openkbp/pt_122_ct*": (1, 1, 1),
    "ct_openkbp/pt_123_ct*": (1, 1, 1),
    "totalseg_examples/example_ct.nii*": (1, 1, 1),
    "ct_head/*": (1, 1, 1),
}
GENERATED = {"MR": 100, "CT": 40}  # volumes of generated anatomy, beside the real ones
GENERATED_SHARE = 0.25  # of the patches


def data_folder() -> Path:
    """The data folder: the environment variable MEDAE_DATA, else ../shared/data beside the project."""
    named = os.environ.get("MEDAE_DATA")
    return Path(named) if named else Path(__file__).resolve().parents[2].parent / "shared" / "data"


def clean_volumes(data: Path, pattern: str, modality: str) -> Iterator[tuple[Volume, np.ndarray]]:
    """Every volume that fits the pattern, with its windowed voxels [i, j, k]; BadInput when there is none.

    `data` is the data folder or a file of `MedAELib.training.packed`.
    """
    if data.is_file():
        found: Iterable[Volume] = packed_volumes(data, pattern)
    else:
        found = map(Volume.load, sorted(data.glob(pattern)))
    volume = None
    for volume in found:
        voxels = np.asarray(volume.array[0])
        yield volume, windowed_mr(voxels) if modality == "MR" else windowed_ct(voxels)
    if volume is None:
        raise BadInput(f"{data} holds no {pattern}.", "Name the data folder with --data or MEDAE_DATA.")


def training_sources(data: Path, modality: str, seed: int, cache: Path, processes: int = 0) -> list[Source]:
    """The training subjects and the generated anatomy of a modality, made by so many processes (0: by this one).

    What takes long to make (generated anatomy, simulated CT noise) is kept in the folder `cache`, which belongs to one
    training: a name and its place in the list stand for the whole simulation.
    """
    jobs: list[Callable[[], list[Source]]] = []
    number, real = 0, 0.0
    for pattern, (least, weight) in (MR_TRAINING if modality == "MR" else CT_TRAINING).items():
        jobs.append(partial(_real, data, pattern, modality, least, weight, number, cache))
        count = _count(data, pattern)
        number, real = number + count, real + weight * count
    if modality == "MR":
        for pattern, (least, weight) in MR_FROM_CT.items():
            jobs.append(partial(_from_ct, data, pattern, least, weight))
            count = _count(data, pattern)
            number, real = number + count, real + weight * count
    weight = GENERATED_SHARE / (1 - GENERATED_SHARE) * real / GENERATED[modality]
    jobs += [partial(_generated, modality, seed, n, weight, number + n, cache) for n in range(GENERATED[modality])]
    if not processes:
        return [source for job in jobs for source in job()]
    with ProcessPoolExecutor(processes, get_context("fork"), torch.set_num_threads, (1,)) as pool:
        return [source for made in pool.map(_done, jobs) for source in made]


def _done(job: Callable[[], list[Source]]) -> list[Source]:
    return job()


def _count(data: Path, pattern: str) -> int:
    return len(packed_names(data, pattern)) if data.is_file() else len(list(data.glob(pattern)))


def _real(
    data: Path, pattern: str, modality: str, least: tuple[int, int, int], weight: float, first: int, cache: Path
) -> list[Source]:
    """The scans of a pattern; `first` is the place of the first of them in the list of sources."""
    return [
        _source(volume.name, voxels, modality, volume.spacing[0], least, weight, number, cache)
        for number, (volume, voxels) in enumerate(clean_volumes(data, pattern, modality), first)
    ]


def _from_ct(data: Path, pattern: str, least: tuple[int, int, int], weight: float) -> list[Source]:
    """CT anatomy for MR patches."""
    volumes = clean_volumes(data, pattern, "CT")
    return [Source("CT", torch.from_numpy(voxels), least, weight=weight, is_ct=True) for _, voxels in volumes]


def _generated(modality: str, seed: int, number: int, weight: float, place: int, cache: Path) -> list[Source]:
    """One volume of generated anatomy, at its place in the list of sources."""
    made = kept(
        cache / f"generated {seed} {number}.pt",
        partial(_generated_voxels, modality, seed * 1000 + number),
    )
    spacing = 1.0 + 3.5 * number / GENERATED[modality]  # millimetres: from a head of 10 cm to a trunk of 43 cm
    source = _source(f"generated {number}", made.numpy(), modality, spacing, (1, 1, 1), weight, place, cache)
    return [replace(source, generated=True)]


def _generated_voxels(modality: str, seed: int) -> Tensor:
    return torch.from_numpy(generated_volume(modality, seed))


def averaged_down(voxels: np.ndarray, factors: tuple[int, int, int]) -> np.ndarray:
    """Means of boxes of `factors` voxels; what does not fill a box is left out."""
    boxes = [size // factor for size, factor in zip(voxels.shape, factors, strict=True)]
    cut = voxels[tuple(slice(0, n * factor) for n, factor in zip(boxes, factors, strict=True))]
    (i, j, k), (a, b, c) = boxes, factors
    return np.ascontiguousarray(cut.reshape(i, a, j, b, k, c).mean(axis=(1, 3, 5)))


def validation_volume(data: Path, modality: str) -> Tensor:
    """The middle 96 x 96 x 64 voxels of the validation subject, windowed."""
    _, voxels = next(clean_volumes(data, MR_VALIDATION if modality == "MR" else CT_VALIDATION, modality))
    start = [(size - wanted) // 2 for size, wanted in zip(voxels.shape, (96, 96, 64), strict=True)]
    return torch.from_numpy(voxels[start[0] : start[0] + 96, start[1] : start[1] + 96, start[2] : start[2] + 64].copy())


def _source(
    name: str, voxels: np.ndarray, modality: str, spacing: float, least: tuple[int, int, int], weight: float,
    number: int, cache: Path,
) -> Source:  # fmt: skip
    clean = torch.from_numpy(np.ascontiguousarray(voxels))
    if modality == "MR":
        return Source(name, clean, least, weight=weight)
    noise = kept(cache / f"{number} {name}.noise.pt", lambda: _simulated_noise(clean, spacing, number))
    return Source(name, clean, least, torch.from_numpy(body_around(voxels)), noise, weight)


def _simulated_noise(clean: Tensor, spacing: float, seed: int) -> Tensor:
    """Noise of deviation 1 of a scan of this volume with a sharp kernel, at a random dose."""
    generator = Generator().manual_seed(seed)
    photons = log_uniform(2e4, 1e6, generator)
    views = min(240, int(1.5 * max(clean.shape[:2])))
    noise = scan_noise(clean, spacing, generator, cutoff=2.0, photons=photons, views=views)
    return noise / noise.std()


def kept(path: Path, make: Callable[[], Any]) -> Any:
    """What the file holds; made and written first when it is not there."""
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = make()
        with whole_file(path, ".pt") as temporary:
            torch.save(made, temporary)
    return torch.load(path, weights_only=True)
