"""Features of a slice or a segment are of its own voxels; rows whose numbers mean something else are not compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from models import save_small_model, small_model
from test_features_segments import CPU, SIZE, layers, made_of, numbers
from volumes import blob

from MedAELib.bundle import Spec, Window
from MedAELib.features.code import code_of, seen_by
from MedAELib.features.intensity import unit_of
from MedAELib.features.neighbours import Table, read_table, settings_end, write_table
from MedAELib.model import Model
from MedAELib.tasks.features import features
from MedAELib.tasks.run import run_task
from MedAELib.volume import Volume


@pytest.mark.parametrize(("name", "dims"), [("denoising", 3), ("plain", 3), ("plain", 2)])
def test_every_slice_has_a_row_with_the_intensities_of_that_slice_alone(name, dims):
    whole = layers()
    volume = Volume(whole.array[..., :15], whole.affine, whole.meta)  # the last layer of cells is cut
    unit, made = unit_of(volume), features(volume, made_of(name, dims), per="slice", air=True, engine=CPU)
    assert [row.item for row in made.items] == [str(k) for k in range(15)]
    found = [numbers(made, k) for k in range(15)]
    own = [volume.array[0, ..., k].mean() / unit for k in range(15)]
    assert [row["intensity_mean"] for row in found] == pytest.approx(own, rel=1e-4)
    assert [row.centre[2] for row in made.items] == pytest.approx(range(15), abs=0.01)


def test_the_code_of_a_slice_is_that_of_the_layer_that_holds_it():
    volume, network = layers(), made_of("denoising")
    made = features(volume, network, per="slice", air=True, engine=CPU)
    cells = code_of(network.network, seen_by(network, volume), CPU).cells
    for k in (0, 1, 2, 17, 31):
        assert numbers(made, k)["mean_003"] == pytest.approx(float(cells[3, ..., k // 2].mean()), rel=1e-4, abs=1e-5)
    between = features(volume, made_of("plain"), per="slice", air=True, engine=CPU)
    first, midway, second = (numbers(between, k)["mean_003"] for k in (4, 6, 8))
    assert midway == pytest.approx((first + second) / 2, rel=1e-4, abs=1e-6) and first != second


def test_slices_of_air_have_no_row_and_that_is_told():
    array = np.zeros((1, SIZE, SIZE, 24), np.float32)
    array[0, 6:26, 6:26, 8:20] = blob(0, (20, 20, 12)) + 100
    volume = Volume(array, np.eye(4), {"name": "lump", "modality": "MR"})
    made = features(volume, small_model(modality="MR"), per="slice", engine=CPU)
    there = [int(row.item) for row in made.items]
    assert there == list(range(there[0], there[-1] + 1))
    assert 5 <= there[0] <= 8 and 19 <= there[-1] <= 22  # the body's, and at most one layer of cells and its border
    told = f"lump: {24 - len(there)} of 24 slices hold nothing but air, and are left out."
    assert told in made.report["warnings"]


@pytest.mark.parametrize("name", ["denoising", "plain"])
@pytest.mark.parametrize("place", [(9, 9, 9), (10, 13, 14), (31, 31, 31), (0, 0, 0)])
def test_a_segment_smaller_than_a_cell_has_its_own_brightness(name, place):
    volume, labels = layers(), np.zeros((1, SIZE, SIZE, SIZE), np.uint8)
    array = volume.array.copy()
    array[(0, *place)], labels[(0, *place)] = 650, 3
    volume = volume.like(array)
    made = features(volume, made_of(name), per="segment", labels=volume.like(labels), engine=CPU)
    found, own = numbers(made), 650 / unit_of(volume)
    assert [row.item for row in made.items] == ["3"]
    told = [found[name] for name in ("intensity_mean", "intensity_p05", "intensity_p95")]
    assert told == pytest.approx([own] * 3, rel=1e-4)
    assert found["texture_mean"] == pytest.approx(0, abs=1e-3)


def test_of_a_segment_the_voxels_count_whose_middle_lies_in_it_or_those_that_it_lies_in():
    volume, affine = layers(), np.diag([0.25, 0.25, 0.25, 1.0])
    affine[:3, 3] = 10.6  # the middle of a label voxel; of the scan's nearest voxel it is 11
    labels = np.zeros((1, 12, 12, 12), np.uint8)
    labels[0, 0, 0, 0], labels[0, 4:, 4:, 4:] = 1, 2  # 2 reaches from 11.475 to 13.475
    made = features(volume, made_of("denoising"), per="segment", labels=Volume(labels, affine), engine=CPU)
    found = [numbers(made, row)["intensity_mean"] * unit_of(volume) for row in (0, 1)]
    assert found == pytest.approx([volume.array[0, 11, 11, 11], volume.array[0, 12:14, 12:14, 12:14].mean()], rel=1e-4)


def test_of_several_modalities_each_has_its_own_intensities_in_a_slice_and_a_segment():
    one, labels = layers(), np.zeros((1, SIZE, SIZE, SIZE), np.uint8)
    both = np.concatenate([one.array, one.array[:, ::-1]])
    labels[0, 5, 6, 7] = 1
    fusion = Spec("fusion", {"modalities": 2, "channels": [4, 8], "strides": [2, 2]}, 3, "reconstruct", "MR",
                  Window("percentile", 0.0, 99.9), modalities=("T1", "T2"))  # fmt: skip
    volume, network = Volume(both, one.affine, one.meta), Model.create(fusion)
    tops = np.percentile(both, 99.9, axis=(1, 2, 3))
    segment = numbers(features(volume, network, per="segment", labels=Volume(labels, one.affine), engine=CPU))
    found = [segment["intensity_0_mean"], segment["intensity_1_mean"]]
    assert found == pytest.approx(both[:, 5, 6, 7] / tops, rel=1e-3)
    row = numbers(features(volume, network, per="slice", air=True, engine=CPU), 9)
    assert row["intensity_0_mean"] == pytest.approx(both[0, ..., 9].mean() / tops[0], rel=1e-3)


def test_rows_of_another_version_are_not_compared_until_their_case_is_embedded_again(tmp_path):
    save_small_model(tmp_path / "small", modality="MR")
    known = tmp_path / "known.csv"

    def run(seed: int, per: str = "slice") -> tuple[list[dict], list[str]]:
        scan = Volume(blob(seed, (16, 16, 12))[None], np.eye(4), {"name": f"scan{seed}", "modality": "MR"})
        asked = {"model": str(tmp_path / "small"), "device": "cpu", "index": str(known), "remember": True, "per": per}
        report = run_task("features", {"input": scan}, asked, progress=lambda *_: None).report
        return report["similar"], [told for told in report["warnings"] if "another version" in told]

    for seed in (0, 1):
        run(seed), run(seed, "volume")
    table = read_table(known)
    assert {row[8] for row in table.known} == {"own voxels", f"own voxels{settings_end('slice')}"}
    before = [(*row[:8], row[8].removesuffix(", version 2")) if row[0] == "scan1" else row for row in table.known]
    write_table(known, replace(table, known=tuple(before)))
    similar, told = run(2)
    assert {row["similar_case"] for row in similar if row["similar_item"] != "volume"} == {"scan0"}
    assert len(told) == 1 and "rows of scan1 were made by another version of MedAE" in told[0]
    volumes = {row["similar_case"] for row in run(2, "volume")[0] if row["similar_item"] == "volume"}
    assert volumes == {"scan0", "scan1"}, "the row of a volume means what it meant"
    count = len(read_table(known).known)
    assert run(1)[1] == [] and len(read_table(known).known) == count, "they are replaced"
    similar, told = run(2)
    assert told == [] and "scan1" in {row["similar_case"] for row in similar if row["similar_item"] != "volume"}


def test_rows_of_a_later_version_are_not_compared_either(tmp_path):
    known = tuple(("a", item, "0", "0", "0", "9", "", "abc", f"own voxels{end}")
                  for item, end in (("volume", ", version 9"), ("2", ", per slice, version 9")))  # fmt: skip
    later = Table(("x",), known, np.zeros((2, 1)))
    now = Table(("x",), (("a", "2", *known[0][2:8], f"own voxels{settings_end('slice')}"),), np.ones((1, 1)))
    joined = later.joined(now, tmp_path / "index.csv")
    assert [row[1:2] + row[8:] for row in joined.known] == [
        ("volume", "own voxels, version 9"), ("2", f"own voxels{settings_end('slice')}")
    ]  # fmt: skip
