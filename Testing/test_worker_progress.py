"""Progress is reported often enough and not too often, and the remaining time follows the present pace."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from MedAELib.worker.progress import Pace, Reporter


def paced(seconds_per_step: list[float], total: int) -> list[float | None]:
    """The estimates after each step."""
    pace = Pace()
    times = itertools.accumulate([0.0, *seconds_per_step])
    return [pace.remaining("Denoising", done, total, now) for done, now in enumerate(times)]


def test_nothing_is_promised_before_some_steps_have_shown_the_pace() -> None:
    estimates = paced([0.2] * 10, 100)
    assert estimates[:3] == [None] * 3
    assert estimates[5] == pytest.approx(0.2 * 95)


@pytest.mark.parametrize("step", [0.001, 0.02, 0.3, 5.0])
def test_a_steady_pace_gives_the_true_time(step: float) -> None:
    estimates = paced([step] * 2000, 4000)
    assert estimates[-1] == pytest.approx(step * 2000, rel=0.02)


def test_a_slow_first_tile_and_a_pause_are_soon_forgotten() -> None:
    estimates = paced([30.0] + [0.1] * 50, 100)
    assert estimates[-1] == pytest.approx(0.1 * 49, rel=0.05)


def test_the_estimate_counts_down_while_nothing_is_reported() -> None:
    pace = Pace()
    for done in range(10):
        pace.remaining("Denoising", done, 20, done * 1.0)
    assert pace.remaining("Denoising", 9, 20, 10.5) == pytest.approx(11 - 1.5)
    assert pace.remaining("Denoising", 9, 20, 100) == 0


def test_a_new_stage_starts_anew() -> None:
    pace = Pace()
    for done in range(10):
        pace.remaining("Denoising", done, 20, done * 1.0)
    assert pace.remaining("Writing", 1, 20, 10) is None


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(-5, 50), st.integers(-5, 50), st.floats(0, 10)), max_size=60)
)
def test_any_reports_give_a_sensible_estimate_or_none(reports: list[tuple[str, int, int, float]]) -> None:
    now, sent = 0.0, []
    reporter = Reporter(lambda *state: sent.append(state), clock=lambda: now)
    for stage, done, total, pause in reports:
        now += pause
        reporter(stage, done, total)
    assert all(0 <= done <= total and (remaining is None or remaining >= 0) for _, done, total, remaining in sent)


def test_a_thousand_reports_a_second_become_some_twenty() -> None:
    now, sent = 0.0, []
    reporter = Reporter(lambda *state: sent.append(state), clock=lambda: now)
    for done in range(5001):
        now = done / 1000
        reporter("Denoising", done, 5000)
    assert 90 <= len(sent) <= 102
    assert sent[-1][:3] == ("Denoising", 5000, 5000)


def test_the_first_report_of_a_stage_and_its_end_are_never_held_back() -> None:
    sent: list[tuple[str, int, int, float | None]] = []
    reporter = Reporter(lambda *state: sent.append(state), clock=lambda: 1.0)
    for report in [("a", 0, 2), ("a", 1, 2), ("a", 2, 2), ("a", 2, 2), ("b", 0, 0), ("b", 0, 0)]:
        reporter(*report)
    assert [state[:3] for state in sent] == [("a", 0, 2), ("a", 2, 2), ("b", 0, 0)]
