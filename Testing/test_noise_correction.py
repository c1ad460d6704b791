"""The correction of the noise estimate: bounded, the same in any unit and order of axes; learned, kept and resumed."""

from __future__ import annotations

import functools
import json

import numpy as np
import pytest
import torch
from torch import Generator

from MedAELib.noise import look, noise_unit
from MedAELib.noise_correction import FILE, LEAST, MOST, Weights, correction, read, write
from MedAELib.training import noise_unit as training
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.corruptions import magnitude_noise
from MedAELib.training.patches import Source

_generated = functools.cache(generated_volume)


def _fine_anatomy(noise: float, seed: int = 95_000) -> np.ndarray:
    """A magnitude image with noise of a body that fills it, with organs and texture."""
    clean = torch.from_numpy(0.2 + _generated("MR", seed, 64)[8:, 8:, 8:56])
    return magnitude_noise(clean, noise, Generator().manual_seed(seed)).numpy()


@pytest.mark.parametrize("level", [0.02, 0.04])
def test_generated_noise_is_told_better_than_by_the_quietest_blocks_alone(level):
    errors = []
    for seed in range(95_000, 95_008):
        scan = _fine_anatomy(level, seed)
        errors.append(np.log([look(scan, False).plain / level, noise_unit(scan, False) / level]))
    plain, corrected = np.abs(errors).mean(axis=0)
    assert corrected < 0.06 and corrected < plain + 0.01


@pytest.mark.parametrize("correlated", [False, True])
def test_the_statistics_depend_neither_on_units_nor_on_the_order_of_equal_axes(correlated):
    scan = _fine_anatomy(0.05)[:48, :40]
    statistics = look(scan, correlated).statistics
    assert statistics is not None and np.isfinite(statistics).all()
    for changed in (scan * 7e5, scan.transpose(1, 0, 2)):
        assert look(changed, correlated).statistics == pytest.approx(statistics, abs=2e-3)
    if correlated:  # HU begin anywhere
        assert look(scan.astype(np.float64) + 1024, True).statistics == pytest.approx(statistics, abs=2e-3)
    else:
        assert look(scan.transpose(2, 0, 1), False).statistics == pytest.approx(statistics, abs=2e-3)


def test_small_flat_and_empty_volumes_keep_the_plain_estimate():
    noise = np.random.default_rng(0).normal(100, 5, (30, 30, 30))
    for array in (noise[:, :, :5], noise[:7, :7, :7], np.full((20, 20, 20), 3.0)):
        found = look(array, False)
        assert found.statistics is None
        assert noise_unit(array, False) == found.plain > 0


@pytest.mark.parametrize("correlated", [False, True])
def test_no_statistics_move_the_estimate_out_of_its_bounds(correlated):
    length = len(read(FILE)["CT" if correlated else "MR"].middle)
    for seed in range(20):
        wild = np.random.default_rng(seed).normal(0, 10.0 ** (seed % 5), length)
        assert LEAST <= correction(wild, correlated) <= MOST


def test_the_weights_in_use_fit_the_statistics_of_today():
    weights = read(FILE)
    assert set(weights) == {"MR", "CT"}
    for modality, part in weights.items():
        statistics = look(_fine_anatomy(0.05), modality == "CT").statistics
        assert statistics is not None and part.middle.shape == part.spread.shape == statistics.shape
    assert FILE.stat().st_size < 200_000


def test_weights_come_back_as_they_were_written_and_the_other_modality_stays(tmp_path):
    random = np.random.default_rng(1)
    shapes = ((5,), (5,), (3, 5), (3,), (3,))
    weights = Weights(*(random.normal(1, 0.1, shape) for shape in shapes), 0.5)
    write(tmp_path / "weights.json", {"MR": weights})
    write(tmp_path / "weights.json", {**read(tmp_path / "weights.json"), "CT": weights})
    kept = read(tmp_path / "weights.json")
    assert set(kept) == set(json.loads((tmp_path / "weights.json").read_text())) == {"MR", "CT"}
    statistics = random.normal(1, 0.1, 5)
    for part in kept.values():
        assert part.log(statistics) == pytest.approx(weights.log(statistics), abs=5e-3)
    assert read(tmp_path / "absent.json") == {}


@pytest.fixture
def few_sources(monkeypatch) -> list[Source]:
    sources = [
        Source(f"generated {n}", torch.from_numpy(generated_volume("MR", n, 32)), generated=True) for n in range(5)
    ]
    monkeypatch.setattr(training, "training_sources", lambda *_: sources)
    monkeypatch.setattr(training, "_CHUNK", 10)
    monkeypatch.setattr(training, "_STEPS", 20)
    return sources


def test_scans_with_known_noise_repeat_with_their_seed(few_sources):
    first, again = (list(training.scans(few_sources, "MR", range(3, 6))) for _ in range(2))
    assert [row[:2] for row in first] == [row[:2] for row in again]
    assert all(np.isfinite(log) and abs(log) < 2 for _, log, _ in first)


def test_the_training_goes_on_where_it_was_and_writes_weights_that_can_be_used(few_sources, tmp_path, capsys):
    file = tmp_path / "weights.json"
    command = ["--modality", "MR", "--output", str(tmp_path), "--file", str(file)]
    assert training.main([*command, "--scans", "10"]) == 0
    made = (tmp_path / "scans 0.npz").stat().st_mtime_ns
    assert training.main([*command, "--scans", "20"]) == 0
    assert (tmp_path / "scans 0.npz").stat().st_mtime_ns == made and (tmp_path / "scans 10.npz").is_file()
    assert "generated anatomy" in capsys.readouterr().out
    statistics = look(_fine_anatomy(0.05), False).statistics
    assert statistics is not None and np.isfinite(read(file)["MR"].log(statistics))


@pytest.mark.slow
def test_learning_finds_what_the_statistics_say(monkeypatch):
    monkeypatch.setattr(training, "_STEPS", 500)  # of 2000: the error is a third of what is allowed at most
    random = np.random.default_rng(0)
    rows = random.normal(0, 1, (600, 8))
    logs = 0.2 * rows[:, 0] - 0.1 * np.tanh(rows[:, 1])
    errors = training.left_out(np.arange(600.0), rows, logs)
    assert np.abs(errors).mean() < 0.03 < 0.3 * np.abs(logs).mean() * 2
