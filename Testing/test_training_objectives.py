"""Objectives, corruptions and self-supervised pairs: each term is least where it should be, and nothing is random."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Generator, nn

from MedAELib.networks import build
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.faults import CORRUPTIONS, damaged
from MedAELib.training.held_out import decibels
from MedAELib.training.objectives import TERMS, added_up, critic_error
from MedAELib.training.self_supervised import blind_spot, neighbours, repeats

KEYS = torch.tensor([[3, 0], [4, 0]])
POINTWISE = ["mse", "l1", "charbonnier", "cross_entropy", "ssim", "gradient"]


def _random(seed: int) -> Generator:
    return Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def clean() -> torch.Tensor:
    return torch.from_numpy(generated_volume("MR", 3, 32))


@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("shape", [(2, 1, 12, 12), (1, 1, 12, 8, 9), (1, 1, 4, 4, 1)])
def test_an_image_term_is_least_at_the_target_and_pulls_towards_it(name, shape):
    generator = _random(0)
    target = torch.rand(shape, generator=generator)
    off = (target + 0.2 * torch.randn(shape, generator=generator)).requires_grad_()
    at_target, away = TERMS[name](target, target, {}), TERMS[name](off, target, {})
    assert float(at_target) < float(away.detach())
    if name != "cross_entropy":
        assert float(at_target) == pytest.approx(0, abs=1e-6)
    (slope,) = torch.autograd.grad(away, off)
    nearer = off.detach() - 0.01 * slope / slope.norm()
    assert float(TERMS[name](nearer, target, {})) < float(away.detach())


def test_known_values_of_the_terms():
    zero, half = torch.zeros(1, 1, 4, 4), torch.full((1, 1, 4, 4), 0.5)
    assert float(TERMS["mse"](half, zero, {})) == pytest.approx(0.25)
    assert float(TERMS["l1"](half, zero, {})) == pytest.approx(0.5)
    assert float(TERMS["charbonnier"](half, zero, {})) == pytest.approx(0.499, abs=1e-5)
    assert float(TERMS["gradient"](half, zero, {})) == 0
    normal = {"mean": torch.zeros(1, 2), "log_variance": torch.zeros(1, 2)}
    assert float(TERMS["kl"](half, zero, normal)) == 0
    shifted = {"mean": torch.ones(1, 2), "log_variance": torch.zeros(1, 2)}
    assert float(TERMS["kl"](half, zero, shifted)) == pytest.approx(1 / 16)
    assert float(TERMS["sparsity"](half, zero, {"code": torch.tensor([-1.0, 0, 3])})) == pytest.approx(4 / 3)
    same = torch.ones(1, 2, 3)
    assert float(TERMS["commitment"](half, zero, {"direction": same, "entry": same})) == 0
    assert float(TERMS["commitment"](half, zero, {"direction": same, "entry": 0 * same})) == pytest.approx(1.25)
    assert float(TERMS["adversarial"](half, zero, {"verdict": torch.ones(1, 1, 4)})) == pytest.approx(0)
    assert float(TERMS["adversarial"](half, zero, {"verdict": torch.zeros(1, 1, 4)})) == pytest.approx(1)
    assert decibels(half, zero) == pytest.approx(20 * math.log10(2))
    assert math.isfinite(decibels(half, half))


@pytest.mark.parametrize("name", TERMS)
def test_a_weighted_sum_of_terms_has_a_finite_gradient(name):
    torch.manual_seed(0)
    kind = {"kl": "variational", "commitment": "quantised", "adversarial": "adversarial"}.get(name, "plain")
    network = build(kind, 2, {"channels": [4, 6]})
    critic = network.critic() if kind == "adversarial" else None
    x = torch.rand(2, 1, 16, 16)
    loss = added_up({"mse": 1.0, name: 0.1}, warmup=2, critic=critic)(network, (x, x, KEYS))
    loss.backward()
    slopes = [p.grad for p in network.parameters() if p.grad is not None]
    assert slopes and all(bool(torch.isfinite(slope).all()) for slope in slopes)


def test_terms_that_need_it_are_warmed_up_over_the_steps():
    torch.manual_seed(0)
    network = build("variational", 2, {"channels": [4, 6]})
    x = torch.rand(2, 1, 16, 16)
    rising = []
    for step in (0, 4, 9, 50):
        keys = torch.tensor([[3, step], [4, step]])
        rising.append(float(added_up({"kl": 1.0}, warmup=10)(network, (x, x, keys)).detach()))
    assert rising[0] == pytest.approx(rising[2] / 10) and rising[1] == pytest.approx(rising[2] / 2)
    assert rising[2] == rising[3]


def test_where_the_target_is_no_number_nothing_is_asked():
    network = build("plain", 2, {"channels": [4, 6]})
    x = torch.rand(2, 1, 16, 16)
    objective = added_up({"mse": 1.0})
    target = x.clone()
    target[:, :, 8:] = torch.nan
    other = x.clone()
    other[:, :, 8:] = torch.nan
    loss = objective(network, (x, target, KEYS))
    assert bool(torch.isfinite(loss)) and float(loss.detach()) > 0
    half = (network(x) - x)[:, :, :8].square().mean()
    assert float(loss.detach()) == pytest.approx(float(half.detach()), rel=1e-5)


@pytest.mark.parametrize("judged", ["code", "image"])
def test_a_critic_learns_to_tell_real_from_made(judged):
    torch.manual_seed(0)
    network = build("adversarial", 2, {"channels": [4, 6], "latent": 2, "judged": judged})
    critic = network.critic()
    optimizer = torch.optim.Adam(critic.parameters(), lr=3e-3)
    x = torch.rand(2, 1, 32, 32)
    errors = []
    for step in range(30):
        optimizer.zero_grad()
        error = critic_error(critic, network, (x, x, KEYS + step))
        error.backward()
        optimizer.step()
        errors.append(float(error.detach()))
    assert errors[-1] < 0.8 * errors[0]
    assert all(parameter.grad is None for parameter in network.parameters())


@pytest.mark.parametrize("name", CORRUPTIONS)
@settings(max_examples=12)
@given(seed=st.integers(0, 2**31), size=st.tuples(*[st.integers(1, 20)] * 3))
def test_a_corruption_keeps_the_size_repeats_itself_and_leaves_its_input_alone(name, seed, size):
    clean = torch.rand(size, generator=_random(1))
    before = clean.clone()
    once, again = (CORRUPTIONS[name](clean, _random(seed)) for _ in range(2))
    assert once.shape == clean.shape and once.dtype == torch.float32
    assert torch.equal(once, again) and torch.equal(clean, before)
    assert bool(torch.isfinite(once).all())


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_a_corruption_does_damage_and_not_too_much(name, clean):
    errors = [float((CORRUPTIONS[name](clean, _random(seed)) - clean).square().mean().sqrt()) for seed in range(12)]
    assert 0.003 < float(np.median(errors)) < 0.5


def test_corruptions_add_up_in_order(clean):
    both = damaged(clean, ["holes", "gaussian_noise"], _random(5))
    generator = _random(5)
    expected = CORRUPTIONS["gaussian_noise"](CORRUPTIONS["holes"](clean, generator), generator)
    assert torch.equal(both, expected)
    assert torch.equal(damaged(clean, [], _random(0)), clean)


def test_thick_slices_keep_the_mean_and_lose_detail(clean):
    thick = CORRUPTIONS["thick_slices"](clean, _random(4))
    assert float(thick.mean()) == pytest.approx(float(clean.mean()), abs=0.01)
    assert float(thick.var()) < float(clean.var())


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), size=st.integers(4, 60), axis=st.integers(0, 2))
def test_thick_slices_leave_the_anatomy_where_it_is(seed, size, axis):
    ramp = torch.arange(float(size))
    shape = [1, 1, 1]
    shape[axis] = size
    thick = CORRUPTIONS["thick_slices"](ramp.reshape(shape), _random(seed)).flatten()
    assert torch.allclose(thick[3:-3], ramp[3:-3], atol=1e-4)
    assert bool((thick.diff() >= 0).all())


@settings(max_examples=40)
@given(seed=st.integers(0, 2**31), size=st.tuples(*[st.integers(1, 9)] * 3))
def test_blind_spots_see_a_neighbour_inside_and_never_themselves(seed, size):
    numbers = torch.arange(float(math.prod(size))).reshape(size)
    seen, target = blind_spot(numbers, _random(seed))
    for spot in target.isfinite().nonzero().tolist():
        other = (numbers == seen[tuple(spot)]).nonzero()[0]
        apart = (other - torch.tensor(spot)).abs().max()
        assert 1 <= int(apart) <= 2 or numbers.numel() == 1


def test_blind_spots_are_hidden_from_the_network_and_are_all_it_is_asked_for(clean):
    noisy = torch.randn(16, 16, 8, generator=_random(0))  # no two values are the same
    seen, target = blind_spot(noisy, _random(1))
    blind = target.isfinite()
    assert 0.005 < float(blind.float().mean()) < 0.08
    assert torch.equal(target[blind], noisy[blind])
    assert torch.equal(seen[~blind], noisy[~blind])
    assert not bool((seen[blind] == noisy[blind]).any())
    lone, asked = blind_spot(torch.ones(1, 1, 1), _random(1))
    assert lone.shape == asked.shape == (1, 1, 1)


@pytest.mark.parametrize("size", [(8, 8, 3), (9, 7, 1)])
def test_neighbours_are_two_different_voxels_of_the_same_cell(size):
    noisy = torch.randn(size, generator=_random(0))
    first, second = neighbours(noisy, _random(1))
    assert first.shape == second.shape == (size[0] // 2, size[1] // 2, size[2])
    for i, j, k in np.ndindex(*first.shape):
        cell = noisy[2 * i : 2 * i + 2, 2 * j : 2 * j + 2, k].flatten().tolist()
        assert float(first[i, j, k]) in cell and float(second[i, j, k]) in cell
    assert not bool((first == second).any())


def test_repeated_scans_give_pairs_of_different_ones():
    scans = torch.arange(5.0)[:, None, None, None].expand(5, 2, 2, 2)
    pairs = {tuple(float(part.mean()) for part in repeats(scans, _random(seed))) for seed in range(40)}
    assert len(pairs) > 10 and all(seen != target for seen, target in pairs)
    with pytest.raises(ValueError):
        repeats(scans[:1], _random(0))


def test_blind_spots_teach_a_network_to_denoise_without_clean_targets():
    torch.manual_seed(0)
    generator = _random(7)
    network = nn.Sequential(nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), nn.Conv2d(8, 1, 3, padding=1))
    network.learn = lambda x, keys: (network(x), {})
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-2)
    truth = torch.linspace(0, 1, 32)[:, None, None].expand(32, 32, 1)
    objective = added_up({"mse": 1.0})
    for _ in range(150):
        seen, target = blind_spot(truth + 0.2 * torch.randn(32, 32, 1, generator=generator), generator)
        optimizer.zero_grad()
        objective(network, (seen[None, None, ..., 0], target[None, None, ..., 0], KEYS[:1])).backward()
        optimizer.step()
    noisy = truth + 0.2 * torch.randn(32, 32, 1, generator=generator)
    with torch.no_grad():
        made = network(noisy[None, None, ..., 0])[0, 0]
    assert float((made - truth[..., 0]).square().mean()) < 0.5 * float((noisy - truth).square().mean())
