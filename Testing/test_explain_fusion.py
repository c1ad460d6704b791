"""Explain for networks that fuse: each modality in its own units, a missing one is no node, gradients add up."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, median_filter
from test_explain import RESIDUALS, trained_like
from volumes import blob

from MedAELib.__main__ import main
from MedAELib.bundle import Spec, Window
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput
from MedAELib.explain.names import endings
from MedAELib.model import Model
from MedAELib.tasks.explain import explain
from MedAELib.tasks.run import run_task
from MedAELib.volume import Volume

CPU = Engine("cpu", "float32")
NAMES = ("T1", "T2", "FLAIR")
SHAPE = (24, 20, 12)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
ALWAYS = {"typical", "baseline", *RESIDUALS}


def fusion(dims: int = 3, names: tuple[str, ...] = NAMES) -> Model:
    """A network of random weights that fuses three modalities."""
    arguments = {"modalities": 3, "channels": [4, 8], "strides": [2, 2]}
    spec = Spec("fusion", arguments, dims, "reconstruct", "MR", Window("percentile", 0.0, 99.9), modalities=names)
    return trained_like(Model.create(spec))


def together(*factors: float, shape: tuple[int, int, int] = SHAPE) -> Volume:
    """A channel for each factor, 0: a missing one."""
    channels = [blob(n, shape).astype(np.float32) * (factor or np.nan) for n, factor in enumerate(factors)]
    return Volume(np.stack(channels), AFFINE, {"name": "head", "modality": "MR"})


def holed(volume: Volume, hole: tuple) -> Volume:
    """The scans with nothing finite there."""
    array = volume.array.copy()
    array[hole] = np.nan
    return volume.like(array)


@pytest.mark.parametrize("dims", [3, 2])
def test_each_modality_that_is_there_is_explained_in_its_own_units(dims):
    volume, made = together(1, 20, 0), fusion(dims)
    found = explain(volume, made, modality="T2", directions=1, steps=4, engine=CPU)
    parts = {*ALWAYS, "attribution", "traversal_1"}
    assert set(found.outputs) == parts | {f"{name}_of_t1" for name in parts} | {"input_of_t1"}
    assert found.report["modalities"] == ["T2", "T1"] and found.report["missing"] == ["FLAIR"]
    assert found.report["further"] == {"_of_t1": "T1"} and "no scan of FLAIR" in found.report["warnings"][0]
    whole = made.reconstruct(volume, engine=CPU)
    spacing = np.array([1, 1, 2])
    for n, end in ((1, ""), (0, "_of_t1")):
        typical = found.outputs[f"typical{end}"].array[0]
        np.testing.assert_allclose(typical, whole.array[n], rtol=1e-4, atol=0.05)
        smooth = gaussian_filter(volume.array[n] - typical, 4 / spacing, mode="nearest")
        np.testing.assert_allclose(found.outputs[f"residual_4mm{end}"].array[0], smooth, rtol=1e-3, atol=0.1)
        plain = median_filter(volume.array[n], 7 if dims == 3 else (7, 7, 1))
        np.testing.assert_allclose(found.outputs[f"baseline{end}"].array[0], plain, rtol=1e-4, atol=0.05)
        frames = found.outputs[f"traversal_1{end}"].array
        np.testing.assert_allclose(frames[4], typical[(..., *slices_of(found, volume, end))], rtol=1e-3, atol=0.5)
        assert np.abs(np.diff(frames, axis=0)).max() > 0
    np.testing.assert_array_equal(found.outputs["input_of_t1"].array[0], volume.array[0])
    changes = found.report["traversal"]["directions"][0]
    assert changes["largest_change"] == changes["largest_changes"]["T2"] > changes["largest_changes"]["T1"] > 0


def slices_of(found, volume: Volume, end: str) -> tuple[slice, ...]:
    """Where the frames lie in the volume."""
    frames = found.outputs[f"traversal_1{end}"]
    corner = np.rint((np.linalg.inv(volume.affine) @ frames.affine @ [0, 0, 0, 1])[:3]).astype(int)
    return tuple(slice(c, c + n) for c, n in zip(corner, frames.shape))


def test_a_scale_of_intensities_is_only_that():
    made = fusion()
    one, other = (explain(together(1, factor, 1), made, parts=["residual"], engine=CPU) for factor in (1, 50))
    for name, output in other.outputs.items():
        times = 50 if name.endswith("_of_t2") else 1
        np.testing.assert_allclose(output.array, times * one.outputs[name].array, rtol=1e-3, atol=0.02 * times)
    assert other.report["case_score"] == pytest.approx(one.report["case_score"], rel=1e-3)


@pytest.mark.parametrize("dims", [3, 2])
def test_the_gradients_of_all_modalities_together_add_up_to_the_score(dims):
    volume, made = holed(together(1, 20, 0), np.s_[1, 4:9, 4:9, 4:7]), fusion(dims)
    found = explain(volume, made, parts=["attribution"], steps=24, engine=CPU)
    told, own = found.report["attribution"], {}
    for name, end in (("T1", ""), ("T2", "_of_t2")):
        attribution = found.outputs[f"attribution{end}"].array
        own[name] = float(np.nansum(attribution, dtype=np.float64))
        assert np.isnan(attribution).sum() == (75 if end else 0)
    assert told["counted"] == 2 * np.prod(SHAPE) - 75
    assert sum(own.values()) / told["counted"] == pytest.approx(told["score"] - told["score_of_typical"], rel=0.03)
    assert min(map(abs, own.values())) > 0
    assert told["score"] == pytest.approx(found.report["case_score"], rel=1e-3)
    scores = [found.report["scores"][name]["case_score"] for name in ("T1", "T2")]
    counts = np.array([np.prod(SHAPE), np.prod(SHAPE) - 75])
    assert found.report["case_score"] == pytest.approx(np.dot(scores, counts) / counts.sum(), rel=1e-3)


def test_what_is_not_finite_in_one_modality_counts_in_the_others():
    volume = holed(together(1, 1, 1), np.s_[2, :4])
    found = explain(volume, fusion(), parts=["residual"], engine=CPU)
    for name, output in found.outputs.items():
        gap = np.isnan(output.array[0])
        assert gap[:4].all() == name.endswith("_of_flair") and not gap[4:].any()
    assert {row["modality"] for row in found.report["strongest"]} == set(NAMES)


def test_a_large_scan_is_attributed_around_the_point(monkeypatch):
    monkeypatch.setattr("MedAELib.tasks.explain.LARGEST", 1000)
    found = explain(together(1, 1, 0, shape=(100, 90, 8)), fusion(), parts=["attribution"], steps=2, engine=CPU)
    assert found.report["attribution"]["whole"] is False
    for end in ("", "_of_t2"):
        assert found.outputs[f"attribution{end}"].shape == (80, 80, 8)


def test_endings_are_plain_words_and_no_two_are_alike():
    assert endings(["T1", "T2 post", "1"]) == {"T1": "_of_t1", "T2 post": "_of_t2_post", "1": "_of_1"}
    assert len(set(endings(["T1+", "T1", "++", "a" * 30, "a" * 31]).values())) == 5


@pytest.fixture
def place(tmp_path) -> Path:
    """A model, a T1, a T2 with other voxels that covers half of it, and both and nothing in one file."""
    made = fusion()
    made.save(
        tmp_path / "model", name="model", description="Random.", card="# x", licence="x", figures={}, limits=[],
        training_data=[],
    )  # fmt: skip
    volume = together(1, 20, 0)
    volume.save(tmp_path / "all.nrrd")
    Volume(volume.array[:1], AFFINE, {"modality": "MR"}).save(tmp_path / "one.nii.gz")
    Volume(volume.array[1:2, ::2, ::2, :6], AFFINE @ np.diag([2, 2, 1, 1.0])).save(tmp_path / "two.nii.gz")
    return tmp_path


def command(place: Path, source: str, *words: str) -> int:
    more = [str(place / word) if word == "model" else word for word in words]
    return main(["explain", str(place / source), str(place / "out"), "--device", "cpu", "--steps", "2", *more])


def test_the_command_takes_further_modalities_and_one_after_the_other(place, capfd):
    two = f"T2={place / 'two.nii.gz'}"
    assert command(place, "one.nii.gz", "--model", "model", "--with", two, "--directions", "1") == 0
    report = json.loads((place / "out" / "report.json").read_text())
    assert report["modalities"] == ["T1", "T2"] and report["scans"]["T2"] == {"input": "two", "units": ""}
    told = " ".join(report["warnings"])
    assert "two (T2) was resampled" in told and "one is taken as T1" in told and "no scan of FLAIR" in told
    files = {path.name for path in (place / "out").iterdir()}
    assert {"typical.nii.gz", "typical_of_t2.nii.gz", "input_of_t2.nii.gz", "traversal_1_of_t2.nii.gz"} <= files
    beside = Volume.load(place / "out" / "residual_4mm_of_t2.nii.gz")
    assert np.isnan(beside.array[..., 7:]).all() and np.isfinite(beside.array[:, :22, :18, :5]).all()
    text = (place / "out" / "report.md").read_text()
    assert "| modality | scale (mm) |" in text and "| T2 |" in text and "change per step of T2" in text
    capfd.readouterr()
    assert command(place, "two.nii.gz", "--model", "model", "--modality", "T2", "--parts", "residual") == 0
    files = {path.name for path in (place / "out").iterdir()}
    assert files == {f"{name}.nii.gz" for name in ALWAYS} | {"report.md", "report.json"}
    assert "no scan of T1, FLAIR" in capfd.readouterr().err
    assert command(place, "all.nrrd", "--model", "model", "--parts", "residual", "--modality", "T2") == 0
    report = json.loads((place / "out" / "report.json").read_text())
    assert report["modalities"] == ["T2", "T1"] and "all (T1)" in report["scans"]["T1"]["input"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--model", "model", "--with", "PD=TWO"], "It knows T1, T2, FLAIR"),
        (["--model", "model", "--with", "T2=TWO", "--modality", "T2"], "It knows T1, T2, FLAIR"),
        (["--model", "model", "--modality", "PD"], "It knows T1, T2, FLAIR"),
        (["--model", "model", "--with", "T2"], "NAME=FILE"),
        (["--model", "model", "--with", "T2=TWO", "--with", "T2=TWO"], "names a kind twice"),
        (["--with", "T2=TWO"], "Name it with --model"),
        (["--model", "model", "--with", "T2=nowhere.nii"], "nowhere.nii"),
        (["--model", "ct-denoise", "--with", "T2=TWO"], "does not fuse"),
        (["--model", "ct-denoise", "--modality", "T2"], "does not fuse"),
    ],
)
def test_what_is_wrong_is_told_and_leaves_nothing(place, capfd, words, said):
    words = [word.replace("TWO", str(place / "two.nii.gz")) for word in words]
    assert command(place, "one.nii.gz", *words) == 2
    told = capfd.readouterr().err
    assert said.replace("NAME=FILE", "=FILE") in told and "Traceback" not in told
    assert not (place / "out").exists()


def test_the_name_of_a_scan_tells_its_modality_unless_it_is_given(place, capfd):
    (place / "two.nii.gz").rename(place / "head_T2.nii.gz")
    assert command(place, "head_T2.nii.gz", "--model", "model", "--parts", "residual") == 0
    assert "head_T2 is taken as T2" in capfd.readouterr().err
    assert json.loads((place / "out" / "report.json").read_text())["modalities"] == ["T2"]
    wrong = ["--with", f"FLAIR={place / 'head_T2.nii.gz'}"]
    assert command(place, "one.nii.gz", "--model", "model", "--parts", "residual", *wrong) == 2
    assert "head_T2 is taken as FLAIR, but its name says T2" in capfd.readouterr().err


def test_models_that_name_no_modalities_count_them_and_a_missing_scan_is_told(tmp_path):
    volume = together(1, 0, 1)
    found = explain(volume, fusion(names=()), modality="3", parts=["residual"], engine=CPU)
    assert found.report["modalities"] == ["3", "1"] and "typical_of_1" in found.outputs
    with pytest.raises(BadInput, match="no scan of T2"):
        explain(volume, fusion(), modality="T2", engine=CPU)
    with pytest.raises(BadInput, match="know 'PD'"):
        explain(volume, fusion(), modality="PD", engine=CPU)
    with pytest.raises(BadInput, match="fuses 3 modalities"):
        explain(Volume(volume.array[:2], AFFINE), fusion(), engine=CPU)
    with pytest.raises(BadInput, match="must have its kind"):
        asked = {"others": {"with_0": "T2"}, "model": "ct-denoise"}
        run_task("explain", {"input": volume}, asked, progress=lambda *_: None)
