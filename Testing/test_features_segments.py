"""Features per segment: from the voxels that the segment covers, whatever the network's cells and the map's voxels."""

from __future__ import annotations

import numpy as np
import pytest
from models import small_model

from MedAELib.bundle import Spec, Window
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput
from MedAELib.model import Model
from MedAELib.tasks.features import features
from MedAELib.tasks.run import run_task
from MedAELib.volume import Volume

CPU = Engine("cpu", "float32")
SIZE = 32
NETWORKS = {
    "plain": {"channels": [4, 8], "strides": [2, 2]},
    "sparse": {"channels": [4, 8], "strides": [2, 2]},
    "variational": {"channels": [4, 8], "strides": [2, 2], "latent": 4},
}


def made_of(name: str, dims: int = 3) -> Model:
    """A network whose cell n lies around voxel 4 n, or for "denoising" around the middle of two voxels."""
    if name == "denoising":
        return small_model(modality="MR")
    return Model.create(Spec(name, NETWORKS[name], dims, "reconstruct", "MR", Window("percentile", 0.0, 99.9)))


def layers() -> Volume:
    """A scan that grows brighter from voxel to voxel along each axis by another step: its mean tells where one is."""
    i, j, k = np.meshgrid(*[np.arange(SIZE)] * 3, indexing="ij")
    return Volume((100 + 9 * i + 3 * j + k)[None].astype(np.float32), np.eye(4), {"name": "layers", "modality": "MR"})


def numbers(made, row: int = 0) -> dict[str, float]:
    """The features of a row by their names."""
    return dict(zip(made.names, made.items[row].values))


@pytest.mark.parametrize(("name", "dims"), [("plain", 3), ("plain", 2), ("sparse", 3), ("variational", 3)])
def test_a_cell_is_as_bright_as_the_voxels_around_its_middle(name, dims):
    volume = layers()
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[0, 8:17, 12:21, 7:18] = 1  # its middle is voxel 12, 16, 12, which is the middle of a cell
    bright = float(np.percentile(volume.array, 99.9))
    found = features(volume, made_of(name, dims), per="segment", labels=volume.like(labels), engine=CPU)
    np.testing.assert_allclose(found.items[0].centre, [12, 16, 12], atol=1e-2)
    true = volume.array[labels > 0].mean() / bright
    assert numbers(found)["intensity_mean"] == pytest.approx(true, abs=0.1 / bright)


@pytest.mark.parametrize("name", ["plain", "denoising"])
@pytest.mark.parametrize("times", [8, 4, 2, 1, 0.5])
def test_a_segment_is_pooled_alike_from_a_coarser_and_a_finer_label_map(name, times):
    """The same block of 16 voxels, in label voxels that are so many of the scan's wide."""
    volume, count = layers(), int(SIZE / times)
    first, past = int(8 / times), int(24 / times)
    labels = np.zeros((count,) * 3, np.uint8)
    labels[first:past, first:past, first:past] = 1
    affine = np.diag([times, times, times, 1.0])
    affine[:3, 3] = (times - 1) / 2
    own = np.zeros(volume.array.shape, np.uint8)
    own[0, 8:24, 8:24, 8:24] = 1
    network = made_of(name)
    found = features(volume, network, per="segment", labels=Volume(labels[None], affine), engine=CPU)
    same = features(volume, network, per="segment", labels=volume.like(own), engine=CPU)
    assert found.items[0].cells == same.items[0].cells
    # A label voxel of half a cell counts as a whole where its middle lies; of all others the share in each cell counts.
    whole = name == "plain" and times == 2
    np.testing.assert_allclose(found.items[0].centre, [15.5] * 3, atol=0.51 if whole else 0.02)
    np.testing.assert_allclose(found.items[0].values, same.items[0].values, rtol=1e-3, atol=0.3 if whole else 5e-3)


def test_a_label_map_with_thick_slices_leaves_no_holes():
    """Label voxels that are fine within a slice and six slices thick."""
    volume = layers()
    labels = np.zeros((SIZE, SIZE, 5), np.uint8)
    labels[8:24, 8:24, 1:4] = 1
    affine = np.diag([1, 1, 6, 1.0])
    affine[2, 3] = 2.5
    made = made_of("denoising")
    found = features(volume, made, per="segment", labels=Volume(labels[None], affine), engine=CPU).items[0]
    assert found.cells == 8 * 8 * 9 and found.centre[2] == pytest.approx(14.5, abs=0.02)


def test_what_is_no_scan_is_told_also_for_the_model_that_is_taken_by_default():
    def told(volume: Volume, **more) -> list[str]:
        inputs = {"input": volume, **more}
        asked = {"device": "cpu", "per": "segment" if more else "volume"}
        return run_task("features", inputs, asked, progress=lambda *_: None).report["warnings"]

    volume = layers()
    with pytest.raises(BadInput, match="same value, 7, everywhere"):
        told(volume.like(np.full_like(volume.array, 7)))
    assert told(volume) == []
    holed, few = volume.array.copy(), np.zeros(volume.array.shape, np.uint8)
    holed[0, :3], few[0, 9:20] = np.nan, 2
    assert "not finite" in told(volume.like(holed))[0]
    assert "label map" in told(Volume(few, volume.affine, {"name": "few"}))[0]
    labels = np.zeros((1, SIZE, SIZE, 2 * SIZE), np.int16)
    labels[0, 3:9, 3:9, 3:9], labels[0, 0, 0, 0], labels[0, :4, :4, -9:] = 1, -2, 5
    said = told(volume, segments=Volume(labels, np.eye(4), {"name": "map"}))
    assert said == [
        "map: the labels 5 lie outside of the volume, and are left out.",
        "map: the labels -2 are negative, and are left out.",
    ]
