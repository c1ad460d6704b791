"""Explain: typical scan, residuals, attribution and traversal are what they say, for every network they apply to."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from models import save_small_model, small_model
from scipy.ndimage import gaussian_filter, median_filter
from test_features import NETWORKS, model, scan

from MedAELib.__main__ import main
from MedAELib.bundle import Kind
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput, Cancelled
from MedAELib.explain.gradients import integrated_gradients
from MedAELib.explain.residuals import median_of, nearest_typical
from MedAELib.features.code import seen_by
from MedAELib.model import Model
from MedAELib.tasks.explain import explain
from MedAELib.tasks.run import run_task
from MedAELib.volume import Volume
from MedAELib.worker.arrays import check_name

CPU = Engine("cpu", "float32")
RESIDUALS = {f"{kind}_{scale}mm" for kind in ("residual", "baseline_residual") for scale in ("0_7", "1_7", "4")}


def trained_like(made: Model) -> Model:
    """The network with weights that make differences large enough to see."""
    import torch

    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in made.network.parameters():
            spread = 1 / weight[0].numel() ** 0.5 if weight.ndim > 1 else 0.1
            weight.copy_(torch.randn(weight.shape, generator=generator) * spread)
    return made


@pytest.mark.parametrize(("name", "dims", "arguments"), NETWORKS)
def test_every_network_is_explained_or_says_why_not(name, dims, arguments):
    volume, made = scan(), trained_like(model(name, dims, arguments))
    found = explain(volume, made, directions=2, steps=4, engine=CPU)
    expected = {"typical", "baseline", *RESIDUALS}
    if name == "quantised":
        assert set(found.report["left_out"]) == {"attribution", "traversal"}
    else:
        expected |= {"attribution", "traversal_1", "traversal_2"}
        assert found.report["left_out"] == {} and found.report["traversal"]["directions"][0]["largest_change"] > 0
    assert set(found.outputs) == expected
    for name_of, output in found.outputs.items():
        assert np.isfinite(output.array).all() and check_name(name_of)  # the worker takes no other names
        if not name_of.startswith("traversal"):
            assert output.shape == volume.shape and np.array_equal(output.affine, volume.affine)
    reconstructed = made.reconstruct(volume.like(volume.array.astype(np.float32)), engine=CPU)
    np.testing.assert_allclose(found.outputs["typical"].array, reconstructed.array, rtol=1e-4, atol=0.05)


@pytest.mark.parametrize(("name", "dims", "arguments"), [n for n in NETWORKS if n[0] != "quantised"])
def test_integrated_gradients_are_complete(name, dims, arguments):
    """The axiom of completeness: what the voxels add up to is the score of the scan minus that of the start."""
    import torch

    volume, made = scan(), trained_like(model(name, dims, arguments))
    seen = seen_by(made, volume)
    start = nearest_typical(made.network, seen, CPU, lambda *_: None)
    found = integrated_gradients(made.network, seen, start, 32, CPU, lambda *_: None)

    def score(voxels: np.ndarray) -> float:
        part = Volume(voxels[None], volume.affine)
        seen_again = type(seen)(voxels[None], seen.affine, seen.scale, seen.low, None, seen.second)
        made_again = nearest_typical(made.network, seen_again, CPU, lambda *_: None)
        return float(np.square(part.array[0] - made_again).mean(dtype=np.float64))

    difference = score(seen.voxels[0]) - score(start)
    assert found.voxels.mean(dtype=np.float64) == pytest.approx(difference, rel=0.02, abs=1e-6)
    assert found.score - found.typical == pytest.approx(difference, rel=1e-3, abs=1e-6)
    assert found.gap < 0.02 and torch.is_inference_mode_enabled() is False


def test_residuals_are_scan_minus_typical_with_their_sign_and_smoother_at_coarser_scales():
    for change in (250.0, -250.0):
        array = np.full((20, 20, 20), 500.0, np.float32)
        array[9:12, 9:12, 9:12] += change
        volume = Volume(array[None], np.diag([1.0, 1.0, 1.0, 1.0]), {"modality": "MR"})
        found = explain(volume, trained_like(model(*NETWORKS[0])), parts=["residual"], engine=CPU)
        # A median of seven voxels does not see the spot, so the baseline's residual is the spot itself.
        spot = found.outputs["baseline_residual_0_7mm"].array[0]
        assert spot[10, 10, 10] * np.sign(change) > 150 and np.abs(spot[:5]).max() < 1e-3
        raw = volume.array[0] - found.outputs["typical"].array[0]
        smooth = gaussian_filter(raw, 1.7, mode="nearest")
        np.testing.assert_allclose(found.outputs["residual_1_7mm"].array[0], smooth, atol=0.02)
        assert found.report["baseline_score"] > 0


def test_the_baseline_is_the_median_of_seven_voxels_however_it_is_cut():
    volume = scan((20, 18, 27))
    seen = seen_by(small_model(modality="MR"), volume)
    np.testing.assert_array_equal(median_of(seen, 3, lambda *_: None), median_filter(seen.voxels[0], 7))
    np.testing.assert_array_equal(median_of(seen, 2, lambda *_: None), median_filter(seen.voxels[0], (7, 7, 1)))


def test_a_traversal_begins_and_ends_on_both_sides_of_the_reconstruction_and_near_the_point():
    volume = scan((72, 64, 16))
    made = trained_like(model(*NETWORKS[0]))
    point = (volume.affine @ [36, 32, 8, 1])[:3]
    found = explain(volume, made, parts=["traversal"], point=list(point), directions=1, engine=CPU)
    assert set(found.outputs) == {"traversal_1"} and "case_score" not in found.report
    whole = explain(volume, made, parts=["traversal"], engine=CPU).outputs["typical"].array[0]
    frames = found.outputs["traversal_1"]
    assert frames.channels == 9 and frames.shape == (48, 48, 16)
    corner = np.rint((np.linalg.inv(volume.affine) @ frames.affine @ [0, 0, 0, 1])[:3]).astype(int)
    box = tuple(slice(c, c + n) for c, n in zip(corner, frames.shape))
    np.testing.assert_allclose(frames.array[4], whole[box], atol=0.05)
    change = np.abs(frames.array[8] - frames.array[0])
    here = tuple(np.array([36, 32, 8]) - corner)
    assert change[here] > 0 and change[:4, :4, :4].max() < 0.05 * change.max()


@pytest.mark.parametrize(("name", "dims", "arguments"), [NETWORKS[0], *(n for n in NETWORKS if "latent" in n[2])])
def test_one_channel_of_the_code_is_moved_alone(name, dims, arguments):
    volume, made = scan(), trained_like(model(name, dims, arguments))
    point, shares = (volume.affine @ [9, 8, 6, 1])[:3].tolist(), []
    for channel in range(1, 99):
        try:
            found = explain(volume, made, parts=["traversal"], point=point, channel=channel, engine=CPU)
        except BadInput as error:
            assert f"has {channel - 1} channels" in str(error)
            break
        assert set(found.outputs) == {"traversal_1"} and found.report["traversal"]["channel"] == channel
        shares.append(found.report["traversal"]["directions"][0]["share_of_variance"])
    assert len(shares) > 1 and sum(shares) == pytest.approx(1, abs=0.01)


def test_what_does_not_apply_is_refused_and_what_is_wrong_is_told():
    volume, made = scan(), small_model("plain", modality="MR")
    place = (volume.affine @ [9, 8, 6, 1])[:3].tolist()
    for said, options in [
        ("outside", {"point": [900.0, 0.0, 0.0]}),
        ("three numbers", {"point": [1.0]}),
        ("directions", {"directions": 0}),
        ("steps", {"steps": 1}),
        ("no channel 99", {"channel": 99, "parts": ["traversal"], "point": place}),
        ("no channel -1", {"channel": -1}),
        ("not known", {"parts": ["occlusion"]}),
    ]:
        with pytest.raises(BadInput, match=said):
            explain(volume, made, engine=CPU, **options)
    with pytest.raises(BadInput, match="codebook"):
        explain(volume, model(*NETWORKS[6]), parts=["attribution"], engine=CPU)
    with pytest.raises(BadInput, match="fuses"):
        explain(volume, model("fusion", 3, {"modalities": 2, "channels": [4], "strides": [2]}), engine=CPU)
    kinds = tuple(Kind(name, "MR", made.spec.window, 0.0, 1000.0) for name in ("T1", "T2"))
    translating = Model(replace(made.spec, task="translate", kinds=kinds), made.network)
    with pytest.raises(BadInput, match="makes another kind of scan"):
        explain(volume, translating, engine=CPU)


def test_a_large_scan_is_attributed_around_the_point(monkeypatch):
    monkeypatch.setattr("MedAELib.tasks.explain.LARGEST", 1000)
    volume = scan((100, 90, 12))
    found = explain(volume, trained_like(model(*NETWORKS[0])), parts=["attribution"], steps=4, engine=CPU)
    assert found.report["attribution"]["whole"] is False
    assert found.outputs["attribution"].shape == (80, 80, 12)
    whole = trained_like(model(*NETWORKS[5]))
    assert "too large" in explain(volume, whole, steps=4, engine=CPU).report["left_out"]["attribution"]


def test_the_command_writes_volumes_and_a_report_and_cancel_leaves_nothing(tmp_path, capfd):
    save_small_model(tmp_path / "small", network="plain", modality="MR")
    scan().save(tmp_path / "scan.nii.gz")
    folder, words = tmp_path / "out", ["--model", str(tmp_path / "small"), "--device", "cpu", "--steps", "4"]
    deep = folder / "deeper"
    assert main(["explain", str(tmp_path / "scan.nii.gz"), str(deep), *words]) == 2
    assert f"{deep} cannot be made" in capfd.readouterr().err and not folder.exists()
    assert main(["explain", str(tmp_path / "scan.nii.gz"), str(folder), *words, "--directions", "99"]) == 2
    assert "99 directions" in capfd.readouterr().err and not folder.exists(), "what was made for it is gone again"
    assert main(["explain", str(tmp_path / "scan.nii.gz"), str(folder), *words, "--directions", "1"]) == 0
    report = json.loads((folder / "report.json").read_text())
    text = (folder / "report.md").read_text()
    assert report["model_sha256"] in text and "median filter" in text and "unlike its training data" in text
    files = {path.name for path in folder.iterdir()}
    assert files == {f"{n}.nii.gz" for n in ("typical", "baseline", "attribution", "traversal_1", *RESIDUALS)} | {
        "report.md", "report.json",
    }  # fmt: skip
    assert Volume.load(folder / "traversal_1.nii.gz").channels == 9

    stages = []

    def cancel(stage, done, total):
        stages.append(stage)
        if stage == "Finding which voxels made the score":
            raise Cancelled

    with pytest.raises(Cancelled):
        run_task("explain", {"input": scan()}, {"model": str(tmp_path / "small")}, progress=cancel)
    assert "Finding the nearest typical scan" in stages


def test_a_report_without_room_leaves_no_volumes(tmp_path, capfd, monkeypatch):
    save_small_model(tmp_path / "small", network="plain", modality="MR")
    scan().save(tmp_path / "scan.nii.gz")
    (tmp_path / "out").mkdir()

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    words = ["--model", str(tmp_path / "small"), "--device", "cpu", "--parts", "residual"]
    assert main(["explain", str(tmp_path / "scan.nii.gz"), str(tmp_path / "out"), *words]) == 2
    assert "the disk is full" in capfd.readouterr().err
    assert list((tmp_path / "out").iterdir()) == []
