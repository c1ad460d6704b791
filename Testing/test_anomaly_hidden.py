"""A large lesion that the shown map hardly shows is told of by the single map that does; nothing else is."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from anomaly_tools import on_few_cells, tiny_normative
from generated_heads import CENTRE, head, with_ball

from MedAELib.anomaly.calibration import RATES, Calibration
from MedAELib.anomaly.gate import _ODD, doubts, measures, population
from MedAELib.anomaly.hidden import hidden_place, quiet_part
from MedAELib.anomaly.normals import calibrate_maps, z_maps
from MedAELib.anomaly.prepare import Prepared, prepare
from MedAELib.anomaly.scores import Scores, baseline_scores
from MedAELib.anomaly.shown import COMBINED, Shown
from MedAELib.model import Model
from MedAELib.tasks.anomaly import anomaly
from MedAELib.volume import Volume

PLACE = CENTRE + [25.0, 10.0, 10.0]


@pytest.fixture(scope="module")
def scan() -> Prepared:
    with pytest.MonkeyPatch.context() as patched:
        on_few_cells(patched)
        return prepare(head((4.0, 4.0, 4.0))[0])


def ball(scan: Prepared, radius: float) -> np.ndarray:
    """Where a ball lies, [i, j, k]."""
    index = np.stack(np.meshgrid(*[np.arange(n) for n in scan.mask.shape], indexing="ij"), axis=-1)
    return np.linalg.norm(index * 4.0 + scan.grid.affine[:3, 3] - PLACE, axis=-1) < radius


def noise(scan: Prepared) -> np.ndarray:
    return np.random.default_rng(0).normal(size=scan.mask.shape).astype(np.float32)


def test_a_large_place_of_a_single_map_is_told_unless_regions_show_it(scan):
    where, none = ball(scan, 24.0), np.zeros(scan.mask.shape, np.int16)
    maps = {"residual": noise(scan), "bright": noise(scan) + 4 * where}
    told = hidden_place(maps, none, scan)
    assert told.startswith("In the map bright a place of ") and told.endswith("Look at that map, too.")
    assert "(R 28 mm, A -2 mm, S 30 mm)" in told
    assert 30 < float(told.split(" ml")[0].split()[-1]) < 70
    assert hidden_place(maps, where.astype(np.int16), scan) == ""
    assert hidden_place({"average": maps["bright"]}, none, scan) == ""
    assert hidden_place(maps, none, dataclasses.replace(scan, brain=False)) == ""


def test_a_large_place_hides_no_more_where_the_scan_is_measured_without_it(scan):
    shown, random = Shown(("unlike", "residual"), "sum"), np.random.default_rng(3)
    names, none = ("unlike", "residual", "asymmetry"), np.zeros(scan.mask.shape, np.int16)
    normal = {name: random.normal(size=scan.mask.shape).astype(np.float32) for name in names}
    known = calibrate_maps([(Scores(normal), scan)], shown)
    where = ball(scan, 24.0) & scan.mask
    scores = Scores({name: noise(scan) + np.float32(4) * where for name in ("unlike", "residual")})
    before = z_maps(scores, known, shown, scan)
    quiet = quiet_part({name: before[name] for name in ("unlike", "residual")}, none, scan)
    assert (scan.mask & ~quiet)[where].mean() > 0.95 and (scan.mask & ~quiet).sum() < 2.2 * where.sum()
    after = z_maps(scores, known, shown, scan, quiet)
    faded, told = (np.median(z[COMBINED][where]) for z in (before, after))
    assert told > 3.5 > 3 > faded
    assert (after[COMBINED] > 2.33)[scan.mask & ~where].mean() < 0.02
    assert quiet_part(before, where.astype(np.int16), scan) is None
    assert quiet_part({"asymmetry": before["unlike"], "average": before["unlike"]}, none, scan) is None
    assert quiet_part({"unlike": noise(scan)}, none, scan) is None


@pytest.mark.parametrize("radius", [0.0, 8.0, 12.0])
def test_noise_and_small_places_are_not_told(scan, radius):
    none = np.zeros(scan.mask.shape, np.int16)
    assert hidden_place({"bright": noise(scan) + 5 * ball(scan, radius)}, none, scan) == ""


def test_the_task_tells_of_a_large_lesion_that_its_map_does_not_show(tmp_path, monkeypatch):
    on_few_cells(monkeypatch)
    right, _ = head((4.0, 4.0, 4.0))
    scan = prepare(right)
    bright = Calibration.of([(baseline_scores(scan).maps["bright"], scan.mask)]).to_json()
    unlike = [float(value) for value in np.linspace(0, 6, len(RATES))]
    model = tiny_normative(tmp_path / "tiny", maps={"unlike": unlike, "bright": bright})  # the shown map shows nothing
    ill, _ = with_ball(right, PLACE, 24.0, 130.0)
    assert not any("hardly shows" in told for told in anomaly(right, model).report["warnings"])
    assert any("In the map" in told and "hardly shows" in told for told in anomaly(ill, model).report["warnings"])
    assert not any("hardly shows" in told for told in anomaly(ill, None).report["warnings"])


def test_a_scan_is_unlike_the_training_scans_as_a_whole_where_its_odds_are_far_above_theirs(scan):
    def scores(more: float) -> Scores:
        return Scores({"unlike": np.full(scan.mask.shape, more, np.float32)})

    known = {"gate": population([measures(scan, scores(0.0))] * 2)}
    assert doubts(scan, scores(_ODD - 0.3), known) == []
    assert any("Most of the scan" in told for told in doubts(scan, scores(_ODD + 0.3), known))


@pytest.mark.slow
@pytest.mark.data
@pytest.mark.parametrize("name", ["patient01_study2", "patient12_study1", "patient12_study2"])
def test_right_brains_of_unseen_scanners_pass(data_folder, name):
    path = data_folder / "ms_longitudinal" / f"{name}_T1W.nii.gz"
    if not path.is_file():
        pytest.skip(f"no real scan: {path} is missing")
    assert anomaly(Volume.load(path), Model.load("brain-t1-anomaly")).report["warnings"] == []
