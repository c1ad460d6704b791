"""Encoding on processors that others use too: the model is tuned by one thread, which waits for no other."""

import pytest
import torch
from codec_tools import scan

from MedAELib.codec import tuning, volumes
from MedAELib.codec.volumes import Mode, compress
from MedAELib.errors import Cancelled


@pytest.fixture
def three_threads(monkeypatch):
    """Torch computes with three threads, and the tuning of a small volume is worth it."""
    monkeypatch.setattr(tuning, "_WORTH_VOXELS", 0)
    monkeypatch.setattr(tuning, "_SAMPLES", 5000)
    monkeypatch.setattr(tuning, "_ROUNDS", 40)
    monkeypatch.setattr(volumes, "_FRONT_VOXELS", 0)
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize("mode", [Mode(), Mode("max-error", 2)])
def test_the_model_is_tuned_by_one_thread_and_torch_has_its_own_again(three_threads, mode):
    used = []

    def watch(stage, done, total):
        if stage == "Tuning the model" and done:
            used.append(torch.get_num_threads())

    alone = compress(scan((20, 18, 16)), mode, watch)
    assert len(used) == 8 and set(used) == {1}
    assert torch.get_num_threads() == 3
    torch.set_num_threads(1)
    assert compress(scan((20, 18, 16)), mode) == alone


def test_torch_has_its_own_threads_again_after_a_cancel(three_threads):
    def stop(stage, done, total):
        if stage == "Tuning the model" and done:
            raise Cancelled

    with pytest.raises(Cancelled):
        compress(scan((20, 18, 16)), progress=stop)
    assert torch.get_num_threads() == 3
