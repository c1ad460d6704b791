"""Denoise: units, types and place are kept, strength blends, what was removed adds up; bad input gets a sentence."""

import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from models import save_small_model, small_model

from MedAELib import Volume, denoise
from MedAELib.bundle import Window
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput, BadModel, Cancelled
from MedAELib.model import Model
from MedAELib.tasks.denoise import removed_noise
from MedAELib.tasks.run import run_task
from MedAELib.tasks.seen import see

CPU = {"device": "cpu", "precision": "float32"}


def scan(shape=(1, 14, 12, 10), dtype="int16", spread=200.0, **meta) -> Volume:
    array = np.random.default_rng(0).normal(0, spread, shape)
    array = array if np.dtype(dtype).kind in "if" else np.abs(array)
    affine = np.array([[0, -2, 0, 5.0], [1, 0, 0, 6], [0, 0, 3, 7], [0, 0, 0, 1]])
    return Volume(array.astype(dtype), affine, {"name": "scan", **meta})


def cpu() -> Engine:
    return Engine(**CPU)


@pytest.mark.parametrize(
    "dtype", ["int8", "uint8", "int16", "uint16", "int32", "int64", "uint64", "float32", "float64"]
)
def test_type_and_place_are_kept_and_something_changes(dtype):
    volume = scan(dtype=dtype, spread=30)
    result = denoise(volume, small_model(modality="MR"), engine=cpu())
    assert result.array.dtype == volume.array.dtype
    assert np.array_equal(result.affine, volume.affine)
    assert result.name == "scan denoised"
    assert not np.array_equal(result.array, volume.array)


def test_strength_zero_changes_nothing_and_a_half_changes_half():
    volume, model = scan(dtype="float32"), small_model()
    assert np.array_equal(denoise(volume, model, strength=0, engine=cpu()).array, volume.array)
    full = denoise(volume, model, engine=cpu()).array - volume.array
    half = denoise(volume, model, strength=0.5, engine=cpu()).array - volume.array
    assert np.abs(half - full / 2).max() < 1e-3


@settings(max_examples=30)
@given(hnp.arrays(np.int16, st.tuples(st.just(1), *[st.integers(1, 9)] * 3)), st.floats(0, 1))
def test_removed_noise_and_result_add_up_to_the_input_and_nothing_wraps_around(array, strength):
    volume = Volume(array, np.eye(4))
    result = denoise(volume, small_model(channels=4, blocks=0), strength=strength, engine=cpu())
    assert np.array_equal(removed_noise(volume, result).array + result.array, array)
    # An overflow would jump to the other end of the range: a change of more than half of it.
    assert np.abs(result.array.astype(int) - array).max() <= 2**15 + 1000 or np.abs(array.astype(int)).max() > 2**14


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16", "uint32", "int64", "uint64"])
def test_values_at_the_end_of_a_type_stay_within_it(dtype):
    info = np.iinfo(dtype)
    array = np.full((1, 8, 8, 8), info.max, dtype)
    array[0, ::2] = info.min
    model = small_model()
    model = replace(model, spec=replace(model.spec, window=Window("white noise", 0.0, 1.0)))  # of a size with the type
    change = denoise(Volume(array.astype("float64"), np.eye(4)), model, engine=cpu()).array - array.astype("float64")
    result = denoise(Volume(array, np.eye(4)), model, engine=cpu()).array
    assert (result[(array == info.max) & (change > 1)] == info.max).all()
    assert (result[(array == info.min) & (change < -1)] == info.min).all()
    assert (change > 1).any() or (change < -1).any()


def test_large_integers_keep_their_last_digits():
    array = np.full((1, 6, 6, 6), 2**31 - 5001, np.int32)
    array[0, 3, 3, 3] += 1
    result = denoise(Volume(array, np.eye(4)), small_model(), strength=0, engine=cpu())
    assert np.array_equal(result.array, array)


