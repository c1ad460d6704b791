"""The peers' figures, kept: they do not depend on our model, so another run of the benchmark need not wait for them."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import numpy as np
from benchmarks.denoise_cases import Image

# Raised when what a figure means, or how a peer is made, has changed: older figures are then not used.
EDITION = 1


class Cache:
    """A folder with one JSON of figures, and a middle slice of every result for the pictures.

    Every addition is on the disk before `put` returns, so a run that was ended goes on where it was.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.file = folder / "figures.json"
        folder.mkdir(parents=True, exist_ok=True)
        self._kept: dict[str, dict[str, Any]] = json.loads(self.file.read_text()) if self.file.is_file() else {}

    @staticmethod
    def key(case: str, level: float, method: str, voxels: str, identity: Any) -> str:
        """What one result depends on; `voxels` is the fingerprint of the case, `identity` the peer's settings."""
        settings = hashlib.sha256(json.dumps([EDITION, identity], sort_keys=True).encode()).hexdigest()[:12]
        return f"{case}|{level:g}|{method}|{voxels}|{settings}"

    def get(self, key: str) -> tuple[dict[str, Any], Image | None] | None:
        """The figures and the slice kept under a key; nothing when there are none."""
        if key not in self._kept:
            return None
        picture = self._picture(key)
        return dict(self._kept[key]), np.load(picture) if picture.is_file() else None

    def put(self, key: str, figures: dict[str, Any], picture: Image | None = None) -> None:
        """Keep figures and, if given, a slice."""
        if picture is not None:
            np.save(self._picture(key), picture.astype(np.float16))
        self._kept[key] = figures
        part = self.file.with_suffix(".part")
        part.write_text(json.dumps(self._kept, indent=1))
        os.replace(part, self.file)

    def _picture(self, key: str) -> Path:
        return self.folder / f"{hashlib.sha256(key.encode()).hexdigest()[:16]}.npy"
