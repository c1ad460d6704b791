"""Further looks at a denoised magnitude image: groups of similar blocks, exact tiles, gates, and what they gain."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import MR_WINDOW, small_model
from torch import Generator, Tensor

from MedAELib import Volume
from MedAELib.bundle import Window
from MedAELib.engine.run import Engine
from MedAELib.errors import Cancelled
from MedAELib.model import Model
from MedAELib.networks.mirrored import PASSES, Mirrored
from MedAELib.networks.network import Network
from MedAELib.networks.regrouped import EDGE, GROUP, SEARCH, Regrouped, rician, similar, whiteness
from MedAELib.tasks.denoise import completed, denoise
from MedAELib.training.corruptions import magnitude_noise


class Smoothed(Network):
    """A plain denoiser: the mean of the neighbours."""

    dims, stride, halo = 3, 4, 4

    def forward(self, x: Tensor) -> Tensor:
        return torch.nn.functional.avg_pool3d(x, 3, 1, 1, count_include_pad=False)


class Knowing(Smoothed):
    """What knows the truth."""

    def __init__(self, clean: Tensor) -> None:
        super().__init__()
        self.clean = clean

    def forward(self, x: Tensor) -> Tensor:
        return self.clean[tuple(slice(size) for size in x.shape[2:])][None, None]


def tissue(size: int = 32) -> Tensor:
    """Smooth tissue with sharp edges, in units of the noise."""
    i, j, k = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 3, indexing="ij")
    clean = 15 + 3 * torch.sin(2 * i) * torch.cos(1.5 * j)
    clean[i**2 + 2 * j**2 + k**2 < 0.4] += 12
    clean[(i - 0.3) ** 2 + j**2 + (k + 0.4) ** 2 < 0.1] -= 8
    return clean


def measured(clean: Tensor, **noise) -> Tensor:
    return magnitude_noise(clean, 1.0, Generator().manual_seed(0), **noise)[None, None]


def one(x: Tensor, denoised: Tensor) -> Tensor:
    return torch.ones_like(x)


def white_model(**options) -> Model:
    """A small MR model that sees scans in units of their noise, as the bundled one does."""
    model = small_model(modality="MR", **options)
    return dataclasses.replace(model, spec=dataclasses.replace(model.spec, window=Window("white noise", 0.0, 1.0)))


def scan(shape: tuple[int, ...], seed: int = 0) -> Volume:
    array = np.random.default_rng(seed).normal(300, 60, shape).clip(0).astype(np.float32)
    return Volume(array, np.eye(4), {"name": "scan", "modality": "MR"})


def error(image: Tensor, clean: Tensor) -> float:
    return float((image[0, 0] - clean).square().mean())


@torch.no_grad()
def test_smooth_tissue_with_sharp_edges_comes_nearer_to_the_truth_also_as_the_mean_over_tissue():
    clean = tissue()
    x = measured(clean)
    network = Model.load("mr-denoise").network
    before, after = network(x), Regrouped(network, one, 0)(x)
    assert error(after, clean) < 0.85 * error(before, clean)
    assert abs(float((after[0, 0] - clean).mean())) < abs(float((before[0, 0] - clean).mean())) + 0.01


@torch.no_grad()
def test_structure_that_the_network_missed_comes_back():
    clean = tissue()
    x = measured(clean)
    smooth = torch.nn.functional.avg_pool3d(clean[None, None], 3, 1, 1, count_include_pad=False)[0, 0]
    assert error(Regrouped(Knowing(smooth), one, 0)(x), clean) < 0.2 * error(smooth[None, None], clean)


@torch.no_grad()
def test_noise_that_was_interpolated_is_left_to_the_network():
    clean = tissue()
    x = measured(clean, cutoffs=(0.5, 0.5, 1.0))
    assert torch.equal(Regrouped(Knowing(clean), one, 0)(x)[0, 0], clean)
    white, coloured = (whiteness(image - clean) for image in (measured(clean), x))
    assert float(white.quantile(0.05)) > 0.85 and float(coloured.quantile(0.95)) < 0.3


@pytest.mark.parametrize(("contrast", "kept"), [(0.9, 0.999), (2.0, 0.85), (4.0, 0.85)])
@torch.no_grad()
def test_lesions_in_flat_tissue_are_kept_and_the_faintest_left_alone(contrast, kept):
    i, j, k = torch.meshgrid(*[torch.arange(32.0)] * 3, indexing="ij")
    lesion = (2.5 + 0.5 - ((i - 15) ** 2 + (j - 14) ** 2 + (k - 17) ** 2).sqrt()).clamp(0, 1)
    clean = 20 + contrast * lesion
    after = Regrouped(Knowing(clean), one, 0)(measured(clean))[0, 0]
    assert float(((after - 20) * lesion).sum()) >= kept * contrast * float(lesion.square().sum())
    assert contrast > 1 or torch.equal(after, clean)


@torch.no_grad()
def test_where_no_noise_is_nothing_changes_and_further_channels_stay():
    class Two(Smoothed):
        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([super().forward(x), x], 1)

    x = measured(tissue(16))
    assert torch.equal(Regrouped(Two(), lambda x, made: torch.zeros_like(x), 0)(x), Two()(x))
    assert torch.equal(Regrouped(Two(), one, 0)(x)[:, 1:], x)


@torch.no_grad()
def test_a_group_is_the_block_itself_and_those_most_like_it():
    volume = torch.rand((EDGE + EDGE // 2 + 2 * SEARCH,) * 3, generator=Generator().manual_seed(0))
    inside = slice(SEARCH, SEARCH + 4)
    volume[inside, inside, 1 + SEARCH : 5 + SEARCH] = volume[inside, inside, inside].clone()  # nearly the same, shifted
    volume[:] = torch.arange(len(volume)).float()[:, None, None] + 0.01 * volume  # and along i all is unlike
    (group,) = similar(volume)
    corners = np.array(np.unravel_index(group.numpy(), volume.shape)).T - SEARCH
    assert len(group) == GROUP == len(set(group.tolist())) and corners[0].tolist() == [0, 0, 0]
    assert (np.abs(corners) <= SEARCH).all()
    assert (corners[:25, 0] == 0).all() and (corners[25:, 0] != 0).all()  # there are 25 within the plane


@settings(max_examples=12)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3), tile=st.integers(5, 27), passes=st.sampled_from([1, 4]),
    deep=st.sampled_from([{}, {"deep_channels": 4, "deep_blocks": 1}]), seed=st.integers(0, 9),
)  # fmt: skip
def test_any_size_and_tile_agree(shape, tile, passes, deep, seed):
    model, volume = white_model(channels=4, blocks=1, **deep), scan((1, *shape), seed)
    expected = denoise(volume, model, engine=Engine("cpu", "float32"), passes=passes).array
    tiled = denoise(volume, model, engine=Engine("cpu", "float32", tile), passes=passes).array
    assert np.abs(tiled - expected).max() <= 1e-4 * 300


def test_the_bias_and_variance_of_a_magnitude_are_those_of_rices_distribution():
    for signal in (0.0, 0.7, 2.0, 6.0, 29.0, 59.0, 61.0, 300.0):
        drawn = magnitude_noise(torch.full((100, 100, 100), signal), 2.0, Generator().manual_seed(1)).double()
        bias, variance = rician(torch.tensor(signal), torch.tensor(2.0))
        assert float(bias) == pytest.approx(float(drawn.mean()) - signal, abs=0.01)
        assert float(variance) == pytest.approx(float(drawn.var()), rel=0.01)


def test_only_magnitudes_in_units_of_white_noise_are_looked_at_twice():
    def looks_again(model: Model) -> bool:
        return isinstance(completed(model.network, model), Regrouped)

    white = white_model()
    assert looks_again(white)
    assert all(isinstance(completed(Mirrored(white.network, passes), white), Regrouped) for passes in PASSES)
    assert not looks_again(white_model(dims=2)) and not looks_again(small_model(modality="CT"))
    assert not looks_again(dataclasses.replace(white, spec=dataclasses.replace(white.spec, window=MR_WINDOW)))


def test_a_further_look_can_be_cancelled_while_it_looks():
    clean = 20 + 10 * (torch.arange(48) // 3 % 2).float().expand(48, 48, 48)
    network = Regrouped(Knowing(clean), one, 0)
    seen: list[int] = []

    def stop(done: int, total: int) -> None:
        seen.append(done)
        if len(seen) == 3:  # of 1728 groups, some hundreds at once
            raise Cancelled("Cancelled.")

    with pytest.raises(Cancelled):
        Engine("cpu", "float32").run(network, measured(clean)[0, 0].numpy(), (0.0, 1.0), pytest.fail, stop)


def test_progress_goes_on_evenly_while_it_looks():
    clean = 20 + 10 * (torch.arange(48) // 3 % 2).float().expand(48, 48, 48)
    network, seen = Regrouped(Knowing(clean), one, 0), [0]
    Engine("cpu", "float32").run(
        network, measured(clean)[0, 0].numpy(), (0.0, 1.0), lambda *_: None, lambda done, total: seen.append(done)
    )
    steps = np.diff(seen) / clean.numel()
    assert len(steps) >= 8 and seen[-1] == clean.numel()
    assert (steps > 0).all() and steps.max() < 0.2
