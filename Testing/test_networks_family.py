"""What makes each network of the family the kind that it is."""

from __future__ import annotations

import inspect

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from test_networks import CASES, WHOLE, _awake

from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput, BadModel, OutOfMemory
from MedAELib.networks import NETWORKS, Given, build

KEYS = torch.tensor([[11, 0], [12, 0]])
EVERY = CASES + WHOLE


def _through_engine(network, source, tile=0):
    """The network over a volume [(c,) i, j, k], as the engine runs it."""
    result = np.zeros(source.shape, np.float32)

    def sink(core, before, *made):
        for channel, voxels in enumerate(made):
            (result[channel] if source.ndim == 4 else result)[core] = voxels

    Engine("cpu", "float32", tile).run(network, source, (0.0, 1.0), sink)
    return result


def test_every_name_of_the_table_is_tried_here():
    assert {name for name, _, _ in EVERY} == set(NETWORKS)


@pytest.mark.parametrize(("name", "dims", "arguments"), EVERY)
@torch.no_grad()
def test_a_second_run_and_a_rebuilt_network_give_the_same_bits(name, dims, arguments):
    network = _awake(name, dims, arguments)
    x = torch.randn(2, network.in_channels, *[4 * network.stride + 8] * dims)
    again = build(name, dims, arguments).eval()
    again.load_state_dict(network.state_dict())
    first = network(x)
    assert first.dtype == torch.float32
    torch.manual_seed(99)
    assert torch.equal(network(x), first)
    assert torch.equal(again(x), first)
    assert torch.equal(network.encode(x), again.encode(x))


@pytest.mark.parametrize(("name", "dims", "arguments"), [case for case in EVERY if case[0] != "denoising"])
def test_every_weight_learns_and_the_same_keys_repeat_the_same_loss(name, dims, arguments):
    network = _awake(name, dims, arguments).train()
    x = torch.randn(2, network.in_channels, *[4 * network.stride + 8] * dims)
    losses = []
    for _ in range(2):
        made, extras = network.learn(x, KEYS)
        loss = (made[:, :1] - x[:, :1]).square().mean() + sum(part.float().square().mean() for part in extras.values())
        losses.append(float(loss.detach()))
    assert losses[0] == losses[1]
    assert "code" in extras and made.shape[2:] == x.shape[2:]
    loss.backward()
    silent = {n.split(".")[0] for n, p in network.named_parameters() if p.requires_grad and p.grad is None}
    assert silent <= {"making", "reading"} if name == "conditional" else not silent


@pytest.mark.parametrize(("name", "dims", "arguments"), WHOLE)
@torch.no_grad()
def test_a_whole_only_network_says_so_and_the_engine_never_cuts_it(name, dims, arguments):
    network = _awake(name, dims, arguments)
    assert not network.tiles
    source = np.random.default_rng(0).normal(size=(20, 13, 9)).astype(np.float32)
    result = _through_engine(network, source)
    pads = [(0, -n % step) for n, step in zip(source.shape, network.strides, strict=False)]
    padded = np.pad(source, pads + [(0, 0)] * (3 - dims), mode="edge")
    x = torch.from_numpy(padded)[None, None] if dims == 3 else torch.from_numpy(padded).permute(2, 0, 1)[:, None]
    expected = network(x)
    expected = expected[0, 0] if dims == 3 else expected[:, 0].permute(1, 2, 0)
    assert np.allclose(result, expected[:20, :13, :9].numpy(), atol=1e-5)
    with pytest.raises(BadInput, match="only as a whole"):
        _through_engine(network, source, tile=8)


def test_a_volume_that_does_not_fit_a_whole_only_network_is_one_sentence(monkeypatch):
    monkeypatch.setattr("MedAELib.engine.run.free_memory", lambda device: 10_000_000)
    source = np.zeros((80, 80, 80), np.float32)
    with pytest.raises(OutOfMemory, match="cannot work in tiles") as error:
        _through_engine(_awake("recurrent", 3, {"channels": [16], "strides": [2]}), source)
    assert error.value.next_step
    network = _awake("dense", 2, {"grid": 8, "hidden": [6], "latent": 3})
    assert _through_engine(network, source).shape == source.shape  # slices are whole too when they come in parts


@pytest.mark.parametrize(("dims", "slices"), [(3, 1), (3, 2), (3, 11), (2, 7)])
@torch.no_grad()
def test_the_recurrent_network_takes_any_number_of_slices_and_passes_on_what_it_saw(dims, slices):
    network = _awake("recurrent", dims, {"channels": [4], "strides": [2]})
    x = torch.randn(1, 1, *[8] * (dims - 1), slices)
    code = network.encode(x)
    assert code.shape == (1, 4, *[4] * (dims - 1), slices)
    changed = x.clone()
    changed[..., 0] += 1
    assert network(x).shape == x.shape
    assert not torch.allclose(network(x)[..., -1], network(changed)[..., -1], atol=1e-7)


@torch.no_grad()
def test_the_sparse_network_keeps_no_more_channels_than_it_was_told():
    network = _awake("sparse", 3, {"channels": [8, 12], "strides": [2, 2], "keep": 3})
    used = (network.encode(torch.randn(1, 1, 16, 16, 16)) != 0).sum(1)
    assert int(used.max()) == 3


@torch.no_grad()
def test_the_quantised_network_codes_in_whole_numbers_that_decode_to_the_same_image():
    network = _awake("quantised", 2, {"channels": [4, 6], "strides": [2, 2], "entries": 7, "width": 3})
    x = torch.randn(2, 1, 16, 16)
    indices = network.indices(x)
    assert indices.dtype == torch.int64 and indices.shape == (2, 4, 4)
    assert int(indices.min()) >= 0 and int(indices.max()) < 7
    assert torch.equal(network.decode(network.look_up(indices)), network(x))


