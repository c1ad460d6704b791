"""Heads that lie otherwise than their file says: quarter turns are told and get no model; right heads pass."""

from __future__ import annotations

from itertools import permutations, product

import numpy as np
import pytest
from anomaly_tools import on_few_cells, tiny_normative
from generated_heads import BRAIN_RADII, CENTRE, head, with_ball

from MedAELib.anomaly.choice import fitting
from MedAELib.anomaly.gate import coarse_of, doubts, measures, population
from MedAELib.anomaly.orientation import QUARTER, cut_off, quarter_turned, turned
from MedAELib.anomaly.prepare import Prepared, prepare
from MedAELib.anomaly.scores import Scores
from MedAELib.volume import Volume

# Every way to put a head onto its axes, [3, 3]: the first column says where its right side lies.
TURNS = [
    np.eye(3)[:, order] @ np.diag(signs) for order in permutations(range(3)) for signs in product((1.0, -1.0), repeat=3)
]
SIDEWAYS = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1.0]])
ON_ITS_SIDE = np.array([[0, 0, 1], [0, 1, 0], [-1, 0, 0.0]])
NOSE_UP = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0.0]])


@pytest.fixture(autouse=True)
def few_cells(monkeypatch) -> None:
    on_few_cells(monkeypatch)


def lobed(seed: int = 0) -> Volume:
    """A head whose brain has nothing below its front, as brains have not: alike on both sides alone."""
    volume, _ = head((4.0, 4.0, 4.0), seed=seed)
    index = np.stack(np.meshgrid(*[np.arange(n) for n in volume.shape], indexing="ij"))
    place = np.tensordot(volume.affine[:3, :3], index, axes=1) + (volume.affine[:3, 3] - CENTRE)[:, None, None, None]
    missing = (place[1] > -10) & (place[2] < -15) & (((place / BRAIN_RADII[:, None, None, None]) ** 2).sum(0) < 1.1)
    return volume.like(np.where(missing, 0.2 * 300, volume.array[0])[None].astype(np.float32))


def laid(volume: Volume, turn: np.ndarray) -> Volume:
    """The volume as a file says that has its axes wrong."""
    affine = volume.affine.copy()
    affine[:3] = turn @ affine[:3]
    return Volume(volume.array, affine, volume.meta)


def told(prepared: Prepared, gate: dict) -> str:
    nothing = Scores({"unlike": np.zeros(prepared.mask.shape, np.float32)})
    return " ".join(doubts(prepared, nothing, {"gate": gate}))


@pytest.fixture
def gate() -> dict:
    scan = prepare(lobed())
    return population([measures(scan, Scores({"unlike": np.zeros(scan.mask.shape, np.float32)}))] * 2)


def test_a_head_that_is_turned_by_a_quarter_is_told_and_gets_no_model(gate, tmp_path):
    bundle = tiny_normative(tmp_path / "model", gate=gate).bundle
    right = prepare(lobed(seed=1))
    assert right.brain and told(right, gate) == ""
    assert fitting(right, "it", [bundle]) == (bundle, "")
    for turn in (SIDEWAYS, ON_ITS_SIDE):
        wrong = prepare(laid(lobed(seed=1), turn))
        assert "The head seems to lie turned by a quarter" in told(wrong, gate)
        chosen, reason = fitting(wrong, "it", [bundle])
        assert chosen is None and "turned by a quarter" in reason and "it" in reason


@pytest.mark.parametrize(
    ("turn", "words"),
    [(np.diag([-1.0, -1, 1]), "back to front"), (np.diag([1.0, 1, -1]), "upside down"), (NOSE_UP, "a quarter"),
     (np.diag([1.0, -1, -1]), "upside down and back to front")],
)  # fmt: skip
def test_other_turns_are_called_by_their_names(gate, turn, words):
    assert f"{words}: check" in told(prepare(laid(lobed(seed=1), turn)), gate)


def test_of_all_48_ways_to_lie_those_without_left_and_right_in_their_places_are_told_by_symmetry():
    coarse = coarse_of(prepare(lobed()))
    for turn in TURNS:
        axes = [int(np.flatnonzero(column)[0]) for column in turn]
        seen = np.flip(coarse.transpose(axes), [n for n in range(3) if turn[n].sum() < 0])
        assert quarter_turned(seen) == (turn[0, 0] == 0)


@pytest.mark.parametrize("ml", [5, 20])
@pytest.mark.parametrize("amount", [250.0, -200.0])
def test_a_right_head_with_a_lesion_on_one_side_is_not_called_turned(ml, amount, gate):
    radius = (ml * 1000 * 3 / 4 / np.pi) ** (1 / 3)
    lesion, _ = with_ball(lobed(), CENTRE + [30.0, -15.0, 15.0], radius, amount)
    scan = prepare(lesion)
    assert not quarter_turned(coarse_of(scan)) and "turned" not in told(scan, gate)


def test_a_right_head_of_which_a_part_is_not_in_the_picture_is_not_called_turned():
    whole = lobed()
    for axis, kept in ((2, slice(12, None)), (2, slice(0, 30)), (1, slice(8, None)), (0, slice(6, None))):
        cut = [slice(None)] * 4
        cut[axis + 1] = kept
        assert not quarter_turned(coarse_of(prepare(Volume(whole.array[tuple(cut)], whole.affine))))


def test_symmetry_along_no_axis_and_plain_anatomies_tell_no_turn():
    random = np.random.default_rng(0).random((10, 10, 10))
    assert not quarter_turned(random) and not quarter_turned(np.ones((10, 10, 10)))
    assert turned(np.swapaxes(random, 1, 2), random) != QUARTER  # of bodies it is not asked
    assert turned(np.swapaxes(random, 1, 2), random, quarters=True) == QUARTER
    mixed = random + 0.9 * np.swapaxes(random, 1, 2)
    assert turned(mixed, random, quarters=True) == ""


@pytest.mark.parametrize("slices", [16, 24])
def test_a_right_head_of_which_the_lower_slices_were_not_scanned_is_not_called_turned(gate, slices):
    whole = lobed(seed=1)
    scan = prepare(Volume(whole.array[..., slices:], whole.affine, whole.meta))
    usual = np.array(gate["coarse"]).reshape(10, 10, 10)
    assert scan.brain and turned(coarse_of(scan), usual, quarters=True)  # as if all of it had been scanned
    assert cut_off(scan.mask) and not cut_off(prepare(whole).mask)
    assert "seems to lie" not in told(scan, gate)


def test_of_a_cut_anatomy_strong_evidence_alone_tells_a_turn():
    normal = np.random.default_rng(0).random((10, 10, 10))
    over = np.flip(normal, 2)
    assert turned(over, normal, quarters=True, cut=True) == "upside down"
    mixed = over + 0.8 * normal
    assert turned(mixed, normal) == "upside down" and turned(mixed, normal, cut=True) == ""
