"""Mirrored passes: the mean over mirror images, exact under tiling, as many as were asked for or the size allows."""

import json
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from models import save_small_model, small_model

from MedAELib import Volume, denoise
from MedAELib.__main__ import main
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput
from MedAELib.model import Model
from MedAELib.networks import Mirrored
from MedAELib.networks.mirrored import PASSES
from MedAELib.quality import psnr
from MedAELib.tasks.denoise import automatic_passes
from MedAELib.tasks.noise_map import WithNoise
from MedAELib.training.anatomy import generated_volume


def scan(shape=(1, 14, 12, 10), seed=0) -> Volume:
    array = np.random.default_rng(seed).normal(100, 300, shape).astype(np.float32)
    return Volume(array, np.eye(4), {"name": "scan", "modality": "CT"})


def cpu(tile: int = 0) -> Engine:
    return Engine("cpu", "float32", tile)


def shifted(network, x, turn):
    """A pass as it is defined: mirrored along the axes, one mirrored voxel before and as many after as make a cell."""
    stride = network.stride
    x = x.flip(turn).numpy()
    sides = [(1, stride - 1) if axis in turn else (0, 0) for axis in range(x.ndim)]
    made = network(torch.from_numpy(np.pad(x, sides, mode="reflect")))
    for axis in turn:
        made = made.narrow(axis, 1, x.shape[axis])
    return made.flip(turn)


@pytest.mark.parametrize("passes, expected", [(1, 1), (2, 2), (4, 4), (8, 8)])
def test_the_result_is_the_mean_over_mirror_images_whose_cells_begin_one_voxel_earlier(passes, expected):
    network = small_model().network
    x = torch.randn((1, 1, 8, 6, 10), generator=torch.Generator().manual_seed(1))
    axes = {
        1: [()],
        2: [(), (2, 3, 4)],
        4: [(), (2, 3), (2, 4), (3, 4)],
        8: [(), (2,), (3,), (4,), (2, 3), (2, 4), (3, 4), (2, 3, 4)],
    }[passes]
    assert len(axes) == expected
    mean = torch.stack([shifted(network, x, turn) for turn in axes]).mean(0)
    assert torch.allclose(Mirrored(network, passes)(x), mean, atol=1e-6)


@pytest.mark.parametrize("passes", [4, 8])
def test_a_2d_network_has_four_mirror_images(passes):
    network = small_model(dims=2).network
    x = torch.randn((3, 1, 8, 6), generator=torch.Generator().manual_seed(1))
    mean = torch.stack([shifted(network, x, turn) for turn in [(), (2,), (3,), (2, 3)]]).mean(0)
    assert torch.allclose(Mirrored(network, passes)(x), mean, atol=1e-6)


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_more_passes_come_closer_to_the_truth(modality):
    clean = generated_volume(modality, 5, 80)[20:60, 20:60, 24:56]
    span, level = (1.0, 0.05) if modality == "MR" else (2.0, 0.03)
    noisy = clean + level * np.random.default_rng(0).standard_normal(clean.shape)
    model, body = Model.load(f"{modality.lower()}-denoise"), clean > (0.04 if modality == "MR" else -0.5)
    made = [np.empty_like(clean) for _ in range(3)]
    for image, passes in zip(made, (1, 2, 4), strict=True):  # the network alone, without a second look at its result
        cpu().run(Mirrored(model.network, passes), noisy, (0.0, level), partial(_keep, image))
    figures = [psnr(clean, image, span, body) for image in made]
    assert figures == sorted(figures) and figures[2] > figures[0] + 0.1


def _keep(image, core, before, after):
    image[core] = after


