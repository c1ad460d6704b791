"""What keeps an adaptation honest: spoiled models are dropped, also where the noise is told wrongly; time is kept."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Generator

from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput
from MedAELib.model import Model
from MedAELib.networks import Network, build
from MedAELib.remarks import remarks
from MedAELib.tasks.run_denoise import run_denoise
from MedAELib.training import adapt as adapting
from MedAELib.training import adapt_judge, adapt_noise
from MedAELib.training.adapt import Adaptation, adapt
from MedAELib.training.adapt_judge import Marks, better
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.corruptions import magnitude_noise, projection_noise
from MedAELib.volume import Volume

LEVEL = 0.1


def scan(modality: str, shape: tuple[int, ...] = (48, 40, 24)) -> tuple[np.ndarray, np.ndarray]:
    """Generated anatomy and the same with noise, in units of the noise, and with the noise it has in CT or MR."""
    box = tuple(slice((64 - size) // 2, (64 + size) // 2) for size in shape)
    clean = torch.from_numpy(generated_volume(modality, 4, 64)[box].copy())
    if modality == "MR":
        noisy = magnitude_noise(clean, LEVEL, Generator().manual_seed(4))
    else:
        noisy = clean + LEVEL * projection_noise(clean.shape, Generator().manual_seed(4))
    return clean.numpy() / LEVEL, noisy.numpy() / LEVEL


def leaves_noise(student: Network) -> None:
    """The network takes a fifth less away."""
    for layer in (student.last.conv, student.gate.conv):
        for parameter in layer.parameters():
            parameter.data *= 0.8


def smooths(student: Network) -> None:
    """The network takes detail for noise."""
    student.gate.conv.bias.data += 0.15


def adapted_so(
    monkeypatch: pytest.MonkeyPatch, modality: str, spoil: Callable[[Network], None], told: float
) -> Adaptation:
    """What becomes of a bundled model that `learned` to be spoiled, if the noise is told wrongly by a factor."""
    calibration = adapt_noise.CALIBRATIONS[modality]
    wrong = {modality: replace(calibration, offset=calibration.offset + float(np.log(told)))}
    monkeypatch.setattr(adapt_noise, "CALIBRATIONS", wrong)
    monkeypatch.setattr(adapting, "_learn", lambda student, *_: spoil(student) or 1)
    monkeypatch.setattr(adapting, "_SAMPLE", 1)
    model, (_, noisy) = Model.load(f"{modality.lower()}-denoise"), scan(modality, (48, 40, 16))
    low = 0.0 if modality == "MR" else -1.0 / LEVEL
    return adapt(model.network, noisy - low, (0.0, 1.0), 1e4, Engine("cpu"), modality == "MR")


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize(("spoil", "told"), [(leaves_noise, 0.6), (leaves_noise, 1.0), (smooths, 1.0), (smooths, 1.15)])
def test_a_trained_model_that_was_spoiled_is_dropped_though_the_noise_is_told_wrongly(
    modality, spoil, told, monkeypatch
):
    found = adapted_so(monkeypatch, modality, spoil, told)
    assert not found.kept
    assert found.learned is not found.network


def test_the_score_is_the_error_of_the_network_on_the_scan_itself(monkeypatch):
    """The unbiased estimate against the truth, for the model and for a spoiled one."""
    clean, noisy = scan("MR", (48, 40, 24))
    monkeypatch.setattr(adapting, "_learn", lambda student, *_: leaves_noise(student) or 1)
    model = Model.load("mr-denoise")
    found = adapt(model.network, noisy, (0.0, 1.0), 1e4, Engine("cpu"), True)
    true = []
    for network in (model.network, found.learned):
        with torch.no_grad():
            said = network(torch.from_numpy(noisy)[None, None])[0, 0].numpy()
        true.append(float(np.square(said - clean)[24:40][clean[24:40] > 3].mean()))
    assert found.before == pytest.approx(true[0], abs=0.15)
    assert found.after - found.before == pytest.approx(true[1] - true[0], abs=0.08)


class Clock:
    """A clock that goes on only when something is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, judging: float, step: float) -> None:
        self.now = 100.0
        monkeypatch.setattr(adapting.time, "monotonic", lambda: self.now)
        monkeypatch.setattr(adapting, "_PATCH", 16)
        self._slow(monkeypatch, adapt_judge.Judge, "marks", judging)
        self._slow(monkeypatch, adapting, "_loss", step)

    def _slow(self, monkeypatch: pytest.MonkeyPatch, owner: object, name: str, seconds: float) -> None:
        original = getattr(owner, name)

        def slow(*arguments):
            self.now += seconds
            return original(*arguments)

        monkeypatch.setattr(owner, name, slow)


