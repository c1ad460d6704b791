"""`calibrate`: what is no scan of the model's kind, or was learned from, is told; other scanners are taken."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
from anomaly_tools import on_few_cells, tiny_normative
from generated_heads import head

from MedAELib.__main__ import main
from MedAELib.anomaly.anatomies import Anatomies
from MedAELib.anomaly.calibrate import LEARNED, calibrated_again, learned_from
from MedAELib.anomaly.gate import measures, population
from MedAELib.anomaly.prepare import prepare
from MedAELib.anomaly.scores import Scores
from MedAELib.bundle import find_bundle, read_bundle
from MedAELib.errors import BadInput, BadModel
from MedAELib.model import Model
from MedAELib.tasks.anomaly import anomaly
from MedAELib.training.anomaly_cohorts import COHORTS
from MedAELib.volume import Volume


@pytest.fixture(autouse=True)
def few_cells(monkeypatch) -> None:
    on_few_cells(monkeypatch)


def flair(volume: Volume) -> Volume:
    """The head with white matter darker than grey matter."""
    voxels = volume.array
    return volume.like(np.where((voxels > 150) & (voxels < 330), 500 - voxels, voxels).astype(np.float32))


def model(folder: Path, **more: object) -> Path:
    scan = prepare(head((4.0, 4.0, 4.0))[0])
    nothing = Scores({"unlike": np.zeros(scan.mask.shape, np.float32)})
    tiny_normative(folder, gate=population([measures(scan, nothing)] * 2), **more)
    return folder


def stopped(folder: Path, named: Path, output: Path) -> list[str]:
    """The notes of a calibration that ends when it has read the scans."""
    from MedAELib.errors import Cancelled

    notes: list[str] = []

    def progress(stage: str, done: int, total: int) -> None:
        if stage == "Calibrating":
            raise Cancelled

    with pytest.raises(Cancelled):
        calibrated_again(folder, str(named), output, "cpu", progress, notes.append)
    return notes


def test_other_sequences_and_label_maps_are_left_out_and_other_scanners_are_taken(tmp_path):
    folder = tmp_path / "scans"
    folder.mkdir()
    scan = head((4.0, 4.0, 4.0), seed=1)[0]
    scan.save(folder / "t1.nii.gz")
    scan.like((np.clip(scan.array / 300, 0, None) ** 0.7 * 900).astype(np.float32)).save(folder / "softer.nii.gz")
    flair(scan).save(folder / "flair.nii.gz")
    scan.like(np.digitize(scan.array, [60, 150, 250]).astype(np.uint8)).save(folder / "labels.nii.gz")
    notes = stopped(folder, model(tmp_path / "model"), tmp_path / "made")
    assert any(said.startswith("flair.nii.gz is left out: white and grey") for said in notes)
    assert any(said.startswith("labels.nii.gz is left out: it holds few different values") for said in notes)
    assert any("Only 2 scans" in said for said in notes) and len(notes) == 3


def test_a_folder_of_another_sequence_alone_is_refused(tmp_path, capsys):
    (tmp_path / "scans").mkdir()
    flair(head((4.0, 4.0, 4.0))[0]).save(tmp_path / "scans" / "flair.nii.gz")
    named, output = model(tmp_path / "model"), tmp_path / "made"
    assert main(["calibrate", str(tmp_path / "scans"), "--model", str(named), "--output", str(output)]) == 2
    assert "holds no scan that the model can be calibrated on" in capsys.readouterr().err and not output.exists()


def test_other_anatomies_are_left_out_where_the_model_tells_those_it_knows(tmp_path):
    (tmp_path / "scans").mkdir()
    head((4.0, 4.0, 4.0))[0].save(tmp_path / "scans" / "head.nii.gz")
    random = np.random.default_rng(0)
    known = Anatomies.of(random.random(1000) + 0.1 * random.random((4, 1000)))
    named = model(tmp_path / "model", anatomies=known.to_json())
    notes: list[str] = []
    with pytest.raises(BadInput, match="can be calibrated on"):
        calibrated_again(tmp_path / "scans", str(named), tmp_path / "made", "cpu", lambda *_: None, notes.append)
    assert "head.nii.gz is left out: the anatomy is unlike" in notes[0]


def test_scans_that_the_model_learned_from_are_told(tmp_path):
    named = model(tmp_path / "model")
    metadata = named / "configs" / "metadata.json"
    metadata.write_text(metadata.read_text().replace('"training_data": []', '"training_data": ["a/one.nii.gz"]'))
    for name in ("b/a/one.nii.gz", "b/a/other.nii.gz", "b/one.nii.gz"):
        (tmp_path / "scans" / name).parent.mkdir(parents=True, exist_ok=True)
        head((4.0, 4.0, 4.0), seed=len(name))[0].save(tmp_path / "scans" / name)
    told = [said for said in stopped(tmp_path / "scans", named, tmp_path / "made") if "learned from" in said]
    assert len(told) == 1 and "names: b/a/one.nii.gz. What" in told[0]


def test_training_scans_of_the_bundled_models_are_told_by_their_file_names(tmp_path):
    (tmp_path / "scans" / "other").mkdir(parents=True)
    for n, name in enumerate(("IXI012-HH-1211-T1.nii.gz", "other/IXI039-HH-1261-T1_ds.nii.gz", "IXI112-HH-1.nii.gz")):
        head((4.0, 4.0, 4.0), seed=n)[0].save(tmp_path / "scans" / name)
    known = find_bundle("brain-t1-anomaly").calibration
    named = model(tmp_path / "model", **{LEARNED: learned_from(known)})
    told = [said for said in stopped(tmp_path / "scans", named, tmp_path / "made") if "learned from" in said]
    assert len(told) == 1 and "names: IXI012-HH-1211-T1.nii.gz, other/IXI039-HH-1261-T1_ds.nii.gz. What" in told[0]
    for name, cohort in COHORTS.items():
        assert learned_from(find_bundle(name).calibration) == cohort.learned
    with pytest.raises(BadModel, match="no texts"):
        learned_from({LEARNED: [1]})


def test_a_model_that_is_calibrated_twice_tells_the_last_time_and_whose_figures_it_has(tmp_path):
    (tmp_path / "scans").mkdir()
    head((5.0, 5.0, 5.0))[0].save(tmp_path / "scans" / "one.nii.gz")
    named, notes = model(tmp_path / "model"), []
    for output in ("m1", "m2"):
        calibrated_again(tmp_path / "scans", str(named), tmp_path / output, "cpu", lambda *_: None, notes.append)
        named = tmp_path / output
        head((5.0, 5.0, 5.0), seed=1)[0].save(tmp_path / "scans" / "other.nii.gz")
    made = read_bundle(named)
    assert made.name == "m2" and "those of tiny, before that." in made.card and "m1" not in made.card
    (limit,) = (limit for limit in made.limits if "calibrated again" in limit)
    assert "on 2 normal scans by" in limit and limit in made.card and "on 1 normal" not in made.card
    assert "on 1 normal scan by" in read_bundle(tmp_path / "m1").card
    assert any(said.startswith("Only 1 scan:") for said in notes)
    assert any(said.startswith("Only 2 scans:") for said in notes)


def test_what_a_model_says_of_the_normals_that_calibrated_it_before_is_left_out_of_limits_and_card(tmp_path):
    (tmp_path / "scans").mkdir()
    head((5.0, 5.0, 5.0))[0].save(tmp_path / "scans" / "one.nii.gz")
    old, other = "Calibrated on one further subject: few.", "Nothing outside the brain is looked at."
    named = model(tmp_path / "model")
    metadata, card = named / "configs" / "metadata.json", named / "docs" / "README.md"
    metadata.write_text(metadata.read_text().replace('"limits": []', f'"limits": ["{old}", "{other}"]'))
    card.write_text(f"# tiny\n\nCalibrated on IXI 033.\n\n## Limits\n- {old}\n- {other}\n")
    made = calibrated_again(tmp_path / "scans", str(named), tmp_path / "made", "cpu", lambda *_: None)
    assert made.limits[0] == other and len(made.limits) == 2 and "calibrated again on 1 normal scan" in made.limits[1]
    assert old not in made.card and f"- {other}" in made.card and "Calibrated on IXI 033." in made.card


def test_a_scan_under_two_names_counts_once(tmp_path):
    (tmp_path / "scans").mkdir()
    scan = head((5.0, 5.0, 5.0), seed=1)[0]
    scan = scan.like(np.clip(scan.array.round(), 0, None).astype(np.int16))
    scan.save(tmp_path / "scans" / "one.nii.gz")
    scan.like(scan.array.astype(np.float32)).save(tmp_path / "scans" / "two.nrrd")
    head((5.0, 5.0, 5.0), seed=2)[0].save(tmp_path / "scans" / "three.nii.gz")
    notes = stopped(tmp_path / "scans", model(tmp_path / "model"), tmp_path / "made")
    assert "two.nrrd is left out: it holds the same voxels as one.nii.gz." in notes
    assert any("Only 2 scans" in said for said in notes) and len(notes) == 2


def test_a_ct_is_told_as_one_where_a_model_for_mri_is_calibrated_or_used(tmp_path):
    (tmp_path / "scans").mkdir()
    scan = head((5.0, 5.0, 5.0))[0]
    voxels = np.where(scan.array > 60, scan.array / 10 - 130, -1000).astype(np.float32)  # fat
    chest = Volume(voxels, scan.affine, {"name": "chest"})
    chest.save(tmp_path / "scans" / "chest.nii.gz")
    named, notes = model(tmp_path / "model"), []
    with pytest.raises(BadInput, match="can be calibrated on"):
        calibrated_again(tmp_path / "scans", str(named), tmp_path / "made", "cpu", lambda *_: None, notes.append)
    told = r"looks like a CT (values down to -1000), and the model was made for MRI"
    assert len(notes) == 1 and notes[0].startswith("chest.nii.gz is left out: ") and told in notes[0]
    with pytest.raises(BadInput, match=re.escape(told)):
        anomaly(chest, Model.load(named))
