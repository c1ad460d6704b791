"""Every network: sizes, exact tiles or an honest refusal, the same bits again, refusal of odd arguments."""

from __future__ import annotations

import pytest
import torch

from MedAELib.errors import BadModel
from MedAELib.networks import NETWORKS, Network, build
from MedAELib.networks.denoising import haar, inverse_haar

CASES = [
    ("denoising", 3, {"channels": 6, "blocks": 2}),
    ("denoising", 3, {"channels": 6, "blocks": 3}),
    ("denoising", 2, {"channels": 6, "blocks": 4}),
    ("denoising", 3, {"channels": 4, "blocks": 0}),
    ("denoising", 3, {"channels": 4, "blocks": 1, "deep_channels": 6, "deep_blocks": 1}),
    ("denoising", 2, {"channels": 4, "blocks": 2, "deep_channels": 6, "deep_blocks": 2}),
    ("denoising", 3, {"channels": 4, "blocks": 1, "deep_channels": 6, "deep_blocks": 1}),
    ("denoising", 2, {"channels": 4, "blocks": 2, "deep_channels": 6, "deep_blocks": 3}),
    ("plain", 3, {"channels": [4, 6], "strides": [2, 2]}),
    ("plain", 2, {"channels": [4, 6, 8], "strides": [2, 1, 2]}),
    ("plain", 3, {"channels": [4], "strides": [1], "in_channels": 2, "out_channels": 2}),
    ("sparse", 3, {"channels": [4, 6], "strides": [2, 2], "keep": 2}),
    ("sparse", 2, {"channels": [4, 6], "strides": [1, 2]}),
    ("variational", 3, {"channels": [4, 6], "strides": [2, 2], "latent": 3}),
    ("variational", 2, {"channels": [4, 6], "strides": [2, 2], "latent": 3}),
    ("quantised", 3, {"channels": [4, 6], "strides": [2, 2], "entries": 5, "width": 2}),
    ("quantised", 2, {"channels": [4, 6], "strides": [2, 2], "entries": 9, "width": 3}),
    ("conditional", 3, {"channels": [4, 6], "strides": [2, 2]}),
    ("conditional", 2, {"channels": [4, 6], "strides": [2, 1], "fields": ["spacing", "age"]}),
    ("adversarial", 3, {"channels": [4, 6], "strides": [2, 2], "latent": 3}),
    ("adversarial", 2, {"channels": [4, 6], "strides": [2, 2], "judged": "image"}),
    ("fusion", 3, {"channels": [4, 6], "strides": [2, 2]}),
    ("fusion", 2, {"channels": [4, 6], "strides": [2, 2], "modalities": 3}),
    ("translating", 3, {"channels": [4, 6], "strides": [2]}),
    ("translating", 2, {"channels": [4, 6, 8, 8], "strides": [1, 2, 2]}),
    ("ensemble", 3, {"network": "plain", "arguments": {"channels": [4, 6], "strides": [2, 2]}, "members": 2}),
    ("ensemble", 2, {"network": "fusion", "members": 2, "arguments": {
        "channels": [4], "strides": [2], "modalities": 2,
    }}),
    ("normative", 3, {"channels": 4, "levels": 1}),
    ("normative", 2, {"channels": 4, "levels": 2}),
]
WHOLE = [
    ("dense", 2, {"grid": 8, "hidden": [6], "latent": 3}),
    ("variational", 2, {"code": "vector", "grid": 8, "latent": 3, "channels": [4, 6]}),
    ("variational", 3, {"code": "vector", "grid": 8, "latent": 3, "channels": [4, 6]}),
    ("recurrent", 3, {"channels": [4, 6], "strides": [2, 2]}),
    ("recurrent", 2, {"channels": [4, 6], "strides": [2, 2]}),
]


