"""The training loop: it learns, resumes exactly, keeps the last good weights; the command refuses a missing folder."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Generator, nn

from MedAELib.errors import BadInput, InternalFault
from MedAELib.networks import build
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.begin import begin_with
from MedAELib.training.corruptions import magnitude_noise
from MedAELib.training.denoise import denoising_error, main
from MedAELib.training.loop import Schedule, train
from MedAELib.training.objectives import lost_contrast, relative_error

SMALL = {"channels": 8, "blocks": 1}


@pytest.fixture(scope="module")
def anatomy() -> torch.Tensor:
    return torch.from_numpy(generated_volume("MR", 2, 48))


def _batches(anatomy):
    def batch(step):
        generator = Generator().manual_seed(step)
        corner = torch.randint(0, 24, (3,), generator=generator).tolist()
        clean = anatomy[tuple(slice(start, start + 24) for start in corner)]
        noisy = magnitude_noise(clean, 0.1, generator)
        noisy, clean = noisy[None, None] / 0.1, clean[None, None] / 0.1
        return noisy, clean, torch.zeros((1, 1, 12, 12, 12)), torch.zeros_like(clean)

    return batch


def _network(seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    return build("denoising", 3, SMALL)


def test_the_loss_falls_and_the_averaged_network_denoises(anatomy, tmp_path):
    schedule = Schedule(steps=120, warmup=5, learning_rate=5e-3, averaging=0.9, validate_every=20)
    network, history = train(_network(), _batches(anatomy), denoising_error, schedule, tmp_path)
    losses = [row["loss"] for row in history]
    assert losses[-1] < losses[0] - 0.08
    noisy, clean, *_ = _batches(anatomy)(1000)
    with torch.no_grad():
        assert float((network(noisy) - clean).square().mean()) < 0.75 * float((noisy - clean).square().mean())
    assert json.loads((tmp_path / "history.json").read_text()) == history


def test_a_resumed_training_ends_with_exactly_the_weights_of_an_unbroken_one(anatomy, tmp_path):
    schedule = Schedule(steps=12, warmup=3, checkpoint_every=5, validate_every=4)
    whole, unbroken = train(_network(), _batches(anatomy), denoising_error, schedule, tmp_path / "whole")
    train(_network(), _batches(anatomy), denoising_error, schedule, tmp_path / "broken", stop_after=7)
    resumed, history = train(
        _network(seed=9), _batches(anatomy), denoising_error, schedule, tmp_path / "broken", resume=True
    )
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)
    assert [row["loss"] for row in history] == [row["loss"] for row in unbroken]


def test_a_training_killed_between_checkpoints_repeats_the_lost_steps_exactly(anatomy, tmp_path):
    schedule = Schedule(steps=8, warmup=2, checkpoint_every=3)

    def killed_at_five(step):
        if step == 5:
            raise KeyboardInterrupt
        return _batches(anatomy)(step)

    whole, _ = train(_network(), _batches(anatomy), denoising_error, schedule, tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        train(_network(), killed_at_five, denoising_error, schedule, tmp_path / "killed")
    resumed, _ = train(_network(), _batches(anatomy), denoising_error, schedule, tmp_path / "killed", resume=True)
    for one, other in zip(whole.state_dict().values(), resumed.state_dict().values(), strict=True):
        assert torch.equal(one, other)


def test_a_diverging_training_stops_and_keeps_its_last_good_weights(anatomy, tmp_path):
    def poisoned(step):
        noisy, *others = _batches(anatomy)(step)
        return noisy * (float("nan") if step >= 4 else 1), *others

    schedule = Schedule(steps=40, checkpoint_every=2)
    with pytest.raises(InternalFault, match="diverged") as told:
        train(_network(), poisoned, denoising_error, schedule, tmp_path)
    assert "last good weights" in told.value.next_step
    kept = torch.load(tmp_path / "last.pt", weights_only=True)
    assert all(torch.isfinite(value).all() for value in kept["network"].values())
    assert all(torch.isfinite(value).all() for value in kept["averaged"].values())


def test_resuming_what_is_not_there_or_not_the_same_network_is_refused(anatomy, tmp_path):
    schedule = Schedule(steps=1)
    with pytest.raises(BadInput, match="no training to resume"):
        train(_network(), _batches(anatomy), denoising_error, schedule, tmp_path, resume=True)
    train(_network(), _batches(anatomy), denoising_error, schedule, tmp_path)
    with pytest.raises(BadInput, match="another network"):
        other = build("denoising", 3, {"channels": 9, "blocks": 1})
        train(other, _batches(anatomy), denoising_error, schedule, tmp_path, resume=True)


def test_the_learning_rate_rises_then_falls_to_nothing():
    schedule = Schedule(steps=100, warmup=10, learning_rate=1.0)
    rates = [schedule.rate(step) for step in range(101)]
    assert rates[0] == pytest.approx(0.1, rel=0.01)
    assert max(rates) == max(rates[8:14])
    assert rates[12:] == sorted(rates[12:], reverse=True)
    assert rates[100] == pytest.approx(0, abs=1e-9)


def test_every_noise_level_counts_the_same_in_the_objective():
    target = torch.zeros(2, 1, 8, 8, 8)
    given = torch.stack([torch.full((1, 8, 8, 8), 500.0), torch.full((1, 8, 8, 8), 50.0)])
    halved_loud, halved_quiet = given.clone(), given.clone()
    halved_loud[0] /= 2
    halved_quiet[1] /= 2
    losses = [float(relative_error(better, target, given)) for better in (given, halved_loud, halved_quiet)]
    assert losses[1] == pytest.approx(losses[2], rel=0.01) == pytest.approx(0.75 * losses[0], rel=0.01)


def test_lesions_that_are_lost_cost_what_they_lose_however_few_voxels_they_fill():
    lesions = torch.zeros(2, 1, 16, 16, 16)
    lesions[0, 0, 2:8, 2:8, 2:8], lesions[1, 0, 4:8, 4:12, 4:12] = 3.0, -5.0
    target = 20 + lesions
    faded = target - 0.25 * lesions
    whole, lost = (float(lost_contrast(output, target, lesions)) for output in (target, faded))
    assert whole == 0
    assert 0.2 < lost < 0.25
    assert float(lost_contrast(target + 1, target, torch.zeros_like(lesions))) == 0
    louder = target + 0.25 * lesions  # exaggerated contrast is as wrong
    assert float(lost_contrast(louder, target, lesions)) == pytest.approx(lost, rel=1e-4)


def test_a_missing_data_folder_is_one_sentence_and_exit_status_two(tmp_path, capsys):
    status = main(["--modality", "MR", "--data", str(tmp_path), "--output", str(tmp_path / "out"), "--steps", "1"])
    assert status == 2
    error = capsys.readouterr().err
    assert "holds no" in error and "Traceback" not in error
    assert not (tmp_path / "out").exists()


def _trained(network: nn.Module) -> nn.Module:
    """A network none of whose weights is at its beginning any more."""
    for parameter in network.parameters():
        parameter.data = torch.randn_like(parameter) / max(parameter[0].numel(), 1) ** 0.5
    return network


def test_a_network_with_more_channels_begins_where_another_training_ended_and_can_use_them(tmp_path):
    torch.manual_seed(3)
    arguments = {"channels": 8, "blocks": 3, "deep_channels": 6, "deep_blocks": 2}
    narrow, path = _trained(build("denoising", 3, arguments)), tmp_path / "last.pt"
    torch.save({"averaged": narrow.state_dict()}, path)
    wide = build("denoising", 3, arguments | {"channels": 12, "deep_channels": 8})
    begin_with(wide, path)
    x = torch.randn(1, 1, 16, 16, 16)
    with torch.no_grad():
        for made, known in zip(wide.denoised_and_level(x), narrow.denoised_and_level(x), strict=True):
            torch.testing.assert_close(made, known, rtol=1e-4, atol=1e-4)
    denoised, level = wide.denoised_and_level(x)
    ((denoised - 1).square().mean() + (level - 1).square().mean()).backward()
    for name, parameter in wide.named_parameters():  # what is new is heard of, so it can be learned
        wider = name.startswith(("encoder", "decoder")) and parameter.ndim > 1
        assert bool(((parameter.grad[:, 8:] if wider else parameter.grad) != 0).any()), name


def test_a_deeper_network_begins_where_another_training_ended_and_a_stranger_is_refused(tmp_path):
    narrow, path = _trained(_network()), tmp_path / "last.pt"
    torch.save({"averaged": narrow.state_dict()}, path)
    wide = build("denoising", 3, {"channels": 8, "blocks": 3, "deep_channels": 6, "deep_blocks": 1})
    begin_with(wide, path)
    x = torch.randn(1, 1, 12, 12, 12)
    with torch.no_grad():
        assert torch.equal(wide(x), narrow(x))
    torch.save({"averaged": wide.state_dict()}, path)
    deeper = build("denoising", 3, {"channels": 8, "blocks": 4, "deep_channels": 6, "deep_blocks": 3})
    begin_with(deeper, path)
    with torch.no_grad():
        assert torch.equal(deeper(x), narrow(x))
    for stranger in ({"channels": 4, "blocks": 3}, {"channels": 8, "blocks": 2}, {"channels": 8, "blocks": 0}):
        with pytest.raises(BadInput):
            begin_with(build("denoising", 3, stranger), path)
