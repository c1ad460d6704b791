"""From a folder of pairs to a translating model and its results, on the command line; faults are one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from paired import AFFINE, pair, write_pairs
from train_tools import TINY, run, shrink_patches

from MedAELib import Model, Volume
from MedAELib.training.recipes import FUSING, TRANSLATING

SMALL = ["--set", "channels=[8,12]", "--set", "strides=[1]"]
OPTIONS = ["--network", "translating", "--translate", "T1", "T2", "--dims", "2", "--device", "cpu", *SMALL]


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_pairs(tmp_path_factory.mktemp("data") / "pairs")


@pytest.fixture(scope="module")
def model(folder, tmp_path_factory) -> Path:
    """An ensemble of two that has learned for some seconds."""
    out = tmp_path_factory.mktemp("trained") / "t1-to-t2"
    before = (TRANSLATING.patches, TRANSLATING.batches)
    TRANSLATING.__dict__.update(patches={2: (24, 24), 3: (16, 16, 8)}, batches={2: 8, 3: 2})
    status = run("train", folder, *OPTIONS, "--members", 2, "--steps", 240, "--output", out)
    TRANSLATING.__dict__.update(zip(("patches", "batches"), before, strict=True))
    assert status == 0
    return out


@pytest.fixture(autouse=True)
def small_patches(monkeypatch) -> None:
    shrink_patches(monkeypatch)
    for recipe in (TRANSLATING, FUSING):
        monkeypatch.setitem(recipe.__dict__, "patches", {2: (16, 16), 3: (16, 16, 8)})
        monkeypatch.setitem(recipe.__dict__, "batches", {2: 4, 3: 2})


def test_a_trained_model_beats_every_voxel_wise_map_on_a_subject_it_has_not_seen(model):
    """T2 of these heads depends on the surroundings, so no map of single intensities can tell it."""
    bundle = Model.load(model).bundle
    assert bundle.figures["measured_on"] == "test"
    assert bundle.figures["psnr"] > bundle.figures["regression_psnr"] + 2
    assert bundle.figures["ssim"] > bundle.figures["regression_ssim"]
    assert bundle.figures["psnr"] > bundle.figures["matching_psnr"] + 2
    assert bundle.figures["ssim"] > bundle.figures["matching_ssim"]
    assert "matching psnr" in bundle.card and " % of a translation is what intensities alone tell" in bundle.card
    assert bundle.figures["uncertainty_correlation"] > 0.1
    assert "Translates T1 to T2" in bundle.card and "may be invented or lost" in bundle.card
    assert "--translate T1 T2 --members 2" in bundle.card and "--modalities" not in bundle.card


def test_the_specification_names_both_kinds_with_their_windows(model):
    spec = Model.load(model).spec
    assert (spec.task, spec.network, spec.modality) == ("translate", "ensemble", "MR")
    assert [kind.name for kind in spec.kinds] == ["T1", "T2"]
    assert spec.kinds[0].standard and not spec.kinds[1].standard
    assert 550 < spec.kinds[1].high < 700  # the usual 99.9th percentile of the T2 scans


def test_translation_keeps_the_place_and_gives_target_units_and_uncertainty(model, folder, tmp_path, capsys):
    scan = folder / "patient1_T1.nii.gz"
    paths = [tmp_path / name for name in ("out.nii.gz", "sigma.nrrd", "report.json")]
    assert run("translate", scan, paths[0], "--model", model, "--uncertainty", paths[1], "--report", paths[2],
               "--device", "cpu") == 0  # fmt: skip
    told = capsys.readouterr()
    assert "T1 -> T2" in told.out and "learned from" not in told.err and "mm" not in told.err
    source, made, sigma, wanted = (Volume.load(p) for p in (scan, *paths[:2], folder / "patient1_T2.nii.gz"))
    for volume in (made, sigma):
        assert volume.shape == source.shape and volume.channels == 1
        np.testing.assert_allclose(volume.affine, source.affine, atol=1e-5)
    errors = [float(np.abs(volume.array - wanted.array).mean()) for volume in (made, source)]
    assert errors[0] < 0.6 * errors[1]
    assert made.array.min() >= 0 and sigma.array.min() >= 0 and 0 < sigma.array.mean() < 100
    report = json.loads(paths[2].read_text())
    assert (report["source"], report["target"], report["model"]) == ("T1", "T2", "t1-to-t2")


def test_the_same_input_gives_the_same_bits_whatever_the_tile(model, folder, tmp_path):
    scan = folder / "patient2_T1.nii.gz"
    outs = [(tmp_path / f"o{n}.nrrd", tmp_path / f"u{n}.nrrd") for n in range(3)]
    for (out, sigma), tile in zip(outs, (0, 0, 16), strict=True):
        assert run("translate", scan, out, "--model", model, "--uncertainty", sigma, "--tile", tile,
                   "--device", "cpu") == 0  # fmt: skip
    first, again, tiled = ([Volume.load(path).array for path in paths] for paths in outs)
    for one, two, three in zip(first, again, tiled, strict=True):
        assert np.array_equal(one, two)
        np.testing.assert_allclose(one, three, atol=0.05)


def test_another_kind_of_scan_or_another_grid_is_noted(model, folder, tmp_path, capsys):
    array = pair(9)[1]
    Volume(array[None], AFFINE).save(tmp_path / "t2.nrrd")
    assert run("translate", tmp_path / "t2.nrrd", tmp_path / "o.nrrd", "--model", model, "--device", "cpu") == 0
    assert "as far from the T1 scans that the model learned from" in capsys.readouterr().err
    Volume(pair(9)[0][None], np.diag([0.3, 0.3, 2, 1])).save(tmp_path / "fine.nrrd")
    assert run("translate", tmp_path / "fine.nrrd", tmp_path / "o.nrrd", "--model", model, "--device", "cpu") == 0
    assert "0.3 x 0.3 x 2 mm" in capsys.readouterr().err


def test_fused_kinds_are_translated_with_some_of_them_missing(tmp_path, capsys):
    scans = write_pairs(tmp_path / "scans", 3)
    for n in range(3):
        volume = Volume.load(scans / f"patient{n}_T1.nii.gz")
        volume.like(volume.array * 0.5 + 10).save(scans / f"patient{n}_FLAIR.nii.gz")
    (scans / "patient1_FLAIR.nii.gz").unlink()
    out = tmp_path / "m"
    assert run("train", scans, "--network", "fusion", "--modalities", "T1", "T2", "FLAIR", "--translate", "T1", "FLAIR",
               "--members", 2, *TINY, "--steps", 3, "--device", "cpu", "--output", out) == 0  # fmt: skip
    kinds = Model.load(out).spec.kinds
    assert "The channels of a volume are T1, T2, FLAIR, in this order" in Model.load(out).bundle.card
    assert [kind.name for kind in kinds] == ["T1", "T2", "FLAIR"]
    assert all(kind.standard for kind in kinds[:2])  # any may be the source
    t1, t2 = (scans / f"patient0_{name}.nii.gz" for name in ("T1", "T2"))
    common = ["--model", out, "--device", "cpu"]
    assert run("translate", t1, tmp_path / "a.nrrd", *common) == 0
    assert run("translate", t2, tmp_path / "b.nrrd", *common, "--from", "T2", "--to", "T1") == 0
    more = ["--with", f"T2={t2}", "--uncertainty", tmp_path / "u.nrrd"]
    assert run("translate", t1, tmp_path / "c.nrrd", *common, *more) == 0
    assert "T1 + T2 -> FLAIR" in capsys.readouterr().out
    made = [Volume.load(tmp_path / f"{name}.nrrd") for name in "abcu"]
    assert all(volume.channels == 1 and np.isfinite(volume.array).all() for volume in made)
    assert not np.array_equal(made[0].array, made[2].array)  # a second scan is used where there is one
    resampled, far = tmp_path / "coarse.nrrd", tmp_path / "far.nrrd"
    scan = Volume.load(t2)
    Volume(scan.array[:, ::2], scan.affine @ np.diag([2, 1, 1, 1])).save(resampled)
    Volume(scan.array, np.diag([1, 1, 1, 1.0]) + np.eye(4, k=3) * 1e4).save(far)
    assert run("translate", t1, tmp_path / "e.nrrd", *common, "--with", f"T2={resampled}") == 0
    told = capsys.readouterr().err
    assert "coarse (T2) was resampled" in told and "not finite" not in told
    near, other = (Volume.load(tmp_path / f"{name}.nrrd").array for name in "ec")
    assert np.abs(near - other).mean() < np.abs(made[0].array - other).mean()  # as with the scan itself, nearly
    assert run("translate", t1, tmp_path / "d.nrrd", *common, "--with", f"T2={far}") == 2
    assert "do not overlap" in capsys.readouterr().err
    assert run("translate", t1, tmp_path / "d.nrrd", *common, "--with", f"PD={t2}") == 2
    assert "The model does not know 'PD'. It knows T1, T2, FLAIR." in capsys.readouterr().err
    assert run("translate", t2, tmp_path / "d.nrrd", *common) == 2
    assert "patient0_T2 is taken as T1, but its name says T2" in capsys.readouterr().err
    assert not (tmp_path / "d.nrrd").exists()


def test_pairs_that_are_none_are_named_and_left_out(tmp_path, capsys):
    scans = write_pairs(tmp_path / "scans", 5)
    (scans / "patient3_T2.nii.gz").unlink()
    volume = Volume.load(scans / "patient4_T2.nii.gz")
    moved = volume.affine.copy()
    moved[0, 3] += 7
    Volume(volume.array, moved).save(scans / "patient4_T2.nii.gz")
    assert run("train", scans, *OPTIONS, "--members", 1, "--steps", 2, "--output", tmp_path / "m") == 0
    told = capsys.readouterr().err
    assert "patient3_.nii.gz is left out: it has no T2." in told
    assert "patient4_.nii.gz is left out: its modalities lie in different places" in told
    assert run("translate", scans / "patient0_T1.nii.gz", tmp_path / "o.nrrd", "--model", tmp_path / "m",
               "--uncertainty", tmp_path / "u.nrrd") == 2  # fmt: skip
    assert "cannot tell how sure it is" in capsys.readouterr().err and not (tmp_path / "o.nrrd").exists()


def test_an_interrupted_translation_training_is_resumed_only_as_it_was(folder, tmp_path, monkeypatch, capsys):
    from MedAELib.training import session

    out = tmp_path / "m"
    whole = session.write_model
    monkeypatch.setattr(session, "write_model", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("train", folder, *OPTIONS, "--steps", 3, "--output", out) == 130
    monkeypatch.setattr(session, "write_model", whole)
    assert run("train", folder, *OPTIONS, "--members", 2, "--steps", 3, "--output", out, "--resume") == 2
    assert "members 3 and not 2" in capsys.readouterr().err
    assert run("train", folder, *OPTIONS, "--steps", 3, "--output", out, "--resume") == 0


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--network", "translating"], "--translate"),
        (["--network", "plain", "--members", "3"], "--translate"),
        (["--network", "plain", "--translate", "T1", "T1"], "itself"),
        (["--network", "plain", "--translate", "T1", "PD"], "both T1 and PD"),
        (["--network", "plain", "--translate", "T1", "T2", "--members", "9"], "9 members"),
        (["--network", "plain", "--translate", "T1", "T2", "--modalities", "FLAIR"], "fusion"),
        (["--network", "denoising", "--translate", "T1", "T2"], "cannot translate"),
        (["--network", "plain", "--translate", "T1", "T2", "--corrupt", "holes"], "clean"),
    ],
)
def test_options_of_a_training_that_do_not_fit_are_one_line(options, said, folder, tmp_path, capsys):
    assert run("train", folder, *options, "--steps", 2, "--device", "cpu", "--output", tmp_path / "m") == 2
    told = capsys.readouterr().err.strip().splitlines()[-1]
    assert told.startswith("medae: ") and said in told
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["missing.nii", "out.nii", "--model", "MODEL"], "missing.nii"),
        (["SCAN", "SCAN", "--model", "MODEL"], "input itself"),
        (["SCAN", "out.nii", "--model", "MODEL", "--uncertainty", "out.nii"], "same file"),
        (["SCAN", "out.nii"], "No bundled model"),
        (["SCAN", "out.nii", "--model", "mr-denoise"], "not to translate"),
        (["SCAN", "out.nii", "--model", "MODEL", "--to", "PD"], "does not know 'PD'"),
        (["SCAN", "out.nii", "--model", "MODEL", "--from", "T2", "--to", "T1"], "T2 from T1 only"),
        (["SCAN", "out.nii", "--model", "MODEL", "--with", "T2"], "KIND=FILE"),
        (["SCAN", "out.nii", "--model", "MODEL", "--with", "T2=SCAN2"], "does not fuse"),
    ],
)
def test_what_is_wrong_is_one_line_and_leaves_nothing(arguments, said, model, folder, tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    names = {"SCAN": str(folder / "patient0_T1.nii.gz"), "MODEL": str(model)}
    other = f"T2={folder / 'patient0_T2.nii.gz'}"
    assert run("translate", *(names.get(word, other if word == "T2=SCAN2" else word) for word in arguments)) == 2
    last = capfd.readouterr().err.strip().splitlines()[-1]
    assert last.startswith("medae: ") and said in last
    assert list(tmp_path.iterdir()) == []
