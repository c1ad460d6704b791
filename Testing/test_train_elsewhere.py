"""Training on another computer: scans travel in one small file, and processes make the batches for a fast card."""

from __future__ import annotations

import multiprocessing
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from volumes import write_volumes

from MedAELib import Volume
from MedAELib.errors import BadInput
from MedAELib.networks import build
from MedAELib.training import denoise
from MedAELib.training.cohort import clean_volumes
from MedAELib.training.feed import prefetched
from MedAELib.training.loop import Schedule, train
from MedAELib.training.packed import pack, packed_volumes
from MedAELib.training.patches import Source

needs_fork = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no copies of a process")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("scans")
    write_volumes(made / "heads", 3, "MR")
    write_volumes(made / "trunks", 2, "CT")
    return made


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory) -> Path:
    made = tmp_path_factory.mktemp("packed") / "scans.zip"
    pack(folder, {"heads/*": "MR", "trunks/subject0*": "CT", "trunks/subject1*": "CT"}, made)
    return made


@pytest.mark.parametrize(
    ("pattern", "modality", "bound"), [("heads/*", "MR", 0.0045), ("trunks/subject1*", "CT", 0.002)]
)
def test_packed_scans_are_the_same_but_for_a_small_error(folder, packed, pattern, modality, bound):
    known = list(clean_volumes(folder, pattern, modality))
    found = list(clean_volumes(packed, pattern, modality))
    assert [volume.name for volume, _ in found] == [volume.name for volume, _ in known]
    for (volume, voxels), (expected, clean) in zip(found, known, strict=True):
        np.testing.assert_allclose(volume.affine, expected.affine, atol=1e-5)
        error = float(np.abs(voxels - clean).max())
        assert 0 < error <= bound + 1e-6  # the window of MRI is measured on what is there


def test_whole_numbers_of_a_small_range_are_no_further_off_than_promised(tmp_path):
    generator = np.random.default_rng(2)
    (tmp_path / "heads").mkdir()
    for name, largest in (("narrow.scan.nii.gz", 80), ("wide.nii.gz", 900)):
        array = generator.integers(0, largest, (20, 22, 16)).astype(np.int16)
        Volume(array[None], np.eye(4)).save(tmp_path / "heads" / name)
    pack(tmp_path, {"heads/*": "MR"}, tmp_path / "scans.zip")
    found = list(packed_volumes(tmp_path / "scans.zip", "heads/*"))
    assert [volume.name for volume in found] == ["narrow.scan", "wide"]
    for volume, largest in zip(found, (80, 900), strict=True):
        known = Volume.load(tmp_path / "heads" / f"{volume.name}.nii.gz")
        error = np.abs(volume.array.astype(float) - known.array).max()
        assert error <= 0.002 * largest


def test_a_pattern_that_nothing_fits_is_named(folder, packed, tmp_path):
    with pytest.raises(BadInput, match=r"knees/\*"):
        pack(folder, {"knees/*": "MR"}, tmp_path / "none.zip")
    assert not list(tmp_path.iterdir())
    with pytest.raises(BadInput, match=r"knees/\*"):
        list(clean_volumes(packed, "knees/*", "MR"))


def test_a_training_by_minutes_that_is_resumed_goes_on_from_its_last_step(tmp_path, monkeypatch):
    scan = torch.rand(48, 48, 48, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(denoise, "training_sources", lambda *given: [Source("scan", scan)])
    monkeypatch.setattr(denoise, "validation_volume", lambda *given: scan)
    monkeypatch.setattr(denoise, "validation", lambda *given: lambda network: {})
    monkeypatch.setattr(denoise, "_TIMED", 1)
    command = ["--modality", "MR", "--data", str(tmp_path), "--output", str(tmp_path / "out"), "--threads", "1"]
    command += ["--channels", "2", "--blocks", "0", "--deep-channels", "0", "--voxels", "1", "--resume"]
    assert denoise.main([*command, "--minutes", "0"]) == 2  # there is nothing to resume
    assert denoise.main([*command[:-1], "--steps", "5"]) == 0
    assert denoise.main([*command, "--minutes", "0"]) == 0
    kept = torch.load(tmp_path / "out" / "last.pt", weights_only=True)
    assert kept["step"] == kept["schedule"]["steps"] == 6  # at least one step more


def _numbered(step: int) -> tuple[torch.Tensor, ...]:
    return torch.full((2,), float(step)), torch.rand(3, generator=torch.Generator().manual_seed(step))


@needs_fork
def test_processes_make_the_batches_that_a_thread_makes_in_order():
    with prefetched(_numbered, 3, 20) as batches:
        by_thread = list(batches)
    with prefetched(_numbered, 3, 20, processes=2) as batches:
        by_processes = list(batches)
    assert len(by_thread) == len(by_processes) == 17
    for one, other in zip(by_thread, by_processes, strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


@needs_fork
def test_no_process_is_left_when_a_training_ends_early():
    with prefetched(_numbered, 0, 1000, processes=2) as batches:
        next(batches)
        assert len(multiprocessing.active_children()) == 2
    assert not multiprocessing.active_children()


def test_feeders_are_refused_where_a_process_cannot_be_copied(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(multiprocessing, "get_all_start_methods", lambda: ["spawn"])
    command = ["--modality", "MR", "--data", str(tmp_path), "--output", str(tmp_path / "out"), "--feeders", "2"]
    assert denoise.main(command) == 2
    assert "--feeders" in capsys.readouterr().err


@pytest.mark.parametrize(("first", "end"), [(3, 20), (3, 5), (4, 4)])
def test_threads_make_the_batches_that_one_makes_in_order(first: int, end: int):
    with prefetched(_numbered, first, end) as batches:
        by_one = list(batches)
    with prefetched(_numbered, first, end, threads=4) as batches:
        by_four = list(batches)
    assert [float(parts[0][0]) for parts in by_four] == list(range(first, end))
    for one, other in zip(by_one, by_four, strict=True):
        assert all(torch.equal(mine, theirs) for mine, theirs in zip(one, other, strict=True))


@needs_fork
def test_a_training_fed_by_processes_ends_in_the_same_weights(tmp_path):
    def batch(step: int) -> tuple[torch.Tensor, ...]:
        x = torch.rand(1, 1, 8, 8, 8, generator=torch.Generator().manual_seed(step))
        return x, x.roll(1, 2)

    def error(network: torch.nn.Module, parts: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return (network(parts[0]) - parts[1]).square().mean()

    made = []
    for feeders in (0, 2):
        torch.manual_seed(0)
        network = build("denoising", 3, {"channels": 4, "blocks": 2})
        trained, _ = train(network, batch, error, Schedule(steps=6), tmp_path / str(feeders), feeders=feeders)
        made.append(trained.state_dict())
    assert all(torch.equal(made[0][name], made[1][name]) for name in made[0])
