"""A denoised CT fitted to the scan again: lost means and contrasts come back, noise does not, and tiles stay exact."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import small_model
from torch import Generator, Tensor

from MedAELib import Volume
from MedAELib.bundle import Window
from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.networks import Mirrored
from MedAELib.networks.network import Network
from MedAELib.networks.refitted import Refitted, refitted
from MedAELib.tasks import denoise as task
from MedAELib.tasks.denoise import completed, denoise
from MedAELib.tasks.seen import see
from MedAELib.training.projection import scan_noise

WINDOW = Window("correlated noise", 0.0, 1.0)


def noise_model(**arguments) -> Model:
    model = small_model(**arguments)
    return dataclasses.replace(model, spec=dataclasses.replace(model.spec, window=WINDOW))


def anatomy(size: int = 64) -> Tensor:
    """Fat around muscle with contrast agent in it, in HU / 1000."""
    i, j, _ = torch.meshgrid(*[torch.linspace(-1, 1, size)] * 3, indexing="ij")
    clean = torch.full((size,) * 3, -0.1)
    clean[i**2 + 2 * j**2 < 0.5] = 0.05
    clean[(i - 0.2) ** 2 + j**2 < 0.04] = 0.15
    return clean


def noise(clean: Tensor) -> Tensor:
    made = scan_noise(clean, 1.5, Generator().manual_seed(0), views=120)
    return made / made.std()


class Shrinking(Network):
    """A denoiser that knows the truth, and takes a fifth of every contrast away."""

    dims, stride, halo = 3, 1, 0

    def __init__(self, clean: Tensor) -> None:
        super().__init__()
        self.clean = clean

    def forward(self, x: Tensor) -> Tensor:
        return 0.8 * self.clean[None, None]


def test_lost_contrasts_come_back_without_the_noise():
    clean = anatomy() / 0.04
    noisy = clean + noise(anatomy())
    shrunk = Shrinking(clean)
    before, after = shrunk(noisy[None, None])[0, 0], Refitted(shrunk, -math.inf)(noisy[None, None])[0, 0]
    tissues = [clean == value for value in clean.unique()]
    assert len(tissues) == 3
    for tissue in tissues:
        lost = abs(float((before - clean)[tissue].mean()))
        assert abs(float((after - clean)[tissue].mean())) < 0.5 * lost
    assert float((after - clean).square().mean()) < 0.3 * float((before - clean).square().mean())
    assert float((after - clean).square().mean()) < 0.05 * float((noisy - clean).square().mean())


def test_what_is_flat_stays_as_it_is():
    flat = 10 + 0.1 * torch.sin(torch.arange(32.0)).expand(1, 1, 32, 32, 32)
    noisy = flat + torch.randn(flat.shape, generator=Generator().manual_seed(0))
    assert torch.equal(refitted(noisy, flat), flat)


def test_what_lost_nothing_hardly_changes():
    clean = anatomy() / 0.04
    noisy = clean + noise(anatomy())
    changed = refitted(noisy[None, None], clean[None, None])[0, 0] - clean
    assert float(changed.abs().max()) < 0.15 and float(changed.square().mean().sqrt()) < 0.05
    same = refitted(clean[None, None], clean[None, None])[0, 0] - clean
    assert float(same.abs().max()) < 0.05


def test_where_a_scan_is_cut_off_nothing_is_shifted():
    """The mean of air is too high there: not a contrast that was lost."""
    clean = anatomy()
    clean[:24] = -1.0
    cut = (clean + 0.08 * noise(clean)).clamp(min=-1.024)
    x, truth = (voxels[None, None] / 0.08 for voxels in (cut, clean))
    changed = (refitted(x, truth, float(x.min())) - truth)[0, 0]
    assert float(changed[:24].abs().max()) == 0
    assert abs(float(changed[24:].mean())) < 0.02 and abs(float(changed[24:32].mean())) < 0.05
    unaware = (refitted(x, truth) - truth)[0, 0]
    assert abs(float(unaware[24:32].mean())) > 0.05


def test_a_scan_that_is_cut_off_is_seen_as_such_and_its_air_stays(monkeypatch):
    clean = 1000 * anatomy(48)
    clean[:16] = -1000
    cut = (clean + 80 * noise(clean / 1000)).clamp(min=-1024).numpy()
    model = Model.load("ct-denoise")
    scans = [Volume((cut + added)[None].astype(np.int16), np.eye(4), {"modality": "CT"}) for added in (0, 1024)]
    assert [see(volume, model).cut_off for volume in scans] == [-1024, 0]
    noisy = scans[0].like(scans[0].array + np.random.default_rng(0).normal(0, 9, cut.shape))
    assert see(noisy, model).cut_off == -math.inf
    after = denoise(scans[0], model, passes=1).array[0]
    monkeypatch.setattr(task, "completed", lambda network, *_: network)
    before = denoise(scans[0], model, passes=1).array[0]
    assert np.array_equal(after[:14], before[:14])
    tissue = clean[24:].numpy()
    assert abs(np.mean(after[24:] - tissue)) < 0.5 * abs(np.mean(before[24:] - tissue))


def test_further_channels_stay_as_they_are():
    class Two(Network):
        dims, stride, halo = 3, 1, 0

        def forward(self, x: Tensor) -> Tensor:
            return torch.cat([0.5 * x, 2 * x], 1)

    x = torch.randn((1, 1, 8, 12, 8), generator=Generator().manual_seed(0))
    made = Refitted(Two(), -math.inf)(x)
    assert torch.equal(made[:, 1:], 2 * x) and not torch.equal(made[:, :1], Two()(x)[:, :1])


@settings(max_examples=12)
@given(
    shape=st.tuples(*[st.integers(1, 40)] * 3), tile=st.integers(5, 27), passes=st.sampled_from([1, 4]),
    deep=st.sampled_from([{}, {"deep_channels": 4, "deep_blocks": 1}]), seed=st.integers(0, 9),
)  # fmt: skip
def test_any_size_and_tile_agree(shape, tile, passes, deep, seed):
    array = np.random.default_rng(seed).normal(100, 300, (1, *shape)).astype(np.float32)
    array[:, : shape[0] // 2] += 900
    volume = Volume(array, np.eye(4), {"name": "scan", "modality": "CT"})
    model = noise_model(channels=4, blocks=1, **deep)
    expected = denoise(volume, model, engine=Engine("cpu", "float32"), passes=passes).array
    tiled = denoise(volume, model, engine=Engine("cpu", "float32", tile), passes=passes).array
    assert np.abs(tiled - expected).max() <= 1e-4 * 300


def test_only_ct_in_units_of_its_noise_is_refitted():
    def refits(model: Model) -> bool:
        return isinstance(completed(Mirrored(model.network, 2), model), Refitted)

    assert refits(noise_model()) and refits(Model.load("ct-denoise"))
    assert not refits(small_model()) and not refits(noise_model(dims=2)) and not refits(Model.load("mr-denoise"))


@pytest.mark.parametrize("level", [40.0, 80.0])
def test_the_bundled_model_shifts_tissue_less_and_errs_less(level, monkeypatch):
    clean = 1000 * anatomy(48)
    noisy = (clean + level * noise(clean / 1000)).numpy()
    volume = Volume(noisy[None].astype(np.float32), np.diag([1.5, 1.5, 1.5, 1.0]), {"name": "scan", "modality": "CT"})
    model, fat = Model.load("ct-denoise"), clean == clean.min()

    def error() -> Tensor:
        return torch.from_numpy(np.array(denoise(volume, model, passes=1).array[0])) - clean

    after = error()
    monkeypatch.setattr(task, "completed", lambda network, *_: network)
    before = error()
    assert abs(float(after[fat].mean())) < 0.5 * abs(float(before[fat].mean()))
    assert float(after.square().mean()) < float(before.square().mean())