def _awake(name: str, dims: int, arguments: dict) -> Network:
    """The network with random weights everywhere, so that every voxel in reach really counts."""
    torch.manual_seed(0)
    network = build(name, dims, arguments).eval()
    for parameter in network.parameters():
        parameter.data = torch.randn_like(parameter) / max(parameter[0].numel(), 1) ** 0.5
    return network


def _channels(network: Network, arguments: dict) -> tuple[int, int]:
    return network.in_channels, arguments.get("out_channels", network.in_channels)


@pytest.mark.parametrize(("name", "dims", "arguments"), CASES)
@torch.no_grad()
def test_every_tile_equals_the_whole_volume(name, dims, arguments):
    network = _awake(name, dims, arguments)
    stride, halo = network.stride, network.halo
    assert halo % stride == 0
    size = 2 * halo + 8 * stride
    given, made = _channels(network, arguments)
    x = torch.randn(1, given, *[size] * dims)
    whole = network(x)
    assert network.tiles
    assert whole.shape == (1, made, *x.shape[2:])
    scale = float(whole.abs().max())
    for start, stop in [(0, 2 * stride), (halo // stride * stride, halo + 3 * stride), (size - stride, size)]:
        source = slice(max(start - halo, 0), min(stop + halo, size))
        tile = network(x[(..., *[source] * dims)])
        core = slice(start - source.start, stop - source.start)
        difference = tile[(..., *[core] * dims)] - whole[(..., *[slice(start, stop)] * dims)]
        assert float(difference.abs().max()) < 1e-5 * scale


@pytest.mark.parametrize(("name", "dims", "arguments"), CASES)
def test_no_voxel_beyond_the_halo_is_looked_at(name, dims, arguments):
    network = _awake(name, dims, arguments)
    size = 2 * network.halo + 2 * network.stride
    x = torch.randn(1, network.in_channels, size, *[network.stride * 4] * (dims - 1), requires_grad=True)
    if name == "quantised":  # the choice of an entry has no gradient; what it is chosen from has
        network.forward = lambda x: network.decode(network._directions(x))
    first = network.halo  # one cell of the stride's grid in the middle
    cell = network(x).narrow(2, first, network.stride)
    (gradient,) = torch.autograd.grad(cell.square().sum(), x)
    seen = gradient.abs().amax(dim=(1, *range(3, dims + 2)))[0].nonzero().flatten()
    assert int(seen.min()) >= first - network.halo
    assert int(seen.max()) < first + network.stride + network.halo
    assert int(seen.min()) <= first - network.halo / 4  # and the halo is not wasteful


@pytest.mark.parametrize(("name", "dims", "arguments"), CASES)
@torch.no_grad()
def test_forward_is_decode_of_encode_and_repeats_itself(name, dims, arguments):
    network = _awake(name, dims, arguments)
    x = torch.randn(2, network.in_channels, *[4 * network.stride] * dims)
    code = network.encode(x)
    cell = {"denoising": 2, "normative": 2, "translating": arguments.get("strides", [1])[0]}.get(name, network.stride)
    assert code.shape[2:] == tuple(size // cell for size in x.shape[2:])
    decoded = network.decode(code)
    if name == "denoising":
        decoded = network.denoised(x, decoded)
    assert torch.equal(network(x), x + decoded[:, :1] if name == "normative" else decoded)
    assert network.dims == dims


@torch.no_grad()
def test_an_untrained_denoiser_changes_nothing():
    x = torch.randn(1, 1, 8, 8, 8)
    assert torch.equal(build("denoising", 3, {"channels": 8, "blocks": 2})(x), x)


@pytest.mark.parametrize("size", [(2, 2, 2), (2, 40, 4), (6, 2, 30)])
@torch.no_grad()
def test_volumes_thinner_than_the_reach_are_no_special_case(size):
    for name, arguments in [("denoising", {"channels": 4, "blocks": 1}), ("plain", {"channels": [4], "strides": [2]})]:
        y = _awake(name, 3, arguments)(torch.randn(1, 1, *size))
        assert y.shape[2:] == size
        assert torch.isfinite(y).all()


@torch.no_grad()
def test_a_constant_volume_gives_no_structure():
    network = _awake("denoising", 3, {"channels": 8, "blocks": 1})
    x = torch.full((1, 1, *[2 * network.halo + 8] * 3), 1.5)
    inside = (slice(None),) * 2 + (slice(network.halo, -network.halo, 2),) * 3  # the same voxel of every cell
    assert float(network(x)[inside].std()) < 1e-5


@torch.no_grad()
def test_the_haar_transform_keeps_energy_and_has_its_inverse():
    for dims in (2, 3):
        x = torch.randn(2, 1, *[6] * dims)
        cells = haar(x, dims)
        assert cells.shape == (2, 2**dims, *[3] * dims)
        assert float(cells.square().sum()) == pytest.approx(float(x.square().sum()), rel=1e-5)
        assert torch.allclose(inverse_haar(cells, dims), x, atol=1e-6)
        assert torch.allclose(haar(torch.ones_like(x), dims)[:, 1:], torch.zeros(()), atol=1e-6)


@torch.no_grad()
def test_autocast_does_not_round_the_scan():
    network = build("denoising", 3, {"channels": 8, "blocks": 2})
    x = torch.full((1, 1, 8, 8, 8), 1.2345678)
    with torch.autocast("cpu", torch.bfloat16):
        y = network(x)
    assert y.dtype == torch.float32
    assert torch.equal(y, x)


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("os.system", {}),
        ("denoising", {"channels": 10**9}),
        ("denoising", {"channels": True}),
        ("denoising", {"channels": 8.0}),
        ("denoising", {"blocks": -1}),
        ("denoising", {"deep_channels": 10**6}),
        ("denoising", {"deep_blocks": "4"}),
        ("denoising", {"bias": True}),
        ("denoising", {"_target_": "os.system"}),
        ("denoising", {"dims": 3}),
        ("plain", {"channels": []}),
        ("plain", {"channels": [8] * 50, "strides": [2] * 50}),
        ("plain", {"channels": "88", "strides": [2, 2]}),
        ("plain", {"channels": [8, 8], "strides": [2]}),
        ("plain", {"channels": [8], "strides": [3]}),
        ("plain", {"in_channels": 10**6}),
        ("plain", {7: 7}),
        ("dense", {}),
        ("sparse", {"keep": 33}),
        ("sparse", {"keep": True}),
        ("variational", {"code": "complex"}),
        ("variational", {"latent": 0}),
        ("variational", {"code": "vector", "grid": 30}),
        ("variational", {"code": "vector", "grid": 128, "channels": [256], "strides": [1], "latent": 512}),
        ("quantised", {"entries": 1}),
        ("quantised", {"width": 1e3}),
        ("conditional", {"fields": "spacing"}),
        ("conditional", {"fields": []}),
        ("conditional", {"fields": ["age", "age"]}),
        ("conditional", {"fields": ["x" * 65]}),
        ("conditional", {"fields": [7]}),
        ("recurrent", {"channels": [4], "strides": [4]}),
        ("adversarial", {"judged": "jury"}),
        ("adversarial", {"latent": 10**6}),
        ("fusion", {"modalities": 9}),
    ],
)
def test_odd_arguments_are_refused_in_one_sentence(name, arguments):
    with pytest.raises(BadModel) as error:
        build(name, 3, arguments)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) < 250


@pytest.mark.parametrize("arguments", [{"grid": 129}, {"hidden": [10**6]}, {"hidden": []}, {"latent": "64"}])
def test_a_huge_or_odd_fully_connected_network_is_refused(arguments):
    with pytest.raises(BadModel):
        build("dense", 2, arguments)


@pytest.mark.parametrize("dims", [0, 1, 4, True, "3", None])
def test_only_two_or_three_dimensions_are_built(dims):
    for name in NETWORKS:
        with pytest.raises(BadModel):
            build(name, dims, {})
