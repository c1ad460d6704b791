"""The worker's side of a run folder: arrays on disk, and the moment at which a result is complete."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import arrays, payload
from .runs import FORMAT

if TYPE_CHECKING:
    import numpy as np

    from ..volume import Volume


class Outputs:
    """Hands out memory-mapped arrays in `run`/outputs and, with `finish`, makes them the result of the run."""

    def __init__(self, run: Path, free: arrays.FreeBytes = arrays.free_bytes) -> None:
        self._run = run
        self._folder = run / "outputs"
        self._free = free
        self._arrays: dict[str, np.ndarray[Any, np.dtype[Any]]] = {}

    def allocate(self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any]) -> np.ndarray[Any, np.dtype[Any]]:
        """A writable array of zeros [c, i, j, k], first axis fastest as in VTK, that becomes output `name`."""
        self._arrays.pop(name, None)
        array = arrays.create_array(self._path(name), shape, dtype, self._free)
        self._arrays[name] = array
        return array

    def finish(
        self, outputs: Mapping[str, Volume], report: Mapping[str, Any], files: Mapping[str, bytes] | None = None
    ) -> None:
        """Make the result complete: every output that is not in its file yet, then result.json, last and at once."""
        import numpy as np

        entries = {}
        for name, volume in outputs.items():
            array = self._arrays.get(name)
            if array is None or array.shape != volume.array.shape or not np.shares_memory(array, volume.array):
                array = self.allocate(name, volume.array.shape, volume.array.dtype)
                array[...] = volume.array
            entries[name] = arrays.describe(volume, order=arrays.order_of(array), crc32=arrays.checksum(array))
        for name, data in (files or {}).items():
            entries[name] = payload.write_payload(self._folder, name, data, self._free)
        content = {"format": FORMAT, "outputs": entries, "report": dict(report)}
        data = arrays.to_json(content, "The report")
        arrays.write_file(self._run / "result.json", data, durable=True)

    def remove(self) -> None:
        """Delete everything that was allocated: the run failed or was cancelled."""
        names = list(self._arrays)
        self._arrays.clear()
        for name in names:
            try:
                self._path(name).unlink(missing_ok=True)
            except OSError:
                pass  # Windows, while the task still holds the array: it goes with the run folder

    def _path(self, name: str) -> Path:
        return self._folder / f"{arrays.check_name(name)}.npy"
