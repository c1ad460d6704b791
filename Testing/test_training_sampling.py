"""Samples of a training are the same wherever the voxels lie, and whole slices and volumes are means on a grid."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from train_tools import arguments, run
from volumes import write_volumes

from MedAELib import Volume
from MedAELib.bundle import Window, read_bundle
from MedAELib.training.folder import cases_of, read_folder
from MedAELib.training.sampling import Shape, batches, windowed

WINDOW = Window("fixed", 0.0, 1000.0)
SHAPES = [
    Shape(2, (16, 16), 6),
    Shape(3, (16, 16, 8), 3),
    Shape(3, (40, 40, 40), 3),  # larger than any scan
    Shape(2, (16, 16), 6, grid=8),
    Shape(3, (16, 16, 8), 3, grid=8),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_samples_of_scans_in_files_and_in_memory_are_the_same(shape: Shape, tmp_path: Path) -> None:
    folder = write_volumes(tmp_path / "scans")
    scans = {path.name: Volume.load(path) for path in sorted(folder.iterdir())}
    filed = read_folder(folder, tmp_path / "cache", [], "", print)
    held = cases_of(scans, {}, print)
    drawn = [batches([windowed(case, WINDOW) for case in cases], shape, 5) for cases in (filed, held)]
    for step in range(4):
        for one, other in zip(drawn[0](step), drawn[1](step), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-6, atol=1e-6)
            assert one.is_contiguous()


def test_tissue_is_what_is_bright_in_the_whole_scan_whatever_its_numbers() -> None:
    array = np.random.default_rng(0).integers(0, 20, (1, 100, 60, 60)).astype(np.int16)
    array[:, 70:] += 500  # beyond the first 200,000 voxels
    scans = {dtype: Volume(array.astype(dtype), np.eye(4)) for dtype in ("int16", "float32")}
    assert {case.tissue for case in cases_of(scans, {}, print)} == {(19.0,)}


def test_a_fused_sample_lies_where_the_first_modality_that_is_there_shows_something(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    low, high = rng.integers(0, 20, (2, 1, 64, 64, 8)).astype(np.int16)
    low[:, :32] += 80
    high[:, 32:] += 5000  # elsewhere and far brighter, so a threshold for both would see nothing of the first
    for subject, kinds in {"a": ("T1", "T2"), "b": ("FLAIR", "T2")}.items():
        for kind in kinds:
            Volume(high if kind == "T2" else low, np.eye(4)).save(tmp_path / f"{subject}_{kind}.nii.gz")
    cases = read_folder(tmp_path, tmp_path / "cache", ["T1", "FLAIR", "T2"], r"^(.)_", print)
    assert [case.tissue.index(19.0) for case in cases] == [0, 1]
    for case, shown in zip(cases, (0, 1), strict=True):
        source = windowed(case, Window("fixed", 0.0, 100.0))
        given, *_ = batches([source], Shape(2, (16, 16), 60, fused=True), 3)(0)
        bright = (given[:, shown] > 0.5).flatten(1).float().mean(1)
        assert (bright > 0.1).float().mean() > 0.85


@pytest.mark.parametrize("dims", [2, 3])
def test_what_is_seen_whole_is_the_means_of_its_cells(dims: int, tmp_path: Path) -> None:
    array = np.random.default_rng(0).integers(200, 800, (1, 24, 16, 8)).astype(np.int16)
    Volume(array, np.eye(4)).save(tmp_path / "scan.nii.gz")
    (case,) = read_folder(tmp_path, tmp_path / "cache", [], "", print)
    given, *_ = batches([windowed(case, WINDOW)], Shape(dims, (8,) * dims, 5, grid=8), 1)(0)
    if dims == 3:
        cells = array[0].reshape(8, 3, 8, 2, 8, 1).mean((1, 3, 5))[None] / 1000
    else:
        cells = array[0].reshape(8, 3, 8, 2, 8).mean((1, 3)).transpose(2, 0, 1) / 1000
    for sample in given[:, 0].double().numpy():
        flips = [np.flip(sample, axes) for axes in _subsets(dims)]
        nearest = min(np.abs(cell - flip).max() for cell in cells for flip in flips)
        assert nearest < 1e-5


def _subsets(dims: int) -> list[tuple[int, ...]]:
    """Every set of axes that a sample may be flipped along."""
    return [tuple(axis for axis in range(dims) if mask >> axis & 1) for mask in range(2**dims)]


@pytest.mark.parametrize("missing", [0, -1, slice(0, -1)])
def test_the_window_is_that_of_what_is_there_wherever_that_lies(missing: int | slice) -> None:
    """As of scans that were resampled, whose first slices lie outside what was measured."""
    array = np.random.default_rng(0).uniform(1, 500, (1, 20, 20, 8)).astype(np.float32)
    array[..., missing] = np.nan
    (case,) = cases_of({"a": Volume(array, np.eye(4))}, {}, print)
    ((low, high),) = windowed(case, Window("percentile", 0.0, 99.9)).limits
    assert low == 0 and 490 < high <= 500


def test_volumes_of_which_the_window_sees_next_to_nothing_are_left_out_with_a_note(tmp_path: Path, capsys) -> None:
    scans = write_volumes(tmp_path / "scans", 3)
    sparse = np.zeros((1, 40, 40, 20), np.float32)
    sparse[0, 3, 4:9, 5] = 900.5
    Volume(sparse, np.eye(4)).save(scans / "sparse.nii.gz")
    frames = np.stack([np.zeros((16, 16, 8)), np.random.default_rng(0).uniform(0, 9, (16, 16, 8))]).astype(np.float32)
    Volume(frames, np.eye(4), {"frames": True}).save(scans / "empty_frame.nrrd")
    options = [*arguments("plain"), "--dims", 2, "--steps", 1]
    assert run("train", scans, *options, "--output", tmp_path / "m") == 0
    assert "note: sparse.nii.gz is left out: too few of its voxels are above 0" in capsys.readouterr().err
    card = read_bundle(tmp_path / "m").card
    assert "- sparse.nii.gz is left out" in card and "empty_frame.nrrd is left out" not in card
    for path in scans.iterdir():
        path.unlink()
    Volume(sparse, np.eye(4)).save(scans / "sparse.nii.gz")
    assert run("train", scans, *options, "--output", tmp_path / "n") == 2
    assert "No volume can be used" in capsys.readouterr().err and not (tmp_path / "n.training").exists()
    # The window of CT rests on no percentile.
    assert run("train", scans, *options, "--modality", "CT", "--output", tmp_path / "n") == 0
