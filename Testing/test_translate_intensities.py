"""What intensities alone tell of another kind of scan: the curve, its share in a translation, and where it has none."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from test_translate import CT, FUSION, MR, T2, model, saved, scan

from MedAELib import Model, Volume
from MedAELib.bundle import Kind
from MedAELib.engine.run import Engine
from MedAELib.errors import BadModel
from MedAELib.tasks.translate import translate
from MedAELib.training.folder import Case
from MedAELib.training.sampling import Source
from MedAELib.training.translation import calibration, each_from_all, kinds_of, seen_as
from MedAELib.translation.intensities import DARK, Intensities, MeanCurve

AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])
CURVE = MeanCurve(np.array([0.2, 0.6, 1.0], np.float32), np.array([0.9, 0.3, 0.5], np.float32))


def told(share: float, source: str = "T1", target: str = "T2", curve: MeanCurve = CURVE) -> dict:
    return {"share": share, "curves": {source: {target: curve.to_json()}}}


def made(network: Model, volume: Volume, **options) -> np.ndarray:
    return translate(volume, network, engine=Engine("cpu", "float32"), **options)["translated"].array


def test_a_share_of_one_gives_the_curve_where_there_is_tissue_and_leaves_air_to_the_network(tmp_path):
    array = scan(dtype=np.float32).array.copy()
    array[:, :3] = 0
    volume, network = Volume(array, AFFINE), model(MR, T2)
    alone = made(network, volume)
    blended = made(saved(network, tmp_path / "m", intensities=told(1.0)), volume)
    seen = volume.array / np.percentile(volume.array, 99.9)
    bright = seen > 1.01 * DARK
    np.testing.assert_allclose(blended[bright], 800 * CURVE(seen)[bright], atol=0.5)
    assert np.array_equal(blended[:, :3], alone[:, :3])
    assert not np.allclose(blended[bright], alone[bright], atol=5)


def test_half_a_share_lies_between_the_network_and_the_curve_and_none_changes_nothing(tmp_path):
    volume, network = scan(dtype=np.float32), model(MR, T2)
    alone, whole, half, none = (
        made(network, volume, known={"intensities": some} if some else {})
        for some in (None, told(1.0), told(0.5), told(0.0))
    )
    inside = (alone > 0) & (whole > 0)
    np.testing.assert_allclose(half[inside], ((alone + whole) / 2)[inside], atol=0.05)
    assert np.array_equal(none, alone)


def test_kinds_that_are_given_share_alike_and_a_direction_without_a_curve_is_the_networks_own(tmp_path):
    network = model(MR, CT, T2, network="fusion", arguments=FUSION)
    array = scan(3, np.float32).array.copy()
    array[1] = np.random.default_rng(3).uniform(-900, 900, array[1].shape)
    flat = {level: [[0.5], [level]] for level in (0.2, 0.6)}
    known = {"intensities": {"share": 1.0, "curves": {"T1": {"T2": flat[0.2]}, "CT": {"T2": flat[0.6]}}}}
    both = made(network, Volume(array, AFFINE), known=known)
    bright = (array[0] > 0.11 * np.percentile(array[0], 99.9)) & (array[1] > -700)
    np.testing.assert_allclose(both[0][bright], 800 * 0.4, atol=0.5)
    back = made(network, Volume(array, AFFINE), source="T2", target="T1", known=known)
    assert np.array_equal(back, made(network, Volume(array, AFFINE), source="T2", target="T1"))


@pytest.mark.parametrize(
    "odd",
    [
        7, [], {"share": 0.5}, {"share": 1.5, "curves": {}}, {"share": True, "curves": {}},
        {"share": "half", "curves": {}}, {"share": 0.5, "curves": {"T1": {"T2": [[0.1, 0.2]]}}},
        {"share": 0.5, "curves": {"T1": {"T2": [[0.2, 0.1], [1, 1]]}}}, {"share": 0.5, "curves": {"T1": 3}},
        {"share": 0.5, "curves": {"T1": {"T2": [[0.1, float("nan")], [1, 1]]}}},
        {"share": 0.5, "curves": {"T1": {"T2": [list(range(999)), list(range(999))]}}},
    ],
)  # fmt: skip
def test_an_odd_calibration_is_refused_in_one_sentence(odd):
    with pytest.raises(BadModel, match="what intensities alone tell") as error:
        made(model(MR, T2), scan(), known={"intensities": odd})
    assert "\n" not in str(error.value)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.sampled_from([1.0, 1e-3, 1e-5, 1e-7, 0.0]))
def test_any_curve_stays_within_its_targets_and_comes_back_from_json(seed, bins, spread):
    random = np.random.default_rng(seed)
    source, target = (random.uniform(0, 1, 300).astype(np.float32) for _ in range(2))
    source = (0.5 + spread * (source - 0.5)).astype(np.float32)
    curve = MeanCurve.of(source, target, bins)
    values = curve(np.linspace(-1, 2, 50))
    assert target.min() - 1e-6 <= values.min() and values.max() <= target.max() + 1e-6
    again = MeanCurve.from_json(json.loads(json.dumps(curve.to_json())))
    if spread == 1:
        np.testing.assert_allclose(again(source), curve(source), atol=1e-3)


def test_a_curve_finds_the_map_that_two_scans_have():
    source = np.random.default_rng(0).uniform(0, 1, 40_000).astype(np.float32)
    curve = MeanCurve.of(source, 1 - source**2, 64)
    inside = np.linspace(0.05, 0.95, 19)
    np.testing.assert_allclose(curve(inside), 1 - inside**2, atol=0.01)


def wave(seen):
    """What no mean over wide bins of intensity can follow; within 0..1."""
    return (0.5 + 0.4 * (seen * 30).sin()) / 0.9


def sources_of(mapped, count: int = 3) -> tuple[list[Source], tuple[Kind, ...]]:
    """Pairs whose second scan is a map of the first in its window."""
    cases = []
    for number in range(count):
        seen = np.random.default_rng(number).uniform(0.2, 1, (24, 20, 6)).astype(np.float32)
        voxels = np.stack([400 * seen, 700 * mapped(torch.from_numpy(seen)).numpy()])
        cases.append(Case(f"{number}", f"{number}", "MR", voxels, AFFINE, (50.0,)))
    kinds = kinds_of(cases, ["T1", "T2"], {"MR": MR.window, "any": MR.window}, False)
    return [seen_as(case, kinds) for case in cases], kinds


def test_the_curve_is_that_of_the_scans_and_its_share_a_half_where_nobody_is_left_to_decide():
    sources, kinds = sources_of(lambda seen: 1.2 - seen)
    found = calibration(model(*kinds, dims=2), sources, sources, Engine("cpu", "float32"))["intensities"]
    curve = Intensities.from_json(found, ["T1", "T2"], [0], 1).curves[0]
    assert found["share"] == 0.5
    np.testing.assert_allclose(curve(np.array([0.3, 0.6, 0.9])), [0.9, 0.6, 0.3], atol=0.05)


@pytest.mark.parametrize(("knows", "share"), [(True, 0.0), (False, 0.5)])
def test_the_validation_decides_the_share(knows, share, monkeypatch):
    sources, kinds = sources_of(wave)
    network = model(*kinds, dims=2)
    for member in network.network.members:
        monkeypatch.setattr(member, "forward", wave if knows else torch.zeros_like)
    found = calibration(network, sources[:2], sources[2:], Engine("cpu", "float32"), sources[2:])
    assert found["intensities"]["share"] == share


def test_fused_kinds_are_shown_in_other_contrasts_and_aimed_at_as_they_are():
    sample = torch.rand(3, 8, 8, 1)
    sample[2] = float("nan")
    seen, target = each_from_all([True, False, True])(sample, torch.Generator().manual_seed(0))
    assert torch.equal(target[:2], sample[:2]) and torch.equal(seen[1], sample[1])
    assert not torch.allclose(seen[0], sample[0], atol=0.01) and seen[2].isnan().all()
