"""Adapting to one scan: better where the model was bad, dropped where it is not better, and the model unharmed."""

from __future__ import annotations

import copy
import math

import numpy as np
import pytest
import torch
from torch import Generator

from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput, BadModel, Cancelled
from MedAELib.networks import build
from MedAELib.training import adapt as adapting
from MedAELib.training.adapt import adapt
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.correlation import autocorrelation, band_limited, coloured_noise
from MedAELib.training.corruptions import low_passed, magnitude_noise, projection_noise

LEVEL = 0.1


def _network() -> torch.nn.Module:
    """A network that finds no noise yet, but knows its level."""
    torch.manual_seed(0)
    return build("denoising", 3, {"channels": 8, "blocks": 2}).eval()


def _scan(seed: int = 4) -> tuple[np.ndarray, np.ndarray]:
    clean = torch.from_numpy(generated_volume("MR", seed, 64))
    return clean.numpy(), magnitude_noise(clean, LEVEL, Generator().manual_seed(seed)).numpy()


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch):
    """A clock that allows a number of steps, whatever the machine."""

    monkeypatch.setattr(adapting, "_PATCH", 24)
    monkeypatch.setattr(adapting, "_SCORED", 6)
    monkeypatch.setattr(adapting, "_LEARNING_RATE", 5e-3)

    def allow(count: int) -> None:
        ticks = iter(range(10**6))
        monkeypatch.setattr(adapting.time, "monotonic", lambda: next(ticks) / count)

    return allow


def test_a_model_that_finds_no_noise_learns_from_the_scan_alone(steps):
    clean, noisy = _scan()
    network = _network()
    untouched = copy.deepcopy(network.state_dict())
    steps(40)
    found = adapt(network, noisy, (0.0, LEVEL), 1.0, Engine("cpu", "float32"), magnitude=True)
    assert found.kept and found.steps > 12
    assert found.after < found.before
    with torch.no_grad():
        adapted = found.network(torch.from_numpy(noisy)[None, None] / LEVEL)[0, 0].numpy() * LEVEL
    tissue = clean > 0.3
    assert np.mean((adapted - clean)[tissue] ** 2) < 0.8 * np.mean((noisy - clean)[tissue] ** 2)
    for name, value in network.state_dict().items():
        assert torch.equal(value, untouched[name])
    assert found.report()["adapted"] is True


def test_what_was_learned_is_dropped_when_the_held_out_score_is_not_better(steps, monkeypatch):
    _, noisy = _scan()
    network = _network()

    def spoil(student, *_):
        for parameter in student.parameters():
            parameter.data += 0.3 * torch.randn_like(parameter)
        return 1

    monkeypatch.setattr(adapting, "_learn", spoil)
    found = adapt(network, noisy, (0.0, LEVEL), 1.0, Engine("cpu", "float32"), magnitude=True)
    assert not found.kept
    assert found.network is network
    assert found.report()["adapted"] is False


def test_it_can_be_cancelled_at_every_step_and_repeats_with_the_same_number_of_steps(steps):
    _, noisy = _scan()
    calls = []

    def cancel(stage: str, done: int, total: int) -> None:
        calls.append(done / total)
        if len(calls) == 3:
            raise Cancelled

    steps(40)
    with pytest.raises(Cancelled):
        adapt(_network(), noisy, (0.0, LEVEL), 1.0, Engine("cpu", "float32"), True, cancel)
    assert calls == sorted(calls)
    scores = []
    for _ in range(2):
        steps(6)
        scores.append(adapt(_network(), noisy, (0.0, LEVEL), 1.0, Engine("cpu", "float32"), True).after)
    assert scores[0] == scores[1]


def test_small_volumes_and_other_models_are_refused_in_a_sentence():
    with pytest.raises(BadInput, match="too small"):
        adapt(_network(), np.zeros((20, 20, 8), np.float32), (0, 1), 1.0, Engine("cpu"), True)
    with pytest.raises(BadModel, match="adapt"):
        adapt(build("plain", 3, {}), np.zeros((64, 64, 64), np.float32), (0, 1), 1.0, Engine("cpu"), True)


@pytest.mark.parametrize("limit", [1.0, 0.6])
def test_the_band_of_an_mri_is_found_beside_fine_anatomy(limit):
    clean = torch.from_numpy(generated_volume("MR", 3, 64))
    scan = magnitude_noise(clean, 0.05, Generator().manual_seed(0), cutoffs=(1, limit, 1))
    scan = clean + low_passed(scan - clean, (1, limit, 1))
    scan = low_passed(scan, (1, limit, 1)) if limit < 1 else scan
    found = band_limited(scan[None])
    neighbours = [float(found[5, 4, 4]), float(found[4, 5, 4]), float(found[4, 4, 5])]
    assert neighbours[0] == neighbours[2] == 0
    assert neighbours[1] == pytest.approx(math.sin(math.pi * limit) / (math.pi * limit), abs=0.06)


def test_correlation_is_measured_where_it_is_flat_and_made_anew():
    noise = projection_noise((64, 64, 32), Generator().manual_seed(1), 0.5)[None]
    signal = torch.zeros_like(noise)
    signal[:, 32:] = 50  # an edge does not count
    residual = noise + torch.where(signal > 0, torch.rand_like(noise), 0)
    measured = autocorrelation(noise, signal)
    assert measured is not None
    made = coloured_noise((2, 1, 64, 64, 32), measured, Generator().manual_seed(2))
    assert float(made.std()) == pytest.approx(1, rel=0.01)
    for axis, size in ((2, 63), (4, 31)):
        lag = (made.narrow(axis, 0, size) * made.narrow(axis, 1, size)).mean()
        truth = noise[None] / noise.std()
        expected = (truth.narrow(axis, 0, size) * truth.narrow(axis, 1, size)).mean()
        assert float(lag) == pytest.approx(float(expected), abs=0.08)
    assert autocorrelation(residual, 100 * torch.rand_like(noise)) is None
