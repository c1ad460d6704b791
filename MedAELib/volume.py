"""A volume as a value: voxels and where they are in the patient. Files are read and written by `files.py`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from .errors import BadInput


@dataclass(frozen=True, eq=False)
class Volume:
    """Channel-first voxels `[c, i, j, k]` and the 4x4 affine from voxel index (i, j, k) to RAS millimetres.

    The affine equals Slicer's IJKToRAS. The array is read-only (a view; nothing is copied) and may be a memory map.
    `meta` holds plain JSON values: "name", "modality" ("CT", "MR" or ""), and what the file said.
    Raises BadInput when the array is not four-dimensional and numeric, is empty, or the affine is not invertible.
    """

    array: npt.NDArray[Any]
    affine: npt.NDArray[np.float64]
    meta: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        array = np.asanyarray(self.array).view()
        name = self.meta.get("name") or "The volume"
        if array.ndim != 4:
            raise BadInput(f"{name} has {array.ndim} axes instead of the four (channel, i, j, k) of a volume.")
        if array.size == 0:
            raise BadInput(f"{name} is empty: its size is {' x '.join(map(str, array.shape[1:]))} voxels.")
        if array.dtype.kind not in "iufb":
            raise BadInput(f"{name} holds {array.dtype} values, which are not grey values.")
        affine = np.array(self.affine, dtype=np.float64)
        if affine.shape != (4, 4) or not np.isfinite(affine).all() or abs(np.linalg.det(affine)) < 1e-12:
            raise BadInput(f"{name} has no valid position in the patient: its voxel-to-RAS matrix cannot be inverted.")
        array.flags.writeable = False
        affine.flags.writeable = False
        object.__setattr__(self, "array", array)
        object.__setattr__(self, "affine", affine)
        object.__setattr__(self, "meta", MappingProxyType(dict(self.meta)))

    @property
    def shape(self) -> tuple[int, int, int]:
        """Size in voxels along i, j and k."""
        i, j, k = self.array.shape[1:]
        return int(i), int(j), int(k)

    @property
    def channels(self) -> int:
        """Number of values per voxel."""
        return int(self.array.shape[0])

    @property
    def spacing(self) -> tuple[float, float, float]:
        """Distance between voxel centres along i, j and k in millimetres."""
        i, j, k = np.linalg.norm(self.affine[:3, :3], axis=0)
        return float(i), float(j), float(k)

    @property
    def name(self) -> str:
        """What the user calls the volume; empty when it has no name."""
        return str(self.meta.get("name", ""))

    def like(self, array: npt.NDArray[Any], **meta: Any) -> Volume:
        """The same place in the patient with other voxels of the same size; `meta` is added to this volume's."""
        if array.shape[1:] != self.array.shape[1:]:
            raise BadInput(f"{array.shape[1:]} voxels do not fit where {self.array.shape[1:]} voxels are.")
        return Volume(array, self.affine, {**self.meta, **meta})

    def slab(self, axis: int, start: int, stop: int) -> Volume:
        """The slices start..stop-1 along an axis (0..2), where they are in the patient; nothing is copied."""
        cut = [slice(None)] * 4
        cut[axis + 1] = slice(start, stop)
        shift = np.eye(4)
        shift[axis, 3] = start
        return Volume(self.array[tuple(cut)], self.affine @ shift, self.meta)

    @staticmethod
    def load(path: str | Path, series: str | None = None) -> Volume:
        """Read a volume from a file or a DICOM folder; see `files.load`."""
        from .files import load

        return load(Path(path), series)

    def save(self, path: str | Path) -> None:
        """Write the volume, atomically; see `files.save`."""
        from .files import save

        save(self, Path(path))

    def __repr__(self) -> str:
        size = " x ".join(map(str, self.shape))
        spacing = " x ".join(f"{s:.4g}" for s in self.spacing)
        return f"Volume({self.name or 'unnamed'}: {self.channels} x {size} {self.array.dtype}, {spacing} mm)"
