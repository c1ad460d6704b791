"""The order of coding: every voxel once, and each from voxels that are known by then."""

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from MedAELib.codec.lattice import CASES, NEIGHBOURS, OFFSETS, PASSES, Lattice, halvings, plan
from MedAELib.codec.predictive import base_steps

SHAPES = st.tuples(*[st.integers(1, 12)] * 3)
SPACINGS = st.tuples(*[st.integers(300, 6000)] * 3)


@settings(max_examples=120)
@given(shape=SHAPES, spacing=SPACINGS, seed=st.integers(0, 1000))
def test_every_voxel_is_coded_once_from_known_neighbours(shape, spacing, seed):
    voxels = np.random.default_rng(seed).integers(1, 1000, shape).astype(np.float32)
    stages = plan(shape, halvings(shape, spacing), spacing)
    current = voxels[base_steps(stages)]
    for stage in stages:
        whole = voxels[tuple(slice(None, None, step) for step in stage.steps)]
        assert current.shape == stage.coarser() and whole.shape == stage.shape
        lattice = Lattice(stage, current)
        lattice.inside[1::2] = np.nan  # unknown
        lattice.fill_margin()
        target = whole.transpose(lattice.order)
        for parity in PASSES:
            for rows in lattice.blocks(parity, 40):
                for offset in OFFSETS[stage.flat, parity]:
                    assert not np.isnan(lattice.view(parity, offset, rows)).any()
            if 0 not in lattice.pass_shape(parity):
                lattice.set(parity, target[1::2, parity[0] :: 2, parity[1] :: 2].astype(np.int64).reshape(-1))
        current = lattice.voxels()
        assert np.array_equal(current, whole)
    assert np.array_equal(current, voxels)


def test_each_case_has_as_many_different_neighbours():
    for case in CASES:
        assert len(set(OFFSETS[case])) == NEIGHBOURS and (0, 0, 0) not in OFFSETS[case]


@settings(max_examples=60)
@given(shape=SHAPES, spacing=SPACINGS)
def test_the_finest_axis_is_halved_last(shape, spacing):
    stages = plan(shape, halvings(shape, spacing), spacing)
    for stage in stages:
        extent = [spacing[axis] * stage.steps[axis] for axis in range(3) if stage.shape[axis] > 1]
        assert spacing[stage.axis] * stage.steps[stage.axis] == min(extent)


def test_thick_slices_get_the_wide_neighbourhood_in_the_plane():
    flat = [stage.flat for stage in plan((64, 64, 16), halvings((64, 64, 16), (500, 500, 5000)), (500, 500, 5000))]
    solid = [stage.flat for stage in plan((32, 32, 32), halvings((32, 32, 32), (1000,) * 3), (1000,) * 3)]
    assert flat[-1] and flat[-2] and not flat[0] and not any(solid)
