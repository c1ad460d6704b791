"""Translating from several kinds of scan: gaps, files told by their names, a target given, frames taken as kinds."""

from __future__ import annotations

import numpy as np
import pytest
from test_translate import AFFINE, CT, FUSION, MR, T2, model, saved, scan

from MedAELib import Volume
from MedAELib.bundle import Kind, Window
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput
from MedAELib.tasks.run import run_task
from MedAELib.tasks.translate import translate

FLAIR = Kind("FLAIR", "MR", Window("percentile", 0.0, 99.9), 0.0, 600.0)


def of_three(folder) -> dict:
    """The parameters of a run with a saved model of T1, T2 and FLAIR."""
    saved(model(MR, T2, FLAIR, network="fusion", arguments=FUSION), folder)
    return {"model": str(folder), "device": "cpu"}


def told(parameters: dict, **inputs: Volume) -> tuple[Volume, list[str]]:
    result = run_task("translate", inputs, parameters, progress=lambda *_: None)
    return result.outputs["translated"], result.report["warnings"]


def test_where_the_source_is_not_finite_the_result_is_not_even_if_another_kind_is_known():
    network = model(MR, CT, T2, network="fusion", arguments=FUSION)
    array = scan(3, np.float32).array.copy()
    array[0, :2], array[1, -2:] = np.nan, np.inf
    volume = Volume(array, AFFINE)
    made = translate(volume, network, engine=Engine("cpu"))["translated"].array[0]
    assert np.array_equal(np.isnan(made), np.isnan(array[0]))
    made = translate(volume, network, source="CT", engine=Engine("cpu"))["translated"].array[0]
    assert np.array_equal(np.isnan(made), ~np.isfinite(array[1]))


def test_gaps_beside_the_source_are_told_as_what_they_are(tmp_path):
    parameters, array = of_three(tmp_path / "m") | {"others": {"with_0": "T2"}}, scan(1, np.float32, 1).array.copy()
    array[0, :2] = np.nan
    made, notes = told(parameters, input=scan(), with_0=Volume(array, AFFINE, {"name": "second", "modality": "MR"}))
    assert np.isfinite(made.array).all()
    assert "second holds voxels that are not finite; they count as dark." in notes
    assert not any("stay as they are" in note for note in notes)


def test_a_further_scan_of_the_target_is_refused(tmp_path):
    parameters = of_three(tmp_path / "m") | {"others": {"with_0": "FLAIR"}}
    with pytest.raises(BadInput, match="other is of the kind FLAIR, which would be made"):
        told(parameters, input=scan(), with_0=scan(seed=1, name="other"))
    _, notes = told(parameters | {"target": "T2"}, input=scan(), with_0=scan(seed=1, name="other"))
    assert not any("other" in note for note in notes)


def test_kinds_are_known_in_any_case_of_letters(tmp_path):
    parameters, scans = of_three(tmp_path / "m"), {"input": scan(), "with_0": scan(seed=1)}
    made, _ = told(parameters | {"source": "T2", "target": "FLAIR", "others": {"with_0": "T1"}}, **scans)
    same, _ = told(parameters | {"source": "t2", "target": "flair", "others": {"with_0": "t1"}}, **scans)
    assert np.array_equal(made.array, same.array)
    with pytest.raises(BadInput, match="which would be made"):
        told(parameters | {"target": "t2", "others": {"with_0": "t2"}}, **scans)


def test_a_further_scan_that_does_not_suit_the_model_is_named_itself(tmp_path):
    parameters = of_three(tmp_path / "m") | {"others": {"with_0": "T2"}}
    other = Volume(scan().array - np.int16(1000), AFFINE, {"name": "ct", "modality": "CT"})
    _, notes = told(parameters, input=scan(), with_0=other)
    assert any("but ct looks like CT" in note for note in notes) and not any("scan looks like" in n for n in notes)


def test_frames_that_are_taken_as_kinds_are_told_so(tmp_path):
    parameters = of_three(tmp_path / "m")
    _, notes = told(parameters, input=scan(3, frames=True))
    assert any("3 frames of scan are taken as T1, T2 and FLAIR of one place, in this order" in n for n in notes)
    for other in (scan(), scan(2, frames=True)):
        assert not any("are taken as" in note for note in told(parameters, input=other)[1])


@pytest.mark.parametrize(
    ("source", "name", "other", "said"),
    [
        ("", "p1_t2", "", "p1_t2 is taken as T1, but its name says T2"),
        ("T2", "brain T1", "", "brain T1 is taken as T2, but its name says T1"),
        ("", "p1_T1", "p1_FLAIR", "p1_FLAIR is taken as T2, but its name says FLAIR"),
    ],
)
def test_a_scan_whose_name_tells_another_kind_is_refused(tmp_path, source, name, other, said):
    parameters = of_three(tmp_path / "m") | {"source": source}
    further = {"with_0": scan(seed=1, name=other)} if other else {}
    with pytest.raises(BadInput, match=said):
        told(parameters | {"others": dict.fromkeys(further, "T2")}, input=scan(name=name), **further)


def test_a_scan_whose_name_leaves_its_kind_open_is_told_in_a_note(tmp_path):
    parameters = of_three(tmp_path / "m")
    _, notes = told(parameters, input=scan(name="T2 registered to FLAIR"))
    assert "T2 registered to FLAIR is taken as T1, but its name says T2 and FLAIR." in notes
    for name in ("T1 registered to FLAIR", "p1", "", "T1_T2"):
        assert not any("its name says" in note for note in told(parameters, input=scan(name=name))[1])
    saved(model(MR, T2), tmp_path / "pair")  # which can take it as nothing else
    _, notes = told({"model": str(tmp_path / "pair"), "device": "cpu"}, input=scan(name="p1_T2"))
    assert "p1_T2 is taken as T1, but its name says T2." in notes


def test_channels_that_a_name_tells_in_another_order_are_told_in_a_note(tmp_path):
    parameters = of_three(tmp_path / "m")
    for name, count in (("p1_FLAIR_T1_T2", 1), ("p1_T1_T2_FLAIR", 0), ("FLAIR_T1", 0), ("p1", 0)):
        _, notes = told(parameters, input=scan(3, name=name))
        assert sum(f"The name of {name} tells FLAIR, T1, T2;" in note for note in notes) == count
