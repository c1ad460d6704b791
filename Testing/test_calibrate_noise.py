"""The calibration of the noise map: the fit finds what the data say, and the command tells what is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from models import save_small_model, small_model

from MedAELib.tasks.calibrate_noise import error, fitted, main, scan_rows


def test_the_fit_finds_the_constants_that_made_the_data_in_spite_of_outliers():
    logs = np.random.default_rng(0).normal(0, 0.5, (3000, 3))
    removed, scan, result = logs.T
    truth = removed + 0.3 * (scan - removed) - 0.1 * (result - removed) + 0.05
    truth[::50] += 3
    rows = np.column_stack([logs, truth])
    assert fitted([rows[:1000], rows[1000:]]) == pytest.approx([0.3, -0.1, 0.05], abs=0.01)
    assert error(rows, np.array([0.3, -0.1, 0.05])) == pytest.approx(3 / 50, rel=0.01)


@pytest.mark.parametrize("modality", ["MR", "CT"])
def test_a_scan_gives_the_same_finite_rows_each_time(modality):
    model = small_model(modality=modality)
    (rows, varies), (again, _) = (scan_rows(model, 93_003) for _ in range(2))
    assert rows.shape[1] == 4 and np.isfinite(rows).all() and np.array_equal(rows, again)
    assert (rows[:, 3].std() > 0.01) == varies


def test_a_model_that_is_not_there_is_one_line(capsys):
    assert main(["--modality", "MR", "--model", "absent"]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


@pytest.mark.slow
def test_the_command_prints_errors_and_constants(tmp_path, capsys):
    save_small_model(tmp_path / "small", modality="MR")
    assert main(["--modality", "MR", "--model", str(tmp_path / "small"), "--scans", "6"]) == 0
    told = capsys.readouterr().out
    assert "even noise" in told and "varying noise" in told and "Calibration(" in told
    assert "nan" not in told  # there are scans of both kinds
