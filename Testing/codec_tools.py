"""Small volumes with anatomy-like content for the tests of the codec."""

import zlib

import numpy as np
import pytest

from MedAELib import Volume
from MedAELib.codec import model_file, volumes
from MedAELib.codec.container import open_container, write_container
from MedAELib.codec.reader import decompress
from MedAELib.errors import BadModel, MedAEError

AFFINE = np.array([[-0.7, 0.0, 0.1, 101.5], [0.0, 0.9, 0.0, -33.25], [0.05, 0.0, 2.0, 7.0], [0.0, 0.0, 0.0, 1.0]])


def smooth(shape: tuple[int, ...], seed: int = 0, noise: float = 5.0) -> np.ndarray:
    """A bright ball in the dark, with noise: float64 [i, j, k] within about -1000 .. 300."""
    grid = np.meshgrid(*[np.linspace(-1, 1, n) if n > 1 else np.zeros(1) for n in shape], indexing="ij")
    ball = 1 / (1 + np.exp(6 * (np.sqrt(sum(axis**2 for axis in grid)) - 0.7)))
    return -1000 + 1200 * ball + np.random.default_rng(seed).normal(0, noise, shape)


def scan(shape: tuple[int, int, int] = (24, 20, 18), dtype: str = "int16", seed: int = 0, channels: int = 1) -> Volume:
    """A volume of that content, of any type that holds -1100 .. 400 (unsigned ones are lifted)."""
    voxels = np.stack([smooth(shape, seed + channel) for channel in range(channels)])
    lifted = np.rint(voxels) + (1200 if np.dtype(dtype).kind == "u" else 0)
    return Volume(lifted.astype(dtype), AFFINE, {"name": "ball", "modality": "CT", "header": {"note": "made"}})


def squares(shape: tuple[int, int, int] = (40, 36, 30)) -> Volume:
    """Sharp edges, around which coarsely quantised wavelets ring."""
    i, j, k = np.meshgrid(*map(np.arange, shape), indexing="ij")
    return Volume((1000 * ((i // 9 + j // 7 + k // 8) % 2)).astype(np.int16)[None], AFFINE, {"name": "squares"})


def numbers(content: str, shape: tuple[int, int, int], seed: int) -> np.ndarray:
    """What a chunk may hold [i, j, k], 0..65535: "noise", "constant", "extremes", "smooth" or "edges"."""
    generator = np.random.default_rng(seed)
    made: np.ndarray = {
        "noise": lambda: generator.integers(0, 65536, shape),
        "constant": lambda: np.full(shape, seed),
        "extremes": lambda: generator.choice([0, 65535], shape),
        "smooth": lambda: np.rint(smooth(shape, seed) + 1100).astype(np.int64).clip(0),
        "edges": lambda: squares(shape).array[0].astype(np.int64),
    }[content]()
    return made


def code_by_waves_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let small volumes be coded by wavelets too, and by nothing else."""
    monkeypatch.setattr(volumes, "_WAVE_VOXELS", 0)
    monkeypatch.setattr(volumes, "_worth_trying", lambda volume, data: False)


def take_model_away(monkeypatch: pytest.MonkeyPatch, loader: str) -> None:
    """As if a model of the codec, by the name of what loads it, were not installed."""

    def missing(*_: object) -> None:
        raise BadModel("The model is missing.")

    monkeypatch.setattr(model_file, loader, missing)


def check_forged_damage(
    whole: bytes, place: float, change: int, shape: tuple[int, int, int], fault: type[MedAEError] = MedAEError
) -> None:
    """With all checksums right, damage in the coded part can only be seen by the coder; it must end all the same.

    Either a fault is told in one sentence that names the file, or voxels of that shape come back.
    """
    container = open_container(whole, "it")
    payload = bytearray(container.payload)
    payload[int(place * len(payload))] ^= change
    header = dict(container.header)
    for chunk in header["chunks"]:
        for block in (chunk["extra"], *chunk["parts"]):
            block[2] = zlib.crc32(payload[block[0] : block[0] + block[1]])
    try:
        again = decompress(write_container(header, [bytes(payload)]), "broken.maez")
    except fault as error:
        assert "broken.maez" in str(error) and "\n" not in str(error)
    else:
        assert again.array.shape == (1, *shape)
