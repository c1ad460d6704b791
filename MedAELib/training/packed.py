"""The denoisers' training and validation scans in one small file, to train on another computer.

`python -m MedAELib.training.packed --output scans.zip`, there `python -m MedAELib.training.denoise --data scans.zip`.
No voxel is off by more than a five-hundredth of the 99.9th percentile (MR) or 2 HU (CT): what is least in training is
twice that noise.
"""

from __future__ import annotations

import argparse
import fnmatch
import math
import sys
import zipfile
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np

from MedAELib.atomic import whole_file
from MedAELib.codec.reader import decompress
from MedAELib.codec.volumes import Mode, compress
from MedAELib.errors import BadInput, MedAEError
from MedAELib.files import name_of
from MedAELib.volume import Volume

_MR_SHARE, _CT_BOUND = 0.002, 2.0  # of the 99.9th percentile; HU


def pack(data: Path, patterns: dict[str, str], output: Path, processes: int = 1) -> None:
    """Write the volumes of a data folder that fit the patterns {pattern: modality} to one file.

    Raises BadInput when nothing fits a pattern, DiskFull.
    """
    files: dict[str, str] = {}
    for pattern, modality in patterns.items():
        found = sorted(data.glob(pattern))
        if not found:
            raise BadInput(f"{data} holds no {pattern}.", "Name the data folder with --data or MEDAE_DATA.")
        files |= {path.relative_to(data).as_posix(): modality for path in found}
    with ProcessPoolExecutor(processes) as pool:
        made = pool.map(_packed, [data] * len(files), files, files.values())
        with whole_file(output) as temporary, zipfile.ZipFile(temporary, "w") as packed:
            for name, content in zip(files, made, strict=True):
                packed.writestr(name, content)
                print(f"{name}: {len(content)} bytes", flush=True)


def _packed(data: Path, name: str, modality: str) -> bytes:
    volume = Volume.load(data / name)
    array = np.asarray(volume.array)
    bound = _CT_BOUND if modality == "CT" else _MR_SHARE * float(np.percentile(array, 99.9))
    if np.issubdtype(array.dtype, np.integer):
        bound = float(math.floor(bound))
    return compress(replace(volume, meta={}), Mode("max-error", bound) if bound else Mode())


def packed_names(path: Path, pattern: str) -> list[str]:
    """The names in the data folder of the volumes of a packed file that fit the pattern, in order."""
    with zipfile.ZipFile(path) as packed:
        return sorted(fnmatch.filter(packed.namelist(), pattern))


def packed_volumes(path: Path, pattern: str) -> Iterator[Volume]:
    """The volumes of a packed file whose names in the data folder fit the pattern, in the order of their names."""
    with zipfile.ZipFile(path) as packed:
        for name in packed_names(path, pattern):
            yield replace(decompress(packed.read(name)), meta={"name": name_of(Path(name))})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    from MedAELib.training import cohort  # which reads what is packed here

    parser = argparse.ArgumentParser(prog="python -m MedAELib.training.packed", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--data", type=Path, default=None, help="default: MEDAE_DATA or ../shared/data")
    parser.add_argument("--output", type=Path, required=True)
    parser.add_argument("--processes", type=int, default=1)
    chosen = parser.parse_args(arguments)
    patterns = dict.fromkeys([*cohort.CT_TRAINING, *cohort.MR_FROM_CT, cohort.CT_VALIDATION], "CT")
    patterns |= dict.fromkeys([*cohort.MR_TRAINING, cohort.MR_VALIDATION], "MR")
    try:
        pack(chosen.data or cohort.data_folder(), patterns, chosen.output, chosen.processes)
    except MedAEError as error:
        print(f"{error} {error.next_step}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
