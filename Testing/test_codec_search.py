"""The step for a wanted quality or size: found in few tries, whatever the estimate gets wrong."""

import numpy as np
import pytest
from codec_tools import scan
from hypothesis import example, given
from hypothesis import strategies as st

from MedAELib.codec import trial, volumes
from MedAELib.codec.search import Goal, LatticeEstimate, WaveEstimate, find_step
from MedAELib.codec.volumes import Mode, compress
from MedAELib.errors import BadInput


@example(goal=48.0, wrong=8.0, slope=0.6015625)
@given(
    goal=st.floats(30, 80),
    wrong=st.floats(-9, 9),
    slope=st.floats(0.6, 1.4),
)
def test_a_quality_is_reached_and_hardly_more(goal, wrong, slope):
    estimate, tried = LatticeEstimate(1 << 24, 4000.0), []

    def measure(step):
        tried.append(step)
        return 20 * np.log10(4000) + 10.8 + wrong - 6.02 * slope * np.log2(step)

    step = find_step(measure, estimate, Goal.of("psnr", goal, 1))
    assert len(set(tried)) == len(tried) <= 10
    if step is None:
        assert measure(1) < goal
    else:
        assert measure(step) >= goal
        assert measure(step + 2) < goal + 0.1 or step == estimate.steps[1]


def test_a_size_is_reached_and_what_cannot_be_is_not():
    estimate = LatticeEstimate(1 << 24, 4000.0)
    step = find_step(lambda step: 22 - 0.7 * np.log2(step), estimate, Goal.of("ratio", 2**8, 1 << 24))
    assert step is not None and 15.8 < 22 - 0.7 * np.log2(step) <= 16
    assert find_step(lambda step: 20.0, estimate, Goal.of("psnr", 30, 1)) is None
    assert find_step(lambda step: 20.0, estimate, Goal.of("ratio", 2**6, 1 << 24)) is None


def test_the_estimate_of_wavelets_is_near_the_truth():
    chunk = scan((40, 36, 30)).array[0].astype(np.int64)
    chunk -= chunk.min()
    estimate = WaveEstimate([chunk], chunk.size, (1000, 1000, 2000), float(chunk.max()))
    fine, coarse = estimate.decibels(9.0), estimate.decibels(12.0)
    assert abs(fine - (20 * np.log10(chunk.max() / 8) + 10.8)) < 2  # a step of 8 grey values, hardly any zeros
    assert coarse < fine - 4
    assert estimate.log_bytes(12.0) < estimate.log_bytes(9.0) - 1


def test_small_volumes_are_searched_in_few_tries(monkeypatch):
    """What cannot be reached is told after a few tries, not after a hundred."""
    tried = []
    encode = volumes._encode_chunks
    monkeypatch.setattr(volumes, "_encode_chunks", lambda *some: tried.append(some) or encode(*some))
    with pytest.raises(BadInput, match="cannot be reached"):
        compress(scan((10, 9, 8)), Mode("ratio", 500))
    assert len(tried) <= 9
    tried.clear()
    compress(scan((12, 12, 10)), Mode("psnr", 45))
    assert len(tried) <= 9


def test_a_piece_of_a_volume_tells_the_size_beforehand(monkeypatch):
    """A volume of many pieces is coded as a whole only where its size is nearly the wanted one."""
    sizes, volume = [], scan((48, 48, 48))
    monkeypatch.setattr(trial, "_TRIAL", (32, 32, 16))
    file = volumes._file
    monkeypatch.setattr(volumes, "_file", lambda *some: sizes.append(len(made := file(*some))) or made)
    wanted = volume.array.nbytes / 12
    assert len(compress(volume, Mode("ratio", 12))) <= wanted
    assert abs(np.log2(sizes[0] / wanted)) < 0.4 and len(sizes) <= 4
