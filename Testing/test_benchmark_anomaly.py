"""The anomaly benchmark compares its peers on the same places, and its report holds every kind."""

from __future__ import annotations

import numpy as np
import pytest
from benchmarks import anomaly, anomaly_artefacts, anomaly_kspace, anomaly_peers
from generated_heads import head

from MedAELib.anomaly.prepare import prepare
from MedAELib.training.anomalies import SPOTS


class _Same:
    """An autoencoder that gives back what it gets, or that much brighter."""

    def __init__(self, more: float) -> None:
        self.more = more

    def reconstruct(self, volume, engine):
        return volume.like(volume.array + np.float32(self.more))


@pytest.fixture(scope="module")
def scan():
    return prepare(head((4.0, 4.0, 4.0))[0])


def test_what_a_peer_makes_of_a_scan_lies_where_the_scan_does(scan):
    np.testing.assert_array_equal(anomaly_peers.typical(_Same(0), scan), scan.voxels)
    brighter = anomaly_peers.typical(_Same(0.25), scan)
    assert (brighter[~scan.mask] == 0).all()
    for way in anomaly_peers.SMOOTHINGS:
        residual = anomaly_peers.smoothed(scan, brighter, way)
        assert np.median(residual[scan.mask]) == pytest.approx(0.25, abs=1e-3)
    cut = anomaly_peers.cut_out(scan)
    place = cut.affine @ [5, 6, 7, 1]
    index = np.rint(np.linalg.inv(scan.grid.affine) @ place).astype(int)[:3]
    assert cut.array[0][5, 6, 7] == scan.voxels[tuple(index)]


def test_the_report_holds_every_kind_and_spots_are_not_in_the_mean():
    values = {"ap": 0.5, "best_dice": 0.5, "dice": 0.5}
    rows = [
        {"kind": kind, "share": 0.01, "ml": 2.0, "regions": {"count": 1, "dice": 0.5, "hit": True},
         "hit": {"combined": True}, "maps": {"combined": values if kind != SPOTS else dict.fromkeys(values, 0.0)}}
        for kind in anomaly.DRAWN
    ]  # fmt: skip
    text = anomaly.report({"drawn": rows, "real": {}, "false_alarms": [], "other_scanners": [], "gate": []})
    assert all(f"| {kind} |" in text for kind in anomaly.DRAWN)
    assert anomaly.report({"drawn": [], "real": {}, "false_alarms": [], "other_scanners": [], "gate": []})
    assert "| mean of all but spots | | 0.500 / 0.500 / 0.500 |" in text


def test_artefacts_are_counted_by_kind_and_what_was_missed_is_named():
    lost = {"scan": "one", "kind": "lost", "name": "lost along axis 1", "warnings": []}
    rows = [{**lost, "good": True}, {**lost, "good": False}]
    rows.append({"scan": "one", "kind": "right", "name": "noisy", "good": False, "warnings": ["a note"]})
    rows.append({**lost, "scan": "IXI012-HH", "good": True})
    lines = anomaly_artefacts.counted(rows)
    assert "| lost | 1 of 1 | 1 of 2 |" in lines and "| right | 0 of 0 | 0 of 1 |" in lines
    assert "- one, lost along axis 1: no note" in lines and any("one, noisy: ['a note']" in line for line in lines)


def test_the_artefacts_of_the_benchmark_are_what_they_are_called():
    right = head((4.0, 4.0, 4.0))[0]
    assert anomaly_artefacts.lost(right, 1, 30).shape == (right.shape[0], right.shape[1] - 5, right.shape[2])
    ghost = anomaly_artefacts.ghost(right, 0, 0.5).array - right.array
    np.testing.assert_allclose(ghost[0], 0.5 * np.roll(right.array[0], right.shape[0] // 2, 0), atol=1e-3)


def test_what_is_drawn_while_k_space_is_filled_is_what_it_is_called():
    right = head((4.0, 4.0, 4.0))[0]
    still, moved = (anomaly_kspace.moved(right, 2, 5, moves).array for moves in (0, 4))
    assert np.abs(still - right.array).mean() < 0.015 * 300 and np.abs(moved - still).mean() > 0.01 * still.mean()
    assert np.abs(anomaly_kspace.to_and_fro(right, 1, 5, 9).array - still).mean() > 0.01 * still.mean()
    one = np.abs(anomaly_kspace.striped(right, 1, 0.2, 2).array - still)[0].mean(axis=(0, 1))
    assert one.argmax() == right.shape[2] // 2 and one[one.argmax()] > 5 * np.median(one)
    small = anomaly_kspace.folded(right, 1, 0.8)
    assert small.shape[1] < 0.85 * right.shape[1] and small.shape[::2] == right.shape[::2]
    assert abs(np.corrcoef(anomaly_kspace.noise_alone(right, 9).array.ravel(), right.array.ravel())[0, 1]) < 0.01
