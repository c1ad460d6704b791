"""The generated head: plausible tissues, lesions where it says, noise with the statistics of a scanner."""

import numpy as np
import pytest
from phantom import add_noise, head

SMALL = {"shape": (104, 128, 60), "spacing": (1.8, 1.8, 3.0)}


@pytest.fixture(scope="module")
def ct():
    return head("CT", seed=3, **SMALL)


def values_at(phantom, place):
    """The value at a place in RAS mm."""
    voxel = np.rint(np.linalg.inv(phantom.affine) @ [*place, 1])[:3].astype(int)
    return phantom.clean[tuple(voxel)]


def test_same_seed_gives_the_same_head_and_another_seed_another(ct):
    assert np.array_equal(head("CT", seed=3, **SMALL).clean, ct.clean)
    assert np.abs(head("CT", seed=4, **SMALL).clean - ct.clean).max() > 100


def test_the_volume_is_oblique_and_anisotropic_with_orthogonal_axes(ct):
    axes = ct.affine[:3, :3] / np.linalg.norm(ct.affine[:3, :3], axis=0)
    assert np.allclose(axes.T @ axes, np.eye(3), atol=1e-12)
    assert np.count_nonzero(np.abs(axes) > 0.01) > 6
    assert np.allclose(np.linalg.norm(ct.affine[:3, :3], axis=0), SMALL["spacing"])


def test_a_ct_head_has_air_bone_and_a_brain_in_the_range_of_real_tissue(ct):
    assert ct.clean.min() >= -1001
    assert ct.clean.max() > 800
    assert abs(np.median(ct.clean[:8, :8]) + 1000) < 1
    middle = ct.clean[40:64, 60:75, 34:40]
    assert 5 < np.median(middle) < 45


def test_lesions_stand_out_where_the_list_says(ct):
    assert len(ct.lesions) == 5
    bright = [values_at(ct, lesion.centre) for lesion in ct.lesions if lesion.contrast > 0]
    dark = [values_at(ct, lesion.centre) for lesion in ct.lesions if lesion.contrast < 0]
    assert min(bright) > max(dark) + 5


def test_ct_noise_has_the_asked_level_is_correlated_in_the_slice_and_independent_between_slices(ct):
    noise = (add_noise(ct, level=20.0, seed=5) - ct.clean)[40:64, 50:80, 20:40]
    noise = noise - noise.mean()
    assert noise.std() == pytest.approx(20.0, rel=0.1)
    assert (noise[1:] * noise[:-1]).mean() / noise.var() == pytest.approx(0.6, abs=0.1)
    assert abs((noise[:, :, 1:] * noise[:, :, :-1]).mean() / noise.var()) < 0.1


def test_ct_noise_is_weaker_at_the_rim_than_in_the_middle_and_does_not_go_below_the_scale(ct):
    scan = add_noise(ct, level=20.0)
    noise = scan - ct.clean
    assert noise[2:12, 40:80].std() < 0.8 * noise[45:60, 55:75].std()
    assert scan.min() >= -1024
    assert scan.dtype == np.int16


def test_mri_noise_is_rician_with_a_bias_in_air():
    mr = head("MR", seed=3, **SMALL)
    scan = add_noise(mr, level=40.0)
    air = scan[:8, :8].astype(float)
    assert air.mean() == pytest.approx(40 * np.sqrt(np.pi / 2), rel=0.1)
    assert scan.min() >= 0
