"""What the sections of `gpu.py` share: sizes, generated volumes, time on a device, and the rows that they tell."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from phantom import head
from phantom.noise import correlated, rician

from MedAELib.volume import Volume

CT_NOISE, MR_NOISE = 25.0, 30.0  # HU; of each of two channels, beside white matter of 660


@dataclass(frozen=True)
class Sizes:
    """How much is measured: sizes in voxels, the edge of a matrix product, bytes of a copy, turns of each timing."""

    large: tuple[int, int, int] = (512, 512, 300)
    small: tuple[int, int, int] = (256, 256, 128)
    long: tuple[int, int, int] = (48, 48, 288)  # longer than networks reach, so that tiles are not the whole
    head: tuple[int, int, int] = (256, 256, 170)
    matrix: int = 8192
    copied: int = 4 << 30
    crop: int = 96
    cores_slices: int = 100
    codec_slices: int = 128
    patch: int = 48
    turns: int = 2


TRIAL = Sizes((48, 48, 40), (40, 40, 32), (32, 32, 40), (64, 64, 48), 256, 1 << 20, 32, 32, 32, 16, 1)


@dataclass
class Section:
    """One section at work: where it computes, how much, where its volumes lie, and what it has told so far."""

    name: str
    device: torch.device
    sizes: Sizes
    folder: Path
    rows: list[dict[str, Any]] = field(default_factory=list)

    def tell(self, what: str, value: float | str, unit: str = "", bar: str = "") -> None:
        """Add a row, and keep it at once: what comes later may fail."""
        row = {"section": self.name, "what": what, "value": value, "unit": unit, "bar": bar}
        self.rows.append(row)
        with (self.folder / "rows.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def seconds(
        self, what: str, call: Callable[[], Any], bar: str = "", warm: bool = False, told: bool = True
    ) -> float:
        """The median of the seconds that a call takes until the device is ready, after one to warm up."""
        taken = []
        for turn in range(warm, self.sizes.turns + 1):
            self.ready()
            start = time.perf_counter()
            call()
            self.ready()
            if turn:
                taken.append(time.perf_counter() - start)
        if told:
            self.tell(f"{what} (from {min(taken):.4g} to {max(taken):.4g})", median(taken), "s", bar)
        return median(taken)

    def ready(self) -> None:
        """Wait until the device has nothing to do."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def volume(self, name: str, shape: tuple[int, ...] | None = None, wait: float = 120) -> Volume:
        """The generated "ct", "mr" or "head", or the middle of it, once another process has made it."""
        path, end = self.folder / f"{name}.npy", time.monotonic() + wait
        while not path.is_file():
            if time.monotonic() > end:
                raise TimeoutError(f"{path.name} was not made in time")
            time.sleep(0.1)
        voxels = np.load(path, mmap_mode="r")
        starts = [(n - m) // 2 for n, m in zip(voxels.shape, shape or voxels.shape, strict=True)]
        box = tuple(slice(start, start + n) for start, n in zip(starts, shape or voxels.shape, strict=True))
        meta = {"name": name, "modality": "CT" if name == "ct" else "MR"}
        return Volume(np.asfortranarray(voxels[box])[None], np.load(self.folder / f"{name}-affine.npy"), meta)


def make_volume(name: str, folder: Path, sizes: Sizes) -> None:
    """Write FOLDER/NAME.npy, int16, i fastest: a phantom's head, drawn coarsely and doubled, under fine noise."""
    modality, shape = "CT" if name == "ct" else "MR", sizes.head if name == "head" else sizes.large
    steps = (2, 2, 1) if name == "head" else (2, 2, 4)
    coarse = tuple(-(-n // step) for n, step in zip(shape, steps, strict=True))
    spacing = tuple(220 / n for n in coarse)
    drawn = head(modality, 1, coarse, (spacing[0], spacing[1], spacing[2]))
    np.save(folder / f"{name}-affine.npy", drawn.affine @ np.diag([*(1 / step for step in steps), 1.0]))
    clean = drawn.clean
    for axis, step in enumerate(steps):
        clean = clean.repeat(step, axis)
    clean, generator = clean[tuple(slice(n) for n in shape)], np.random.default_rng(1)
    if modality == "CT":
        noisy = np.maximum(clean + np.float32(CT_NOISE) * correlated(shape, generator), -1024)
    else:
        noisy = rician(clean, MR_NOISE if name == "mr" else MR_NOISE / 4, generator)
    partial = folder / f"{name}.partial.npy"
    np.save(partial, np.asfortranarray(np.rint(noisy).astype(np.int16)))
    partial.replace(folder / f"{name}.npy")