def test_voxels_that_are_not_finite_stay_and_do_not_spread():
    array = scan(dtype="float32").array.copy()
    array[0, 3, 3, 3], array[0, 0, 0, 0], array[0, 5, 5, 5] = np.nan, np.inf, -np.inf
    volume = Volume(array, np.eye(4))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = denoise(volume, small_model(), engine=cpu())
        denoise(volume, Model.load("ct-denoise"), engine=cpu(), passes=1)
    assert np.array_equal(np.isfinite(result.array), np.isfinite(array))
    assert np.isfinite(removed_noise(volume, result).array).all()


@pytest.mark.parametrize("shape", [(1, 1, 1, 1), (1, 5, 1, 1), (1, 1, 1, 9), (1, 30, 20, 1)])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_single_voxel_row_or_slice_works(shape, dims):
    result = denoise(scan(shape), small_model(dims=dims), engine=cpu())
    assert result.array.shape == shape


def test_each_frame_is_processed_on_its_own_but_seen_in_the_unit_of_all():
    frames = scan((3, 10, 9, 8), frames=True)
    louder = frames.like(frames.array * np.array([1, 1, 5], np.int16).reshape(3, 1, 1, 1))
    relative = small_model(modality="MR")
    assert see(louder, relative).window == pytest.approx(see(frames, relative).window, rel=0.1)
    model = small_model()
    together = denoise(frames, model, engine=cpu())
    for frame in range(3):
        alone = denoise(Volume(frames.array[frame : frame + 1], frames.affine), model, engine=cpu())
        assert np.array_equal(together.array[frame], alone.array[0])
    assert together.meta["frames"]


@pytest.mark.parametrize("dtype", ["int16", "float32"])
def test_the_input_is_never_written(dtype):
    array = scan(dtype=dtype).array.copy()
    before = array.copy()
    denoise(Volume(array, np.eye(4)), small_model(), engine=cpu())
    assert np.array_equal(array, before)


def test_a_constant_volume_gives_a_correct_result():
    for value in (0, 5, -1000):
        result = denoise(
            Volume(np.full((1, 8, 8, 8), value, np.int16), np.eye(4)), small_model(modality="MR"), engine=cpu()
        )
        assert result.array.shape == (1, 8, 8, 8)


@pytest.mark.parametrize("strength", [-0.1, 1.1, float("nan")])
def test_a_strength_out_of_range_is_refused(strength):
    with pytest.raises(BadInput, match="strength"):
        denoise(scan(), small_model(), strength=strength)


def test_progress_may_cancel_and_covers_every_frame():
    seen = []
    denoise(
        scan((2, 8, 8, 8)), small_model(), engine=cpu(), progress=lambda stage, done, total: seen.append((done, total))
    )
    assert seen[-1] == (1024, 1024)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)

    def stop(stage, done, total):
        raise Cancelled

    with pytest.raises(Cancelled):
        denoise(scan(), small_model(), engine=cpu(), progress=stop)


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models") / "small"
    save_small_model(folder)
    return str(folder)


def quiet(stage, done, total):
    pass


def test_a_task_reports_what_was_done_and_stamps_its_results(model_folder):
    parameters = {"model": model_folder, "strength": 0.5, "removed": True, "tile": 8, **CPU}
    result = run_task("denoise", {"input": scan()}, parameters, progress=quiet)
    assert set(result.outputs) == {"denoised", "removed"}
    report = result.report
    assert (report["model"], report["device"], report["precision"], report["strength"]) == (
        "small",
        "cpu",
        "float32",
        0.5,
    )
    assert report["tile"] == [8, 8, 8] and report["tiles"] == 8
    assert len(report["model_sha256"]) == 64
    assert report["noise_before"] > 0 and report["seconds"] > 0
    assert {"medae", "torch", "monai", "python"} <= set(report["versions"])
    assert all(
        output.meta["provenance"]["model_sha256"] == report["model_sha256"] for output in result.outputs.values()
    )


