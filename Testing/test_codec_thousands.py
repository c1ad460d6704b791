"""Ten thousand volumes of every type, shape and content come back bit for bit, and ten thousand within a bound.

`MEDAE_ALL_CASES=1 python -m pytest -m slow Testing/test_codec_thousands.py`; without the variable only five hundred of
each are drawn. One in a hundred is large enough for wave fronts.
"""

import os
from collections.abc import Iterator

import numpy as np
import pytest
from codec_tools import AFFINE, smooth
from hypothesis import HealthCheck, settings
from hypothesis import given as drawn
from hypothesis import strategies as st

from MedAELib import Volume
from MedAELib.codec import volumes
from MedAELib.codec.reader import decompress
from MedAELib.codec.values import TYPES
from MedAELib.codec.volumes import Mode, compress, largest_error

CASES, PARTS = 10_000, 20
DRAWN = range(PARTS if os.environ.get("MEDAE_ALL_CASES") else 1)
CONTENTS = ("bits", "constant", "few values", "extremes", "ramp", "anatomy", "sparse", "steps")
some = settings(max_examples=CASES // PARTS, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
pytestmark = pytest.mark.slow


@pytest.fixture(autouse=True)
def fronts(monkeypatch) -> Iterator[None]:
    """Wave fronts already in chunks that take milliseconds."""
    monkeypatch.setattr(volumes, "_FRONT_VOXELS", 4000)
    yield


def made(seed: int, dtype: str, content: str) -> Volume:
    """A volume that depends on its arguments alone."""
    generator = np.random.default_rng(seed)
    large = generator.random() < 0.01
    sizes = generator.integers(14, 27, 3) if large else generator.integers(1, 8, 3)
    channels = 1 if large else int(generator.integers(1, 3))
    shape = (channels, *(int(size) for size in sizes))
    kind = np.dtype(dtype)
    bits = np.frombuffer(generator.bytes(int(np.prod(shape)) * kind.itemsize), kind).reshape(shape)
    bits = bits if dtype != "bool" else generator.integers(0, 2, shape).astype(bool)
    with np.errstate(all="ignore"):
        array = {
            "bits": lambda: bits,
            "constant": lambda: np.full(shape, bits.flat[0]),
            "few values": lambda: generator.choice(bits.reshape(-1)[:3], shape),
            "extremes": lambda: generator.choice(extremes(kind), shape),
            "ramp": lambda: np.arange(np.prod(shape)).reshape(shape).astype(kind),
            "anatomy": lambda: np.stack([smooth(shape[1:], seed + c) for c in range(channels)]).astype(kind),
            "sparse": lambda: np.where(generator.random(shape) < 0.02, bits, np.zeros(1, kind)),
            "steps": lambda: (
                np.repeat(np.arange(shape[1]), int(np.prod(shape[2:]))).reshape(1, *shape[1:]).astype(kind)
            ),
        }[content]()
    return Volume(array, AFFINE)


def extremes(kind: np.dtype) -> np.ndarray:
    """The smallest and the largest values of a type, and what is no number."""
    if kind.kind == "b":
        return np.array([False, True])
    if kind.kind in "iu":
        return np.array([np.iinfo(kind).min, np.iinfo(kind).max], kind)
    return np.array([np.finfo(kind).min, np.finfo(kind).max, np.nan, np.inf, -np.inf, -0.0, 0.0, np.finfo(kind).tiny])


@pytest.mark.parametrize("part", DRAWN)
@some
@drawn(seed=st.integers(0, 2**32 - 1), dtype=st.sampled_from(TYPES), content=st.sampled_from(CONTENTS))
def test_volumes_come_back_bit_for_bit(part, seed, dtype, content):
    volume = made(seed, dtype, content)
    again = decompress(compress(volume)).array
    assert again.dtype == volume.array.dtype
    assert again.tobytes() == np.ascontiguousarray(volume.array).tobytes()


@pytest.mark.parametrize("part", DRAWN)
@some
@drawn(
    seed=st.integers(0, 2**32 - 1),
    dtype=st.sampled_from(TYPES),
    content=st.sampled_from(CONTENTS),
    bound=st.one_of(st.sampled_from([1.0, 2.0, 5.0, 10.0]), st.floats(0.001, 1e4)),
)
def test_no_voxel_differs_by_more_than_the_bound(part, seed, dtype, content, bound):
    volume = made(seed, dtype, content)
    again = decompress(compress(volume, Mode("max-error", bound))).array
    assert again.dtype == volume.array.dtype and again.shape == volume.array.shape
    assert largest_error(volume.array, again) <= bound
