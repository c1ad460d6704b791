"""The translate task on generated scans: frames, gaps, units of CT, cancelling, a missing scan, odd models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from MedAELib import Model, Volume
from MedAELib.bundle import Kind, Spec, Window, read_bundle
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput, BadModel, Cancelled
from MedAELib.tasks.run import run_task
from MedAELib.tasks.translate import translate
from MedAELib.training.folder import read_folder
from MedAELib.translation.domain import domain, doubts, spread, to_standard

MR = Kind("T1", "MR", Window("percentile", 0.0, 99.9), 0.0, 500.0)
CT = Kind("CT", "CT", Window("fixed", -1000.0, 1000.0), -1000.0, 1000.0)
T2 = Kind("T2", "MR", Window("percentile", 0.0, 99.9), 0.0, 800.0)
ENSEMBLE = {"network": "plain", "members": 3, "arguments": {"channels": [4, 6], "strides": [2, 1]}}
FUSION = {"channels": [4, 6], "strides": [2, 1], "modalities": 3}
AFFINE = np.array([[0, -1.1, 0.1, 5], [1.2, 0, 0, -7], [0, 0.1, 2.5, 3], [0, 0, 0, 1]])


def model(*kinds: Kind, network: str = "ensemble", arguments=None, dims: int = 3) -> Model:
    """A translating model with random weights."""
    torch.manual_seed(1)
    spec = Spec(network, arguments or ENSEMBLE, dims, "translate", kinds[0].modality, kinds[0].window, kinds)
    return Model.create(spec)


def saved(made: Model, folder, **calibration) -> Model:
    return made.save(folder, name="m", description="For tests.", card="# m\n", licence="Apache-2.0\n", figures={},
                     limits=[], training_data=[], calibration=calibration)  # fmt: skip


def scan(channels: int = 1, dtype=np.int16, seed: int = 0, **meta) -> Volume:
    array = np.random.default_rng(seed).integers(0, 400, (channels, 14, 12, 9)).astype(dtype)
    return Volume(array, AFFINE, {"name": "scan", "modality": "MR", **meta})


def test_hounsfield_units_come_out_of_mri_and_its_place_stays():
    made = translate(scan(), model(MR, CT), engine=Engine("cpu"))["translated"]
    assert made.array.dtype == np.float32 and np.array_equal(made.affine, AFFINE)
    assert made.meta["modality"] == "CT" and made.name == "scan CT"
    assert -1500 < made.array.mean() < 1500 and made.array.min() < 0


def test_magnitudes_are_not_negative_and_the_unit_of_the_input_does_not_matter():
    network = model(MR, T2)
    one = translate(scan(dtype=np.float32), network, engine=Engine("cpu"))["translated"].array
    thousand = scan(dtype=np.float32)
    thousand = thousand.like(thousand.array * 1000)
    assert one.min() >= 0
    np.testing.assert_allclose(translate(thousand, network, engine=Engine("cpu"))["translated"].array, one, atol=0.05)


def test_frames_are_translated_alike_and_stay_frames():
    network, volume = model(MR, T2), scan(3, frames=True)
    volume = volume.like(np.repeat(volume.array[:1], 3, 0))
    made = translate(volume, network, engine=Engine("cpu"), uncertainty=True)
    for name in ("translated", "uncertainty"):
        array = made[name].array
        assert array.shape == volume.array.shape and made[name].meta["frames"]
        assert np.array_equal(array[0], array[2])


def test_gaps_stay_gaps_and_the_input_is_not_changed():
    array = scan(dtype=np.float32).array.copy()
    array[0, :2] = np.nan
    volume = Volume(array, AFFINE)
    made = translate(volume, model(MR, T2), engine=Engine("cpu"), uncertainty=True)
    for output in made.values():
        assert np.isnan(output.array[0, :2]).all() and np.isfinite(output.array[0, 2:]).all()
    assert np.isnan(volume.array[0, :2]).all()


@pytest.mark.parametrize("dims", [2, 3])
def test_uncertainty_is_the_deviation_of_the_members_in_target_units(dims, tmp_path, monkeypatch):
    monkeypatch.setattr("MedAELib.tasks.translate._PASSES", 1)  # of several passes it is the mean of the deviations
    network = model(MR, T2, dims=dims)
    volume = scan(dtype=np.float32)
    members = []
    for member in network.network.members:
        spec = Spec("plain", ENSEMBLE["arguments"], dims, "translate", "MR", MR.window, (MR, CT))
        members.append(translate(volume, Model(spec, member), engine=Engine("cpu"))["translated"].array)
    expected = 0.4 * np.std(members, axis=0, ddof=1)  # CT's window of 2000 against T2's of 800
    made = translate(volume, network, engine=Engine("cpu"), uncertainty=True)["uncertainty"]
    np.testing.assert_allclose(made.array, expected, atol=0.01)
    scaled = translate(volume, saved(network, tmp_path / "m", uncertainty=2.5), engine=Engine("cpu"), uncertainty=True)
    np.testing.assert_allclose(scaled["uncertainty"].array, 2.5 * expected, atol=0.03)


def test_a_fusion_translates_from_whatever_is_there_and_never_looks_at_the_target():
    network = model(MR, CT, T2, network="fusion", arguments=FUSION)
    array = scan(3, np.float32).array.copy()
    both = translate(Volume(array, AFFINE), network, engine=Engine("cpu"))["translated"].array
    array[2] = np.nan
    assert np.array_equal(translate(Volume(array, AFFINE), network, engine=Engine("cpu"))["translated"].array, both)
    array[1] = np.nan
    one = translate(Volume(array, AFFINE), network, engine=Engine("cpu"))["translated"].array
    alone = translate(Volume(array[:1], AFFINE), network, engine=Engine("cpu"))["translated"].array
    assert one.shape == (1, 14, 12, 9) and np.array_equal(one, alone) and not np.array_equal(one, both)
    array[0] = np.nan
    with pytest.raises(BadInput, match="no finite value"):
        translate(Volume(array, AFFINE), network, engine=Engine("cpu"))


def test_cancelling_reaches_the_caller():
    def cancel(stage: str, done: int, total: int) -> None:
        if stage == "Translating":
            raise Cancelled

    with pytest.raises(Cancelled):
        translate(scan(), model(MR, T2), engine=Engine("cpu"), progress=cancel)


def test_the_task_reports_what_it_did_and_every_output_says_so(tmp_path):
    saved(model(MR, T2), tmp_path / "m")
    parameters = {"model": str(tmp_path / "m"), "device": "cpu", "uncertainty": True, "target": "T2"}
    result = run_task("translate", {"input": scan()}, parameters, progress=lambda *_: None)
    assert set(result.outputs) == {"translated", "uncertainty"}
    assert (result.report["source"], result.report["target"], result.report["units"]) == ("T1", "T2", "")
    assert all(made.meta["provenance"]["model"] == "m" for made in result.outputs.values())
    json.dumps(result.report)
    with pytest.raises(BadInput, match="not known"):
        run_task("translate", {"input": scan()}, {"strength": 1.0}, progress=lambda *_: None)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("kinds", "T1"), ("kinds", [1]), ("kinds", [{"name": "T1"}]), ("kinds", [{}] * 9),
        ("standard", [3, 2, 1]), ("standard", ["a"]), ("standard", [0.1, float("1e99")]), ("low", "0"), ("high", -1.0),
        ("modality", "PET"), ("name", "T2"), ("window", {"kind": "fixed", "low": 1, "high": 0}),
    ],
)  # fmt: skip
def test_an_odd_description_of_the_kinds_is_refused_in_one_sentence(key, value, tmp_path):
    saved(model(MR, T2), tmp_path / "m")
    path = tmp_path / "m" / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    (metadata["medae"] if key == "kinds" else metadata["medae"]["kinds"][0])[key] = value
    path.write_text(json.dumps(metadata))
    with pytest.raises(BadModel) as error:
        read_bundle(tmp_path / "m")
    assert "\n" not in str(error.value)


def test_the_kinds_belong_to_what_the_hash_protects(tmp_path):
    saved(model(MR, T2), tmp_path / "m")
    path = tmp_path / "m" / "configs" / "metadata.json"
    path.write_text(path.read_text().replace('"high": 800.0', '"high": 900.0'))
    with pytest.raises(BadModel, match="SHA-256"):
        read_bundle(tmp_path / "m")


@settings(max_examples=40)
@given(arrays(np.float64, 19, elements=st.floats(0.05, 0.9), unique=True), st.floats(0.5, 2))
def test_a_standard_contrast_is_reached_and_keeps_the_order(found, stretch):
    own = np.sort(found)
    curve = to_standard(own, tuple(own * stretch))
    if curve is None:
        assert np.diff(own).min() <= 1e-6
        return
    seen = np.linspace(-0.1, 1.5, 300, dtype=np.float32)
    made = curve(seen)
    assert (np.diff(made) >= 0).all() and made.dtype == np.float32
    np.testing.assert_allclose(curve(own.astype(np.float32)), own * stretch, atol=1e-4)
    np.testing.assert_allclose(made[seen > 0], seen[seen > 0] * stretch, atol=1e-3)  # the same stretch, beyond it too


def test_a_scan_like_those_learned_from_raises_no_doubt_and_another_does():
    scans = [spread(np.random.default_rng(n).normal(300 + 5 * n, 40, (20, 20, 20)), (0, 500)) for n in range(4)]
    known = json.loads(json.dumps(domain(scans, [(1.0, 1.0, 3.0)] * 4)))
    assert doubts(scans[2], (1.0, 1.2, 3.0), known, "scan", "T1") == []
    other = spread(np.random.default_rng(9).normal(120, 10, (20, 20, 20)), (0, 500))
    assert "another kind of scan" in doubts(other, (1.0, 1.0, 3.0), known, "scan", "T1")[0]
    assert "1 x 1 x 9 mm" in doubts(scans[0], (1.0, 1.0, 9.0), known, "scan", "T1")[0]
    with pytest.raises(BadModel):
        doubts(other, (1.0, 1.0, 3.0), {**known, "spreads": [["a"] * 19]}, "scan", "T1")


def test_a_files_kind_is_told_by_the_last_word_of_its_name(tmp_path):
    names = [f"patient12_{kind}.nii.gz" for kind in ("T1W", "T2W", "FLAIR")] + ["p2/brainT1.nrrd", "p2/brainT2.nrrd"]
    for number, name in enumerate(names):
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        scan(seed=number).save(tmp_path / "scans" / name)
    notes: list[str] = []
    cases = read_folder(tmp_path / "scans", tmp_path / "cache", ["T1", "T2"], "", notes.append)
    assert [case.name for case in cases] == ["p2/brain.nrrd", "patient12_.nii.gz"]
    assert all(np.isfinite(case.voxels).all() and len(case.voxels) == 2 for case in cases)
    assert len(notes) == 1 and "FLAIR" in notes[0]


def test_files_of_a_subject_are_fused_whatever_their_endings(tmp_path):
    for number, name in enumerate(("p1_T1.nii.gz", "p1_T2.nrrd", "p2_T1.mha", "p2_T1.nrrd", "p2_T2.nrrd")):
        Volume(scan(seed=number).array, np.eye(4)).save(tmp_path / name)
    notes: list[str] = []
    cases = read_folder(tmp_path, tmp_path / "cache", ["T1", "T2"], "", notes.append)
    assert [case.name for case in cases] == ["p1_.nii.gz"]
    assert np.isfinite(cases[0].voxels).all() and len(cases[0].voxels) == 2
    assert len(notes) == 1 and "p2_.mha is left out: two of its files are of the same modality." in notes[0]