def test_a_task_writes_where_it_is_told(model_folder):
    rooms = {}

    def allocate(name, shape, dtype):
        rooms[name] = np.zeros(shape, dtype)
        return rooms[name]

    result = run_task("denoise", {"input": scan()}, {"model": model_folder, **CPU}, progress=quiet, allocate=allocate)
    assert list(rooms) == ["denoised"]
    assert np.array_equal(rooms["denoised"], result.outputs["denoised"].array)


@pytest.mark.parametrize(
    "parameters",
    [
        {"strength": "1"},
        {"strength": True},
        {"tile": 1.5},
        {"removed": 1},
        {"model": None},
        {"surprise": 1},
        {"device": 0},
    ],
)
def test_parameters_of_a_wrong_type_or_name_are_refused(model_folder, parameters):
    with pytest.raises(BadInput):
        run_task("denoise", {"input": scan()}, {"model": model_folder, **parameters}, progress=quiet)


def test_an_unknown_task_and_missing_or_extra_inputs_are_refused(model_folder):
    for task, inputs in (
        ("sharpen", {"input": scan()}),
        ("denoise", {}),
        ("denoise", {"input": scan(), "more": scan()}),
    ):
        with pytest.raises(BadInput):
            run_task(task, inputs, {"model": model_folder}, progress=quiet)


def test_a_volume_without_a_finite_voxel_is_refused(model_folder):
    volume = Volume(np.full((1, 4, 4, 4), np.nan, np.float32), np.eye(4), {"name": "scan"})
    with pytest.raises(BadInput, match="scan"):
        run_task("denoise", {"input": volume}, {"model": model_folder}, progress=quiet)


def test_a_model_for_another_task_is_refused(tmp_path):
    model = small_model()
    object.__setattr__(model.spec, "task", "anomaly")
    with pytest.raises(BadModel, match="anomaly"):
        denoise(scan(), model)


def test_the_result_does_not_depend_on_the_number_of_threads_beyond_rounding(model_folder):
    volume, threads = scan(dtype="float32"), torch.get_num_threads()
    try:
        results = []
        for count in (1, 2):
            torch.set_num_threads(count)
            results.append(denoise(volume, small_model(), engine=cpu()).array)
    finally:
        torch.set_num_threads(threads)
    assert np.abs(results[0] - results[1]).max() < 0.1


@pytest.mark.parametrize("factor", [1e290, 1e36, 1e-290])
@pytest.mark.parametrize("task", ["denoise", "features", "explain", "anomaly"])
def test_values_that_single_precision_cannot_hold_are_refused_in_words(task, factor):
    """A fill value of the largest float, say: neither a traceback nor zeros in place of the scan."""
    volume = scan(dtype="float64")
    volume = volume.like(volume.array * factor)
    with pytest.raises(BadInput, match=r"reach .*, too (large|small) to compute with"):
        run_task(task, {"input": volume}, CPU, progress=lambda *_: None)


def test_large_integers_and_holes_in_the_values_are_no_reason_to_refuse():
    from MedAELib.tasks.common import check_values

    check_values(scan(dtype="uint64", spread=1e15))
    voxels = np.zeros((1, 4, 4, 3), np.float32)
    voxels[..., 1], voxels[0, 0, 0, 2] = np.nan, np.inf
    check_values(Volume(voxels, np.eye(4)))
    with pytest.raises(BadInput, match="no finite value"):
        check_values(Volume(np.full((1, 2, 2, 2), -np.inf), np.eye(4)))


@pytest.mark.parametrize("value", [0, 5, -1000])
def test_a_constant_volume_is_told_as_such_where_a_model_must_be_chosen(value):
    volume = Volume(np.full((1, 8, 8, 8), value, np.int16), np.eye(4), {"name": "empty"})
    with pytest.raises(BadInput, match=f"empty has the same value, {value}, everywhere") as refused:
        run_task("denoise", {"input": volume}, CPU, progress=quiet)
    assert "holds a scan" in refused.value.next_step
