"""Uneven brightness: found and divided out of brains, without taking lesions away, and given back to what is shown."""

import numpy as np
import pytest
import SimpleITK as sitk
from generated_heads import head, with_ball

from MedAELib.anomaly.bias_field import bias_field
from MedAELib.anomaly.figures import average_precision
from MedAELib.anomaly.grid import grid_around, onto_grid
from MedAELib.anomaly.prepare import prepare, prepare_body
from MedAELib.tasks.anomaly import anomaly

LESION = np.array([35.0, -12.0, 25.0])


def uneven(shape, seed=0, deep=1.3):
    """What a coil beside the head receives: less from far away, by this exponent over the length of the box."""
    axes = [(np.arange(size) + 0.5) / size for size in shape]
    coil = 0.5 + 0.9 * (lambda way: way / np.linalg.norm(way))(np.random.default_rng(seed).normal(size=3))
    away = sum((axis - place) ** 2 for axis, place in zip(np.meshgrid(*axes, indexing="ij"), coil, strict=True))
    return np.exp(-deep * np.sqrt(away)).astype(np.float32)


@pytest.mark.parametrize("seed", [1, 2])
def test_most_of_an_uneven_brightness_is_found(seed):
    plain = prepare(head((4.0, 4.0, 4.0))[0])
    factor = uneven(plain.voxels.shape, seed)
    found = bias_field(plain.voxels * factor, plain.mask) / bias_field(plain.voxels, plain.mask)
    wrong = np.log(found / factor)[plain.mask]
    assert wrong.std() < 0.2 * np.log(factor)[plain.mask].std()
    assert np.log(bias_field(plain.voxels * factor, plain.mask))[plain.mask].mean() == pytest.approx(0, abs=1e-4)


def test_any_number_of_threads_finds_the_same():
    plain = prepare(head((6.0, 6.0, 6.0))[0])
    voxels, before = plain.voxels * uneven(plain.voxels.shape), sitk.ProcessObject.GetGlobalDefaultNumberOfThreads()
    found = []
    try:
        for count in (1, 3):
            sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(count)
            found.append(bias_field(voxels, plain.mask))
    finally:
        sitk.ProcessObject.SetGlobalDefaultNumberOfThreads(before)
    np.testing.assert_array_equal(*found)


def test_the_same_head_with_another_coil_is_prepared_alike():
    volume, _ = head((4.0, 4.0, 4.0))
    other = volume.like(volume.array * uneven(volume.shape, 3))
    one, two = prepare(volume), prepare(other)
    both = one.mask & two.mask
    before = onto_grid(other.array[0], other.affine, grid_around(other, 2.0))
    before = before / np.median(before[two.mask]) * 0.5
    assert np.abs(one.voxels - two.voxels)[both].mean() < 0.5 * np.abs(one.voxels - before)[both].mean()


def test_a_large_lesion_stays_where_brightness_is_even_and_shows_where_it_is_not():
    volume, _ = head((4.0, 4.0, 4.0))
    changed, ball = with_ball(volume, LESION, 24.0, 90.0)
    before, after = prepare(volume), prepare(changed)
    lesion = onto_grid(ball.astype(np.float32), volume.affine, before.grid) > 0.9
    assert 0.75 * 0.15 < (after.voxels - before.voxels)[lesion & after.mask].mean() < 0.18
    other = changed.like(changed.array * uneven(changed.shape, 4))
    found = anomaly(other, None)
    tissue = found.map.array[0] != 0
    raw = other.array[0][tissue]
    assert average_precision(found.map.array[0][tissue], ball[tissue]) > 0.8 > average_precision(raw, ball[tissue])


def test_brightness_comes_back_as_it_was():
    volume, _ = head((4.0, 4.0, 4.0))
    other = volume.like(volume.array * uneven(volume.shape, 5))
    scan = prepare(other)
    given = onto_grid(other.array[0], other.affine, scan.grid)
    np.testing.assert_allclose(scan.intensities(scan.voxels)[scan.mask], given[scan.mask], rtol=1e-4)
    twice = scan.differences(2 * scan.voxels) - scan.differences(scan.voxels)
    np.testing.assert_allclose(twice[scan.mask], given[scan.mask], rtol=1e-4)


def test_extreme_values_do_not_stop_it():
    plain = prepare(head((6.0, 6.0, 6.0))[0])
    for values in (plain.voxels * 1e30, plain.voxels * 1e-30, np.where(plain.voxels > 0.5, 2, 1).astype(np.float32)):
        found = bias_field(values, plain.mask)
        assert np.isfinite(found).all() and (found > 0).all()


def test_what_is_no_brain_stays_as_it_is():
    few = np.zeros((12, 12, 12), bool)
    few[4:8, 4:8, 4:8] = True
    voxels = np.random.default_rng(0).uniform(1, 2, few.shape).astype(np.float32)
    large = np.ones((60, 60, 60), np.float32)
    for values, mask in ((voxels, few), (voxels, np.zeros_like(few)), (large, None), (large - 2, None)):
        mask = np.ones(values.shape, bool) if mask is None else mask
        np.testing.assert_array_equal(bias_field(values, mask), np.ones(values.shape, np.float32))
    volume, _ = head((6.0, 6.0, 6.0))
    assert prepare_body(volume.like(volume.array - 1000), 6.0).field is None
