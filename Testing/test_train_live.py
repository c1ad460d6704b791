"""A training that somebody looks on: volumes instead of a folder, points and pictures, a stop, a start from a model."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from drawn_digits import digit
from generated_bodies import body
from models import save_small_model
from panel_tools import write_with_arguments
from train_tools import run, shrink_patches

from MedAELib.bundle import read_bundle
from MedAELib.errors import BadInput, BadModel, Cancelled, MissingPackage
from MedAELib.model import Model
from MedAELib.tasks.run import run_task
from MedAELib.training import anomaly_model
from MedAELib.training.folder import cases_of
from MedAELib.training.recipes import RECIPES, SIZES, sized
from MedAELib.volume import Volume
from MedAELib.worker import runs
from MedAELib.worker.live import LARGEST_PICTURE, ONNX, PICTURE, Live, reached, read_picture
from MedAELib.worker.protocol import Measured


def scan(seed: int) -> Volume:
    """A small volume of waves with noise, magnitudes as of an MRI."""
    i, j, k = np.indices((24, 20, 10))
    waves = 500 + 200 * np.sin(i / (3 + seed)) + 150 * np.cos(j / 4) + 20 * k
    noise = np.random.default_rng(seed).normal(0, 10, waves.shape)
    return Volume((waves + noise)[None].astype(np.float32), np.eye(4), {"name": f"s{seed}", "modality": "MR"})


class Watched:
    """A training in a folder, and what was seen of it; it is stopped after `stop_after` points."""

    def __init__(self, folder: Path, stop_after: int = 1 << 30) -> None:
        folder.mkdir()
        self.folder, self.events = folder, list[Measured]()
        self.live = Live(folder, self._send, lambda: len(self.events) >= stop_after)

    def _send(self, event: Measured) -> bool:
        self.events.append(event)
        return True

    def train(self, volumes: int = 3, progress: Any = lambda *_: None, **parameters: Any) -> dict[str, Any]:
        given = {"name": "mine", "network": "plain", "size": "small", "steps": 6, "device": "cpu", **parameters}
        inputs = {f"volume_{number}": scan(number) for number in range(volumes)}
        return run_task("train", inputs, given, progress=progress, live=self.live).report


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    shrink_patches(monkeypatch)


def test_a_training_on_volumes_tells_its_curve_shows_a_slice_and_leaves_a_model(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "run")
    report = watched.train(names={"volume_0": "left", "volume_1": "right"})
    assert [event.step for event in watched.events] == [1, 2, 3, 4, 5, 6]
    assert all(event.held_out is not None and event.steps == 6 for event in watched.events)
    assert [event.picture for event in watched.events] == [1, 2, 3, 4, 5, 6]
    picture = read_picture(tmp_path / "run")
    assert picture is not None and picture.shape == (48, 16) and 0 <= picture.min() < picture.max() <= 1
    bundle = read_bundle(watched.live.model)
    assert bundle.name == "mine" and report["figures"]["measured_on"] == "test"
    assert {"left", "right"} & set(bundle.card.replace(",", " ").split())
    assert not (tmp_path / "run" / "work").exists()
    Model.load(watched.live.model).reconstruct(scan(5))


def test_normal_scans_of_a_scene_make_a_model_of_what_is_unlike_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(anomaly_model, "ARGUMENTS", {"channels": 4, "levels": 1})
    live = Watched(tmp_path / "run")
    inputs = {f"volume_{number}": digit("0", number) for number in range(3)}
    given = {"name": "zeros", "task": "anomaly", "steps": 2, "device": "cpu"}
    report = run_task("train", inputs, given, progress=lambda *_: None, live=live.live).report
    assert report["model"] == "zeros" and report["model_task"] == "anomaly" and report["figures"]
    assert all(0 <= event.held_out <= 1 for event in live.events if event.held_out is not None)
    assert live.events[-1].held_out is not None and live.events[-1].picture == len(live.events)
    picture = read_picture(tmp_path / "run")
    assert picture is not None and 0 <= picture.min() < picture.max() <= 1
    assert "`python -m MedAELib train FOLDER --task anomaly" in read_bundle(live.live.model).card


def test_a_stop_keeps_the_best_so_far_and_says_so(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "run", stop_after=2)
    watched.train(steps=500)
    assert watched.events[-1].step < 100
    assert "It was stopped by hand after" in read_bundle(watched.live.model).card


def test_a_cancel_leaves_no_model(tmp_path: Path) -> None:
    def cancel(stage: str, done: int, total: int) -> None:
        if stage == "Training" and done == 2:
            raise Cancelled

    watched = Watched(tmp_path / "run")
    with pytest.raises(Cancelled):
        watched.train(progress=cancel)
    assert not watched.live.model.exists()


def test_a_training_that_was_interrupted_goes_on_in_its_run_to_the_same_weights(tmp_path: Path) -> None:
    def fail(stage: str, done: int, total: int) -> None:
        if stage == "Training" and done == 4:
            raise OSError(5, "Input/output error")

    whole, broken = Watched(tmp_path / "whole"), Watched(tmp_path / "broken")
    whole.train()
    with pytest.raises(OSError, match="Input/output"):
        broken.train(progress=fail)
    assert runs.is_resumable(broken.folder) and reached(broken.folder) == (3, 6)
    broken.events.clear()
    broken.train()
    assert [event.step for event in broken.events] == [1, 2, 3, 4, 5, 6]  # those of before are told again
    assert read_bundle(broken.live.model).sha256 == read_bundle(whole.live.model).sha256
    assert not runs.is_resumable(broken.folder) and reached(broken.folder) == (0, 0)


def test_volumes_of_a_subject_are_fused_by_their_names(tmp_path: Path) -> None:
    names = {f"volume_{n}": f"{kind} {visit}" for n, (visit, kind) in enumerate(
        (visit, kind) for visit in "abc" for kind in ("T1", "T2"))}  # fmt: skip
    fused = Watched(tmp_path / "fused")
    report = fused.train(volumes=6, network="fusion", modalities=["T1", "T2"], names=names)
    spec = read_bundle(fused.live.model).spec
    assert spec.network == "fusion" and spec.arguments["modalities"] == 2 and report["figures"]["measured_on"] == "test"
    made = Watched(tmp_path / "made")
    made.train(volumes=6, network="translating", dims=2, translate=["T1", "T2"], names=names)
    assert [kind.name for kind in read_bundle(made.live.model).spec.kinds] == ["T1", "T2"]


def test_a_subject_with_one_volume_of_each_kind_is_one_case_whatever_the_names() -> None:
    kinds, volumes = ("T1", "FLAIR"), {}
    for name in ("axial T1", "sag FLAIR", "T1 before", "T1 after", "FLAIR after", "T1", "FLAIR"):
        volumes[name] = scan(len(volumes))
    subjects = {"axial T1": "P1", "sag FLAIR": "P1", "T1 before": "P2", "T1 after": "P2", "FLAIR after": "P2"}
    cases = {case.name: case for case in cases_of(volumes, subjects, lambda note: None, kinds)}
    assert set(cases) == {"P1", "P2 before", "P2 after", "T1 and FLAIR"}
    assert {name: int(np.isfinite(case.voxels).any((1, 2, 3)).sum()) for name, case in cases.items()} == {
        "P1": 2, "P2 before": 1, "P2 after": 2, "T1 and FLAIR": 2,
    }  # fmt: skip
    assert [cases[name].subject for name in ("P2 before", "P2 after")] == ["P2", "P2"]
    told: list[str] = []
    volumes["sag FLAIR"] = scan(1).slab(2, 0, 5)
    cases_of(volumes, subjects, told.append, kinds)
    assert "P1 is left out: its modalities have different sizes" in told[0]


def test_an_objective_takes_the_place_of_the_squared_error_only(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "run")
    watched.train(network="sparse", objective="l1=1,gradient=0.5")
    assert "1 l1 + 0.5 gradient + 0.001 sparsity" in read_bundle(watched.live.model).card


def test_without_a_held_out_subject_there_is_a_slice_but_no_figure(tmp_path: Path) -> None:
    watched = Watched(tmp_path / "run")
    same = dict.fromkeys(("volume_0", "volume_1"), "P1")
    report = watched.train(volumes=2, subjects=same)
    assert all(event.held_out is None for event in watched.events) and report["figures"] == {}
    assert read_picture(tmp_path / "run") is not None


def test_fine_tuning_starts_from_the_weights_and_tells_what_it_brought(tmp_path: Path) -> None:
    first = Watched(tmp_path / "first")
    first.train(steps=30)
    again = Watched(tmp_path / "again")
    again.train(start=str(first.live.model), network="", size="medium", name="tuned")
    assert again.events[0].held_out == pytest.approx(first.events[-1].held_out, abs=1.0)
    bundle = read_bundle(again.live.model)
    assert bundle.spec == read_bundle(first.live.model).spec
    assert "the model that it started from" in bundle.card


def test_a_start_that_does_not_fit_is_refused_in_a_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "scans"
    folder.mkdir()
    for seed in range(3):
        scan(seed).save(folder / f"{seed}.nrrd")
    command = ("train", folder, "--steps", 2, "--device", "cpu", "--output", tmp_path / "m")
    told = {
        ("--start", "mr-denoise", "--network", "plain"): "has network denoising, not plain",
        ("--start", "mr-denoise", "--dims", "2"): "has dims 3, not 2",
        ("--start", "mr-denoise", "--set", "channels=8"): "cannot be changed",
        ("--start", "mr-denoise", "--size", "small"): "cannot be changed",
        ("--start", "brain-t1-anomaly"): "cannot be trained on",
        ("--start", "nobody"): "There is no model",
        ("--start", "ct-denoise", "--modality", "MR"): "made for CT, but the volumes are MRI",
        (): "Say what to train",
    }
    for number, fields in enumerate(("5", "[3]", '{"a": 1}')):
        model = write_with_arguments(tmp_path / f"hostile-{number}", f'{{"fields": {fields}}}', "conditional")
        told["--start", str(model)] = "argument 'fields' must be a list"
    for more, sentence in told.items():
        assert run(*command, *more) == 2
        assert sentence in capsys.readouterr().err
    assert not (tmp_path / "m").exists()


def test_inputs_and_folder_exclude_each_other(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="either volumes or a folder"):
        Watched(tmp_path / "run").train(folder=str(tmp_path))
    with pytest.raises(BadInput, match="either volumes or a folder"):
        Watched(tmp_path / "none").train(volumes=0)


@pytest.mark.parametrize("network", RECIPES)
def test_sizes_differ_in_width_and_not_in_the_code(network: str) -> None:
    from MedAELib.networks import build

    counts = []
    for size in SIZES:
        dims = 2 if network == "dense" else 3
        built = build(network, dims, sized(network, dims, size))
        counts.append(sum(parameter.numel() for parameter in built.parameters()))
    assert counts[0] < counts[1] < counts[2]
    assert sized(network, dims, "medium") == dict(RECIPES[network].arguments.get(dims, {}))


@pytest.mark.parametrize(
    "content",
    [b"", b"\x93NUMPY", b"x" * 1000, np.zeros((2, 2, 2), np.float32), np.zeros((2, 2)), np.full((2, 2), np.nan, "f4"),
     np.array([["a"]]), np.array([[{}]], dtype=object), np.zeros((0, 2), np.float32)],
    ids=["empty", "cut", "noise", "3D", "float64", "nan", "text", "pickle", "nothing"],
)  # fmt: skip
def test_a_picture_that_is_none_is_not_shown(tmp_path: Path, content: Any) -> None:
    path = tmp_path / PICTURE
    path.parent.mkdir()
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)
    assert read_picture(tmp_path) is None
    path.unlink()
    path.symlink_to("/etc/passwd")
    assert read_picture(tmp_path) is None


def test_a_huge_picture_is_not_even_read(tmp_path: Path) -> None:
    path = tmp_path / PICTURE
    path.parent.mkdir()
    with path.open("wb") as file:
        file.truncate(5 * LARGEST_PICTURE)
    assert read_picture(tmp_path) is None


def test_points_wait_while_nobody_reads_and_none_is_lost(tmp_path: Path) -> None:
    heard: list[Measured] = []
    listening = False

    def send(event: Measured) -> bool:
        if listening:
            heard.append(event)
        return listening

    live = Live(tmp_path, send, lambda: False)
    for step in range(5):
        live.measured(step, 10, float("nan") if step == 2 else 1.0, None)
    assert heard == []
    listening = True
    live.measured(5, 10, 1.0, float("inf"))
    assert [event.step for event in heard] == [0, 1, 2, 3, 4, 5]
    assert heard[2].loss is None and heard[5].held_out is None and live.rest() == []


def test_a_model_that_sees_other_intensities_is_no_start(tmp_path: Path) -> None:
    first = Watched(tmp_path / "first")
    first.train(steps=2)
    ct = Volume(scan(1).array - 1000, np.eye(4), {"name": "c", "modality": "CT"})
    with pytest.raises((BadInput, BadModel), match="made for MRI, but the volumes are CT"):
        run_task(
            "train", {"volume_0": ct}, {"start": str(first.live.model), "steps": 2, "device": "cpu"},
            progress=lambda *_: None, live=Watched(tmp_path / "b").live,
        )  # fmt: skip


def test_a_network_is_written_as_onnx_or_the_lacking_packages_are_named(tmp_path: Path, monkeypatch) -> None:
    watched, told = Watched(tmp_path / "run"), []
    parameters = {"model": str(save_small_model(tmp_path / "small", network="plain").bundle.folder), "size": 16}
    with monkeypatch.context() as lacking, pytest.raises(MissingPackage, match="onnx and onnxscript"):
        lacking.setattr(importlib.util, "find_spec", lambda name: None)
        run_task("onnx", {}, parameters, progress=lambda *_: None, live=watched.live)
    assert not (watched.folder / ONNX).exists()
    report = run_task("onnx", {}, parameters, progress=lambda *at: told.append(at), live=watched.live).report
    assert report["model"] == "small" and report["checked"] and told[-1] == ("Writing the network", 1, 1)
    assert (watched.folder / ONNX).stat().st_size > 1000
    with pytest.raises(BadInput, match="multiples"):
        run_task("onnx", {}, {**parameters, "size": 15}, progress=lambda *_: None, live=watched.live)


def test_a_ct_with_1024_added_is_left_out_with_the_reason() -> None:
    neck, told = body()[0], list[str]()
    volumes = {shift: Volume(neck.array.clip(-1024) + int(shift), neck.affine) for shift in ("0", "1024")}
    assert [case.name for case in cases_of(volumes, {}, told.append)] == ["0"]
    why = "it looks like a CT with 1024 added to its Hounsfield units; subtract 1024 first."
    assert told == [f"1024 is left out: {why}"]
