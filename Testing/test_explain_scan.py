"""Explain in the scan's own terms: its units and unevenness, its gaps, its border, and one scan's files in a folder."""

from __future__ import annotations

import json

import numpy as np
import pytest
from anomaly_tools import on_few_cells, tiny_normative
from generated_bodies import body
from generated_heads import head
from models import save_small_model
from scipy.ndimage import gaussian_filter
from test_explain import trained_like
from test_features import NETWORKS, model, scan

from MedAELib.__main__ import main
from MedAELib.anomaly.prepare import prepared_for
from MedAELib.engine.run import Engine
from MedAELib.explain.traversal import around
from MedAELib.model import Model
from MedAELib.tasks.anomaly import anomaly
from MedAELib.tasks.explain import explain
from MedAELib.volume import Volume

CPU = Engine("cpu", "float32")
TURN = np.array([[0.96, -0.28, 0], [0.28, 0.96, 0], [0, 0, 1.0]])
HOLE = np.s_[0, 8:12, 9:13, 5:8]


@pytest.fixture
def normative(tmp_path, monkeypatch) -> Model:
    """A model whose random answers are large, on cells of 4 mm."""
    on_few_cells(monkeypatch)
    return tiny_normative(tmp_path / "tiny", told=0.1)


def uneven(volume: Volume) -> Volume:
    """The scan with its one side half as bright again as the other."""
    ramp = np.linspace(0.8, 1.2, volume.shape[0], dtype=np.float32)[:, None, None]
    return volume.like(volume.array * ramp)


def holed(volume: Volume, hole: tuple, value: float = np.nan) -> Volume:
    array = volume.array.astype(np.float32)
    array[hole] = value
    return volume.like(array)


def added_up(attribution: Volume, report: dict) -> float:
    """What the voxels of the file add to the score, of its difference."""
    found = report["attribution"]
    total = np.nansum(attribution.array, dtype=np.float64) / found["counted"]
    return float(total / (found["score"] - found["score_of_typical"]))


def test_the_typical_scan_is_as_uneven_as_the_scan_and_what_is_left_is_the_residual(normative):
    volume = uneven(head((4.0, 4.0, 4.0))[0])
    prepared = prepared_for(volume, normative)
    assert np.ptp(prepared.field[prepared.mask]) > 0.1 and prepared.voxels.shape == volume.shape
    found = explain(volume, normative, parts=["residual", "traversal"], directions=1, engine=CPU)
    typical = found.outputs["typical"].array[0]
    np.testing.assert_allclose(typical, anomaly(volume, normative, engine=CPU).typical.array[0], rtol=1e-3, atol=0.05)
    for name, made in (("residual", "typical"), ("baseline_residual", "baseline")):
        left = np.where(prepared.mask, volume.array[0] - found.outputs[made].array[0], 0)
        weight = gaussian_filter(prepared.mask.astype(np.float32), 1.0)
        smooth = gaussian_filter(left, 1.0) / np.maximum(weight, 1e-6)
        residual = found.outputs[f"{name}_4mm"].array[0]
        np.testing.assert_allclose(residual[prepared.mask], smooth[prepared.mask], atol=0.5)
    row = found.report["strongest"][-1]
    assert row["difference"] == pytest.approx(found.outputs["residual_4mm"].array.min(), rel=0.01)
    frames = found.outputs["traversal_1"]
    corner = np.rint((np.linalg.inv(volume.affine) @ frames.affine @ [0, 0, 0, 1])[:3]).astype(int)
    box = tuple(slice(c, c + n) for c, n in zip(corner, frames.shape))
    np.testing.assert_allclose(frames.array[4], typical[box], rtol=1e-3, atol=1.0)


def test_the_typical_scan_of_a_ct_has_air_around_it(tmp_path):
    volume, _ = body()
    made = tiny_normative(tmp_path / "ct", modality="CT", pixel=4.0)
    found = explain(volume, made, parts=["residual"], engine=CPU).outputs
    typical = anomaly(volume, made, engine=CPU).typical.array
    np.testing.assert_allclose(found["typical"].array, typical, atol=0.5)
    assert typical.min() == found["baseline"].array.min() == -1024


