"""Images of digits drawn by strokes, each a little different: one kind as normal, the others as what is unlike it."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from MedAELib.volume import Volume

SIZE = 32
_STROKES = {
    "0": [[(0.5, 0.12), (0.25, 0.25), (0.2, 0.5), (0.25, 0.75), (0.5, 0.88), (0.75, 0.75), (0.8, 0.5), (0.75, 0.25),
           (0.5, 0.12)]],
    "1": [[(0.35, 0.3), (0.5, 0.12), (0.5, 0.88)]],
    "4": [[(0.6, 0.88), (0.6, 0.12), (0.2, 0.6), (0.85, 0.6)]],
    "7": [[(0.2, 0.15), (0.8, 0.15), (0.4, 0.88)]],
}  # fmt: skip
DIGITS = tuple(_STROKES)


def digit(kind: str, seed: int) -> Volume:
    """The digit as an image [1, 32, 32, 1] of 1 mm pixels, intensities 0 to about 1000, with noise of 20."""
    random = np.random.default_rng([DIGITS.index(kind), seed])
    angle, size = random.uniform(-0.15, 0.15), random.uniform(0.85, 1.05)
    turn = size * np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    picture, places = np.zeros((SIZE, SIZE)), np.stack(np.meshgrid(*[np.arange(SIZE)] * 2, indexing="ij"), -1)
    for stroke in _STROKES[kind]:
        points = (np.array(stroke) - 0.5 + random.normal(0, 0.015, (len(stroke), 2))) @ turn.T + 0.5
        points = points * SIZE + random.uniform(-1, 1, 2)
        for start, end in pairwise(points):
            along = np.clip(((places - start) @ (end - start)) / ((end - start) ** 2).sum(), 0, 1)
            distance = np.linalg.norm(places - (start + along[..., None] * (end - start)), axis=-1)
            picture = np.maximum(picture, np.clip(2.2 - distance, 0, 1))
    picture = 1000 * gaussian_filter(picture, 0.6) + np.abs(random.normal(0, 20, picture.shape))
    return Volume(picture[None, :, :, None].astype(np.float32), np.eye(4), {"name": f"digit {kind}"})


def write_digits(folder: Path, kind: str, count: int, first: int = 0) -> Path:
    """So many images of a digit in the folder, a file each."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        digit(kind, number).save(folder / f"{kind}-{number:03d}.nii.gz")
    return folder
