"""Publishing a trained denoiser: what becomes of its weights."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from MedAELib.errors import BadInput
from MedAELib.model import Model
from MedAELib.networks import build
from MedAELib.training.publish import main, published


@pytest.fixture
def training(tmp_path: Path) -> Path:
    """A folder with a training's last.pt, and the weights that it began with as start.safetensors."""
    network = build("denoising", 3, {"channels": 4, "blocks": 2, "deep_channels": 4, "deep_blocks": 1})
    before = {name: torch.full_like(value, 1.0) for name, value in network.state_dict().items()}
    after = {name: torch.full_like(value, 3.0) for name, value in network.state_dict().items()}
    save_file(before, tmp_path / "start.safetensors")
    torch.save({"averaged": after, "step": 7}, tmp_path / "last.pt")
    return tmp_path


@pytest.mark.parametrize(("share", "value"), [(0.0, 1.0), (0.25, 1.5), (1.0, 3.0)])
def test_a_share_of_the_weights_is_the_trainings(training: Path, share: float, value: float) -> None:
    published(training, "CT", training / "model", None, "", training / "start.safetensors", share)
    weights = Model.load(training / "model").network.state_dict()
    assert all((found == value).all() for found in weights.values())


def test_without_a_start_all_of_the_weights_are_the_trainings(training: Path, capsys: pytest.CaptureFixture) -> None:
    options = ["--modality", "CT", "--training", str(training), "--output", str(training / "model")]
    assert main(options) == 0 and "SHA-256" in capsys.readouterr().out
    model = Model.load(training / "model")
    assert all((found == 3).all() for found in model.network.state_dict().values())
    assert model.bundle is not None and "Not measured yet." in model.bundle.card


@pytest.mark.parametrize(("device", "told"), [("cpu", "on a CPU."), ("cuda", "on a CUDA card.")])
def test_the_card_says_what_it_was_trained_on(training: Path, device: str, told: str) -> None:
    kept = torch.load(training / "last.pt", weights_only=True)
    torch.save({**kept, "device": device}, training / "last.pt")
    assert told in _card_of(training)


def test_a_training_of_an_earlier_version_was_on_a_cpu(training: Path) -> None:
    assert "--steps 7" in _card_of(training) and "on a CPU." in _card_of(training)


def _card_of(training: Path) -> str:
    published(training, "CT", training / "model", None, "")
    bundle = Model.load(training / "model").bundle
    assert bundle is not None
    return bundle.card


@pytest.mark.parametrize("smaller", [{"channels": 2}, {"blocks": 1}])
def test_weights_are_not_mixed_with_those_of_a_smaller_network(training: Path, smaller: dict[str, int]) -> None:
    arguments = {"channels": 4, "blocks": 2, "deep_channels": 4, "deep_blocks": 1} | smaller
    save_file(build("denoising", 3, arguments).state_dict(), training / "start.safetensors")
    with pytest.raises(BadInput, match="smaller"):
        published(training, "CT", training / "model", None, "", training / "start.safetensors", 0.5)