@pytest.mark.parametrize(("judging", "step"), [(0.5, 1.0), (2.0, 2.0), (6.0, 5.0)])
def test_the_time_that_was_asked_for_is_used_and_kept_however_long_judging_takes(monkeypatch, judging, step):
    clock, told = Clock(monkeypatch, judging, step), []
    network = build("denoising", 3, {"channels": 4, "blocks": 0}).eval()
    _, noisy = scan("MR", (56, 56, 24))
    found = adapt(
        network, noisy, (0.0, 1.0), 30.0, Engine("cpu"), True, lambda _, done, total: told.append(done / total)
    )
    assert found.steps > 0
    assert 30 - step - 0.2 * judging - 1 < clock.now - 100 <= 30
    assert told == sorted(told)
    assert told[-1] > 0.65


def test_where_there_is_no_time_to_learn_it_is_said_and_the_model_is_unchanged(monkeypatch):
    Clock(monkeypatch, 20.0, 1.0)
    network = build("denoising", 3, {"channels": 4, "blocks": 0}).eval()
    found = adapt(network, scan("MR")[1], (0.0, 1.0), 30.0, Engine("cpu"), True)
    assert found.steps == 0 and not found.kept and found.network is network
    assert "too short to learn anything" in remarks(found.report())[0]


def test_a_thin_scan_is_adapted_to_and_a_thinner_one_refused_with_what_is_needed(monkeypatch):
    Clock(monkeypatch, 1.0, 1.0)
    network = build("denoising", 3, {"channels": 4, "blocks": 0}).eval()
    noisy = scan("MR", (48, 48, 14))[1]
    assert adapt(network, noisy, (0.0, 1.0), 10.0, Engine("cpu"), True).steps > 0
    with pytest.raises(BadInput, match="at least 8 slices; the volume of 48 x 48 x 7 voxels is too small"):
        adapt(network, noisy[..., :7], (0.0, 1.0), 10.0, Engine("cpu"), True)
    with pytest.raises(BadInput, match="at least 48 voxels along the longest side"):
        adapt(network, noisy[:40, :40], (0.0, 1.0), 10.0, Engine("cpu"), True)


def test_a_ct_is_denoised_by_the_model_as_it_is_and_the_reason_is_told():
    voxels = (1000 * LEVEL * scan("CT", (24, 24, 8))[1]).astype(np.int16)
    volume = Volume(voxels[None], np.eye(4), {"name": "chest", "modality": "CT"})
    made = [run_denoise(volume, {"adapt": seconds}, lambda *_: None, np_empty) for seconds in (0, 5)]
    np.testing.assert_array_equal(made[0].outputs["denoised"].array, made[1].outputs["denoised"].array)
    said = [sentence for sentence in remarks(made[1].report) if "adapting" in sentence]
    assert len(said) == 1 and "Only models for MR can learn from the volume" in said[0]
    assert "adapting" not in " ".join(remarks(made[0].report))


def np_empty(name: str, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """Room for an output."""
    return np.empty(shape, dtype)


def marks(**changed: float) -> Marks:
    """Marks of six blocks of 100 voxels, some of them changed."""
    plain = {"fit": 60.0, "freedom": 30.0, "pair": 40.0, "flat": 5.0, "weak": 8.0, "voxels": 100.0, "lesions": 0.9}
    return Marks(**{name: torch.full((6,), value) for name, value in (plain | changed).items()})


@pytest.mark.parametrize(
    ("changed", "kept"),
    [
        ({}, True),
        ({"pair": 40.1}, False),
        ({"flat": 5.2}, False),
        ({"weak": 8.4}, False),  # where the signal is weak the score tells nothing
        ({"lesions": 0.88}, False),
        ({"fit": 58.0, "freedom": 31.1}, False),  # keeps noise: better only if there is less than told
        ({"fit": 61.6, "freedom": 29.0}, False),  # smooths: better only if there is no less than told
        ({"fit": float("nan")}, False),
        ({"pair": float("nan")}, False),
    ],
)
def test_it_must_be_better_at_every_level_and_nowhere_worse(changed, kept):
    assert better(marks(), marks(**({"fit": 58.0, "freedom": 29.9} | changed))) is kept
