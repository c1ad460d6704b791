"""Where anatomy ends in k-space is found without a clean scan, and a denoiser's result is low-passed there, exactly."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from MedAELib.engine.run import Engine
from MedAELib.model import Model
from MedAELib.networks.band_limited import REACH, BandLimited
from MedAELib.networks.network import Network
from MedAELib.quality import psnr
from MedAELib.tasks.denoise import denoise, scan_band
from MedAELib.tasks.empty_band import WHOLE, anatomy_band
from MedAELib.tasks.run_denoise import run_denoise
from MedAELib.training.anatomy import generated_volume
from MedAELib.training.corruptions import low_passed, magnitude_noise
from MedAELib.training.patches import zero_filled
from MedAELib.volume import Volume

Floats = npt.NDArray[np.float32]


class Twice(Network):
    """Gives its input back, and it again as what stands for the noise."""

    stride, halo = 4, 0

    def __init__(self, dims: int = 3, deviations: int = 0) -> None:
        super().__init__()
        self.dims, self.deviations = dims, deviations
        self.nothing = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x] * (1 + self.deviations), 1) + self.nothing


def _generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _same(voxels: Floats) -> Floats:
    return voxels


def _scan(finer: float, level: float = 0.01) -> tuple[Floats, Floats]:
    """Generated anatomy, zero-filled to a finer grid in plane, and with white noise."""
    coarse = torch.from_numpy(generated_volume("MR", 8, 64))
    texture = 0.03 * torch.randn((64, 64, 64), generator=_generator(1)) * (coarse > 0.05)
    size = round(64 * finer)
    clean = zero_filled((coarse + texture).clamp(min=0), (size, size, 64))
    return clean.numpy(), magnitude_noise(clean, level, _generator(2)).numpy()


def test_waves_above_the_band_go_and_those_below_stay_along_their_axis_alone():
    place = torch.arange(64.0)
    fine, coarse = torch.cos(torch.pi * 0.85 * place), torch.cos(torch.pi * 0.3 * place)
    x = 2 + (fine + coarse)[:, None, None] + fine[None, :, None] + torch.zeros(64, 64, 20)
    made = BandLimited(Twice(deviations=1), (0.6, 1, 1))(x[None, None])
    wanted = 2 + coarse[:, None, None] + fine[None, :, None] + torch.zeros(64, 64, 20)
    inside = slice(REACH, -REACH)
    assert torch.allclose(made[0, 0, inside], wanted[inside], atol=0.01)
    assert torch.equal(made[0, 1], x)


def test_a_constant_stays_as_it_is_up_to_the_border_and_in_thin_volumes():
    for shape in ((40, 40, 40), (3, 5, 40)):
        x = torch.full((1, 1, *shape), 7.0)
        assert torch.allclose(BandLimited(Twice(), (0.5, 0.7, 0.4))(x), x, atol=1e-5)


def test_a_network_of_slices_is_limited_within_them():
    x = torch.randn((3, 1, 32, 48), generator=_generator())
    made = BandLimited(Twice(dims=2), (0.5, 0.5))(x)
    assert made.shape == x.shape and float(made.detach().std()) < 0.7


@pytest.mark.parametrize("tile", [16, 20, 48])
def test_the_result_does_not_depend_on_the_tile(tile):
    source = np.random.default_rng(0).standard_normal((50, 39, 28)).astype(np.float32)
    network, results = BandLimited(Twice(), (0.6, 0.8, 0.5)), []
    for edge in (64, tile):
        result = np.empty_like(source)

        def sink(core, before, after, result=result):
            result[core] = after

        Engine("cpu", "float32", edge).run(network, source, (0.0, 1.0), sink)
        results.append(result)
    assert np.allclose(results[0], results[1], atol=1e-5)


@pytest.mark.parametrize("finer", [1.5, 2.0])
def test_the_end_of_anatomy_is_found_along_the_axes_that_were_zero_filled(finer):
    _, noisy = _scan(finer)
    i, j, k = anatomy_band(noisy, 0.0, 0.01, _same)
    assert 1 / finer - 0.03 < i < 1 / finer + 0.15
    assert 1 / finer - 0.03 < j < 1 / finer + 0.15
    assert k == 1


def test_all_is_kept_of_fine_texture_of_pure_noise_and_of_scans_whose_noise_was_interpolated_too():
    _, noisy = _scan(1.0)
    assert anatomy_band(noisy, 0.0, 0.01, _same) == WHOLE
    noise = 10 + torch.randn((64, 64, 64), generator=_generator(4))
    assert anatomy_band(noise.numpy(), 0.0, 1.0, _same) == WHOLE
    clean, _ = _scan(2.0)
    smooth = clean + 0.05 * low_passed(torch.randn(clean.shape, generator=_generator(5)), (0.5, 0.5, 1)).numpy()
    assert anatomy_band(smooth, 0.0, 0.05, _same) == WHOLE


def test_short_axes_are_not_judged_and_values_that_are_not_finite_do_no_harm():
    _, noisy = _scan(2.0)
    assert anatomy_band(noisy[:20], 0.0, 0.01, _same)[0] == 1
    noisy[64, 64, 32] = np.nan
    assert anatomy_band(noisy, 0.0, 0.01, _same)[0] < 1


def test_the_bundled_denoiser_is_better_for_it_says_so_and_leaves_ct_alone():
    clean, noisy = _scan(1.75, 0.05)
    box = (slice(16, 80), slice(16, 80), slice(8, 56))
    clean, noisy = clean[box], noisy[box]
    model, volume = Model.load("mr-denoise"), Volume(1000 * noisy[None], np.eye(4), {"modality": "MR"})
    found = denoise(volume, model, passes=1).array[0] / 1000
    without = denoise(volume, model, passes=1, band=WHOLE).array[0] / 1000
    assert psnr(clean, found, 1.0) > psnr(clean, without, 1.0) + 0.3
    done = run_denoise(
        volume, {"model": "mr-denoise", "passes": 1}, lambda *_: None, lambda _, shape, dtype: np.empty(shape, dtype)
    )
    assert np.allclose(done.outputs["denoised"].array[0] / 1000, found, atol=1e-3)
    assert done.report["band"].endswith(" x 100%")
    assert scan_band(volume, Model.load("ct-denoise"), (0.0, 50.0), Engine()) == WHOLE
