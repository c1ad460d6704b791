"""Residual blocks: what is written over saves memory, and changes no result and nothing that is somebody else's."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from MedAELib.networks import build
from MedAELib.networks.residual import Residual, plus

WIDE = (1, 24, 30, 40, 40)  # more numbers than one piece


def _numbers(shape: tuple[int, ...], kind: torch.dtype, seed: int, last: bool) -> Tensor:
    made = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(kind)
    return made.contiguous(memory_format=torch.channels_last_3d) if last else made


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(st.integers(1, 2), st.integers(1, 5), *[st.integers(1, 9)] * 3) | st.just(WIDE),
    kinds=st.tuples(*[st.sampled_from([torch.float32, torch.bfloat16, torch.float16])] * 2),
    last=st.booleans(),
    overwrites=st.booleans(),
)
def test_a_sum_is_that_of_torch_in_every_type_and_layout(
    shape: tuple[int, ...], kinds: tuple[torch.dtype, torch.dtype], last: bool, overwrites: bool
) -> None:
    x, change = _numbers(shape, kinds[0], 1, last), _numbers(shape, kinds[1], 2, last)
    before, other, wanted = x.clone(), change.clone(), x + change
    with torch.no_grad():
        made = plus(x, change, overwrites)
    assert made.dtype == wanted.dtype
    assert torch.equal(made, wanted)
    assert torch.equal(change, other)
    if not overwrites:
        assert torch.equal(x, before)


def test_a_block_that_overwrites_gives_what_another_gives() -> None:
    torch.manual_seed(3)
    careful, saving = Residual(3, 8), Residual(3, 8, overwrites=True)
    saving.load_state_dict(careful.state_dict())
    x = _numbers((1, 8, 12, 10, 8), torch.float32, 4, True)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        wanted, given = careful(x), x.clone()
        assert torch.equal(wanted, x + careful.conv(x))
        assert torch.equal(saving(given), wanted)
        assert torch.equal(given, wanted)  # the memory of the input is used
    before = x.clone()
    assert torch.equal(saving(x), x + saving.conv(x))  # in training nothing is written over
    assert torch.equal(x, before)


@pytest.mark.parametrize("name", ["denoising", "normative"])
@pytest.mark.parametrize("dims", [2, 3])
def test_nothing_that_a_caller_holds_is_written_over(name: str, dims: int) -> None:
    torch.manual_seed(5)
    network = build(name, dims, {"channels": 4, "blocks": 2}).eval()
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    x = torch.randn((1, 1) + (16,) * dims)
    held, learned = x.clone(), network.decode(network.encode(x))
    with torch.no_grad():
        code = network.encode(x)
        kept, first = code.clone(), network.decode(code)
        assert torch.equal(code, kept)
        assert torch.equal(network.decode(code), first)
        network(x)
    assert torch.equal(x, held)
    assert torch.equal(first, learned)  # with gradients everything takes new memory
