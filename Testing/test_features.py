"""Features: a fixed count of numbers from any network's code, placed right, and the same however the work is cut."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from models import save_small_model, small_model
from volumes import blob

from MedAELib.bundle import Spec, Window
from MedAELib.engine.run import Engine
from MedAELib.errors import BadInput, Cancelled
from MedAELib.features.code import code_of, resampled, seen_by
from MedAELib.features.neighbours import DISTANCES, KNOWN, Table, nearest, read_table
from MedAELib.model import Model
from MedAELib.tasks.features import DEFAULT_MODEL, features
from MedAELib.tasks.run import run_task
from MedAELib.volume import Volume

CPU = Engine("cpu", "float32")
NETWORKS = [
    ("plain", 3, {"channels": [4, 8], "strides": [2, 2]}),
    ("plain", 2, {"channels": [4, 8], "strides": [2, 2]}),
    ("denoising", 3, {"channels": 8, "blocks": 2, "deep_channels": 8, "deep_blocks": 1}),
    ("sparse", 3, {"channels": [4, 8], "strides": [2, 2]}),
    ("variational", 3, {"channels": [4, 8], "strides": [2, 2], "latent": 4}),
    ("variational", 3, {"channels": [4, 8], "strides": [2, 2], "latent": 6, "code": "vector", "grid": 16}),
    ("quantised", 3, {"channels": [4, 8], "strides": [2, 2], "width": 4, "entries": 16}),
    ("conditional", 3, {"channels": [4, 8], "strides": [2, 2]}),
    ("recurrent", 3, {"channels": [4, 8], "strides": [2, 2]}),
    ("adversarial", 3, {"channels": [4, 8], "strides": [2, 2], "latent": 4}),
    ("fusion", 3, {"channels": [4, 8], "strides": [2, 2]}),
    ("dense", 2, {"grid": 8, "hidden": [16], "latent": 5}),
]


def scan(shape=(22, 19, 13), seed=0) -> Volume:
    affine = np.array([[0, -1.5, 0, 30], [1.2, 0, 0, -20], [0, 0, 3.0, 5], [0, 0, 0, 1]])
    return Volume(blob(seed, shape)[None], affine, {"name": f"scan{seed}", "modality": "MR"})


def model(name, dims, arguments) -> Model:
    return Model.create(Spec(name, arguments, dims, "reconstruct", "MR", Window("percentile", 0.0, 99.9)))


@pytest.mark.parametrize(("name", "dims", "arguments"), NETWORKS)
def test_every_network_gives_as_many_features_whatever_the_size(name, dims, arguments):
    made = model(name, dims, arguments)
    small, large = (features(scan(shape), made, engine=CPU) for shape in ((22, 19, 13), (33, 30, 18)))
    assert len(small.items) == 1 and small.names == large.names
    assert len(small.items[0].values) == len(large.items[0].values) == len(small.names) == len(set(small.names))
    assert np.isfinite(small.items[0].values).all()
    if name != "quantised":  # one entry of a codebook that has learned nothing may take all
        assert small.items[0].values != large.items[0].values


@pytest.mark.parametrize(("name", "dims", "arguments"), [n for n in NETWORKS if n[0] in ("plain", "denoising")])
def test_the_code_does_not_depend_on_the_tile_and_is_the_networks_own(name, dims, arguments):
    made, volume = model(name, dims, arguments), scan((24, 20, 16))
    seen = seen_by(made, volume)
    whole = code_of(made.network, seen, Engine("cpu", "float32"))
    cut = code_of(made.network, seen, Engine("cpu", "float32", 8))
    np.testing.assert_allclose(cut.cells, whole.cells, atol=1e-5)
    x = torch.from_numpy(seen.voxels)
    with torch.inference_mode():
        own = made.network.encode(x[None])[0] if dims == 3 else made.network.encode(x.permute(3, 0, 1, 2))
    own = own.numpy() if dims == 3 else own.numpy().transpose(1, 2, 3, 0)
    np.testing.assert_allclose(whole.cells, own, atol=1e-5)


def test_a_bright_spot_lies_in_the_latent_where_it_is_in_the_patient():
    made = small_model(channels=8, blocks=2)
    array = np.zeros((32, 28, 24), np.float32)
    spot = (9, 20, 14)
    bright = array.copy()
    bright[spot] = 500.0
    affine = scan().affine
    volumes = [Volume(a[None], affine, {"modality": "CT"}) for a in (array, bright)]
    cells = [code_of(made.network, seen_by(made, volume), CPU) for volume in volumes]
    change = np.abs(cells[1].cells - cells[0].cells).sum(0)
    peak = np.unravel_index(int(change.argmax()), change.shape)
    found = cells[1].affine @ [*peak, 1]
    true = affine @ [*spot, 1]
    half_cell = 0.5 * np.linalg.norm(cells[1].affine[:3, :3], axis=0).max() + 1e-6
    assert np.abs(found - true).max() <= half_cell
    # The middle of the first cell of two voxels is half a voxel from the first voxel along every axis.
    np.testing.assert_allclose(cells[1].affine @ [0, 0, 0, 1], affine @ [0.5, 0.5, 0.5, 1])


def test_segments_of_a_label_map_with_other_voxels_are_pooled_where_they_are():
    made, volume = small_model(modality="MR"), scan((32, 32, 16))
    labels = np.zeros((16, 16, 16), np.uint8)
    labels[2:6, 3:7, 4:9], labels[9:14, 8:12, 4:9] = 1, 4
    halved = volume.affine @ np.diag([2, 2, 1, 1.0])
    found = features(volume, made, per="segment", labels=Volume(labels[None], halved), engine=CPU).items
    assert [item.item for item in found] == ["1", "4"]
    centre = halved @ [*np.argwhere(labels == 1).mean(0), 1]
    np.testing.assert_allclose(found[0].centre, centre[:3], atol=2.5)
    assert found[0].values != found[1].values
    other = Volume((labels == 4)[None].astype(np.uint8), halved)
    alone = features(volume, made, per="segment", labels=other, engine=CPU)
    assert alone.items[0].values == found[1].values


def test_intensities_are_told_in_hounsfield_units_or_of_what_is_brightest_in_the_scan():
    """The denoisers see noise as unit: without these, twice as bright would look the same."""
    ct = Volume(np.full((1, 16, 16, 16), 300, np.int16), np.eye(4), {"modality": "CT"})
    array = ct.array.copy()
    array[:, 8:] = -700
    array[:, ::2] += 100  # within a cell of two voxels
    made = features(ct.like(array), small_model(), air=True, engine=CPU)
    found = dict(zip(made.names, made.items[0].values))
    assert found["intensity_mean"] == pytest.approx(-0.15, abs=1e-5)
    assert found["texture_mean"] == pytest.approx(0.05, abs=1e-5) and found["texture_logsd1"] < np.log(1.1e-3)
    assert found["intensity_logsd1"] == found["intensity_logsd4"] == pytest.approx(np.log(0.501), abs=1e-4)
    along = [found[f"intensity_logsd_{axis}"] for axis in "ijk"]
    assert along == pytest.approx(np.log([0.501, 1e-3, 1e-3]), abs=1e-2)
    assert (found["intensity_p05"], found["intensity_p95"]) == pytest.approx((-0.65, 0.35), abs=1e-5)
    volume, louder = scan((32, 32, 16)), scan((32, 32, 16))
    louder = louder.like(louder.array * 7.0)
    one, other = (features(v, small_model(modality="MR"), engine=CPU).items[0].values[-19:] for v in (volume, louder))
    assert one == pytest.approx(other, rel=1e-3, abs=1e-5)


def test_segments_are_called_by_their_names_where_those_are_known():
    volume = scan((32, 32, 16))
    labels = np.zeros(volume.array.shape, np.uint8)
    labels[0, 4:12, 6:14, 4:9], labels[0, 18:28, 16:24, 4:9] = 1, 2
    inputs = {"input": volume, "segments": volume.like(labels)}
    asked = {"per": "segment", "device": "cpu", "segment_names": {"1": "left lobe"}}
    report = run_task("features", inputs, asked, progress=lambda *_: None).report
    assert [row["item"] for row in report["features"]] == ["left lobe", "2"]
    with pytest.raises(BadInput, match="names of segments"):
        run_task("features", inputs, {**asked, "segment_names": {"1": 2}}, progress=lambda *_: None)


def test_slices_are_rows_and_air_counts_only_where_it_is_asked_for():
    made, body = model(*NETWORKS[1]), scan((40, 40, 9))
    volume = Volume(np.pad(body.array, ((0, 0), (0, 0), (0, 0), (5, 5))), body.affine, body.meta)
    numbers = [int(row.item) for row in features(volume, made, per="slice", engine=CPU).items]
    assert set(range(6, 13)) <= set(numbers) <= set(range(4, 15))  # the body's, and at most one more on each side
    inside, everything = (features(volume, made, air=air, engine=CPU).items[0] for air in (False, True))
    assert inside.cells < everything.cells == 10 * 10 * 19


def test_a_spacing_makes_features_of_a_turned_scan_nearly_the_same():
    made, volume = small_model(modality="MR", seed=3), scan((40, 40, 20))
    turned = Volume(volume.array[:, ::-1].transpose(0, 2, 1, 3), volume.affine @ np.array(
        [[0, -1, 0, 39], [1, 0, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]), volume.meta)  # fmt: skip
    np.testing.assert_allclose(  # the same place in the patient
        turned.affine @ [3, 5, 7, 1], volume.affine @ [39 - 5, 3, 7, 1]
    )
    own = [np.array(features(v, made, engine=CPU).items[0].values) for v in (volume, turned)]
    grid = [np.array(features(v, made, spacing=2.0, engine=CPU).items[0].values) for v in (volume, turned)]
    assert np.abs(own[0] - own[1]).max() > 10 * np.abs(grid[0] - grid[1]).max()


def test_a_missing_modality_is_missing_on_another_grid_too():
    made = model("fusion", 3, {"modalities": 2, "channels": [4], "strides": [2]})
    one = scan((20, 20, 12))
    half = Volume(np.concatenate([one.array, np.full_like(one.array, np.nan, dtype=np.float32)]), one.affine, one.meta)
    grid = resampled(half, 2.0)
    assert np.isnan(grid.array[1]).all() and np.isfinite(grid.array[0]).all()
    found = [features(volume, made, engine=CPU, **more).items[0].values
             for volume, more in ((half, {"spacing": 2.0}), (grid, {}))]  # fmt: skip
    np.testing.assert_allclose(*found, rtol=1e-6)


def test_what_does_not_apply_is_refused_with_a_reason():
    made, volume = small_model(modality="MR"), scan()
    elsewhere = Volume(np.ones((1, 4, 4, 4), np.uint8), np.diag([1, 1, 1, 1.0]) + 900 * np.eye(4, k=3))
    vector = model("variational", 3, {"channels": [4], "strides": [2], "code": "vector", "grid": 8})
    for fault, options in [
        ("label map", {"per": "segment"}),
        ("per segment", {"labels": volume}),
        ("not known", {"per": "lobe"}),
        ("does not overlap", {"per": "segment", "labels": elsewhere}),
        ("no segment", {"per": "segment", "labels": volume.like(np.zeros_like(volume.array))}),
        ("no labels", {"per": "segment", "labels": volume.like(volume.array + 0.5)}),
        ("spacing", {"spacing": 100.0}),
    ]:
        with pytest.raises(BadInput) as refused:
            features(volume, made, engine=CPU, **options)
        assert fault in f"{refused.value} {refused.value.next_step}"
    with pytest.raises(BadInput, match="slices have none"):
        features(volume, vector, per="slice", engine=CPU)
    with pytest.raises(BadInput, match="fuses 2"):
        features(volume, model("fusion", 3, {"modalities": 2, "channels": [4], "strides": [2]}), engine=CPU)


def test_the_task_gives_plain_values_a_placed_latent_and_can_be_cancelled(tmp_path):
    save_small_model(tmp_path / "small", modality="MR")
    volume, parameters = scan(), {"model": str(tmp_path / "small"), "latent": True, "device": "cpu"}
    result = run_task("features", {"input": volume}, parameters, progress=lambda *_: None)
    assert result.report["features"][0]["case"] == "scan0" and len(result.report["names"]) == 8 * 4 + 2 * 4 + 2 * 3 + 5
    latent = result.outputs["code"]
    assert latent.channels == 8 and latent.shape == (11, 10, 7)
    assert latent.meta["provenance"]["model_sha256"] == result.report["model_sha256"]
    latent.save(tmp_path / "latent.nrrd")
    np.testing.assert_allclose(Volume.load(tmp_path / "latent.nrrd").affine, latent.affine, atol=1e-5)

    def cancel(*_):
        raise Cancelled

    with pytest.raises(Cancelled):
        run_task("features", {"input": volume}, parameters, progress=cancel)
    with pytest.raises(BadInput, match="exactly one volume"):
        run_task("denoise", {"input": volume, "segments": volume}, {}, progress=lambda *_: None)


def test_a_run_adds_its_rows_to_the_known_cases_and_finds_the_case_there_before(tmp_path):
    save_small_model(tmp_path / "small", modality="MR")
    known = tmp_path / "known.csv"
    wanted = {"model": str(tmp_path / "small"), "device": "cpu", "index": str(known), "remember": True}

    def run(seed: int, **more: object) -> list[dict]:
        return run_task("features", {"input": scan(seed=seed)}, {**wanted, **more}, progress=lambda *_: None).report[
            "similar"
        ]

    assert run(0, file="/scans/zero.nrrd") == []
    found = run(1)
    assert [(row["similar_case"], row["similar_file"]) for row in found] == [("scan0", "/scans/zero.nrrd")]
    assert [row["similar_case"] for row in run(0)] == ["scan1"] and len(read_table(known).known) == 2
    run(2, remember=False)
    assert len(read_table(known).known) == 2
    for bad in ("known.txt", "nowhere/known.csv", ""):
        with pytest.raises(BadInput, match=r"file to keep|cannot be written"):
            run(0, index=str(tmp_path / bad) if bad else "")
    with pytest.raises(BadInput, match="no table of features"):
        run(0, index=str(tmp_path / "none.csv"), remember=False)


@pytest.mark.data
@pytest.mark.slow
def test_segments_of_real_people_are_nearest_to_the_same_segment_of_others(data_folder):
    """Parts of the hippocampus, described by the bundled model, find their like by cosine and by Euclid."""
    made, rows, values = Model.load(DEFAULT_MODEL), [], []
    for number in ("003", "006", "017", "033", "036", "050"):
        volume, labels = (
            Volume.load(data_folder / "hippocampus" / part / f"hippocampus_{number}.nii.gz")
            for part in ("images", "labels")
        )
        for item in features(volume, made, per="segment", labels=labels, engine=CPU).items:
            rows.append((number, item.item, *[""] * (len(KNOWN) - 2)))
            values.append(item.values)
    for distance in DISTANCES:
        right = 0
        for row, own in zip(rows, values):
            others = [n for n, other in enumerate(rows) if other[0] != row[0]]
            index = Table(("",) * len(own), tuple(rows[n] for n in others), np.array([values[n] for n in others]))
            right += index.known[nearest(index, np.array(own), 1, distance)[0][0]][1] == row[1]
        assert right >= 9  # of 12; chance gives 6
