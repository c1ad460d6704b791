"""Which part of the body a model of CT knows: right scans pass, another part or orientation is told, and no model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from anomaly_tools import on_few_cells, tiny_normative
from generated_bodies import body
from generated_heads import head

from MedAELib.anomaly.anatomies import ANATOMIES, Anatomies, anatomies_of
from MedAELib.anomaly.choice import fitting
from MedAELib.anomaly.gate import coarse_of
from MedAELib.anomaly.normals import learn_normals
from MedAELib.anomaly.prepare import prepare, prepare_body, prepared_for
from MedAELib.anomaly.shown import Shown
from MedAELib.bundle import bundled_models, read_bundle
from MedAELib.errors import BadModel
from MedAELib.tasks.anomaly import anomaly
from MedAELib.training.anomaly_cohorts import COHORTS, volumes
from MedAELib.volume import Volume


def _coarse(volume: Volume) -> np.ndarray:
    return coarse_of(prepare_body(volume)).ravel()


@pytest.fixture(scope="module")
def known() -> Anatomies:
    found = Anatomies.of([_coarse(body(seed=seed)[0]) for seed in range(4)])
    assert found is not None
    return found


def _turned(volume: Volume) -> Volume:
    """Front to back."""
    affine = np.array(volume.affine)
    affine[1] *= -1
    return Volume(volume.array, affine, volume.meta)


def test_another_body_of_the_same_kind_is_known_and_another_part_is_not(known):
    other = body(seed=9)[0]
    assert known.knows(_coarse(other))
    assert not known.knows(_coarse(_turned(other)))
    half = Volume(other.array[:, : other.shape[0] // 2], other.affine, other.meta)
    assert not known.knows(_coarse(half))
    assert not known.knows(np.zeros(8)) and not known.knows(np.zeros(1000))


def test_anatomies_come_back_from_a_model_folder_and_a_malformed_one_is_refused(known):
    again = anatomies_of({ANATOMIES: known.to_json()})
    np.testing.assert_array_equal(again.coarse, known.coarse)
    assert again.lowest == known.lowest and anatomies_of({}) is None
    good = known.to_json()
    for value in ([], {}, {**good, "cells": 7}, {**good, "cells": True}, {**good, "lowest": float("nan")},
                  {**good, "coarse": "?"}, {**good, "more": 1}):  # fmt: skip
        with pytest.raises(BadModel, match="part of the body"):
            anatomies_of({ANATOMIES: value})
    assert Anatomies.of([known.coarse[0]] * 2) is None and Anatomies.of([np.zeros(5)] * 3) is None


def test_the_gate_tells_another_part_and_the_model_is_not_chosen_for_it(tmp_path):
    scans = [prepare_body(body(seed=seed)[0]) for seed in range(3)]
    model = tiny_normative(tmp_path / "first", modality="CT", pixel=4.0)
    found = learn_normals(model, scans[:1], Shown(), seen=scans[1:])
    model = tiny_normative(tmp_path / "model", modality="CT", pixel=4.0, **found)
    right, wrong = body(seed=7)[0], _turned(body(seed=7)[0])
    told = [" ".join(anomaly(volume, model).report["warnings"]) for volume in (right, wrong)]
    assert "part of the body" not in told[0] and "another part of the body" in told[1]
    bundles = [read_bundle(tmp_path / "model")]
    assert fitting(prepare_body(right), "it", bundles)[0] is bundles[0]
    assert fitting(prepare_body(wrong), "it", bundles) == (None, "No bundled model was trained on scans like it.")


def test_brains_are_told_by_their_mask_alone(tmp_path, monkeypatch):
    on_few_cells(monkeypatch)
    scan = prepare(head((5.0, 5.0, 5.0))[0])
    model = tiny_normative(tmp_path / "model")
    assert ANATOMIES not in learn_normals(model, [scan] * 3, Shown())


@pytest.mark.slow
@pytest.mark.data
def test_real_necks_are_known_by_others_and_chest_and_belly_are_not(data_folder: Path):
    cohort = COHORTS["head-neck-ct-anomaly"]
    known = Anatomies.of([_coarse(volume) for volume in volumes(data_folder, cohort.training + cohort.calibration)])
    for volume in volumes(data_folder, cohort.test):
        assert known.knows(_coarse(volume)), volume.name
    for name in ("totalseg_examples/example_ct.nii.gz", "ct_lidc0314/LIDC-IDRI-0314_3mm.nii.gz"):
        assert not known.knows(_coarse(Volume.load(data_folder / name))), name


@pytest.mark.data
def test_bundled_models_are_chosen_by_what_they_know_and_not_by_the_modality(data_folder: Path):
    chosen = {
        "ct_openkbp/pt_11_ct.nii.gz": "head-neck-ct-anomaly",
        "totalseg_examples/example_ct.nii.gz": None,
        "ms_patient26/T1.nii.gz": "brain-t1-anomaly",
        "ms_patient26/T2.nii.gz": None,
        "ms_patient26/FLAIR.nii.gz": None,
    }
    for name, model in chosen.items():
        bundle, reason = fitting(prepared_for(Volume.load(data_folder / name), None), "it", bundled_models("anomaly"))
        assert (bundle.name if bundle else None) == model, name
        assert bundle or reason == "No bundled model was trained on scans like it."
