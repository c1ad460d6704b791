"""Drawn anomalies change what they say and nothing else; the normative network learns from them; tiles are exact."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from anomaly_tools import on_few_cells
from generated_heads import head
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.ndimage import label

from MedAELib.anomaly.normals import learn_normals
from MedAELib.anomaly.prepare import prepare
from MedAELib.anomaly.shown import Shown
from MedAELib.errors import BadInput
from MedAELib.networks import build
from MedAELib.training.anomalies import KINDS, draw_anomaly, draw_spots
from MedAELib.training.anomaly import ARGUMENTS, _bending, batches, main, objective
from MedAELib.training.anomaly_cohorts import volumes
from MedAELib.training.loop import Schedule, train

SMALL = {"channels": 8, "levels": 1, "blocks": 1}


@pytest.fixture(scope="module")
def source():
    return prepare(head((4.0, 4.0, 4.0))[0])


@settings(max_examples=40)
@given(kind=st.sampled_from(KINDS), radius=st.floats(1, 7), strength=st.floats(0.3, 1), seed=st.integers(0, 10_000))
def test_a_drawn_anomaly_changes_its_place_and_nothing_else(source, kind, radius, strength, seed):
    before = source.voxels.copy()
    changed, where = draw_anomaly(source.voxels, source.mask, kind, radius, strength, np.random.default_rng(seed))
    np.testing.assert_array_equal(source.voxels, before)
    assert changed.dtype == np.float32 and changed.shape == before.shape and where.dtype == bool
    assert (changed >= 0).all() and np.isfinite(changed).all()
    assert not where[~source.mask].any()
    assert 1 <= where.sum() <= 4.5 * (1.4 * radius + 0.5) ** 3
    places = np.argwhere(changed != before)
    middle = np.argwhere(where).mean(axis=0)
    assert np.linalg.norm(places - middle, axis=1).max(initial=0) <= 3 * (1.4 * radius + 2)
    if kind in ("bright", "dark"):
        difference = (changed - before)[where]
        assert (difference >= 0).all() if kind == "bright" else (difference <= 0).all()
        assert np.abs(difference).max() <= 0.3 * strength + 1e-6


@settings(max_examples=15)
@given(seed=st.integers(0, 10_000))
def test_spots_are_many_small_places_in_bright_tissue_of_one_kind(source, seed):
    changed, where = draw_spots(source.voxels, source.mask, np.random.default_rng(seed))
    assert where.any() and not where[~source.mask].any()
    assert label(where)[1] > 1 and source.voxels[where].mean() > np.median(source.voxels[source.mask])
    difference = (changed - source.voxels)[where]
    assert (difference >= 0).all() or (difference <= 0).all()
    nothing = np.zeros_like(source.mask)
    assert not draw_spots(source.voxels, nothing, np.random.default_rng(seed))[1].any()


def test_larger_spots_cover_more_on_the_whole(source):
    def covered(largest: float) -> int:
        return sum(
            int(draw_spots(source.voxels, source.mask, np.random.default_rng(seed), largest)[1].sum())
            for seed in range(20)
        )

    assert covered(6.0) > 2 * covered(3.0)


def test_batches_depend_on_the_step_alone_and_hold_what_they_say(source):
    one, other = batches([source], 3), batches([source], 3)
    assert all(torch.equal(a, b) for a, b in zip(one(5), other(5), strict=True))
    assert not torch.equal(one(5)[1], one(6)[1])
    touched = 0
    for step in range(12):
        changed, normal, where = one(step)
        assert changed.shape == normal.shape == where.shape == (2, 1, 48, 48, 48)
        assert torch.isfinite(changed).all() and set(where.unique().tolist()) <= {0.0, 1.0}
        difference = (changed - normal).abs()
        if where.any():
            assert float(difference[where == 1].mean()) > 3 * float(difference[where == 0].mean())
        touched += bool(where.any())
    assert 6 <= touched < 13


def test_a_short_training_tells_bright_places_from_normal_ones(source, tmp_path):
    def batch(step):
        random = np.random.default_rng(step)
        corner = random.integers(20, 40, 3)
        box = tuple(slice(start, start + 16) for start in corner)
        normal, inside = source.voxels[box], source.mask[box]
        changed, where = draw_anomaly(normal, inside, "bright", 3, 1.0, random)
        return tuple(torch.from_numpy(part.astype(np.float32))[None, None] for part in (changed, normal, where))

    torch.manual_seed(0)
    network = build("normative", 3, SMALL)
    schedule = Schedule(steps=90, learning_rate=1e-2, warmup=5, averaging=0.9, validate_every=30)
    trained, history = train(network, batch, objective, schedule, tmp_path)
    assert history[-1]["loss"] < 0.75 * history[0]["loss"]
    changed, normal, where = batch(1000)
    with torch.no_grad():
        made = trained.typical_and_odds(changed)
    inside = where > 0
    assert float(made[:, 1:][inside].mean()) > float(made[:, 1:][~inside].mean()) + 1
    assert float((made[:, :1] - normal)[inside].abs().mean()) < float((changed - normal)[inside].abs().mean())


@torch.no_grad()
def test_typical_scan_and_odds_of_a_tile_are_those_of_the_whole():
    torch.manual_seed(0)
    network = build("normative", 3, SMALL).eval()
    for parameter in network.parameters():
        parameter.data = torch.randn_like(parameter) / max(parameter[0].numel(), 1) ** 0.5
    halo, stride = network.halo, network.stride
    x = torch.randn(1, 1, 2 * halo + 4 * stride, 8, 8)
    whole = network.typical_and_odds(x)
    tile = network.typical_and_odds(x[:, :, stride:])
    assert float((tile[:, :, halo:] - whole[:, :, halo + stride :]).abs().max()) < 1e-5 * float(whole.abs().max())


def _saved(model, folder):
    """The model as a folder that `--start` takes."""
    model.save(
        folder, name=folder.name, description="For tests.", card=f"# {folder.name}\n", licence="CC0\n", figures={},
        limits=["Few."], training_data=["None."], calibration={},
    )  # fmt: skip


def test_a_training_begins_with_a_model_and_may_have_more_blocks_than_it(tmp_path):
    from MedAELib.bundle import Spec, Window
    from MedAELib.model import Model
    from MedAELib.training import publish_anomaly as publish
    from MedAELib.training.anomaly import _network, blocks_of

    torch.manual_seed(0)
    smaller = build("normative", 3, {**ARGUMENTS, "blocks": 1}).eval()
    torch.nn.init.normal_(smaller.last.conv.weight, std=0.1)
    kept = publish._with(smaller.state_dict(), "MR")
    _saved(kept, tmp_path / "model")
    x = torch.rand(1, 1, 16, 16, 16)
    grown = _network(str(tmp_path / "model"), 2).eval()
    assert blocks_of(grown.state_dict()) == 2 and blocks_of(smaller.state_dict()) == 1
    with torch.no_grad():
        expected, made = smaller.typical_and_odds(x), grown.typical_and_odds(x)
    assert float(expected[:, 1].std()) > 0 and torch.allclose(made, expected, atol=1e-4)
    again = publish._with(grown.state_dict(), "MR")
    assert again.spec.arguments["blocks"] == 2 and isinstance(again, Model)
    _saved(again, tmp_path / "large")
    with pytest.raises(BadInput, match="another network"):
        _network(str(tmp_path / "large"), 1)
    other = Model.create(Spec("plain", {}, 3, "reconstruct", "MR", Window("fixed", 0.0, 1.0)))
    _saved(other, tmp_path / "other")
    with pytest.raises(BadInput, match="another network"):
        _network(str(tmp_path / "other"), 2)


@pytest.mark.parametrize("seed", range(4))
def test_a_piece_is_bent_smoothly_and_by_little(seed):
    moved = _bending((48, 48, 48), np.random.default_rng(seed))
    assert moved.shape == (3, 48, 48, 48) and 0 < moved.std() <= 1
    for axis in range(1, 4):  # neighbours move alike: where they do not, tissue is torn or folded
        assert np.quantile(np.abs(np.diff(moved, axis=axis)), 0.999) < 0.7


def test_calibration_and_gate_of_a_network_hold_what_the_maps_need(monkeypatch):
    from MedAELib.bundle import Spec, Window
    from MedAELib.model import Model

    model = Model.create(Spec("normative", SMALL, 3, "anomaly", "MR", Window("fixed", 0.0, 1.0)))
    on_few_cells(monkeypatch)
    scan = prepare(head((4.0, 4.0, 4.0))[0])
    known = learn_normals(model, [scan], Shown(), seen=[scan])
    assert set(known["maps"]) == {"unlike", "residual", "bright", "contrast", "asymmetry", "smooth", "average"}
    assert len(known["cases"]) == 1
    assert all(np.isfinite(values).all() for values in known["maps"].values())
    assert sum(known["gate"]["histogram"]) == pytest.approx(1, abs=0.01)


def test_a_missing_data_folder_is_one_sentence(tmp_path, capsys):
    with pytest.raises(BadInput, match="holds no"):
        volumes(tmp_path, ["nothing*"])
    assert main(["--data", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "holds no" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_figures_and_limits_are_put_into_a_card_and_the_model_stays_the_same(tmp_path):
    import json

    from MedAELib.bundle import Spec, Window, read_bundle
    from MedAELib.model import Model
    from MedAELib.training import publish_anomaly as publish

    name, folder = "head-neck-ct-anomaly", tmp_path / "model"
    model = Model.create(Spec("normative", SMALL, 3, "anomaly", "CT", Window("fixed", 0.0, 1.0)))
    model.network.half()  # as weights are published
    card = publish._card(name, "In a test.", {}, "The map unlike.")
    before = model.save(
        folder, name=name, description="For tests.", card=card, licence="CC0\n", figures={}, limits=["Few."],
        training_data=["None."], calibration={"maps": {}, "pixel": 4.0},
    ).bundle  # fmt: skip
    assert "Not measured yet." in before.card
    rows = [{"kind": kind, "maps": {"unlike": {"ap": 0.25}, "bright": {"ap": 0.5}}} for kind in KINDS]
    (tmp_path / "anomaly.json").write_text(json.dumps({"drawn": rows, "real": {}}))
    options = ["--model", name, "--figures", str(tmp_path / "anomaly.json"), "--output", str(folder)]
    assert publish.main(options) == 0
    after = read_bundle(folder)
    assert after.sha256 == before.sha256 and after.calibration == before.calibration
    assert after.limits == publish.ABOUT[name].limits and f"\n- {after.limits[0]}\n" in after.card
    assert "| bright | 0.250 | 0.500 |" in after.card and after.figures["dark"] == {"unlike": 0.25, "bright": 0.5}
    assert after.card.replace("| bright |", "").startswith(f"# {name}") and "## Licence" in after.card
