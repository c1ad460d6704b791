"""The features' benchmark: subjects stay apart, and settings are chosen without the tested ones."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks.features import accuracy, components, first_order, judged, splits
from benchmarks.features_probes import Piece, trained_on


def rows(seed=0, people=12, each=6):
    random = np.random.default_rng(seed)
    labels = np.tile(np.array(["a", "b", "c"]), people * each // 3)
    subjects = np.repeat(np.arange(people).astype(str), each)
    told = (labels[:, None] == np.array(["a", "b", "c"])) @ random.normal(size=(3, 40)) * 3
    return told + random.normal(size=(len(labels), 40)), labels, subjects


@pytest.mark.parametrize("reduce", [True, False])
def test_what_tells_classes_apart_is_found_and_noise_is_not(reduce):
    told, labels, subjects = rows()
    noise = np.random.default_rng(1).normal(size=told.shape)
    tested = np.array(["1", "5", "7", "9"])
    assert judged({"told": told, "noise": noise}, labels, subjects, tested, reduce) > 0.95
    assert judged({"noise": noise}, labels, subjects, tested, reduce) < 0.75


def test_the_setting_is_chosen_without_the_tested_subjects():
    """A description that betrays the classes in the tested subjects alone must not be chosen for that."""
    told, labels, subjects = rows()
    tested = np.array(["1", "5", "7", "9"])
    betrays = np.random.default_rng(2).normal(size=told.shape)
    theirs = np.isin(subjects, tested)
    betrays[theirs, :3] = 50 * (labels[theirs, None] == np.array(["a", "b", "c"]))
    alone = judged({"told": told}, labels, subjects, tested, False)
    assert judged({"told": told, "betrays": betrays}, labels, subjects, tested, False) == alone


def test_splits_are_of_subjects_and_the_same_every_time():
    people = np.arange(11).astype(str)
    first, again = splits(people, 6), splits(people, 6)
    assert all(np.array_equal(a, b) and len(set(a)) == 5 for a, b in zip(first, again))
    assert [list(s) for s in splits(people[:3], 20)] == [["0"], ["1"], ["2"]]


def test_components_are_those_of_the_training_rows():
    told, *_ = rows()
    train, test = components(told[:50], told[50:])
    variances = train.var(axis=0)
    assert (np.diff(variances) <= 1e-9).all() and train.shape[1] == test.shape[1] <= 50
    singular = np.linalg.svd(told[:50] - told[:50].mean(0), compute_uv=False)
    np.testing.assert_allclose(np.sqrt(variances[:10] * 50), singular[:10], rtol=1e-6)


def test_accuracy_is_balanced_and_first_order_statistics_are_right():
    truth = np.array(["a"] * 9 + ["b"])
    assert accuracy(np.array(["a"] * 10), truth) == 0.5
    values = np.random.default_rng(0).normal(5, 2, (30, 30, 30))
    found = first_order(values)
    assert found[:4] == pytest.approx([5, 2, 0, 3], abs=0.15) and found[6] == pytest.approx(5 - 0.6745 * 2, abs=0.05)


def test_who_a_bundled_model_was_trained_on_is_known():
    assert trained_on("ct_openkbp/pt_100_ct.nii.gz") == ("ct-denoise", "mr-denoise")
    assert trained_on("ct_openkbp/pt_123_ct.nii.gz") == ()
    assert trained_on("hippocampus/images/hippocampus_041.nii.gz") == ("mr-denoise",)
    assert Piece("1", "a", np.zeros((4, 4, 4)), 2.0, "MR").volume().spacing == (2.0, 2.0, 2.0)
