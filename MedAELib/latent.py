"""The code of a volume as a value: it knows where it is in the patient and how to come back, and can be computed with.

A latent is made and decoded by `tasks/latents.py`; here are its file and its arithmetic, which need numpy alone.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from .atomic import whole_file
from .errors import BadInput, OutOfMemory, unwritable
from .volume import Volume

FORMAT = 1
_ARRAYS = ("code", "affine", "source_affine", "description")
_LARGEST_TEXT = 1 << 20
_DAMAGES = (OSError, ValueError, KeyError, TypeError, IndexError, EOFError, RecursionError, zipfile.BadZipFile)
_OTHER = "Encode them with one model, from volumes of one size and place."

Matrix = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Source:
    """What the decoded volume must be like: size in voxels, affine to RAS mm, numpy type, the intensities `limits` that
    the network saw as 0 and 1, name and modality."""

    shape: tuple[int, int, int]
    affine: Matrix
    dtype: str
    limits: tuple[float, float]
    name: str = ""
    modality: str = ""


@dataclass(frozen=True, eq=False)
class Latent:
    """The code [c, i, j, k] of a volume, float32, read-only.

    `affine` leads from the index of a cell to the RAS millimetres of its middle; `model` and `sha256` name what made it
    and what alone can decode it; `source` is what it was made from. Raises BadInput for values that cannot be one.
    """

    code: npt.NDArray[np.float32]
    affine: Matrix
    model: str
    sha256: str
    source: Source

    def __post_init__(self) -> None:
        code = np.asarray(self.code, np.float32).view()
        if code.ndim != 4 or code.size == 0 or not np.isfinite(code).all():
            raise BadInput("A latent must be four-dimensional (channel, i, j, k) and finite.")
        if not (_is_place(self.affine) and _is_place(self.source.affine)):
            raise BadInput("A latent must have a place in the patient: a matrix that can be inverted.")
        low, high = self.source.limits
        shape = self.source.shape
        if len(shape) != 3 or min(shape) < 1 or not np.isfinite([low, high]).all() or low == high:
            raise BadInput("A latent must know the size of its source and the intensities that the network saw.")
        code.flags.writeable = False
        object.__setattr__(self, "code", code)

    def as_volume(self) -> Volume:
        """The code as a volume of c channels in its place: for export as NRRD, and to look at."""
        told = {"model": self.model, "model_sha256": self.sha256, "source": describe(self)["source"]}
        return Volume(self.code, self.affine, {"name": f"{self.source.name} latent".strip(), "provenance": told})

    def save(self, path: Path) -> None:
        """Write a plain .npz (code, affine, source_affine, and the rest as JSON), or the code as NRRD by the ending.

        Written wholly or not at all. Raises BadInput for another ending, DiskFull.
        """
        if path.name.lower().endswith(".nrrd"):
            self.as_volume().save(path)
            return
        if not path.name.lower().endswith(".npz"):
            raise BadInput(f"{path} cannot be written: a latent is a .npz or .nrrd file.", "Use one of these endings.")
        arrays = {"code": self.code, "affine": self.affine, "source_affine": self.source.affine}
        try:
            with whole_file(path) as temporary, temporary.open("wb") as file:
                np.savez(file, **arrays, description=np.array(json.dumps(describe(self), allow_nan=False)))  # type: ignore[arg-type]
        except OSError as error:
            raise unwritable(path, error) from None


def _is_place(matrix: Matrix) -> bool:
    """Whether a matrix leads somewhere and back."""
    return matrix.shape == (4, 4) and bool(np.isfinite(matrix).all()) and abs(np.linalg.det(matrix)) >= 1e-12


def describe(latent: Latent) -> dict[str, Any]:
    """All of a latent but its arrays, as plain JSON."""
    source = latent.source
    return {
        "format": FORMAT,
        "model": latent.model,
        "sha256": latent.sha256,
        "source": {
            "shape": list(source.shape), "dtype": source.dtype, "limits": list(source.limits), "name": source.name,
            "modality": source.modality,
        },
    }  # fmt: skip


def load(path: Path) -> Latent:
    """Read a latent from a .npz file that `Latent.save` wrote, as data. Raises BadInput otherwise, OutOfMemory."""
    try:
        with zipfile.ZipFile(path) as archive:
            members = {member.filename: member for member in archive.infolist()}
            if set(members) != {f"{name}.npy" for name in _ARRAYS}:
                raise ValueError("its arrays are others")
            if any(m.compress_type != zipfile.ZIP_STORED or m.file_size > m.compress_size for m in members.values()):
                raise ValueError("it is compressed")  # so that no small file becomes a huge array
            if members["description.npy"].file_size > _LARGEST_TEXT:
                raise ValueError("its description is too large")
            for member in members.values():
                _check_size(archive, member, path.stat().st_size)
        with np.load(path, allow_pickle=False) as arrays:
            code, affine, origin, text = (arrays[name] for name in _ARRAYS)
        return _latent(code, affine, origin, json.loads(str(text[()])))
    except FileNotFoundError:
        raise BadInput(f"{path} does not exist.", "Check the path.") from None
    except MemoryError:
        raise OutOfMemory(f"{path} is a latent that does not fit the memory.") from None
    except _DAMAGES as error:
        reason = str(error).partition("\n")[0][:120] or "it is damaged"
        raise BadInput(f"{path} is not a latent of MedAE ({reason}).", "Make it again with --latent-only.") from None


def _check_size(archive: zipfile.ZipFile, member: zipfile.ZipInfo, there: int) -> None:
    """Raise ValueError unless an array is as large as its header says, and no larger than the file of `there` bytes:
    the header alone decides how much would be allocated."""
    with archive.open(member) as file:
        version = np.lib.format.read_magic(file)
        read = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read(file)
        wanted = file.tell() + math.prod(shape) * dtype.itemsize
    if dtype.hasobject or min(shape, default=1) < 1 or wanted != member.file_size or wanted > there:
        raise ValueError("an array is not as large as it says")


def _latent(code: Any, affine: Any, origin: Any, told: Mapping[str, Any]) -> Latent:
    if told["format"] != FORMAT or code.dtype != np.float32:
        raise ValueError("another version")
    source = told["source"]
    shape, (low, high), dtype = source["shape"], source["limits"], np.dtype(str(source["dtype"]))
    if len(shape) != 3 or not all(type(n) is int and 1 <= n <= 1 << 16 for n in shape) or dtype.kind not in "iufb":
        raise ValueError("its source is none")
    texts = told["model"], told["sha256"], source["name"], source["modality"]
    if not all(isinstance(text, str) for text in texts):
        raise ValueError("its description is none")
    i, j, k = shape
    made = Source((i, j, k), np.array(origin, np.float64), dtype.name, (float(low), float(high)), *texts[2:])
    return Latent(code, np.array(affine, np.float64), texts[0], texts[1], made)


def check_alike(latents: Sequence[Latent]) -> None:
    """Raise BadInput unless all are of one model, one size and one place: only those can be computed with together."""
    if not latents:
        raise BadInput("There is no latent to compute with.", "Name one at least.")
    first = latents[0]
    for other in latents[1:]:
        called = f"The latent of '{other.source.name}'"
        if other.sha256 != first.sha256 or other.model != first.model:
            raise BadInput(f"{called} is of another model ({other.model}) than the first ({first.model}).", _OTHER)
        if other.code.shape != first.code.shape or other.source.shape != first.source.shape:
            raise BadInput(f"{called} has another size than the first.", _OTHER)
        places = zip((other.affine, other.source.affine), (first.affine, first.source.affine), strict=True)
        if not all(np.allclose(one, two, rtol=1e-5, atol=1e-3) for one, two in places):
            raise BadInput(f"{called} lies elsewhere than the first.", _OTHER)


def average(latents: Sequence[Latent], weights: Sequence[float] | None = None) -> Latent:
    """The weighted mean of latents (default: all alike), with the source of the first; limits are averaged too.

    Raises BadInput for latents that are not alike, other numbers of weights, or weights whose sum is not above 0.
    """
    check_alike(latents)
    shares = np.ones(len(latents)) if weights is None else np.asarray(weights, np.float64)
    if shares.shape != (len(latents),) or not np.isfinite(shares).all() or shares.sum() <= 0:
        raise BadInput("The weights of an average must be one number for each latent, with a sum above 0.")
    shares = shares / shares.sum()
    code = sum(share * latent.code.astype(np.float64) for share, latent in zip(shares, latents, strict=True))
    low, high = (float(shares @ [latent.source.limits[n] for latent in latents]) for n in (0, 1))
    first = latents[0]
    return replace(first, code=np.asarray(code, np.float32), source=replace(first.source, limits=(low, high)))


def interpolate(start: Latent, end: Latent, part: float) -> Latent:
    """The latent that lies `part` (0: start, 1: end; beyond both ways too) of the way from one to another.

    It has the start's source. Raises BadInput for latents that are not alike.
    """
    return average([start, end], [1 - part, part])


def nearest(latent: Latent, among: Sequence[Latent]) -> tuple[int, float]:
    """Which of the others is nearest, and how far: the root of the mean square difference of the codes.

    Raises BadInput for latents that are not alike, or none.
    """
    if not among:
        raise BadInput("There is no latent to compare with.", "Name one at least.")
    check_alike([latent, *among])
    far = [float(np.sqrt(np.mean((other.code.astype(np.float64) - latent.code) ** 2))) for other in among]
    index = int(np.argmin(far))
    return index, far[index]