@torch.no_grad()
def test_a_variational_code_is_drawn_around_the_mean_in_training_only():
    for code in ("spatial", "vector"):
        network = _awake("variational", 2, {"channels": [4, 6], "code": code, "grid": 8, "latent": 3})
        x = torch.randn(2, 1, 8, 8)
        _, extras = network.learn(x, KEYS)
        _, other = network.learn(x, KEYS + 5)
        assert torch.equal(extras["mean"], network.encode(x))
        assert not torch.equal(extras["code"], extras["mean"])
        assert not torch.equal(extras["code"], other["code"])
        spread = (extras["code"] - extras["mean"]) / (0.5 * extras["log_variance"]).exp()
        assert float(spread.abs().max()) < 6


@torch.no_grad()
def test_the_noise_of_a_sample_depends_on_its_key_and_not_on_its_neighbours():
    network = _awake("variational", 2, {"channels": [4, 6], "latent": 3})
    x = torch.randn(2, 1, 8, 8)
    together = network.learn(x, KEYS)[0]
    alone = network.learn(x[1:], KEYS[1:])[0]
    assert torch.allclose(together[1:], alone, atol=1e-6)


@torch.no_grad()
def test_the_condition_changes_the_result_and_what_is_unknown_counts_as_the_mean():
    network = _awake("conditional", 3, {"channels": [4, 6], "strides": [2, 2], "fields": ["spacing", "age"]})
    network.centre.copy_(torch.tensor([0.0, 0.0, 1.0, 50.0]))
    network.spread.copy_(torch.tensor([1.0, 1.0, 1.0, 10.0]))
    x = torch.randn(1, 1, 8, 8, 8)
    young, old = (torch.tensor([[0.0, 0.0, 1.0, age]]) for age in (30.0, 70.0))
    assert not torch.allclose(network(x, young), network(x, old))
    unknown = torch.tensor([[0.0, 0.0, 1.0, float("nan")]])
    assert torch.equal(network(x, unknown), network(x))
    given = Given(network, young[0])
    source = x[0, 0].numpy()
    assert np.allclose(_through_engine(given, source), network(x, young)[0, 0].numpy(), atol=1e-5)


@torch.no_grad()
def test_a_missing_modality_is_an_absent_node_and_all_are_decoded():
    network = _awake("fusion", 3, {"channels": [4, 6], "strides": [2, 2], "modalities": 3})
    x = torch.randn(1, 3, 8, 8, 8)
    present = torch.tensor([[1.0, 0.0, 1.0]])
    expected = network(x, present)
    nonsense = x.clone()
    nonsense[:, 1] = float("nan")
    assert torch.equal(network(nonsense, present), expected)
    assert not torch.allclose(network(x), expected)
    assert expected.shape == x.shape and torch.isfinite(expected).all()
    made = _through_engine(Given(network, present[0]), x[0].numpy())
    assert np.allclose(made, expected[0].numpy(), atol=1e-5)


@torch.no_grad()
def test_the_order_of_absent_nodes_does_not_matter_for_one_modality_alone():
    network = _awake("fusion", 2, {"channels": [4], "strides": [2], "modalities": 2})
    x = torch.randn(3, 2, 8, 8)
    mixed = torch.tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    together = network(x, mixed)
    for n in range(3):
        assert torch.allclose(network(x[n : n + 1], mixed[n : n + 1]), together[n : n + 1], atol=1e-6)


@pytest.mark.parametrize("judged", ["code", "image"])
def test_the_critic_judges_and_is_no_part_of_the_model(judged):
    network = _awake("adversarial", 2, {"channels": [4, 6], "latent": 3, "judged": judged})
    critic = network.critic()
    assert not any(name.startswith("critic") for name in network.state_dict())
    x = torch.randn(2, 1, 32, 32)
    made, extras = network.learn(x, KEYS)
    real, fake = network.real_and_made(x, made, extras, KEYS)
    assert real.shape == fake.shape
    verdict = critic(fake)
    verdict = verdict[-1] if isinstance(verdict, list) else verdict
    assert verdict.shape[:2] == (2, 1)


def test_a_source_with_other_channels_than_the_network_is_refused():
    network = _awake("fusion", 3, {"channels": [4], "strides": [2], "modalities": 2})
    for source in (np.zeros((8, 8, 8), np.float32), np.zeros((3, 8, 8, 8), np.float32)):
        with pytest.raises(BadModel):
            _through_engine(network, source)


_JUNK = st.one_of(
    st.none(), st.booleans(), st.floats(), st.integers(-(10**12), 10**12), st.text(max_size=9),
    st.lists(st.integers(-2, 10**9), max_size=7), st.lists(st.text(max_size=3), max_size=3), st.just({"a": 1}),
)  # fmt: skip


@settings(max_examples=80)
@given(
    name=st.sampled_from(sorted(NETWORKS)),
    dims=st.sampled_from([2, 3]),
    junk=st.lists(_JUNK, min_size=1, max_size=3),
    data=st.data(),
)
def test_junk_arguments_of_a_hostile_model_are_refused_in_one_sentence(name, dims, junk, data):
    known = sorted(set(inspect.signature(NETWORKS[name]).parameters) - {"dims"})
    arguments = {data.draw(st.sampled_from(known)): value for value in junk}
    try:
        network = build(name, dims, arguments)
    except BadModel as error:
        assert "\n" not in str(error) and len(str(error)) < 250
    else:
        assert sum(parameter.numel() for parameter in network.parameters()) < 10**8
