"""The trust figures: an ideal result is good, filters are told by what they do, and nothing is ever not a number."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, median_filter
from trust_scans import LEVELS, Scan, organs, scan

from MedAELib import Volume
from MedAELib.errors import Cancelled
from MedAELib.tasks.edges import edge_widths
from MedAELib.tasks.evidence import densest_box, fitting, gather
from MedAELib.tasks.figures import Figure, judged
from MedAELib.tasks.lesions import CONTRASTS
from MedAELib.tasks.residual import directions
from MedAELib.tasks.trust import conclusion, trust

SHIFT, STRUCTURE, SHARPNESS = (
    "Shift of intensities in flat tissue",
    "Structure among the removed noise",
    "Edge sharpness kept",
)
LESIONS = [f"Small lesions kept, {contrast} x noise" for contrast in CONTRASTS]
STRONGEST = "Noise left where it is strongest"
GRAIN = [f"Grain of the removed noise, {way}" for way in ("left-right", "front-back", "head-foot")]


@pytest.fixture(scope="module", params=["MR", "CT"])
def noisy(request) -> Scan:
    return scan(request.param)


@pytest.fixture(scope="module")
def ideal(noisy) -> dict[str, Figure]:
    return noisy.judge(noisy.clean, noisy.ideal)


@pytest.fixture(scope="module")
def blurred(noisy) -> dict[str, Figure]:
    return noisy.judge(gaussian_filter(noisy.volume.array[0], 1.0), lambda voxels: gaussian_filter(voxels, 1.0))


def test_an_ideal_denoiser_is_good_in_every_figure(noisy, ideal):
    assert {SHIFT, STRUCTURE, SHARPNESS, *LESIONS, *GRAIN} <= set(ideal)
    bad = [figure for figure in ideal.values() if figure.verdict not in ("good", "")]
    assert not bad
    assert all(figure.value is not None for figure in ideal.values())
    assert conclusion(list(ideal.values())).startswith("What was removed looks like noise")


def test_noise_before_after_and_removed_are_told_in_the_scans_units(noisy, ideal):
    level = LEVELS[noisy.volume.meta["modality"]]
    assert ideal["Noise before"].value == pytest.approx(level, rel=0.15)
    assert ideal["Noise after"].value < 0.1 * level
    assert ideal["Noise removed"].value == pytest.approx(level, rel=0.1)
    places = {name: ideal[f"Noise {name}"].explanation for name in ("before", "removed")}  # they are not the same
    assert "quiet part of the tissue" in places["before"] and "all tissue" in places["removed"]
    assert ideal["Noise before"].unit == ("HU" if noisy.volume.meta["modality"] == "CT" else "")


def test_the_grain_of_what_an_ideal_denoiser_removes_is_that_of_the_noise(noisy, ideal):
    for axis, name in enumerate(GRAIN):
        first, second = np.moveaxis(noisy.noise, axis, 0)[:-1].ravel(), np.moveaxis(noisy.noise, axis, 0)[1:].ravel()
        assert ideal[name].value == pytest.approx(np.corrcoef(first, second)[0, 1], abs=0.06)


def test_a_smoothing_filter_is_poor_for_edges_structure_and_lesions(blurred):
    assert blurred[STRUCTURE].verdict == "poor" and blurred[SHARPNESS].verdict == "poor"
    assert blurred[LESIONS[1]].verdict == "poor"
    said = conclusion(list(blurred.values()))
    assert "edge sharpness kept" in said and "Do not rely" in said


def test_the_contrast_that_a_linear_filter_keeps_is_found_whatever_the_contrast(blurred):
    ball = np.zeros((15, 15, 15))
    grid = np.indices(ball.shape) - 7
    ball = np.clip(3 - np.sqrt((grid**2).sum(0)), 0, 1)
    kept = 100 * (gaussian_filter(ball, 1.0) * ball).sum() / (ball**2).sum()
    for name in LESIONS:
        assert blurred[name].value == pytest.approx(kept, rel=0.01)


def test_stronger_filters_keep_less_of_lesions_and_edges(noisy):
    figures = [
        noisy.judge(gaussian_filter(noisy.volume.array[0], width), lambda voxels, w=width: gaussian_filter(voxels, w))
        for width in (0.3, 0.6, 1.5)
    ]
    for name in (LESIONS[0], SHARPNESS):
        values = [figure[name].value for figure in figures]
        assert values[0] > values[1] > values[2]
    assert figures[0][LESIONS[1]].value > 99


def test_a_median_filter_loses_lesions(noisy):
    found = noisy.judge(median_filter(noisy.volume.array[0], 3), lambda voxels: median_filter(voxels, 3))
    assert found[LESIONS[1]].verdict in ("look", "poor")


@pytest.mark.parametrize("shift", [5.0, -5.0])
def test_a_shift_of_five_hounsfield_units_is_poor(shift):
    noisy = scan("CT")
    found = noisy.judge(noisy.clean + shift, noisy.ideal)[SHIFT]
    assert found.value == pytest.approx(shift, abs=2.5) and found.verdict == "poor" and found.unit == "HU"


def test_a_shift_of_one_tissue_alone_is_found():
    noisy = scan("CT")
    bright = noisy.clean > 150
    found = noisy.judge(noisy.clean - 8 * bright, noisy.ideal)[SHIFT]
    assert found.value == pytest.approx(-8, abs=3) and found.verdict == "poor"


def test_taking_out_what_noise_adds_to_an_mri_or_leaving_it_is_no_shift():
    noisy = scan("MR")
    raised = LEVELS["MR"] ** 2 / (2 * noisy.clean)
    for result in (noisy.clean, noisy.clean + raised):
        assert noisy.judge(result, noisy.ideal)[SHIFT].verdict == "good"
    assert noisy.judge(noisy.clean * 1.03, noisy.ideal)[SHIFT].verdict == "poor"


def test_removing_only_the_finest_grain_shows_in_the_grain(noisy):
    kept = gaussian_filter(noisy.noise, 0.8)  # coarse noise stays, as in a result that looks like plastic
    found = noisy.judge(noisy.clean + 2 * kept, noisy.ideal)
    assert any(found[name].verdict in ("look", "poor") for name in GRAIN)


def _uneven(modality: str = "MR") -> Scan:
    """The scan with three times the noise in one half."""
    even = scan(modality)
    noise = even.noise * np.where(np.arange(64) < 32, 1.0, 3.0)[:, None, None]
    return Scan(even.clean, noise, even.volume.like((even.clean + noise)[None].astype(np.float32)))


@pytest.mark.parametrize("modality", ["MR", "CT"])
@pytest.mark.parametrize(("left", "verdict"), [(0.0, "good"), (0.5, "look"), (0.87, "poor")])
def test_noise_that_is_left_where_it_is_strongest_is_told_although_the_quiet_part_is_clean(modality, left, verdict):
    noisy = _uneven(modality)
    kept = left * noisy.noise * (np.arange(64) >= 32)[:, None, None]
    figures = noisy.judge(noisy.clean + kept, lambda voxels: voxels - noisy.noise + kept)
    found = figures[STRONGEST]
    assert figures["Noise after"].value < 0.3 * figures["Noise before"].value
    assert found.verdict == verdict and found.unit == "%"
    assert found.value == pytest.approx(100 * left, abs=6 if left else 33)  # edges stay
    assert ("noise left where it is strongest" in conclusion([found])) == (verdict != "good")


def test_fine_anatomy_in_a_part_of_the_scan_is_not_taken_for_noise_that_was_left():
    even = scan("MR")
    random = np.random.default_rng(4)
    vessels = gaussian_filter((random.uniform(size=even.clean.shape) < 0.02).astype(np.float32), 0.4)
    clean = even.clean + 2000 * vessels * (np.arange(64) >= 32)[:, None, None]
    noisy = Scan(clean, even.noise, even.volume.like((clean + even.noise)[None].astype(np.float32)))
    found = noisy.judge(clean, noisy.ideal)[STRONGEST]
    assert found.value is None and "fine anatomy" in found.explanation


@pytest.mark.parametrize("dtype", ["float32", "int16"])
def test_where_nothing_was_removed_that_is_said(dtype):
    noisy = scan("MR", (32, 32, 32), dtype)
    found = noisy.judge(noisy.volume.array[0], lambda voxels: voxels)
    assert found["Noise removed"].value == 0
    assert found["Noise after"].value == found["Noise before"].value > 0
    assert "Nothing was removed" in found["Noise removed"].explanation
    assert "Nothing was removed" in conclusion(list(found.values()))
    assert set(found) == {"Noise before", "Noise after", "Noise removed"}


def test_intensities_times_a_thousand_change_no_verdict():
    noisy = scan("MR")
    large = Scan(1000 * noisy.clean, 1000 * noisy.noise, noisy.volume.like(1000 * noisy.volume.array))
    small, scaled = (each.judge(each.clean, each.ideal) for each in (noisy, large))
    assert [figure.verdict for figure in small.values()] == [figure.verdict for figure in scaled.values()]
    assert scaled["Noise before"].value == pytest.approx(1000 * small["Noise before"].value, rel=1e-3)
    assert scaled[SHIFT].value == pytest.approx(small[SHIFT].value, abs=0.01)


def test_the_noise_map_is_used_where_noise_varies():
    noisy = scan("MR")
    ramp = np.linspace(0.5, 2, 64, dtype=np.float32)[:, None, None] * np.ones((64, 64, 64), np.float32)
    varied = Scan(noisy.clean, noisy.noise * ramp, noisy.volume.like((noisy.clean + noisy.noise * ramp)[None]))
    noise = noisy.volume.like(LEVELS["MR"] * ramp[None])
    found = varied.judge(varied.clean, varied.ideal, noise=noise)
    assert abs(found[STRUCTURE].value) < 0.08
    assert found[LESIONS[0]].value == pytest.approx(100, abs=0.5)


# ---- volumes that are small, flat, odd ----

ODD = {
    "one voxel": np.full((1, 1, 1, 1), 7.0),
    "a row": np.arange(9.0).reshape(1, 9, 1, 1),
    "a tiny block": np.random.default_rng(0).normal(100, 9, (1, 3, 4, 2)),
    "a small slice": np.random.default_rng(0).normal(100, 9, (1, 12, 14, 1)),
    "a constant": np.full((1, 24, 24, 24), 5),
    "zeros": np.zeros((1, 24, 24, 24), np.uint8),
    "pure noise": np.random.default_rng(0).normal(100, 9, (1, 24, 24, 24)),
    "nothing flat": np.random.default_rng(0).integers(0, 2, (1, 20, 20, 20)) * 1000.0,
    "negative": np.random.default_rng(0).normal(-5, 9, (1, 20, 20, 20)),
    "bytes": np.random.default_rng(0).integers(0, 255, (1, 20, 20, 20)).astype(np.uint8),
    "huge": np.random.default_rng(0).normal(1e12, 1e10, (1, 20, 20, 20)),
    "frames": np.random.default_rng(0).normal(100, 9, (5, 16, 16, 16)),
}


@pytest.mark.parametrize("name", ODD)
@pytest.mark.filterwarnings("error")
def test_odd_volumes_give_figures_or_reasons_and_never_a_fault(name):
    array = ODD[name].copy()
    volume = Volume(array, np.diag([1, 1, 3, 1.0]), {"frames": len(array) > 1})
    result = volume.like(gaussian_filter(array.astype(float), (0, 1, 1, 1)).astype(array.dtype))
    figures = trust(volume, result, lambda voxels: gaussian_filter(voxels, 1.0))
    _nothing_is_missing(figures)


@pytest.mark.filterwarnings("error")
def test_voxels_that_are_not_finite_are_left_out():
    noisy = scan("MR")
    array = noisy.volume.array.copy()
    array[0, ::16, ::16, ::16], array[0, 5, 5, 5] = np.nan, np.inf
    volume = noisy.volume.like(array)
    result = volume.like(np.where(np.isfinite(array), noisy.clean, array))
    figures = trust(volume, result, lambda voxels: voxels - noisy.noise)
    _nothing_is_missing(figures)
    assert all(figure.verdict in ("good", "") for figure in figures if figure.name not in LESIONS)


def _nothing_is_missing(figures: list[Figure]) -> None:
    assert len({figure.name for figure in figures}) == len(figures) >= 3
    for figure in figures:
        assert figure.value is None or (math.isfinite(figure.value) and type(figure.value) is float)
        assert figure.verdict in ("good", "look", "poor", "") and (figure.value is not None or not figure.verdict)
        assert figure.explanation.endswith(".") and "\n" not in figure.explanation and "nan" not in figure.explanation
        assert figure.row() == {
            "name": figure.name, "value": figure.value, "unit": figure.unit, "verdict": figure.verdict,
            "explanation": figure.explanation,
        }  # fmt: skip
    assert conclusion(figures).endswith(".")


def test_a_slice_has_no_grain_across_slices_but_all_else():
    noisy = scan("MR", (128, 128, 1))
    found = noisy.judge(noisy.clean, noisy.ideal)
    assert found[GRAIN[2]].value is None and "one voxel thick" in found[GRAIN[2]].explanation
    assert found[GRAIN[0]].verdict == found[LESIONS[1]].verdict == found[SHARPNESS].verdict == "good"


def test_of_a_sequence_the_middle_frame_is_judged():
    noisy = scan("MR", (40, 40, 40))
    frames = np.repeat(noisy.volume.array, 3, 0)
    result = np.stack([frames[0], noisy.clean, frames[2]])
    volume = noisy.volume.like(frames, frames=True)
    figures = {figure.name: figure for figure in trust(volume, volume.like(result), noisy.ideal)}
    assert figures["Noise removed"].value > 0 and figures[LESIONS[0]].value == pytest.approx(100, abs=0.5)


def test_large_volumes_are_processed_again_in_part_only():
    sizes = []

    def again(voxels: np.ndarray) -> np.ndarray:
        sizes.append(voxels.size)
        return gaussian_filter(voxels, 0.5)

    shape = (176, 176, 128)
    array = np.tile(organs(), (3, 3, 2))[:176, :176, :128] + np.random.default_rng(0).normal(0, 30, shape)
    volume = Volume(array[None].astype(np.int16), np.eye(4), {"modality": "MR"})
    figures = {f.name: f for f in trust(volume, volume.like(gaussian_filter(array, 0.5)[None].astype(np.int16)), again)}
    assert 0 < sum(sizes) <= volume.array.size / 2.9
    assert 85 < figures[LESIONS[0]].value < 96


def test_the_same_scan_gives_the_same_figures(noisy, ideal):
    assert noisy.judge(noisy.clean, noisy.ideal) == ideal


def test_progress_rises_and_may_cancel():
    noisy, seen = scan("MR", (32, 32, 32)), []
    noisy.judge(noisy.clean, noisy.ideal, progress=lambda stage, done, total: seen.append((stage, done, total)))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen) and seen[-1][1] == seen[-1][2]
    assert {stage for stage, _, _ in seen} == {"Judging the result"}

    def stop(stage: str, done: int, total: int) -> None:
        if done:
            raise Cancelled

    with pytest.raises(Cancelled):
        noisy.judge(noisy.clean, noisy.ideal, progress=stop)


def test_the_width_of_edges_is_the_width_they_were_made_with():
    noisy = scan("CT")
    evidence = gather(noisy.volume, noisy.volume.like(gaussian_filter(noisy.clean, 1.0)[None]), None)
    widths = edge_widths(evidence)
    assert widths.edges > 200
    # A Gaussian edge rises from 10 to 90 % within 2.56 deviations; a voxel adds 1/12 to the variance, reading between
    # voxels some 1/6 more.
    for found, blur in ((widths.before, 0.5**2), (widths.after, 0.5**2 + 1)):
        assert np.median(found) == pytest.approx(2.56 * math.sqrt(blur + 1 / 12 + 1 / 6), rel=0.15)


def test_directions_follow_the_affine():
    assert directions(np.diag([-1.0, 2, 3, 1])) == ["left-right", "front-back", "head-foot"]
    sagittal = np.array([[0, 0, 2.0, 0], [-1, 0.1, 0, 0], [0.1, 1, 0, 0], [0, 0, 0, 1]])
    assert directions(sagittal) == ["front-back", "head-foot", "left-right"]


def test_the_densest_box_lies_where_the_tissue_is_and_keeps_proportions():
    array = np.zeros((200, 100, 60), np.int16)
    array[120:180, 40:80, 20:50] = 100
    assert fitting((200, 100, 60), 1e9) == (200, 100, 60)
    size = fitting(array.shape, 200_000)
    assert np.prod(size) <= 220_000 and size[0] > size[1] > size[2] >= 32
    box = densest_box(array, size)
    assert array[box].mean() > 0.9 * array.sum() / np.prod(size)


def test_verdicts_hold_for_amounts_that_should_be_small_or_large():
    assert [judged(x, 1, 3) for x in (0.5, 1, 2, 4)] == ["good", "good", "look", "poor"]
    assert [judged(x, 90, 70) for x in (95, 90, 80, 60)] == ["good", "good", "look", "poor"]