@pytest.mark.parametrize("hole", [None, np.s_[0, 20:24, 14:18, 20:24]])
def test_the_written_attribution_adds_up_off_the_models_grid(normative, tmp_path, hole):
    volume = head((4.0, 5.0, 3.5), TURN)[0]
    volume = volume if hole is None else holed(volume, hole)
    volume.save(tmp_path / "scan.nii.gz")
    words = ["--model", str(tmp_path / "tiny"), "--device", "cpu", "--steps", "8", "--parts", "attribution"]
    assert main(["explain", str(tmp_path / "scan.nii.gz"), str(tmp_path / "out"), *words]) == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    written = Volume.load(tmp_path / "out" / "attribution.nii.gz")
    assert added_up(written, report) == pytest.approx(1, abs=0.01 + report["attribution"]["completeness_gap"])
    grid = prepared_for(volume, normative).grid
    np.testing.assert_allclose(written.affine, grid.affine, atol=1e-3)
    assert f"{report['attribution']['counted']} voxels" in (tmp_path / "out" / "report.md").read_text()
    if hole is not None:
        typical = Volume.load(tmp_path / "out" / "typical.nii.gz").array
        assert np.array_equal(np.isnan(typical), np.isnan(volume.array))
        assert np.isnan(written.array).any()
        for row in report["strongest"]:
            index = np.rint((np.linalg.inv(volume.affine) @ [row["r"], row["a"], row["s"], 1])[:3]).astype(int)
            assert np.isfinite(volume.array[0][tuple(index)])


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_counts_nowhere_and_stays(value):
    volume, made = holed(scan(), HOLE, value), trained_like(model(*NETWORKS[0]))
    gaps = ~np.isfinite(volume.array[0])
    found = explain(volume, made, directions=1, steps=8, engine=CPU)
    for name, output in found.outputs.items():
        assert output.shape == volume.shape and output.affine == pytest.approx(volume.affine), name
        for frame in output.array:
            assert np.array_equal(np.isnan(frame), gaps), name
    for row in found.report["strongest"]:
        index = np.rint((np.linalg.inv(volume.affine) @ [row["r"], row["a"], row["s"], 1])[:3]).astype(int)
        assert not gaps[tuple(index)]
    index = np.rint((np.linalg.inv(volume.affine) @ [*found.report["point"], 1])[:3]).astype(int)
    assert not gaps[tuple(index)]
    unit = np.percentile(volume.array[0][~gaps], 99.9)
    left = (volume.array[0] - found.outputs["typical"].array[0])[~gaps] / unit
    assert found.report["case_score"] == pytest.approx(np.square(left).mean(), rel=0.02)
    assert found.report["attribution"]["counted"] == (~gaps).sum()
    assert added_up(found.outputs["attribution"], found.report) == pytest.approx(1, abs=0.03)


def test_a_folder_holds_one_scans_files(tmp_path, capfd):
    save_small_model(tmp_path / "small", network="plain", modality="MR")
    scan().save(tmp_path / "scan.nii.gz")
    folder, extra = tmp_path / "out", tmp_path / "extra.json"
    words = ["explain", str(tmp_path / "scan.nii.gz"), str(folder)]
    words += ["--model", str(tmp_path / "small"), "--device", "cpu"]
    assert main([*words, "--steps", "2", "--directions", "2"]) == 0
    (folder / "notes.txt").write_text("mine")
    assert main([*words, "--parts", "residual", "--report", str(extra)]) == 0
    names = {path.name for path in folder.iterdir()}
    report = json.loads((folder / "report.json").read_text())
    assert names == {*report["files"], "report.json", "notes.txt"} and "traversal_1.nii.gz" not in names
    assert {**report, **json.loads(extra.read_text())}.keys() - report.keys() == {"input_file", "output_file"}
    del report["files"]  # as earlier versions wrote it
    (folder / "report.json").write_text(json.dumps(report))
    point = ["--parts", "traversal", "--point", *map(str, report["point"]), "--directions", "1"]
    assert main([*words, *point]) == 0
    kept = {path.name for path in folder.iterdir()}
    assert kept == {"traversal_1.nii.gz", "report.md", "report.json", "notes.txt"}
    (folder / "typical.nii.gz").write_bytes(b"of another")
    capfd.readouterr()
    assert main([*words, *point]) == 2
    assert "holds typical.nii.gz" in capfd.readouterr().err
    (folder / "typical.nii.gz").unlink()
    (folder / "report.json").write_text('{"task": "anomaly"}')
    assert main([*words, *point]) == 2
    assert {path.name for path in folder.iterdir()} == kept


def test_a_traversal_reaches_the_far_border():
    volume, made = scan((51, 50, 13)), trained_like(model(*NETWORKS[0]))
    point = (volume.affine @ [50, 49, 12, 1])[:3].tolist()
    found = explain(volume, made, parts=["traversal"], point=point, directions=1, engine=CPU)
    frames = found.outputs["traversal_1"]
    index = np.rint((np.linalg.inv(frames.affine) @ [*point, 1])[:3]).astype(int)
    assert (index == np.array(frames.shape) - 1).all()


def test_every_voxel_is_within_what_is_shown_and_that_within_what_is_decoded():
    for name, dims, arguments in (NETWORKS[0], ("plain", 3, {"channels": [4] * 5, "strides": [2] * 5})):
        network = model(name, dims, arguments).network
        for size in range(1, 140, 3):
            for at in range(size):
                (shown, *_), (decoded, *_) = (around(np.array([at] * 3), (size,) * 3, network, m) for m in (0, 16))
                assert decoded.start <= shown.start <= at < shown.stop <= decoded.stop <= size
                assert shown.start % network.volume_strides[0] == decoded.start % network.volume_strides[0] == 0
