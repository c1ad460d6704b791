"""No .maez file without loss is larger than the .nii.gz of the same volume: noise, labels, constants, tiny ones."""

import gzip
import tempfile
from pathlib import Path

import numpy as np
import pytest
from codec_tools import smooth
from hypothesis import example, given, settings
from hypothesis import strategies as st

from MedAELib import Volume
from MedAELib.codec.container import open_container
from MedAELib.codec.reader import decompress, read_volume
from MedAELib.codec.volumes import Mode, compress
from MedAELib.errors import BadInput

TYPES = ["uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float32", "float64"]
CONTENTS = ["noise", "labels", "constant", "smooth", "few", "repeated", "not finite"]
ROTATED = np.array([[0.98, -0.17, 0.1], [0.19, 0.96, -0.2], [-0.06, 0.22, 0.97]])
STRAIGHT = np.diag([-1.0, -1.0, 1.0, 1.0])


def voxels(content: str, shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    """What a volume may hold [c, i, j, k]."""
    generator, kind = np.random.default_rng(seed), np.dtype(dtype)
    if content == "noise" and kind.kind == "f":
        return generator.normal(0, 100, shape).astype(kind)
    if content == "noise":
        return np.frombuffer(generator.bytes(int(np.prod(shape)) * kind.itemsize), kind).reshape(shape)
    if content == "labels":
        return (np.stack([smooth(shape[1:], seed, 0.0)] * shape[0]) // 300 + 4).astype(kind)
    if content == "constant":
        return np.full(shape, seed, kind)
    if content == "smooth":
        return (np.stack([smooth(shape[1:], seed + c) for c in range(shape[0])]).clip(-1000, 300) / 12).astype(kind)
    if content == "few":
        return np.where(generator.random(shape) < 0.01, seed + 1, 0).astype(kind)
    if content == "repeated":
        return np.broadcast_to(voxels("noise", (1, *shape[1:3], 1), dtype, seed), shape)
    found = voxels("noise", shape, dtype, seed).copy()
    if kind.kind == "f":
        found[generator.random(shape) < 0.1] = np.nan
    return found


def placed(kind: str, seed: int) -> np.ndarray:
    """An affine: straight, or turned with sizes and a place that take all their digits."""
    if kind == "straight":
        return STRAIGHT
    turned, _ = np.linalg.qr(ROTATED)
    affine = np.eye(4)
    affine[:3, :3] = turned @ np.diag(np.random.default_rng(seed).uniform(0.3, 5, 3))
    affine[:3, 3] = np.random.default_rng(seed + 1).uniform(-200, 200, 3)
    return affine


def sizes(volume: Volume, mode: Mode) -> tuple[int, int, Volume, Volume]:
    """Bytes of the .nii.gz, at level 9 or as MedAE writes it, and of the .maez file of what that holds; what the
    first holds, and what the second decodes to."""
    with tempfile.TemporaryDirectory() as folder:
        plain, packed = Path(folder) / "v.nii", Path(folder) / "v.nii.gz"
        volume.save(plain)
        volume.save(packed)
        read = Volume.load(packed)
        usual = min(len(gzip.compress(plain.read_bytes(), 9)), packed.stat().st_size)
    data = compress(read, mode)
    return usual, len(data), read, decompress(data)


@settings(max_examples=60)
@given(
    content=st.sampled_from(CONTENTS),
    dtype=st.sampled_from(TYPES),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.integers(1, 12)),
    place=st.sampled_from(["straight", "turned"]),
    frames=st.booleans(),
    seed=st.integers(0, 100),
)
@example("noise", "uint8", (1, 1, 1, 1), "turned", False, 0)
@example("noise", "uint8", (1, 12, 12, 5), "turned", False, 0)
@example("constant", "int16", (3, 20, 20, 12), "turned", True, 7)
@example("labels", "uint8", (1, 20, 20, 12), "straight", False, 0)
@example("few", "int8", (1, 6, 14, 12), "turned", False, 0)
@example("few", "uint16", (3, 6, 5, 4), "straight", True, 5)
@example("repeated", "int16", (3, 20, 20, 12), "straight", False, 1)
def test_a_file_without_loss_is_never_larger_than_nifti(content, dtype, shape, place, frames, seed):
    told = {"frames": True, "frame_spacing": 2.5} if frames and shape[0] > 1 else {}
    if shape[0] > 1 and not frames:  # SimpleITK reads thin NIfTI files of vectors with another place, or not at all
        shape = (shape[0], *(max(size, 2) for size in shape[1:]))
    volume = Volume(voxels(content, shape, dtype, seed), placed(place, seed), told)
    usual, ours, before, after = sizes(volume, Mode())
    assert ours <= usual
    assert after.array.tobytes() == np.ascontiguousarray(before.array).tobytes()
    assert after.meta == before.meta and np.array_equal(after.affine, before.affine)
    assert after.array.dtype == before.array.dtype


@pytest.mark.parametrize("content", ["noise", "labels", "constant"])
@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32"])
def test_larger_volumes_are_not_larger_either(content, dtype):
    usual, ours, before, after = sizes(Volume(voxels(content, (1, 48, 40, 32), dtype, 1), STRAIGHT), Mode())
    assert ours <= usual and after.array.tobytes() == np.ascontiguousarray(before.array).tobytes()


def test_a_volume_of_several_chunks_is_not_larger_either(monkeypatch):
    monkeypatch.setattr("MedAELib.codec.volumes._CHUNK_VOXELS", 3000)
    for content in ("noise", "labels", "constant", "repeated"):
        volume = Volume(voxels(content, (2, 20, 18, 40), "int16", 1), STRAIGHT)
        usual, ours, before, after = sizes(volume, Mode())
        assert ours <= usual and np.array_equal(after.array, before.array)


def test_a_constant_volume_has_no_parts_and_all_coarser_volumes():
    volume = Volume(np.full((1, 40, 30, 20), -7, np.int16), STRAIGHT)
    data = compress(volume)
    assert len(data) < 100 and open_container(data, "it").header["chunks"][0]["parts"] == []
    for coarser in range(6):
        again = decompress(data, "it", coarser)
        assert (again.array == -7).all() and (coarser == 0) == (again.shape == (40, 30, 20))


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_packed_voxels_have_coarser_volumes_and_slices(dtype):
    volume = Volume(voxels("noise", (2, 16, 12, 10), dtype, 3), STRAIGHT)
    data = compress(volume)
    container = open_container(data, "it")
    assert container.header["coder"] == "packed"
    again = decompress(data, "it", 2)
    steps = np.rint(np.linalg.norm(again.affine[:3, :3], axis=0)).astype(int)
    i, j, k = (slice(None, None, step) for step in steps)
    assert np.array_equal(again.array, volume.array[:, i, j, k]) and steps.prod() == 4
    slab = read_volume(container, slices=(3, 7))
    assert np.array_equal(slab.array, volume.array[..., 3:7]) and slab.affine[2, 3] == 3
    with pytest.raises(BadInput, match="no slices"):
        read_volume(container, slices=(3, 70))
    with pytest.raises(BadInput, match="cut short"):
        decompress(data[:-1], "it", None)


@pytest.mark.parametrize("bound", [1.0, 40.0])
def test_a_bound_makes_no_file_larger_than_one_without_loss(bound):
    for dtype in ("int16", "float32"):
        volume = Volume(voxels("noise", (1, 16, 12, 10), dtype, 3), STRAIGHT)
        assert len(compress(volume, Mode("max-error", bound))) <= len(compress(volume)) + 30
