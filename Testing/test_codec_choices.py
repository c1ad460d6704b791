"""What the encoder of lossy files chooses: coefficients that are cheap and near, and when coarser axes are halved."""

from dataclasses import replace

import numpy as np
import pytest
from codec_tools import code_by_waves_alone, smooth

from MedAELib import Volume
from MedAELib.codec import subband_encoder, volumes
from MedAELib.codec.container import open_container
from MedAELib.codec.model_file import EARLIER_SUBBAND, SUBBAND, load_codec_model, load_subband_model
from MedAELib.codec.reader import decompress
from MedAELib.codec.subband_encoder import encode_waves
from MedAELib.codec.subband_levels import WaveGrid
from MedAELib.codec.volumes import Mode, compress
from MedAELib.codec.wavelet import JOINS, LATE, choose_axes
from MedAELib.quality import psnr

SPACING = (1000, 1000, 1600)


def curve(values: np.ndarray) -> tuple[list[float], list[float]]:
    """PSNR, rising, and log2 of the bytes with three steps."""
    axes, found = tuple(choose_axes(values.shape, SPACING)), []
    for step in (12_000, 6000, 3000):
        grid = WaveGrid(values.shape, SPACING, axes, step, int(values.max()))
        made = encode_waves(values, grid, load_subband_model().subband, load_codec_model().context)
        span = float(np.ptp(values))
        found.append((psnr(values, made.decoded, span), np.log2(sum(map(len, made.parts)))))
    return [decibels for decibels, _ in found], [size for _, size in found]


def test_coefficients_that_are_cheap_make_a_smaller_file_at_equal_psnr(monkeypatch):
    values = np.rint(smooth((40, 36, 30), noise=25.0) + 1200).astype(np.int64).clip(0)
    chosen = curve(values)
    monkeypatch.setattr(subband_encoder, "TRADE", 0.0)  # to the nearest
    nearest = curve(values)
    common = np.linspace(max(chosen[0][0], nearest[0][0]), min(chosen[0][-1], nearest[0][-1]), 20)
    saved = np.interp(common, *nearest) - np.interp(common, *chosen)
    assert saved.mean() > np.log2(1.03)


def test_axes_that_join_late_wait_until_the_others_are_as_coarse():
    assert choose_axes((128, 128, 128), (4688, 4688, 3000))[0] == (0, 1, 2)
    assert choose_axes((128, 128, 128), (4688, 4688, 3000), LATE)[:2] == [(2,), (0, 1, 2)]
    assert choose_axes((256, 256, 40), (900, 900, 3000), LATE)[:3] == [(0, 1), (0, 1), (0, 1, 2)]
    same = (64, 64, 64), (938, 938, 937)  # but for the rounding of a spacing
    assert choose_axes(*same) == choose_axes(*same, LATE) and choose_axes(*same)[0] == (0, 1, 2)


@pytest.mark.parametrize("along", [1, 3])
def test_coarser_axes_join_when_the_file_is_then_smaller(monkeypatch, along):
    """Alike slices are best halved with the plane; slices without anything in common are not."""
    code_by_waves_alone(monkeypatch)
    generator = np.random.default_rng(5)
    field = np.fft.rfftn(generator.normal(size=(40, 40, 24)))
    i, j, k = np.meshgrid(np.fft.fftfreq(40), np.fft.fftfreq(40), np.fft.rfftfreq(24), indexing="ij")
    field *= np.exp(-((i**2 + j**2) * 60 + (k * along) ** 2 * 20))
    voxels = np.rint(4000 * np.fft.irfftn(field, (40, 40, 24), (0, 1, 2))).astype(np.int16)[None]
    volume = Volume(voxels, np.diag([1.0, 1.0, 1.6, 1.0]), {"name": "field"})
    free, sizes = compress(volume, Mode("psnr", 36)), []
    for joins in (JOINS, LATE):
        with monkeypatch.context() as forced:
            forced.setattr(volumes, "_suited", lambda _, plan, *rest, joins=joins: replace(plan, joins=joins))
            sizes.append(len(compress(volume, Mode("psnr", 36))))
    assert psnr(volume.array, decompress(free).array, float(np.ptp(voxels.astype(float)))) >= 36
    assert len(free) <= 1.01 * min(sizes)


def test_the_model_is_the_one_that_makes_the_smaller_file(monkeypatch):
    code_by_waves_alone(monkeypatch)
    volume = Volume(np.rint(smooth((40, 36, 30), noise=25.0)).astype(np.int16)[None], np.eye(4), {"name": "ball"})
    for decibels in (30, 55):
        free, sizes = compress(volume, Mode("psnr", decibels)), {}
        for entry in (SUBBAND, EARLIER_SUBBAND):
            chosen = load_subband_model(None, entry)
            with monkeypatch.context() as forced:
                forced.setattr(volumes, "_suited", lambda _, plan, *rest, some=chosen: replace(plan, waves=some))
                file = compress(volume, Mode("psnr", decibels))
            sizes[chosen.sha256] = len(file)
            assert open_container(file, "ball").header["waves"]["sha256"] == chosen.sha256
        assert len(free) <= 1.01 * min(sizes.values())
        assert psnr(volume.array, decompress(free).array, float(np.ptp(volume.array.astype(float)))) >= decibels