@settings(max_examples=12)
@given(
    shape=st.tuples(*[st.integers(1, 26)] * 3), tile=st.integers(5, 27), passes=st.sampled_from(PASSES),
    dims=st.sampled_from([2, 3]), seed=st.integers(0, 9),
)  # fmt: skip
def test_any_size_and_tile_agree(shape, tile, passes, dims, seed):
    model, volume = small_model(dims=dims, channels=4, blocks=1), scan((1, *shape), seed)
    expected = denoise(volume, model, engine=cpu(), passes=passes).array
    assert np.abs(denoise(volume, model, engine=cpu(tile), passes=passes).array - expected).max() <= 1e-4 * 1000


def test_the_noise_is_the_mean_over_the_mirror_images_too():
    network = WithNoise(small_model().network, "CT")
    x = torch.randn((1, 1, 8, 8, 8), generator=torch.Generator().manual_seed(1))
    mean = (network(x) + shifted(network, x, (2, 3, 4)))[:, 1:] / 2
    assert torch.allclose(Mirrored(network, 2)(x)[:, 1:], mean, rtol=1e-4)


def test_progress_rises_evenly_through_all_passes():
    def steps(passes):
        seen = [0]
        denoise(scan(), small_model(), engine=cpu(), passes=passes, progress=lambda _, done, total: seen.append(done))
        assert seen == sorted(seen) and seen[-1] == 14 * 12 * 10
        return np.diff(seen)

    one, eight = steps(1), steps(8)
    assert len(eight) > 7 * len(one) and eight.max() <= one.max()


@pytest.mark.parametrize(
    "shape, passes", [((2, 2, 2), 4), ((200, 200, 250), 4), ((240, 240, 175), 2), ((256, 256, 170), 2),
                      ((512, 512, 100), 1), ((1024, 1024, 400), 1)],
)  # fmt: skip
def test_automatic_passes_are_fewer_the_larger_the_volume(shape, passes):
    empty = np.broadcast_to(np.zeros(1, np.int16), (1, *shape))
    assert automatic_passes(Volume(empty, np.eye(4)), small_model()) == passes


@pytest.mark.parametrize("shape, passes", [((2, 2, 2), 2), ((240, 240, 175), 2), ((512, 512, 100), 1)])
def test_two_passes_are_enough_where_the_result_is_looked_at_again(shape, passes):
    empty = np.broadcast_to(np.zeros(1, np.int16), (1, *shape))
    assert automatic_passes(Volume(empty, np.eye(4)), Model.load("mr-denoise")) == passes
    assert automatic_passes(Volume(empty, np.eye(4)), Model.load("ct-denoise")) == max(passes, 4 * (shape == (2, 2, 2)))


def test_the_frames_of_a_sequence_count_together():
    empty = np.broadcast_to(np.zeros(1, np.int16), (20, 100, 100, 100))
    assert automatic_passes(Volume(empty, np.eye(4), {"frames": True}), small_model()) == 2


def test_the_report_tells_the_passes_that_were_asked_for_or_taken(tmp_path):
    save_small_model(tmp_path / "small")
    scan().save(tmp_path / "in.nii")
    command = ["denoise", str(tmp_path / "in.nii"), str(tmp_path / "out.nii"), "--model", str(tmp_path / "small")]
    for wanted, passes in (["--passes", "2"], 2), ([], 4):
        assert main([*command, *wanted, "--report", str(tmp_path / "report.json")]) == 0
        assert json.loads((tmp_path / "report.json").read_text())["passes"] == passes


@pytest.mark.parametrize("passes", [-1, 3, 16])
def test_another_number_of_passes_is_refused_in_one_sentence(passes, tmp_path, capsys):
    with pytest.raises(BadInput, match=f"{passes} passes are not possible"):
        denoise(scan(), small_model(), engine=cpu(), passes=passes)
    scan().save(tmp_path / "in.nii")
    wanted = ["denoise", str(tmp_path / "in.nii"), str(tmp_path / "out.nii"), "--passes", str(passes)]
    assert main(wanted) == 2
    told = capsys.readouterr().err.strip()
    assert told == f"medae: {passes} passes are not possible. Choose 1, 2, 4 or 8, or 0 for automatic."
    assert not (tmp_path / "out.nii").exists()
