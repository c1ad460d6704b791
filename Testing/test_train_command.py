"""`python -m MedAELib train` as a user meets it: every network from a plain folder to a model that works at once."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from train_tools import arguments, run, shrink_patches
from volumes import SIZES, blob, write_volumes

from MedAELib import Model, Volume
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput
from MedAELib.networks import NETWORKS
from MedAELib.tasks.features import features
from MedAELib.training.command import NETWORKS as NAMED
from MedAELib.training.folder import _subject, read_folder, split
from MedAELib.training.recipes import RECIPES

CASES = [(name, dims) for name in NAMED for dims in (2, 3) if (name, dims) != ("dense", 3)]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_volumes(tmp_path_factory.mktemp("data") / "scans")


@pytest.fixture(autouse=True)
def small_patches(monkeypatch) -> None:
    shrink_patches(monkeypatch)


def test_command_table_and_recipes_name_the_same_networks():
    assert set(NAMED) == set(RECIPES) <= set(NETWORKS)  # a network may have a training of its own


@pytest.mark.parametrize(("name", "dims"), CASES)
def test_every_network_trains_and_its_model_works_at_once(name, dims, folder, tmp_path, capsys):
    out = tmp_path / "model"
    assert run("train", folder, *arguments(name), "--dims", dims, "--steps", 3, "--output", out) == 0
    told = capsys.readouterr().out
    assert "step 3 of 3: loss" in told and "s left" in told and "held out" in told
    model = Model.load(out)
    assert (model.spec.network, model.spec.dims) == (name, dims)
    assert model.spec.task == ("denoise" if name == "denoising" else "reconstruct")
    assert model.bundle.figures["measured_on"] == "test" and np.isfinite(model.bundle.figures["psnr"])
    assert "test: 1 volume of 1 subject:" in model.bundle.card and "No subject is in two parts" in model.bundle.card
    scan = Volume.load(folder / "subject0.nii.gz")
    if name == "denoising":
        assert run("denoise", folder / "subject0.nii.gz", tmp_path / "o.nrrd", "--model", out, "--device", "cpu") == 0
    else:
        made = model.reconstruct(scan)
        assert made.array.shape == scan.array.shape and made.array.dtype == scan.array.dtype
        assert np.array_equal(made.affine, scan.affine)
        assert np.array_equal(made.array, Model.load(out).reconstruct(scan).array)
    assert {path.name for path in tmp_path.iterdir()} <= {"model", "o.nrrd"}


def test_training_makes_reconstructions_better_and_the_seed_repeats_the_weights(folder, tmp_path):
    short, long, again = (tmp_path / name for name in ("short", "long", "again"))
    options = [*arguments("plain"), "--dims", 2]
    assert run("train", folder, *options, "--steps", 2, "--output", short) == 0
    assert run("train", folder, *options, "--steps", 150, "--output", long) == 0
    assert run("train", folder, *options, "--steps", 2, "--output", again) == 0
    figures = [Model.load(out).bundle.figures["psnr"] for out in (short, long)]
    assert figures[1] > figures[0] + 3
    assert Model.load(short).bundle.sha256 == Model.load(again).bundle.sha256


def test_unfit_volumes_are_named_and_left_out(tmp_path, capsys):
    scans = write_volumes(tmp_path / "scans", 2)
    (scans / "corrupt.nii.gz").write_bytes(b"\x1f\x8bnot a volume")
    (scans / "empty.nrrd").touch()
    Volume(np.full((1, 9, 9, 9), 7, np.int16), np.eye(4)).save(scans / "flat.nrrd")
    Volume(np.full((1, 9, 9, 9), np.nan, np.float32), np.eye(4)).save(scans / "blank.nrrd")
    part = blob(9, (20, 20, 12)).astype(np.float32)
    part[:5] = np.nan
    Volume(part[None], np.eye(4)).save(scans / "part.nrrd")
    assert run("train", scans, *arguments("plain"), "--steps", 2, "--output", tmp_path / "m") == 0
    told = capsys.readouterr().err
    for name in ("corrupt.nii.gz", "empty.nrrd", "flat.nrrd", "blank.nrrd"):
        assert f"note: {name} is left out" in told
    assert "part.nrrd is left out" not in told
    card = Model.load(tmp_path / "m").bundle.card
    assert "corrupt.nii.gz is left out" in card and "part.nrrd" in card


def test_a_single_volume_works_and_says_that_nothing_was_held_out(tmp_path, capsys):
    scans = write_volumes(tmp_path / "scans", 1)
    assert run("train", scans, *arguments("variational"), "--steps", 2, "--output", tmp_path / "m") == 0
    assert "nothing is held out" in capsys.readouterr().err
    bundle = Model.load(tmp_path / "m").bundle
    assert bundle.figures == {} and any("Nothing was held out" in limit for limit in bundle.limits)


def test_a_volume_smaller_than_a_patch_and_a_single_slice_are_no_special_case(tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    Volume(blob(0, (6, 7, 5))[None], np.eye(4)).save(scans / "tiny.nrrd")
    Volume(blob(1, (20, 20, 9))[:, :, 4:5][None], np.eye(4)).save(scans / "slice.nrrd")
    Volume(blob(2, (9, 30, 4))[None], np.eye(4)).save(scans / "thin.nrrd")
    for dims in (2, 3):
        assert run("train", scans, *arguments("plain"), "--dims", dims, "--steps", 2, "--output", tmp_path / "m") == 0


def test_ct_gets_a_fixed_window_in_hounsfield_units(tmp_path):
    scans = write_volumes(tmp_path / "scans", 3, "CT")
    assert run("train", scans, *arguments("plain"), "--steps", 2, "--output", tmp_path / "m") == 0
    spec = Model.load(tmp_path / "m").spec
    assert (spec.modality, spec.window.kind, spec.window.low) == ("CT", "fixed", -1000)


def test_minutes_end_the_training_in_time(folder, tmp_path):
    assert run("train", folder, *arguments("plain"), "--dims", 2, "--minutes", 0.03, "--output", tmp_path / "m") == 0
    assert Model.load(tmp_path / "m").bundle.figures["psnr"] > 0


def test_modalities_of_a_subject_are_fused_and_a_missing_one_is_decoded(tmp_path):
    scans = tmp_path / "scans"
    for n in range(3):
        (scans / f"patient{n}").mkdir(parents=True)
        for name, factor in (("T1", 1), ("FLAIR", 2)):
            if (n, name) != (1, "FLAIR"):
                array = factor * blob(n, (16, 16, 12))
                Volume(array[None], np.eye(4)).save(scans / f"patient{n}" / f"{name}.nii.gz")
    options = [*arguments("fusion"), "--modalities", "T1", "FLAIR", "--steps", 3, "--output", tmp_path / "m"]
    assert run("train", scans, *options) == 0
    model = Model.load(tmp_path / "m")
    assert model.network.in_channels == 2 and model.spec.modalities == ("T1", "FLAIR")
    assert "The channels of a volume are T1, FLAIR, in this order" in model.bundle.card
    both = np.stack([blob(0, (16, 16, 12)), 2 * blob(0, (16, 16, 12))]).astype(np.float32)
    both[1] = np.nan
    made = model.reconstruct(Volume(both, np.eye(4)))
    assert made.array.shape == both.shape and np.isfinite(made.array).all()
    told = features(Volume(both, np.eye(4)), model, engine=Engine("cpu")).report["warnings"]
    assert told == ["The channels are read as T1, FLAIR, in this order."]
    for work in (model.reconstruct, lambda volume: features(volume, model, engine=Engine("cpu"))):
        with pytest.raises(BadInput, match=r"fuses 2 modalities \(T1, FLAIR, in this order\), but the volume has 1"):
            work(Volume(both[:1], np.eye(4)))


def test_fused_modalities_learn_to_undo_damage_and_are_reconstructed(tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(2):
        for name in ("T1", "T2"):
            Volume(blob(n, (16, 16, 12))[None], np.eye(4)).save(scans / f"{n}_{name}.nii.gz")
    options = [*arguments("fusion"), "--modalities", "T1", "T2", "--corrupt", "gaussian_noise", "--steps", 2]
    assert run("train", scans, *options, "--output", tmp_path / "m") == 0
    model = Model.load(tmp_path / "m")
    assert model.spec.task == "reconstruct" and "shown_psnr" in model.bundle.figures


def test_a_condition_comes_from_a_table(folder, tmp_path, capsys):
    table = tmp_path / "ages.csv"
    table.write_text("file,age\n" + "".join(f"subject{n}.nii.gz,{30 + 10 * n}\n" for n in range(4)))
    options = [*arguments("conditional"), "--condition", "spacing", "age", "--steps", 2]
    assert run("train", folder, *options, "--table", table, "--output", tmp_path / "m") == 0
    model = Model.load(tmp_path / "m")
    assert float(model.network.centre[3]) > 25 and model.network.condition_size == 4
    scan = Volume.load(folder / "subject0.nii.gz")
    assert model.reconstruct(scan, condition=[0, 0, 1, 50]).array.shape == scan.array.shape
    assert run("train", folder, *options, "--output", tmp_path / "n") == 2
    assert "No training volume tells" in capsys.readouterr().err


def test_a_field_that_never_varied_in_the_training_changes_nothing_afterwards(tmp_path):
    scans, table = tmp_path / "scans", tmp_path / "ages.csv"
    scans.mkdir()
    for n in range(5):
        Volume(blob(n, (16, 16, 12))[None], np.diag([0.7, 0.7, 2.0, 1.0])).save(scans / f"subject{n}.nii.gz")
    table.write_text("file,age\n" + "".join(f"subject{n}.nii.gz,{30 + 10 * n}\n" for n in range(5)))
    options = [*arguments("conditional"), "--condition", "spacing", "age", "--table", table, "--steps", 2]
    assert run("train", scans, *options, "--output", tmp_path / "m") == 0
    model, scan = Model.load(tmp_path / "m"), Volume.load(scans / "subject0.nii.gz")
    usual, finer, older = (
        model.reconstruct(scan, condition=[*np.log(spacing), age]).array
        for spacing, age in (([0.7, 0.7, 2.0], 30), ([2.1, 2.1, 6.0], 30), ([0.7, 0.7, 2.0], 40))
    )
    assert np.array_equal(usual, finer) and not np.array_equal(usual, older)


@pytest.mark.parametrize(
    "options",
    [["--corrupt", "low_dose", "holes"], ["--learn-from", "blind-spot"], ["--learn-from", "neighbours"]],
)
@pytest.mark.parametrize("dims", [2, 3])
def test_a_plain_network_learns_to_undo_damage_and_then_denoises(options, dims, folder, tmp_path):
    out = tmp_path / "m"
    options = [*arguments("plain"), *options, "--objective", "charbonnier=1,gradient=0.1", "--dims", dims]
    assert run("train", folder, *options, "--steps", 2, "--output", out) == 0
    assert Model.load(out).spec.task == "denoise"
    assert run("denoise", folder / "subject1.nii.gz", tmp_path / "o.nrrd", "--model", out, "--device", "cpu") == 0


def test_repeated_scans_teach_to_denoise(tmp_path):
    scans = tmp_path / "scans"
    scans.mkdir()
    for n in range(3):
        frames = np.stack([blob(n, (16, 16, 8)) + np.random.default_rng(f).integers(0, 9) for f in range(3)])
        Volume(frames.astype(np.int16), np.eye(4), {"frames": True}).save(scans / f"{n}.nrrd")
    options = [*arguments("plain"), "--learn-from", "repeats", "--steps", 2, "--output", tmp_path / "m"]
    assert run("train", scans, *options) == 0
    model = Model.load(tmp_path / "m")
    assert model.spec.task == "denoise" and model.bundle is not None
    assert "It learned from repeated noisy scans" in model.bundle.card and "clean scans" not in model.bundle.card


def test_subjects_are_never_in_two_parts(tmp_path):
    scans = tmp_path / "scans"
    for n in range(7):
        for visit in "ab":
            (scans / f"s{n}").mkdir(parents=True, exist_ok=True)
            Volume(blob(n, SIZES[0])[None], np.eye(4)).save(scans / f"s{n}" / f"{visit}.nrrd")
    cases = read_folder(scans, tmp_path / "cache", [], "", print)
    for seed in range(5):
        parts = split(cases, seed)
        subjects = [{case.subject for case in part} for part in (parts.training, parts.validation, parts.test)]
        assert sorted(map(len, subjects)) == [1, 1, 5]
        assert len(set.union(*subjects)) == 7
    for path in scans.rglob("*.nrrd"):
        path.rename(scans / f"{path.parent.name}_{path.name}")
    named = read_folder(scans, tmp_path / "cache2", [], r"^(s\d+)_", print)
    assert {case.subject for case in named} == {f"s{n}" for n in range(7)}


@pytest.mark.parametrize(
    ("path", "subject"),
    [
        ("sub-1/ses-2/anat/x.nii.gz", "sub-1"),
        ("site/sub-1/ses-2/x.nii.gz", "sub-1"),
        ("sub-1_b/x.nii.gz", "sub-1_b"),
        ("sub-1_ses-2_T1w.nii.gz", "sub-1"),
        ("sub-1.nii.gz", "sub-1"),
        ("patient/study/series", "patient"),
        ("patient/nosub-1.nrrd", "patient"),
        ("patient.nrrd", "patient.nrrd"),
    ],
)
def test_all_visits_and_series_of_a_person_are_one_subject(path, subject):
    assert _subject(path, None) == subject


def test_the_caches_are_memory_mapped(folder, tmp_path):
    case = read_folder(folder, tmp_path / "cache", [], "", print)[0]
    assert isinstance(case.voxels, np.memmap) and not case.voxels.flags.writeable


def test_the_card_names_the_hash_and_a_command_that_asks_for_the_same_again(folder, tmp_path):
    table = tmp_path / "doses at night.csv"
    names = [path.name for path in sorted(folder.rglob("*")) if path.is_file()]
    table.write_text("case,dose|mGy\n" + "".join(f"{name},{n}\n" for n, name in enumerate(names)))
    out = tmp_path / "m"
    given = ["train", folder, "--network", "conditional", "--dims", 3, "--steps", 2, "--set", "channels=[4,6,2]",
             "--condition", "spacing", "dose|mGy", "--table", table, "--patience", 4, "--precision", "bfloat16",
             "--device", "cpu", "--output", out]  # fmt: skip
    assert run(*given) == 0
    bundle = Model.load(out).bundle
    assert f"SHA-256 of specification and weights: `{bundle.sha256}`" in bundle.card
    command = re.search("`(python -m MedAELib train .*)`", bundle.card)[1]
    words = [{folder.name: str(folder), table.name: str(table)}.get(word, word) for word in shlex.split(command)[3:]]
    again = tmp_path / "again"
    assert run(*words, "--device", "cpu", "--output", again) == 0
    assert Model.load(again).bundle.sha256 == bundle.sha256


def test_a_model_that_what_needs_no_training_beats_says_so_in_its_limits():
    from MedAELib.training.card import Course, Story, limits

    def told(**figures: float) -> str:
        story = Story(
            name="m", command="", network="translating", dims=2, modality="MR", task="translate", parameters=1,
            objective="", split={"training": ["a"]}, subjects={"training": 1}, steps=3,
            course=Course("", 1.0, "cpu"), history=[], figures=[{"case": "b", **figures}], measured_on="test", unfit=[],
            kinds=["T1", "T2"],
        )  # fmt: skip
        return " ".join(limits(story))

    assert "does not help yet: plain regression" in told(psnr=3.3, regression_psnr=23.0)
    assert "23.00 against 3.30 dB" in told(psnr=3.3, regression_psnr=23.0)
    assert "does not help" not in told(psnr=24.0, regression_psnr=23.0) + told(psnr=24.0)
